"""Every damage is found by its own name, and nothing is found where nothing is wrong."""

import json
import re
import shutil
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from frcnn.data.anchor_fit import Anchors
from frcnn.data.audit import audit, brief, open_for_audit
from frcnn.data.converting import open_all_splits
from frcnn.data.dataset import Dataset, open_dataset
from frcnn.data.demo import generate_demo
from frcnn.data.duplicates import look_at
from frcnn.data.faults import DataError, Kind
from frcnn.data.findings import MOST_FILES
from frcnn.data.object_sizes import Working
from frcnn.data.split_checks import dark_pictures, nothing_to_train_on
from frcnn.data.writing import write_dataset
from frcnn.structures import Sample

ANCHORS = Anchors(
    (8, 16, 32, 64),
    ((24.0, 38.4), (48.0, 76.8), (96.0, 153.6), (192.0, 307.2)),
    (0.5, 1.0, 2.0),
)
WORKING = Working("some_preset", 320, 533, ANCHORS)
SPLITS = {"train": 18, "val": 5, "test": 7}


def audited(path, working=WORKING, split=None):
    opened = open_for_audit(path, split)
    return audit(opened, working, look_at(opened.pictures()))


def kinds(found):
    return [each.kind for each in found.findings]


class Copy:
    """A VOC folder that is there to be damaged; ``name`` is a picture of its training split."""

    def __init__(self, root):
        self.root = root
        self.names = {split: self.listing(split).read_text().split() for split in SPLITS}
        self.name = self.names["train"][0]

    def listing(self, split):
        return self.root / "ImageSets" / "Main" / f"{split}.txt"

    def image(self, name=None):
        return self.root / "JPEGImages" / f"{name or self.name}.jpg"

    def xml(self, name=None):
        return self.root / "Annotations" / f"{name or self.name}.xml"

    def edit(self, change, name=None):
        tree = ElementTree.parse(self.xml(name))
        change(tree.getroot())
        tree.write(self.xml(name))

    def set_box(self, name=None, **corners):
        def change(top):
            for corner, value in corners.items():
                top.find(f"object/bndbox/{corner}").text = str(value)

        self.edit(change, name)

    def box(self):
        found = ElementTree.parse(self.xml()).find("object/bndbox")
        return {each.tag: float(each.text) for each in found}

    def append(self, split, *names):
        with self.listing(split).open("a") as file:
            file.writelines(f"{name}\n" for name in names)

    def add_copy(self, split, of, name="another"):
        shutil.copy(self.image(of), self.image(name))
        shutil.copy(self.xml(of), self.xml(name))
        self.append(split, name)
        return self.image(name)


def truncate(copy):
    copy.image().write_bytes(copy.image().read_bytes()[:-3000])


def remove_picture(copy):
    copy.image().unlink()


def break_xml(copy):
    copy.xml().write_text(copy.xml().read_text()[:-20])


def remove_annotation(copy):
    copy.xml().unlink()
    copy.image().unlink()


def unannotated_picture(copy):
    shutil.copy(copy.image(), copy.image("extra"))


def no_class_name(copy):
    copy.edit(lambda top: top.find("object").remove(top.find("object/name")))


def box_outside(copy):
    copy.set_box(xmin=5000, xmax=5050)


def box_beyond(copy):
    copy.set_box(xmax=copy.box()["xmin"] + 5000)


def box_without_area(copy):
    copy.set_box(xmin=20, xmax=20)


def reversed_corners(copy):
    copy.set_box(xmin=60, xmax=30)


def nan_coordinate(copy):
    copy.set_box(ymin="nan")


def duplicate(copy, name=None, shift=0):
    def change(top):
        item = ElementTree.fromstring(ElementTree.tostring(top.find("object")))
        if name:
            item.find("name").text = name
        side = item.find("bndbox/xmax")
        side.text = str(float(side.text) - shift)
        top.append(item)

    copy.edit(change)


def box_of_another_class(copy):
    classes = open_dataset(copy.root, "train").classes
    first = ElementTree.parse(copy.xml()).findtext("object/name")
    duplicate(copy, next(name for name in classes if name != first), shift=1)


def tiny_box(copy):
    copy.set_box(xmin=20, xmax=21, ymin=20, ymax=40)


def whole_picture(copy):
    height, width = cv2.imread(str(copy.image())).shape[:2]
    copy.set_box(xmin=1, ymin=1, xmax=width, ymax=height)


def twice_in_a_split(copy):
    copy.add_copy("train", copy.name)


def in_train_and_test(copy):
    copy.append("train", copy.names["test"][0])


def other_boxes_elsewhere(folder, write_image):
    for name in "abc":
        write_image(folder / f"{name}.jpg", seed=ord(name))
    (folder / "cat.csv").write_text("a.jpg,1,2,30,40,cat\nb.jpg,1,2,30,40,cat\n")
    (folder / "dog.csv").write_text("a.jpg,5,5,20,20,dog\nb.jpg,1,2,30,40,cat\nc.jpg,,,,,\n")
    return folder


def test_files_of_single_classes_are_told(tmp_path, write_image):
    found = audited(other_boxes_elsewhere(tmp_path, write_image))
    (finding,) = [each for each in found.findings if each.kind == Kind.DIFFERING]
    assert finding.severity == "fault" and finding.count == 1
    assert "a.jpg in cat and in dog" in finding.sentence


def nearly_in_train_and_test(copy):
    path = copy.add_copy("test", copy.name)
    image = cv2.imread(str(path))
    height, width = (side * 2 // 3 for side in image.shape[:2])
    image = np.clip(cv2.resize(image, (width, height)) * 0.8 + 25, 0, 255).astype(np.uint8)
    cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 60])

    def change(top):
        top.remove(top.find("size"))
        for corner in top.iterfind("object/bndbox/*"):
            corner.text = str(max(int(float(corner.text) * 2 / 3), 1))

    copy.edit(change, "another")


def class_in_test_alone(copy):
    copy.edit(lambda top: rename(top, "unheard of"), copy.names["test"][0])


def rename(top, name):
    top.find("object/name").text = name


def class_by_case(copy):
    first = ElementTree.parse(copy.xml()).findtext("object/name")
    for split in SPLITS:
        copy.edit(lambda top: rename(top, first.swapcase()), copy.names[split][0])


def class_with_blank(copy):
    first = ElementTree.parse(copy.xml()).findtext("object/name")
    copy.edit(lambda top: rename(top, first + " "))


def without_objects(copy):
    copy.edit(lambda top: [top.remove(item) for item in top.findall("object")])


def in_no_split(copy):
    for split in ("train", "trainval"):
        lines = copy.listing(split).read_text().split()
        copy.listing(split).write_text("\n".join(line for line in lines if line != copy.name))


def other_size(copy):
    def change(top):
        top.find("size/width").text = "1000"

    copy.edit(change)


def turned(copy):
    image = cv2.imread(str(copy.image()))
    cv2.imwrite(str(copy.image()), cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE))


def listed_twice(copy):
    copy.append("train", copy.name)


def unusable_split(copy):
    copy.listing("nightly").write_text("a_picture_long_gone\n")


DAMAGES = {
    truncate: Kind.PICTURE,
    remove_picture: Kind.MISSING_PICTURE,
    break_xml: Kind.ANNOTATION,
    remove_annotation: Kind.MISSING_ANNOTATION,
    unannotated_picture: Kind.NO_ANNOTATION,
    no_class_name: Kind.OBJECT,
    box_outside: Kind.OUTSIDE,
    box_beyond: Kind.BEYOND,
    box_without_area: Kind.NO_AREA,
    reversed_corners: Kind.REVERSED,
    nan_coordinate: Kind.NOT_FINITE,
    duplicate: Kind.BOX_TWICE,
    box_of_another_class: Kind.BOX_OF_TWO,
    tiny_box: Kind.TINY,
    whole_picture: Kind.WHOLE,
    twice_in_a_split: Kind.TWICE,
    in_train_and_test: Kind.SHARED,
    nearly_in_train_and_test: Kind.ALIKE,
    class_in_test_alone: Kind.CLASS_OF_ONE,
    class_by_case: Kind.SPELLING,
    class_with_blank: Kind.BLANKS,
    without_objects: Kind.NO_OBJECTS,
    in_no_split: Kind.NO_SPLIT,
    other_size: Kind.SIZE,
    turned: Kind.TURNED,
    listed_twice: Kind.LISTED_TWICE,
    unusable_split: Kind.SPLIT,
}
WHERE = {in_train_and_test: "test", class_in_test_alone: None, class_by_case: None}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    source = generate_demo(tmp_path_factory.mktemp("demo") / "set", images=40, size=(150, 180))
    return parted(source, tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def bccd(tmp_path_factory, real_data):
    return parted(real_data("bccd"), tmp_path_factory.mktemp("bccd"))


def parted(source, target):
    """A small copy of a VOC folder with its own splits."""
    names = iter((source / "ImageSets/Main/train.txt").read_text().split())
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (target / folder).mkdir(parents=True)
    splits = {split: [next(names) for _ in range(count)] for split, count in SPLITS.items()}
    splits["trainval"] = splits["train"] + splits["val"]
    for split, chosen in splits.items():
        (target / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(chosen) + "\n")
        for name in chosen:
            shutil.copy(source / "JPEGImages" / f"{name}.jpg", target / "JPEGImages")
            shutil.copy(source / "Annotations" / f"{name}.xml", target / "Annotations")
    return target


@pytest.mark.parametrize("source", ["made", "bccd"])
def test_nothing_is_found_in_the_copies_before_they_are_damaged(source, request):
    found = audited(request.getfixturevalue(source))
    assert not found.findings
    assert [split.images for split in found.splits] == [7, 18, 23, 5]
    assert found.to_dict()["findings"] == [] and found.faults == ()


@pytest.mark.parametrize("source", ["made", "bccd"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_each_damage_is_found_by_its_own_kind_alone(damage, source, request, tmp_path):
    copy = Copy(shutil.copytree(request.getfixturevalue(source), tmp_path / "copy"))
    damage(copy)
    (found,) = audited(copy.root).findings
    assert found.kind == DAMAGES[damage]
    assert found.count == 1 and found.sentence == " ".join(found.sentence.split())
    named = {
        in_train_and_test: copy.names["test"][0],
        class_in_test_alone: "'unheard of' in test",
        class_by_case: " and ",
        unannotated_picture: "extra.jpg",
        unusable_split: "nightly",
    }.get(damage, copy.name)
    assert named in found.sentence
    if damage not in (class_in_test_alone, class_by_case, unusable_split, listed_twice):
        assert any(named in file for file in found.files)


def test_labels_of_yolo_without_a_picture_are_a_fault(made, tmp_path):
    root = write_dataset(open_all_splits(made), tmp_path / "set", "yolo").folder
    picture = next(path for path in root.rglob("*.jpg") if path.stem == "train_0003")
    picture.unlink()
    (found,) = [each for each in audited(root).findings if "label file" in each.sentence]
    assert (found.kind, found.severity, found.count) == (Kind.MISSING_PICTURE, "fault", 1)
    assert "train_0003.txt" in found.sentence and found.files[0].endswith("train_0003.txt")


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("kind, top, told", [("u2", 4095, 1), ("u2", 65535, 0), ("u1", 15, 0)])
def test_dark_pictures_of_16_bits_are_told(tmp_path, suffix, kind, top, told):
    path = tmp_path / f"a.{suffix}"
    pixels = np.linspace(0, top, 64 * 64 * 3).astype(kind).reshape(64, 64, 3)
    assert cv2.imwrite(str(path), pixels)
    found = dark_pictures(look_at([path]).dark)
    assert len(found) == told
    for each in found:
        assert each.kind == Kind.DARK and each.files == (str(path),)
        assert f"a.{suffix}. Scale them to the full range." in each.sentence


def test_nothing_is_found_in_a_clean_set(tmp_path):
    root = generate_demo(tmp_path / "set", images=150, size=(200, 260))
    found = audited(root)
    assert kinds(found) == []
    assert found.fit.low > 0.9 and found.small < 0.05


def test_the_two_empty_boxes_of_bccd_are_named(real_data):
    found, alike = audited(real_data("bccd")).findings
    assert (found.kind, found.severity, found.count) == (Kind.NO_AREA, "fault", 2)
    names = [file.rpartition("/")[2] for file in found.files]
    assert names == ["BloodImage_00343.xml", "BloodImage_00338.xml"]
    assert all(name in found.sentence for name in names)
    # One slide, photographed twice.
    assert alike.kind == Kind.ALIKE and alike.count == 1
    assert "BloodImage_00038.jpg (train), BloodImage_00037.jpg (val)" in alike.sentence


@pytest.mark.parametrize("format", ["coco", "yolo", "csv"])
def test_damage_is_found_in_other_formats(made, format, tmp_path):
    root = write_dataset(open_all_splits(made), tmp_path / "set", format).folder
    assert kinds(audited(root)) == []
    picture = next(path for path in root.rglob("*.jpg") if path.stem == "train_0003")
    picture.write_bytes(picture.read_bytes()[:200])
    shutil.copy(picture.with_name("train_0004.jpg"), picture.with_name("x.jpg"))
    found = kinds(audited(root))
    assert Kind.PICTURE in found
    # A picture without a label file is a YOLO negative, so there it is one more of the split.
    assert (Kind.TWICE if format == "yolo" else Kind.NO_ANNOTATION) in found


@pytest.mark.parametrize("boxes, why", [(2, r"all boxes \(2\) are difficult"), (0, "usable box")])
@pytest.mark.parametrize("names", ["train val", "one two"])
def test_nothing_to_train_on_is_a_fault(boxes, why, names):
    sound = dataset((10, 10, 90, 90), pictures=1)
    corners = np.tile([10.0, 10, 90, 90], (boxes, 1))
    sample = Sample("q.jpg", corners, [0] * boxes, [True] * boxes, size=(480, 640))
    hard = Dataset((sample,), sound.classes, "root")
    splits = {name: hard for name in names.split()}
    (found,) = nothing_to_train_on(splits)
    assert (found.kind, found.severity) == (Kind.NOTHING, "fault")
    assert re.search(why, found.sentence) and "Label" in found.sentence
    # Objects that only validate are not trained on; those of splits of other names may be.
    splits[names.split()[1]] = sound
    assert bool(nothing_to_train_on(splits)) == ("val" in splits)
    assert not nothing_to_train_on(splits | {names.split()[0]: sound})


def test_one_split_is_audited_by_itself(made):
    found = audited(made, split="val")
    assert [split.name for split in found.splits] == ["val"] and not found.findings
    with pytest.raises(DataError, match="has no split 'nowhere'"):
        audited(made, split="nowhere")


def test_all_values_are_plain_and_files_are_few(made, tmp_path):
    copy = Copy(shutil.copytree(made, tmp_path / "copy"))
    for number in range(MOST_FILES + 5):
        shutil.copy(copy.image(), copy.image(f"extra{number}"))
    found = audited(copy.root)
    (finding,) = found.findings
    assert finding.count == MOST_FILES + 5 and len(finding.files) == MOST_FILES
    values = json.loads(json.dumps(found.to_dict()))
    assert values["findings"][0] == finding.to_dict()
    assert values["findings"][0]["severity"] == "note" and found.faults == ()
    assert set(values) == {"data", "training", "splits", "objects", "anchors", "findings"}
    (train,) = [split for split in values["splits"] if split["name"] == "train"]
    dataset = open_dataset(made, "train")
    assert train["images"] == len(dataset) and train["classes"] == dataset.box_counts()
    assert sum(each["boxes"] for each in train["bins"]) == train["boxes"]


def dataset(*boxes, size=(480, 640), pictures=30, classes=("a", "b"), name="p"):
    samples = tuple(
        Sample(f"{name}{number}.jpg", np.array(boxes, float), [0] * len(boxes), size=size)
        for number in range(pictures)
    )
    return Dataset(samples, classes, "root")


def test_small_objects_are_told_with_the_size_that_mends_it():
    # 20 px of a picture of 480: 13.3 at 320; 16 at 384.
    small = dataset((50, 50, 70, 70))
    sentence = brief({"train": small}, WORKING)[0]
    assert sentence.startswith("100% of the objects are below 16 pixels at the training size (320)")
    assert "--size 384 leaves 5% or less" in sentence
    at_384 = brief({"train": small}, Working("p", 384, 640, ANCHORS))
    assert not [each for each in at_384 if "below 16 pixels" in each]


def test_objects_that_no_size_mends_are_told_so():
    (sentence,) = brief({"train": dataset((50, 50, 57, 57))}, WORKING)[:1]
    assert "no size mends it; cut the pictures into tiles" in sentence


def test_anchors_that_fit_badly_are_told_with_better_ones():
    long = [(x, 10, x + 12, 470) for x in range(0, 600, 60)]
    sentences = brief({"train": dataset(*long)}, WORKING)
    (sentence,) = [each for each in sentences if "anchor" in each]
    assert sentence.startswith("0% of the objects have an anchor of some_preset above IoU 0.5")
    assert "would make it 100%" in sentence


def test_a_class_that_only_validates_and_boxes_drawn_twice_are_told():
    train = dataset((50, 50, 150, 150), (50, 50, 150, 150), (200, 200, 300, 300))
    other = Sample("q.jpg", np.array([[9.0, 9, 99, 99]]), [1], size=(480, 640))
    val = Dataset((other,), ("a", "b"), train.root)
    first, second = brief({"train": train, "val": val}, WORKING)
    assert first.startswith("2 classes in one split alone: 'a' in train, 'b' in val")
    assert second.startswith("30 boxes drawn twice")


def test_nothing_is_said_before_a_sound_training(made):
    splits = {
        name: open_dataset(made, name, ("disc", "square", "star", "triangle")) for name in SPLITS
    }
    assert brief(splits, WORKING) == []
