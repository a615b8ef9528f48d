from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from frcnn.data.dataset import open_dataset
from frcnn.data.demo import generate_demo
from frcnn.data.scenes import CLASSES, _outside, draw_scene
from frcnn.errors import UserError

SMALL = (96, 128)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return generate_demo(tmp_path_factory.mktemp("demo") / "set", images=12, size=SMALL)


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_it_opens_as_a_voc_data_set_without_faults(demo):
    train, val = open_dataset(demo, "train"), open_dataset(demo, "val")
    assert (len(train), len(val)) == (10, 2)
    assert len(open_dataset(demo, "trainval")) == 12
    assert set(train.classes) <= set(CLASSES)
    assert not train.faults and not val.faults
    assert all(len(sample.boxes) for sample in train)


def test_the_size_stated_is_the_size_of_the_picture(demo):
    for sample in open_dataset(demo, "trainval"):
        image = cv2.imread(str(sample.image))
        assert sample.size == image.shape[:2]
        height, width = sample.size
        assert SMALL[0] <= width <= SMALL[1] and height == width * 3 // 4
        assert (sample.boxes >= 0).all() and (sample.boxes <= [width, height] * 2).all()


def test_the_same_arguments_give_the_same_files(demo, tmp_path):
    assert contents(generate_demo(tmp_path / "again", images=12, size=SMALL)) == contents(demo)


def test_another_seed_gives_other_pictures(demo, tmp_path):
    other = contents(generate_demo(tmp_path / "other", images=12, seed=1, size=SMALL))
    same = [name for name, data in contents(demo).items() if other[name] == data]
    assert {name.parts[0] for name in same} == {"ImageSets"}


def test_a_picture_does_not_depend_on_how_many_are_drawn(demo, tmp_path):
    few, many = contents(generate_demo(tmp_path / "few", images=5, size=SMALL)), contents(demo)
    pictures = [name for name in few if name.parts[0] != "ImageSets"]
    assert len(pictures) == 10
    assert all(few[name] == many[name] for name in pictures)


def test_validation_pictures_are_others_than_those_trained_on(demo):
    pictures = [data for name, data in contents(demo).items() if name.suffix == ".jpg"]
    assert len(set(pictures)) == 12


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="not an empty folder"):
        generate_demo(tmp_path)
    assert list(contents(tmp_path).values()) == [b"keep"]
    with pytest.raises(UserError, match="not an empty folder"):
        generate_demo(tmp_path / "mine.txt")


@pytest.mark.parametrize("arguments", [{"images": 1}, {"seed": -1}, {"size": (32, 64)}])
def test_arguments_out_of_range_are_refused(tmp_path, arguments):
    with pytest.raises(ValueError, match="Received: images="):
        generate_demo(tmp_path / "set", **arguments)
    assert not (tmp_path / "set").exists()


def test_annotations_say_what_voc_says(demo):
    tree = ElementTree.parse(demo / "Annotations" / "train_0000.xml").getroot()
    assert tree.findtext("filename") == "train_0000.jpg"
    assert tree.findtext("size/depth") == "3"
    item = tree.find("object")
    assert item.findtext("name") in CLASSES
    assert item.findtext("difficult") == "0"
    assert {item.findtext("truncated"), item.findtext("occluded")} <= {"0", "1"}


def scenes(count):
    return [draw_scene(np.random.default_rng((9, index))) for index in range(count)]


def test_scenes_hold_a_few_objects_of_every_class_in_many_sizes():
    objects = [seen for _, found in scenes(25) for seen in found]
    assert {seen.name for seen in objects} == set(CLASSES)
    assert 40 < len(objects) < 150
    sides = [max(s.box[2] - s.box[0], s.box[3] - s.box[1]) + 1 for s in objects]
    assert min(sides) >= 14 and min(sides) < 40 and 100 < max(sides) < 220
    assert any(seen.occluded for seen in objects) and any(seen.truncated for seen in objects)
    assert not all(seen.occluded or seen.truncated for seen in objects)


def test_only_objects_at_the_border_are_truncated():
    for image, objects in scenes(10):
        height, width = image.shape[:2]
        for seen in objects:
            xmin, ymin, xmax, ymax = seen.box
            assert 1 <= xmin <= xmax <= width and 1 <= ymin <= ymax <= height
            if seen.truncated and not seen.occluded:
                assert xmin == 1 or ymin == 1 or xmax == width or ymax == height


def test_boxes_are_where_the_paint_is(monkeypatch):
    """On a plain ground, unblurred, the box is the extent of the pixels that were painted."""
    from frcnn.data import scenes as module

    monkeypatch.setattr(module, "_ground", lambda rng, h, w: np.full((h, w, 3), 300, np.float32))
    monkeypatch.setattr(module, "_camera", lambda rng, canvas: canvas)
    monkeypatch.setattr(module, "_MOST_OBJECTS", 1)
    for index in range(12):
        image, [seen] = module.draw_scene(np.random.default_rng((3, index)))
        # Colours end at 240, shading adds at most an eighth: half covered is well below 300.
        xmin, ymin, xmax, ymax = seen.box
        rows, columns = np.nonzero((image < 299).any(axis=2))
        box = (columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1)
        # Pixels covered by less than half are painted faintly: one at a side, two at a tip.
        assert np.abs(np.subtract(box, seen.box)).max() <= 2
        assert xmin >= box[0] and ymin >= box[1] and xmax <= box[2] and ymax <= box[3]


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("disc", [(0.99, 0)], [(1.01, 0), (0.72, 0.72)]),
        # A square with corners on the axes: |x| + |y| = 1.
        ("square", [(0.49, 0.49), (0, -0.98)], [(0.52, 0.52), (0.9, 0.2)]),
        # An equilateral triangle with a corner at (1, 0) and a side at x = -1/2.
        ("triangle", [(0.98, 0), (-0.49, 0.8)], [(-0.51, 0), (0.5, 0.5)]),
        # Points at multiples of 72 degrees, notches at 0.45 between them.
        ("star", [(0.98, 0), (-0.44, 0)], [(-0.46, 0), (0.6, 0.4)]),
    ],
)
def test_outlines(name, inside, outside):
    for points, sign in ((inside, -1), (outside, 1)):
        u, v = np.array(points).T
        assert (np.sign(_outside(name, u, v)) == sign).all()
