import re

import numpy as np
import pytest

from frcnn.data.dataset import available_splits, open_dataset
from frcnn.data.faults import DataError
from frcnn.data.voc import unlisted_annotations

SIZE = "<size><width>{}</width><height>{}</height><depth>3</depth></size>"
BOMB = (
    '<!DOCTYPE a [<!ENTITY x "x"><!ENTITY y "&x;&x;&x;&x;">]>'
    "<annotation><filename>&y;</filename></annotation>"
)
EXTERNAL = (
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    "<annotation><filename>&x;</filename></annotation>"
)


def item(name, box, difficult=None):
    corners = "".join(
        f"<{tag}>{value}</{tag}>"
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return f"<object><name>{name}</name>{flag}<bndbox>{corners}</bndbox></object>"


GOOD = item("cat", (11, 11, 30, 40))


def only_fault(voc, split=None, **options):
    """Open leniently and strictly; both must tell the same one fault."""
    dataset = open_dataset(voc.root, split, **options)
    (fault,) = dataset.faults
    with pytest.raises(DataError) as caught:
        open_dataset(voc.root, split, strict=True, **options)
    assert str(caught.value) == str(fault)
    return dataset, fault


def test_corners_count_from_one_and_include_the_last(voc):
    voc.add("a", item("cat", (1, 1, 64, 48)), item("dog", (2.5, 3, 10, 20.25)))
    (sample,) = open_dataset(voc.root)
    np.testing.assert_array_equal(sample.boxes, [[0, 0, 64, 48], [1.5, 2, 10, 20.25]])
    assert sample.labels.tolist() == [0, 1]
    assert sample.size == (48, 64)


def test_difficult_is_read_and_missing_is_easy(voc):
    box = (5, 5, 20, 20)
    voc.add("a", item("cat", box), item("cat", box, 0), item("cat", box, 1))
    (sample,) = open_dataset(voc.root)
    assert sample.difficult.tolist() == [False, False, True]
    assert "1 of the boxes difficult" in open_dataset(voc.root).summary()


def test_a_picture_without_objects_is_kept(voc):
    voc.add("a", GOOD)
    voc.add("b")
    dataset = open_dataset(voc.root)
    assert [len(sample.labels) for sample in dataset] == [1, 0]
    assert dataset.faults == ()
    assert "1 image without objects" in dataset.summary()


def test_splits_in_their_order_with_a_second_column_blank_lines_and_repeats(voc):
    for name in ("a", "b", "c 1"):
        voc.add(name, GOOD)
    voc.split("train", "b", "a  1", "", "b", "c 1")
    voc.split("cat_train", "a -1", "b  1")
    voc.split("val", "c 1")
    names = [sample.image.stem for sample in open_dataset(voc.root, "train")]
    assert names == ["b", "a", "c 1"]
    assert len(open_dataset(voc.root, "cat_train")) == 2
    assert len(open_dataset(voc.root)) == 3
    assert available_splits(voc.root) == ("train", "val")


@pytest.mark.parametrize("first", ["frame 1", "frame 0", "frame  -1"])
def test_a_list_whose_first_name_ends_in_a_number_is_no_class_list(voc, first):
    for name in (first, "frame 8"):
        voc.add(name, GOOD)
    voc.split("train", "", first)
    voc.split("test", "frame 8")
    voc.split("cat_train", f"{first}  1")
    assert available_splits(voc.root) == ("test", "train")
    assert [sample.image.stem for sample in open_dataset(voc.root, "train")] == [first]


def test_empty_lists_beside_others_are_no_splits(voc):
    voc.add("a", GOOD)
    for name in ("train", "dog_train", "val"):
        voc.split(name)
    assert available_splits(voc.root) == ("dog_train", "train", "val")
    voc.split("train", "a")
    voc.split("val", "", " ")
    assert available_splits(voc.root) == ("train",)
    voc.split("train")
    voc.split("cat_train", "a 1")
    assert available_splits(voc.root) == ()


@pytest.mark.parametrize(
    "line", ["a b.jpg", "a b.PNG", '"a b"', '"a b" 1', "a b.jpg -1", "a b", "a b  0"]
)
def test_lines_with_a_suffix_quotes_or_a_second_column(voc, line):
    voc.add("a b", GOOD)
    voc.split("train", line)
    dataset = open_dataset(voc.root, "train", strict=True)
    assert [sample.image.name for sample in dataset] == ["a b.jpg"]


def test_quotes_do_not_hide_a_path_that_leaves_the_root(voc):
    voc.add("a", GOOD)
    outside = voc.root / "b.xml"
    outside.write_text(f"<annotation><filename>a.jpg</filename>{GOOD}</annotation>")
    voc.split("train", "a", '"../b"', f'"{outside.with_suffix("")}"')
    dataset = open_dataset(voc.root, "train")
    assert [sample.image.name for sample in dataset] == ["a.jpg"] and len(dataset.faults) == 2


def test_a_suffix_that_is_part_of_the_name(voc):
    voc.add("a", GOOD)
    voc.add("a.jpg", GOOD)
    voc.split("train", "a.jpg", "b.jpg")
    dataset, fault = only_fault(voc, "train")
    assert [sample.image.name for sample in dataset] == ["a.jpg.jpg"]
    assert fault.file.name == "b.jpg.xml"


@pytest.mark.parametrize("name", ["Images", "IMAGES", "JpegImages", "images"])
def test_the_folder_of_pictures_in_any_case(voc, name):
    voc.add("a", GOOD)
    (voc.root / "JPEGImages").rename(voc.root / name)
    assert open_dataset(voc.root, strict=True)[0].image == voc.root / name / "a.jpg"


def nested(voc, *names):
    """Pictures and annotations in folders of the same names."""
    for name in names:
        (voc.root / "Annotations" / name).parent.mkdir(exist_ok=True)
        voc.add(name, GOOD)


def places(dataset):
    return [str(sample.image.relative_to(dataset.root / "JPEGImages")) for sample in dataset]


def test_annotations_in_folders_of_the_splits(voc):
    nested(voc, "train/a", "train/b", "val/a")
    assert available_splits(voc.root) == ("train", "val")
    assert places(open_dataset(voc.root, "train", strict=True)) == ["train/a.jpg", "train/b.jpg"]
    assert places(open_dataset(voc.root, "val", strict=True)) == ["val/a.jpg"]
    assert len(open_dataset(voc.root, strict=True)) == 3


def test_annotations_in_folders_with_a_list(voc):
    nested(voc, "one/a", "two/a", "b")
    voc.split("default", "one/a", "two/a", "b")
    assert available_splits(voc.root) == ("default",)
    dataset = open_dataset(voc.root, "default", strict=True)
    assert places(dataset) == ["one/a.jpg", "two/a.jpg", "b.jpg"]
    assert sorted(places(open_dataset(voc.root, strict=True))) == sorted(places(dataset))
    assert unlisted_annotations([voc.root]) == []
    voc.split("default", "one/a")
    unlisted = unlisted_annotations([voc.root])
    assert [str(file.relative_to(voc.root)) for file in unlisted] == [
        "Annotations/b.xml", "Annotations/two/a.xml",
    ]  # fmt: skip


def test_copies_of_annotations_and_hidden_ones_are_passed_over(voc):
    voc.add("a", GOOD)
    for folder in ("old", ".ipynb_checkpoints"):
        (voc.root / "Annotations" / folder).mkdir()
        voc.annotate(f"{folder}/a", GOOD)
    voc.annotate("._a", xml="no XML")
    assert len(open_dataset(voc.root, strict=True)) == 1


def test_a_picture_below_is_not_taken_for_one_right_there(voc):
    nested(voc, "one/a", "a")
    (voc.root / "JPEGImages/one/a.jpg").unlink()
    assert places(open_dataset(voc.root)) == ["a.jpg"]
    voc.annotate("one/a", "<filename>one/c.png</filename>", GOOD)
    nested(voc, "one/b")
    (voc.root / "JPEGImages/one/b.jpg").rename(voc.root / "JPEGImages/one/c.png")
    assert places(open_dataset(voc.root)) == ["a.jpg", "one/c.png"]


def test_a_missing_split_is_named_with_those_there_are(voc):
    voc.add("a", GOOD)
    with pytest.raises(DataError, match=r"data: has no split 'val'; it has none$"):
        open_dataset(voc.root, "val")
    voc.split("train", "a")
    voc.split("test", "a")
    with pytest.raises(DataError, match=r"has no split 'val'; it has test, train$"):
        open_dataset(voc.root, "val")


@pytest.mark.parametrize("years", [("VOC2007",), ("VOC2012",), ("VOC2007", "VOC2012")])
def test_years_below_the_root_are_merged(tmp_path, make_voc, years):
    for year in years:
        folder = make_voc(f"data/{year}")
        folder.add("a", item(year, (5, 5, 20, 20)))
        folder.split("train", "a")
    make_voc("other").add("a", GOOD)
    dataset = open_dataset(tmp_path / "data", "train")
    assert [sample.image.parts[-3] for sample in dataset] == list(years)
    assert dataset.classes == years


def test_a_split_in_one_year_only(tmp_path, make_voc):
    for year in ("VOC2007", "VOC2012"):
        make_voc(f"data/{year}").add("a", GOOD)
    listing = tmp_path / "data/VOC2007/ImageSets/Main/test.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("\ufeffa\r\n", encoding="utf-8")
    assert available_splits(tmp_path / "data") == ("test",)
    assert len(open_dataset(tmp_path / "data", "test")) == 1


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".jpeg", ".png", ".bmp", ".tif", ".webp"])
def test_any_suffix_of_a_picture(voc, suffix):
    voc.add("a", "<filename>other.gif</filename>", GOOD, suffix=suffix)
    (sample,) = open_dataset(voc.root)
    assert sample.image == voc.root / "JPEGImages" / f"a{suffix}"


def test_of_pictures_of_one_name_the_stated_one(voc):
    voc.add("a", GOOD, suffix=".jpg")
    assert open_dataset(voc.root)[0].image.suffix == ".jpg"
    voc.add("a", "<filename>a.png</filename>", GOOD, suffix=".png")
    assert open_dataset(voc.root)[0].image.suffix == ".png"


def test_filename_where_the_name_has_no_picture(voc):
    voc.add("photo", GOOD)
    voc.annotate("a", "<filename>photo.jpg</filename>", GOOD)
    assert open_dataset(voc.root).subset(lambda s: s.image.stem == "photo").samples[0].size


@pytest.mark.parametrize(
    "name", ["../../b.jpg", "/etc/b.jpg", "..\\b.jpg", "C:\\b.jpg", "x/../b.jpg"]
)
def test_filename_that_leaves_the_root_is_refused(voc, name):
    voc.add("a", GOOD)
    voc.annotate("b", f"<filename>{name}</filename>", GOOD)
    dataset, fault = only_fault(voc)
    assert fault.file.name == "b.xml" and fault.images == 1
    assert f"{name!r}, a path that leaves the data set" in str(fault)
    assert len(dataset) == 1


@pytest.mark.parametrize("line", ["../a", "/a", "..\\a"])
def test_split_line_that_leaves_the_root_is_refused(voc, line):
    voc.add("a", GOOD)
    voc.split("train", "a", line)
    dataset, fault = only_fault(voc, "train")
    assert fault.file.name == "train.txt" and repr(line) in fault.problem
    assert len(dataset) == 1


@pytest.mark.parametrize(
    "xml, problem",
    [
        ("<annotation><object>", "is not well-formed XML"),
        (" ", "is not well-formed XML"),
        ("\x00\x01", "is not well-formed XML"),
        ('<?xml version="1.0" encoding="nonsense"?><a/>', "is not well-formed XML"),
        (BOMB, r"is refused: it declares entities \(EntitiesForbidden\)"),
        (EXTERNAL, r"is refused: it declares entities \(EntitiesForbidden\)"),
    ],
)
def test_bad_xml(voc, xml, problem):
    voc.add("a", GOOD)
    voc.add("b", xml=xml)
    dataset, fault = only_fault(voc)
    assert len(dataset) == 1 and fault.images == 1
    assert fault.file.name == "b.xml"
    assert re.match(problem, fault.problem)


@pytest.mark.parametrize(
    "box, problem",
    [
        ((20, 10, 20, 30), "has a box without area: (20, 10, 20, 30)"),
        ((30, 10, 20, 30), "has its corners the wrong way round: (30, 10, 20, 30)"),
        (("nan", 10, 20, 30), "has a coordinate that is not a finite number: (nan, 10, 20, 30)"),
        ((1, 10, "inf", 30), "has a coordinate that is not a finite number: (1, 10, inf, 30)"),
        ((65, 1, 90, 30), "lies outside its picture of 64x48 pixels: (65, 1, 90, 30)"),
        ((1, -40, 20, -2), "lies outside its picture of 64x48 pixels: (1, -40, 20, -2)"),
        ((1, 1, 67, 30), "reaches beyond its picture of 64x48 pixels: (1, 1, 67, 30)"),
        ((-3, 1, 30, 30), "reaches beyond its picture of 64x48 pixels: (-3, 1, 30, 30)"),
        ((1, 1, "x2", 30), "has <xmax> 'x2', which is not a number"),
        ((1, 1, "", 30), "has <xmax> '', which is not a number"),
    ],
)
def test_a_bad_box_is_left_out_and_the_picture_kept(voc, box, problem):
    voc.add("a", GOOD, item("dog", box))
    dataset, fault = only_fault(voc)
    assert (fault.images, fault.boxes, fault.file.name) == (0, 1, "a.xml")
    assert fault.problem.startswith("object 2") and fault.problem.endswith(problem)
    assert len(dataset) == 1 and len(dataset[0].boxes) == 1
    assert dataset.classes == ("cat",)  # a class without a sound box is none


@pytest.mark.parametrize(
    "box, clipped",
    [((0, 0, 20, 30), (0, 0, 20, 30)), ((-1, 5, 66, 50), (0, 4, 64, 48))],
)
def test_a_couple_of_pixels_beyond_the_border_are_clipped(voc, box, clipped):
    voc.add("a", item("cat", box))
    dataset = open_dataset(voc.root, strict=True)
    np.testing.assert_array_equal(dataset[0].boxes, [clipped])


@pytest.mark.parametrize(
    "xml, problem",
    [
        ("<object><bndbox/></object>", "object 2 has no <name>"),
        ("<object><name>cat</name></object>", "object 2 has no <xmin>"),
    ],
)
def test_a_missing_element(voc, xml, problem):
    voc.add("a", GOOD, xml)
    assert only_fault(voc)[1].problem == problem


def test_pictures_missing_empty_or_truncated(voc):
    voc.add("a", GOOD)
    voc.annotate("b", GOOD)
    voc.annotate("c", "<filename>c.jpg</filename>", GOOD)
    voc.add("d", GOOD)
    (voc.root / "JPEGImages/d.jpg").write_bytes(b"")
    voc.add("e", GOOD)
    whole = (voc.root / "JPEGImages/e.jpg").read_bytes()
    (voc.root / "JPEGImages/e.jpg").write_bytes(whole[: len(whole) // 2])
    voc.split("train", *"abcdef")
    dataset = open_dataset(voc.root, "train")
    assert [sample.image.stem for sample in dataset] == ["a"]
    told = [(fault.file.name, fault.problem) for fault in dataset.faults]
    assert told[0] == ("b.xml", "has no picture b.* in JPEGImages and states no <filename>")
    assert told[1] == ("f.xml", "does not exist, but the split lists it")
    assert told[2] == ("c.jpg", "does not exist")
    assert told[3] == ("d.jpg", "is empty (0 bytes)")
    assert told[4][0] == "e.jpg" and told[4][1].endswith("it is truncated")
    assert "Left out: 5 images and 0 boxes." in dataset.summary()


@pytest.mark.parametrize(
    "stated, kept",
    [("", True), (SIZE.format(64, 48), True), (SIZE.format(0, 0), True),
     (SIZE.format("?", ""), True), (SIZE.format("inf", 3), True),
     (SIZE.format(48, 64), False), (SIZE.format(640, 480), False)],
)  # fmt: skip
def test_the_stated_size_must_be_the_pictures(voc, stated, kept):
    voc.add("good", GOOD)
    voc.add("a", stated, GOOD)
    assert len(open_dataset(voc.root)) == 1 + kept
    if not kept:
        assert "but a.jpg has 64x48" in only_fault(voc)[1].problem


def test_nothing_usable_says_why(voc):
    with pytest.raises(DataError, match="has no usable picture$"):
        open_dataset(voc.root)
    voc.annotate("a", GOOD)
    with pytest.raises(DataError, match="no usable picture; the first fault is .*a.xml: has no"):
        open_dataset(voc.root)
    voc.add("a")
    with pytest.raises(DataError, match="no usable box, so no class"):
        open_dataset(voc.root)
    assert len(open_dataset(voc.root, classes=["cat"])) == 1


def test_a_listing_that_is_no_text(voc):
    voc.add("a", GOOD)
    voc.split("train").write_bytes(b"a\n\xff\xfe")
    with pytest.raises(DataError, match=r"train.txt: is not UTF-8 text \(byte 2\)"):
        open_dataset(voc.root, "train")
