import hashlib
import json
import os
import shutil

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frcnn.data import writing
from frcnn.data.converting import joined_classes, open_all_splits
from frcnn.data.dataset import Dataset, open_dataset
from frcnn.data.faults import DataError
from frcnn.data.writing import FORMATS, split_names, write_dataset
from frcnn.structures import Sample

SIZES = [(48, 64), (64, 48), (30, 333), (777, 20)]
ORDERED = ("coco", "yolo")  # formats that keep the order of the classes


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Four pictures, two of them of one name in different folders."""
    import cv2

    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    for number, size in enumerate(SIZES):
        path = folder / str(number % 2) / ("same name.png" if number < 2 else f"{number}.JPG")
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (*size, 3), np.uint8)
        assert cv2.imwrite(str(path), pixels)
        paths.append(path)
    return paths


def sample_of(path, *rows, size=None):
    """A sample of rows (x1, y1, x2, y2, label, difficult)."""
    columns = np.array(rows, float).reshape(-1, 6)
    boxes, labels, difficult = columns[:, :4], columns[:, 4].astype(int), columns[:, 5] > 0
    return Sample(path, boxes, labels, difficult, size)


@pytest.fixture
def dataset(pictures):
    samples = (
        sample_of(pictures[0], (0, 0, 64, 48, 1, 0), (1.25, 2, 30.5, 40, 0, 1)),
        sample_of(pictures[1]),
        sample_of(pictures[2], (300, 0, 333, 30, 2, 0)),
    )
    return Dataset(samples, ("zebra", "ant", "cow"), pictures[0].parent)


def contents(splits, with_difficult=True):
    """What the splits hold: by split and by the picture's bytes, the rows of the boxes."""
    return {
        split: {
            hashlib.sha1(sample.image.read_bytes()).hexdigest(): sorted(
                (dataset.classes[label], bool(flag), *box)
                for box, label, flag in zip(
                    sample.boxes.tolist(), sample.labels, sample.difficult, strict=True
                )
                if with_difficult or not flag
            )
            for sample in dataset
        }
        for split, dataset in splits.items()
    }


def assert_same(splits, others, with_difficult=True):
    """The same splits, pictures, classes, flags, and boxes to 0.01 pixel."""
    one, other = contents(splits, with_difficult), contents(others, with_difficult)
    assert {s: set(found) for s, found in one.items()} == {s: set(f) for s, f in other.items()}
    for split, pictures in one.items():
        for key, rows in pictures.items():
            # Sorted, boxes that agree to a rounding error may still come in another order.
            assert len(rows) == len(other[split][key])
            left = list(other[split][key])
            for row in rows:
                nearest = min(left, key=lambda r: (r[:2] != row[:2], distance(r, row)))
                assert nearest[:2] == row[:2] and distance(nearest, row) < 0.01
                left.remove(nearest)


def distance(row, other):
    return max(abs(a - b) for a, b in zip(row[2:], other[2:], strict=True))


@pytest.mark.parametrize("name", ["bccd", "coco_tiny"])
def test_each_format_into_each_other_on_real_data(real_data, tmp_path, name):
    # Every conversion is compared with the original, so that going there and back loses nothing.
    # Every third picture, to be quick; some of bccd's are in two splits.
    opened = open_all_splits(real_data(name))
    names = split_names(opened)
    original = {names[s]: part.subset(range(0, len(part), 3)) for s, part in opened.items()}
    for first in FORMATS:
        write_dataset(original, tmp_path / first, first, "link")
        opened = open_all_splits(tmp_path / first, strict=True)
        assert_same(opened, original)
        for second in FORMATS:
            folder = tmp_path / f"{first}-{second}"
            written = write_dataset(opened, folder, second, "link")
            assert written.images == {split: len(part) for split, part in opened.items()}
            again = open_all_splits(folder, strict=True)
            assert_same(again, original)
            if first in ORDERED and second in ORDERED:
                assert again["train"].classes == original["train"].classes
            shutil.rmtree(folder)


CLASS_NAMES = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"),
    min_size=1, max_size=8,
).map(str.strip).filter(lambda name: name and name != "bg") | st.sampled_from(
    ["no", "1", "null", "a, b", 'say "x"', "<b>&amp;</b>", "ünï", "- a", "# a", "{}", "'", "=1"]
)  # fmt: skip


@st.composite
def rows(draw, size, classes):
    height, width = size
    found = []
    for _ in range(draw(st.integers(0, 3))):
        x1, y1 = draw(st.floats(0, width - 2)), draw(st.floats(0, height - 2))
        x2, y2 = draw(st.floats(x1 + 1.5, width)), draw(st.floats(y1 + 1.5, height))
        label, difficult = draw(st.integers(0, classes - 1)), draw(st.booleans())
        found.append((x1, y1, x2, y2, label, difficult))
    return found


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_there_and_back_on_random_data(pictures, tmp_path, data):
    classes = tuple(data.draw(st.lists(CLASS_NAMES, min_size=1, max_size=4, unique=True)))
    samples = [
        sample_of(path, *data.draw(rows(size, len(classes))))
        for path, size in zip(pictures, SIZES, strict=True)
    ]
    # A box of every class, so that a CSV file or a VOC folder has each, and some picture a label.
    whole = [(0, 0, 64, 48, label, False) for label in range(len(classes))]
    samples[0] = sample_of(pictures[0], *whole)
    members = st.lists(st.integers(0, 3), max_size=4, unique=True).map(lambda found: [0, *found])
    chosen = data.draw(st.dictionaries(st.sampled_from(["train", "val", "trainval", "x 1"]),
                                       members, min_size=1))  # fmt: skip
    everything = Dataset(tuple(samples), classes, pictures[0].parent)
    splits = {s: everything.subset(list(dict.fromkeys(found))) for s, found in chosen.items()}
    splits = {name: splits[split] for split, name in split_names(splits).items()}
    first, second = data.draw(st.sampled_from(FORMATS)), data.draw(st.sampled_from(FORMATS))
    folder = tmp_path / "there"
    try:
        current = splits
        for number, format in enumerate((first, second, first)):
            write_dataset(current, folder / str(number), format, "link")
            current = open_all_splits(folder / str(number))
        assert not [f for d in current.values() for f in d.faults if not f.is_remark]
        assert_same(current, splits, with_difficult="yolo" not in (first, second))
        found = next(iter(current.values())).classes
        ordered = first in ORDERED and second in ORDERED
        assert found == classes if ordered else set(found) == set(classes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("images", ["copy", "link"])
def test_names_flags_empty_pictures_and_files(dataset, tmp_path, format, images):
    (tmp_path / "new").mkdir()  # an empty folder will do
    write_dataset(
        {"train": dataset, "valid": dataset.subset([1, 2])}, tmp_path / "new", format, images
    )
    splits = open_all_splits(tmp_path / "new", strict=True)
    assert {split: len(part) for split, part in splits.items()} == {"train": 3, "val": 2}
    assert sorted(s.image.name for s in splits["train"]) == [
        "2.JPG",
        "same_name-2.png",
        "same_name.png",
    ]
    files = [path for path in (tmp_path / "new").rglob("*") if path.suffix in (".JPG", ".png")]
    assert len(files) == 3  # one that is in two splits is there once
    assert all((os.stat(file).st_nlink > 1) == (images == "link") for file in files)
    assert {s.image for s in splits["val"]} < {s.image for s in splits["train"]}
    flags = [sample.difficult.tolist() for sample in splits["train"] if "name" in sample.image.name]
    assert sorted(flags) == ([[], [False]] if format == "yolo" else [[], [False, True]])
    assert not list(tmp_path.glob(".*"))


def test_what_a_format_cannot_hold_is_said(dataset, tmp_path):
    said = {f: write_dataset(dataset, tmp_path / f, f).lost for f in FORMATS}
    order = "It has no list of classes: their order is lost, and those without boxes."
    crowds = "It has no difficult or crowd objects: 1 box left out."
    assert said == {"voc": (order,), "coco": (), "yolo": (crowds,), "csv": (order,)}


def test_areas_of_masks(pictures, tmp_path):
    sample = Sample(pictures[0], [[0, 0, 10, 10], [5, 5, 6, 6.5]], [0, 0], areas=[55.5, 1.5])
    one = Dataset((sample,), ("a",), pictures[0].parent)
    for format in FORMATS:
        lost = write_dataset(one, tmp_path / format, format).lost
        areas = open_dataset(tmp_path / format)[0].areas.tolist()
        told = "It has no areas of masks: 1 are lost, their boxes' areas count."
        assert (told in lost) == (format != "coco")
        if format == "coco":
            assert areas == [55.5, 1.5]
        if format == "voc":  # its boxes have whole pixels, the last one included
            assert "Its boxes are wider than a pixel: 1 box left out." in lost and areas == [100]


def test_thin_boxes_are_kept_elsewhere(pictures, tmp_path):
    box = np.array([[300, 10, np.nextafter(np.float32(300), np.float32(301)), 10.001]])
    one = Dataset((Sample(pictures[2], box, [0]),), ("a",), pictures[0].parent)
    for format in ("coco", "yolo", "csv"):
        write_dataset(one, tmp_path / format, format)
        assert len(open_dataset(tmp_path / format, strict=True)[0].boxes) == 1


def test_the_files_are_those_that_others_read(dataset, tmp_path):
    write_dataset({"train": dataset, "all": dataset}, tmp_path / "yolo", "yolo")
    settings = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text())
    assert settings == {
        "train": "images/train", "all": "all.txt", "nc": 3,
        "names": {0: "zebra", 1: "ant", 2: "cow"},
    }  # fmt: skip
    lines = (tmp_path / "yolo" / "all.txt").read_text().splitlines()
    assert lines == [f"./images/train/{n}" for n in ("same_name.png", "same_name-2.png", "2.JPG")]
    assert (tmp_path / "yolo/labels/train/same_name.txt").read_text() == "1 0.5 0.5 1 1\n"
    assert (tmp_path / "yolo/labels/train/same_name-2.txt").read_text() == ""

    write_dataset(dataset, tmp_path / "coco", "coco")
    data = json.loads((tmp_path / "coco/annotations/instances_train.json").read_text())
    assert data["categories"][0] == {"id": 1, "name": "zebra"}
    assert data["images"][0] == {
        "id": 1, "file_name": "same_name.png", "width": 64, "height": 48,
    }  # fmt: skip
    assert data["annotations"][1] == {
        "id": 2, "image_id": 1, "category_id": 1, "bbox": [1.25, 2, 29.25, 38],
        "area": 29.25 * 38, "iscrowd": 1,
    }  # fmt: skip

    write_dataset(dataset, tmp_path / "csv", "csv")
    assert (tmp_path / "csv" / "train.csv").read_text().splitlines() == [
        "path,x1,y1,x2,y2,class,difficult",
        "images/same_name.png,0,0,64,48,ant,0",
        "images/same_name.png,1.25,2,30.5,40,zebra,1",
        "images/same_name-2.png,,,,,,",
        "images/2.JPG,300,0,333,30,cow,0",
    ]
    write_dataset(dataset, tmp_path / "voc", "voc")
    xml = (tmp_path / "voc/Annotations/same_name.xml").read_text()
    assert "<xmin>1</xmin>" in xml and "<xmax>64</xmax>" in xml  # whole numbers stay whole
    assert "<xmin>2.25</xmin>" in xml and "<difficult>1</difficult>" in xml


def test_a_folder_in_use_is_refused_and_left_alone(dataset, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    for folder in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(DataError, match="is not an empty folder; name a new one"):
            write_dataset(dataset, folder, "voc")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_writing_leaves_nothing(dataset, tmp_path, monkeypatch, error):
    calls = []

    def put(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise error

    monkeypatch.setattr(writing, "_put", put)
    (tmp_path / "data").mkdir()
    with pytest.raises(type(error)):
        write_dataset(dataset, tmp_path / "data", "coco")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert not list((tmp_path / "data").iterdir())


def test_names_that_cannot_be_written(dataset, tmp_path):
    for name, format, words in [
        ("a\nb", "voc", "class 'a\\nb' cannot be written; rename it"),
        ("\ud800", "yolo", "cannot be written; rename it"),
        (" a", "csv", "class ' a' cannot be written; rename it"),
        ("bg", "csv", "class 'bg' means 'no object' in a CSV file; rename it"),
    ]:
        renamed = Dataset(dataset.samples, (name, "x", "y"), dataset.root)
        with pytest.raises(DataError) as caught:
            write_dataset(renamed, tmp_path / "new", format)
        assert words in str(caught.value)
    with pytest.raises(DataError, match="split 'nc' would be a setting"):
        write_dataset({"nc": dataset}, tmp_path / "new", "yolo")
    assert not list(tmp_path.iterdir())


def test_splits_that_do_not_fit_together(dataset, tmp_path, pictures):
    other = Dataset(dataset.samples, ("a", "b", "c"), dataset.root)
    with pytest.raises(ValueError, match="with the same classes"):
        write_dataset({"train": dataset, "val": other}, tmp_path / "new", "voc")
    changed = (sample_of(pictures[1], (0, 0, 9, 9, 0, 0)),)
    other = Dataset(changed, dataset.classes, dataset.root)
    with pytest.raises(DataError, match="same name.png: has other boxes in split 'train'"):
        write_dataset({"train": dataset, "val": other}, tmp_path / "new", "voc")
    for wrong in ({"format": "xml"}, {"format": "voc", "images": "move"}):
        with pytest.raises(ValueError, match="Received: format="):
            write_dataset(dataset, tmp_path / "new", **wrong)
    assert not list(tmp_path.iterdir())


def test_a_link_that_cannot_be_made(dataset, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(DataError, match=r"cannot be linked from .* \(Invalid cross-device link\)"):
        write_dataset(dataset, tmp_path / "new", "voc", "link")
    assert not list(tmp_path.iterdir())


def test_names_of_splits():
    assert split_names(["train2017", "valid"]) == {"train2017": "train", "valid": "val"}
    assert split_names(["train2014", "train2017", "a b"]) == {
        "train2014": "train2014", "train2017": "train2017", "a b": "a_b",
    }  # fmt: skip


def test_classes_of_several_splits():
    assert joined_classes([("a", "c"), ("b",)]) == ("a", "b", "c")
    assert joined_classes([("c", "a"), ("b", "a")]) == ("c", "a", "b")


def test_all_splits_with_one_list_of_classes(tmp_path, write_image):
    for name, row in {"train": "a.png,1,1,9,9,cow", "val": "b.png,1,1,9,9,ant"}.items():
        write_image(tmp_path / row[:5])
        (tmp_path / f"{name}.csv").write_text(row)
    splits = open_all_splits(tmp_path)
    assert [part.classes for part in splits.values()] == [("ant", "cow")] * 2
    assert splits["train"][0].labels.tolist() == [1] and list(splits) == ["train", "val"]
    assert list(open_all_splits(tmp_path / "train.csv", "val.csv")) == ["val"]
