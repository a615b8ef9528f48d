import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faults import only_fault
from frcnn.data.dataset import available_splits, open_dataset
from frcnn.data.faults import DataError

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]


def picture(id_, name, size=(48, 64)):
    return {"id": id_, "file_name": name, "height": size[0], "width": size[1]}


def box(id_, image=1, category=3, bbox=(10, 5, 20, 30), **more):
    return {"id": id_, "image_id": image, "category_id": category, "bbox": [*bbox], **more}


def content(*annotations, images=None, categories=CATEGORIES):
    images = [picture(1, "a.jpg"), picture(9, "b.jpg")] if images is None else images
    return {"images": images, "annotations": list(annotations), "categories": categories}


@pytest.fixture
def write(tmp_path, write_image):
    """Write a COCO folder with one split: the pictures a.jpg and b.jpg, and the given JSON."""

    def written(value, split="train", pictures=("a.jpg", "b.jpg"), folder="images"):
        for name in pictures:
            write_image(tmp_path / "data" / folder / name)
        file = tmp_path / "data" / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
        return tmp_path / "data"

    return written


def test_boxes_classes_crowds_and_areas(write):
    mask = {"segmentation": [[1, 1, 2, 2, 3, 1]], "area": 123.5}
    crowd = {"segmentation": {"counts": [5], "size": [48, 64]}, "iscrowd": 1}
    root = write(content(
        box(4, bbox=(10.5, 5, 20, 30.25), **mask), box(11, category=7, **crowd), box(5, iscrowd=0)
    ))  # fmt: skip
    dataset = open_dataset(root, strict=True)
    assert dataset.classes == ("cat", "dog")  # by id
    sample, negative = dataset
    np.testing.assert_array_equal(sample.boxes[0], [10.5, 5, 30.5, 35.25])
    assert sample.labels.tolist() == [0, 1, 0]
    assert sample.difficult.tolist() == [False, True, False]
    assert sample.areas.tolist() == [123.5, 600, 600]
    assert sample.size == (48, 64) and sample.image == root / "images" / "a.jpg"
    assert len(negative.labels) == 0 and negative.image.name == "b.jpg"


def test_classes_are_those_declared_also_without_boxes(write):
    root = write(content(box(1), categories=[*CATEGORIES, {"id": 1, "name": " lamp "}]))
    assert open_dataset(root).classes == ("lamp", "cat", "dog")
    assert open_dataset(root, classes=("dog", "cat"))[0].labels.tolist() == [1]
    assert open_dataset(write(content())).box_counts() == {"cat": 0, "dog": 0}


@pytest.mark.parametrize("place", ["train2017", "images/train2017", "train", "images/train"])
def test_pictures_in_a_folder_of_the_split_come_first(write, place, write_image):
    root = write(content(box(1)), "train2017", folder=place)
    write_image(root / "images" / "a.jpg")
    dataset = open_dataset(root)
    assert {sample.image.parent for sample in dataset} == {root / place}


@pytest.mark.parametrize("name", ["x/y/a.jpg", "x\\y\\a.jpg", "./x/y/a.jpg"])
def test_pictures_in_subfolders(write, name):
    root = write(content(images=[picture(1, name)]), pictures=["x/y/a.jpg"])
    assert open_dataset(root, strict=True)[0].image == root / "images/x/y/a.jpg"


def test_splits_by_their_names_and_other_spellings(write):
    root = write(content(box(1)), "train2017")
    write(content(box(1, 9)), "valid")
    write({"annotations": []}, "x")
    (root / "annotations" / "captions_train2017.json").write_text("{}")
    assert available_splits(root) == ("train2017", "valid", "x")
    for name in ("valid", "val", "validation"):
        assert open_dataset(root, name).split == "valid"
    assert len(open_dataset(root, "train")[0].labels) == 1
    with pytest.raises(DataError, match="has no split 'test'; it has train2017, valid, x"):
        open_dataset(root, "test")
    (root / "annotations" / "instances_x.json").unlink()
    write(content(box(1, category=1), categories=[{"id": 1, "name": "ant"}]), "train2017")
    both = open_dataset(root)
    assert both.classes == ("ant", "cat", "dog") and len(both) == 2  # each picture once


def test_a_file_with_the_others_beside_it(write, monkeypatch):
    root = write(content(box(1)), "train")
    write(content(box(1, 9)), "val")
    file = root / "annotations" / "instances_train.json"
    assert available_splits(file) == ("train", "val")
    assert len(open_dataset(file)[0].labels) == 1
    assert len(open_dataset(file, "val")[1].labels) == 1
    monkeypatch.chdir(file.parent)
    assert len(open_dataset(file.name, strict=True)) == 2


def test_the_export_of_roboflow(tmp_path, write_image, monkeypatch):
    categories = [
        {"id": 0, "name": "cells", "supercategory": "none"},
        {"id": 1, "name": "red", "supercategory": "cells"},
        {"id": 2, "name": "white", "supercategory": "cells"},
    ]
    for split in ("train", "valid", "test"):
        write_image(tmp_path / split / f"{split}.jpg")
        value = content(box(0, 0, 2), images=[picture(0, f"{split}.jpg")], categories=categories)
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(value))
    assert available_splits(tmp_path) == ("test", "train", "valid")
    dataset = open_dataset(tmp_path, "val", strict=True)
    assert dataset.classes == ("red", "white")
    assert dataset[0].image == tmp_path / "valid" / "valid.jpg"
    assert dataset[0].labels.tolist() == [1]
    (note,) = dataset.faults
    assert "category 0 (cells) only groups the others" in str(note)
    assert "Note: " in dataset.summary() and "Left out" not in dataset.summary()
    for inside in (tmp_path / "train", tmp_path / "train" / "_annotations.coco.json"):
        assert len(open_dataset(inside)) == 1
        assert available_splits(inside) == ("test", "train", "valid")
    monkeypatch.chdir(tmp_path / "train")
    assert available_splits("_annotations.coco.json") == ("test", "train", "valid")


@pytest.mark.parametrize("name", ["train.json", "annotations.json", "result.json", "labels.json"])
def test_a_file_in_the_folder_itself(tmp_path, write_image, name):
    write_image(tmp_path / "data" / "a.jpg")
    (tmp_path / name).write_text(json.dumps(content(box(1), images=[picture(1, "a.jpg")])))
    (tmp_path / "notes.json").write_text("[]")
    (tmp_path / ".train.json").write_text("[]")
    assert len(open_dataset(tmp_path)) == 1


@pytest.mark.parametrize(
    "name",
    ["annotations.json", "_annotations.json", "labels.json", "coco.json",
     "annotations/instances.json", "annotations/instances_default.json"],
)  # fmt: skip
@pytest.mark.parametrize("folder", ["images", "data", ""])
def test_a_folder_for_each_split(tmp_path, write_image, name, folder):
    for split in ("training", "ds1"):
        write_image(tmp_path / split / folder / f"{split}.jpg")
        file = tmp_path / split / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content(box(1), images=[picture(1, f"{split}.jpg")])))
    (tmp_path / "notes").mkdir()
    assert available_splits(tmp_path) == ("ds1", "training")
    assert open_dataset(tmp_path, "train", strict=True)[0].image.name == "training.jpg"
    assert len(open_dataset(tmp_path, strict=True)) == 2


@pytest.mark.parametrize("name", ["train/labels.json", "train_labels.json", "training.json"])
def test_files_of_the_same_names_that_are_not_coco(tmp_path, write_image, name):
    write_image(tmp_path / "train" / "a.jpg")
    (tmp_path / name).write_text('{"images": [], "annotations": []}')
    with pytest.raises(DataError, match="is no data set"):
        open_dataset(tmp_path)
    (tmp_path / "boxes.csv").write_text("train/a.jpg,1,2,30,40,cat")
    assert open_dataset(tmp_path).classes == ("cat",)
    (tmp_path / "boxes.csv").unlink()
    (tmp_path / name).write_text(json.dumps(content(box(1), images=[picture(1, "a.jpg")])))
    assert open_dataset(tmp_path, "train", strict=True).classes == ("cat", "dog")


def test_the_layout_of_another_format_comes_first(tmp_path, write_image):
    for name in ("images/a.jpg", "labels"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
    write_image(tmp_path / "train" / "images" / "a.jpg")
    (tmp_path / "train" / "labels").mkdir()
    (tmp_path / "train" / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2")
    (tmp_path / "train" / "coco.json").write_text(
        json.dumps(content(box(1), images=[picture(1, "a.jpg")]))
    )
    assert open_dataset(tmp_path).classes == ("0",)


def renamed(root, names):
    for old, new in names.items():
        (root / "annotations" / f"instances_{old}.json").rename(root / "annotations" / new)


def test_files_about_something_else_are_passed_over_with_a_note(write):
    root = write(content(box(1)), "train")
    write(content(box(1, 9)), "cats")
    write({"1": "cat"}, "x")
    write({"images": [], "annotations": []}, "y")
    renamed(root, {"train": "train_labels.json", "cats": "cats.json", "x": "map.json",
                   "y": "captions_train.json"})  # fmt: skip
    assert available_splits(root) == ("cats", "train_labels")
    for split in (None, "train", "cats"):
        dataset = open_dataset(root, split, strict=True)
        passed = {each.file.name for each in dataset.faults if "is not read: it lacks" in str(each)}
        assert passed == {"map.json", "captions_train.json"}
    file = root / "annotations" / "map.json"
    with pytest.raises(DataError, match="map.json: is not COCO instance JSON: it has no images"):
        open_dataset(file)


def test_a_damaged_file_that_is_called_as_a_split_is_not_passed_over(write):
    root = write(content(box(1)), "val")
    write(b'{"images": [', "train")
    renamed(root, {"val": "val.json", "train": "training.json"})
    assert available_splits(root) == ("training", "val")
    with pytest.raises(DataError, match="training.json: is not JSON"):
        open_dataset(root)


def test_folders_without_one_coco_file_say_what_is_wrong(write):
    root = write({"1": "cat"}, "x")
    write([], "y")
    renamed(root, {"x": "x.json", "y": "y.json"})
    with pytest.raises(DataError, match="x.json: is not COCO instance JSON: it has no images"):
        open_dataset(root)


@pytest.mark.parametrize("folder", ["train2017", "images/train2017"])
def test_the_address_of_a_picture_in_place_of_its_name(write, folder):
    images = [{"id": 1, "height": 48, "width": 64, "coco_url": "http://x.org/train2017/a.jpg"}]
    root = write(content(box(1), images=images), folder=folder)
    renamed(root, {"train": "lvis_v1_train.json"})
    assert open_dataset(root, "train", strict=True)[0].image == root / folder / "a.jpg"


@pytest.mark.parametrize(
    "annotation, problem",
    [
        (box(2, bbox=(5, 5, 0, 9)), "annotation 2 (cat) has a bbox without area: [5, 5, 0, 9]"),
        (box(2, bbox=(5, 5, 9, -1)), "annotation 2 (cat) has a bbox without area: [5, 5, 9, -1]"),
        (box(2, bbox=(5, 5, 9)), "annotation 2 (cat) has [5, 5, 9] as its bbox, not four numbers"),
        (box(2, bbox=[]), "annotation 2 (cat) has [] as its bbox"),
        (box(2, bbox=(1, 2, "3", 4)), "annotation 2 (cat) has [1, 2, '3', 4] as its bbox"),
        (box(2, bbox=(1, 2, True, 4)), "annotation 2 (cat) has [1, 2, true, 4] as its bbox"),
        (box(2, bbox=(1, 2, 10**400, 4)), "annotation 2 (cat) has [1, 2, 1000"),
        (box(2, bbox=[[1], 2, 3, 4]), "annotation 2 (cat) has a list of 4 as its bbox"),
        (box(2) | {"bbox": None}, "annotation 2 (cat) has no bbox"),
        (box(2) | {"bbox": {}}, "annotation 2 (cat) has an object as its bbox"),
        (box(2, bbox=(1, float("nan"), 3, 4)), "annotation 2 (cat) has a coordinate that is not"),
        (box(2, bbox=(1, 2, float("inf"), 4)), "annotation 2 (cat) has a coordinate that is not"),
        (box(2, bbox=(60, 5, 9, 9)), "annotation 2 (cat) reaches beyond its picture of 64x48"),
        (box(2, bbox=(99, 5, 9, 9)), "annotation 2 (cat) lies outside its picture of 64x48"),
        (box(2, category=4), "annotation 2 is of category 4, which the file does not list"),
        (box(2, category=[3]), "annotation 2 is of category [3], which the file does not list"),
        (box(2, category=None), "annotation 2 is of category null, which the file does not list"),
        (box(2, 5), "annotation 2 is of image 5, which the file does not list"),
        (box(2, {"a": 1}), "annotation 2 is of image an object, which the file does not list"),
        (box([2], category=4), "record 2 of annotations is of category 4, which"),
        ({}, "record 2 of annotations is of image null, which"),
        ([], "has [] as record 2 of annotations, not an object"),
        (None, "has null as record 2 of annotations, not an object"),
    ],
)
def test_a_bad_annotation_is_left_out(write, annotation, problem):
    root = write(content(box(1), annotation))
    dataset, fault = only_fault(root)
    assert fault.problem.startswith(problem) and (fault.images, fault.boxes) == (0, 1)
    assert [len(sample.labels) for sample in dataset] == [1, 0]


@pytest.mark.parametrize(
    "record, problem",
    [
        (picture(2, "c.jpg"), "image 2 names 'c.jpg', which is not in "),
        (picture(2, "../b.jpg"), "image 2 has '../b.jpg', a path that leaves the data set"),
        (
            picture(2, "x\\..\\..\\b.jpg"),
            "image 2 has 'x\\\\..\\\\..\\\\b.jpg', a path that leaves",
        ),
        (picture(2, "/etc/c.jpg"), "image 2 has '/etc/c.jpg', a path that leaves"),
        (picture(2, "a" * 5000), "image 2 names 'aaaa"),
        (picture(2, "\0.jpg"), "image 2 names '\\x00.jpg', which is not in"),
        (picture(2, "\ud800.jpg"), "image 2 names '\\ud800.jpg', which is not in"),
        (picture(2, ""), "image 2 has '' as its file_name"),
        (picture(2, 5), "image 2 has 5 as its file_name"),
        ({"id": 2}, "image 2 has null as its file_name"),
        ({"id": 2, "coco_url": 5}, "image 2 has null as its file_name"),
        ({"id": 2, "coco_url": "http://x.org/../b.jpg"}, "image 2 has '../b.jpg', a path that"),
        (picture(1, "b.jpg"), "image 1 is there twice, again as 'b.jpg'"),
        (picture(2, "a.jpg"), "image 2 has the file_name of another image, 'a.jpg'"),
        (picture(None, "b.jpg"), "record 2 of images has null as its id, neither a whole number"),
        (picture([1], "b.jpg"), "record 2 of images has [1] as its id"),
        (picture(True, "b.jpg"), "record 2 of images has true as its id"),
        (picture(2, "b.jpg", (64, 48)), "states 48x64 pixels, but b.jpg has 64x48"),
        ("b.jpg", "has 'b.jpg' as record 2 of images, not an object"),
    ],
)
def test_a_bad_image_is_left_out(write, record, problem):
    root = write(content(box(1), images=[picture(1, "a.jpg"), record]))
    dataset, fault = only_fault(root)
    assert fault.problem.startswith(problem) and (fault.images, fault.boxes) == (1, 0)
    assert len(fault.problem) < 500
    assert len(dataset) == 1 and len(dataset[0].labels) == 1


@pytest.mark.parametrize(
    "prefix",
    ["/home/me/data/", "C:\\work\\", "..\\..\\label-studio\\upload\\4\\", "images\\1/", "other/"],
)
def test_paths_of_another_machine_are_found_by_their_ends(write, prefix):
    images = [picture(1, f"{prefix}a.jpg"), picture(9, f"{prefix}b.jpg")]
    dataset = open_dataset(write(content(box(1), box(2, 9), images=images)), strict=True)
    assert [sample.image.name for sample in dataset] == ["a.jpg", "b.jpg"]
    (note,) = dataset.faults
    assert "names 2 pictures by paths that are not there: found by the ends" in str(note)


def test_boxes_of_a_picture_that_is_left_out_are_not_counted(write):
    root = write(content(
        box(1), box(2, 2), box(3, 2, bbox=(0, 0, 0, 0)),
        images=[picture(1, "a.jpg"), picture(2, "c.jpg")],
    ))  # fmt: skip
    assert only_fault(root)[1].images == 1


@pytest.mark.parametrize("size", [(None, 5), (0, 0), ("48", "64"), (float("nan"), 64), (-1, 64)])
def test_a_size_that_is_none_is_passed_over(write, size):
    root = write(content(box(1), images=[picture(1, "a.jpg", size)]))
    assert open_dataset(root, strict=True)[0].size == (48, 64)


@pytest.mark.parametrize("area", [None, -1, 0, 0.0, float("nan"), float("inf"), "12", [5], True])
def test_an_area_that_is_none_is_that_of_the_box(write, area):
    assert open_dataset(write(content(box(1, area=area))))[0].areas.tolist() == [600]


def test_repeated_ids_of_annotations_are_noted_and_kept(write):
    root = write(content(box(1), box(1, bbox=(0, 0, 5, 5)), box(None), box(1)))
    dataset = open_dataset(root, strict=True)
    assert len(dataset[0].labels) == 4
    (note,) = dataset.faults
    assert note.problem.startswith("repeats ids of annotations (2 times, first 1)")


def test_two_categories_of_one_name_are_one_class(write):
    categories = [*CATEGORIES, {"id": 8, "name": "cat"}]
    dataset = open_dataset(write(content(box(1), box(2, category=8), categories=categories)))
    assert dataset.classes == ("cat", "dog") and dataset[0].labels.tolist() == [0, 0]
    assert "two categories 'cat': read as one class" in str(dataset.faults[0])


def test_classes_that_differ_in_case_only_are_noted(write):
    categories = [*CATEGORIES, {"id": 8, "name": "Cat"}]
    dataset = open_dataset(write(content(box(1), categories=categories)), strict=True)
    assert dataset.classes == ("cat", "dog", "Cat")
    (note,) = dataset.faults
    assert "has the classes 'cat' and 'Cat': if they are one, spell them alike" in str(note)


@pytest.mark.parametrize("number", [str, float, int])
@pytest.mark.parametrize("of", ["images", "annotations", "categories"])
def test_an_id_is_the_same_as_number_and_as_text(write, of, number):
    value = content(box(1), box(2, 9, 7))
    for record in value[of]:
        for key in ("id", "image_id", "category_id"):
            if key in record:
                record[key] = number(record[key])
    dataset = open_dataset(write(value), strict=True)
    assert dataset.classes == ("cat", "dog") and not dataset.faults
    assert [sample.labels.tolist() for sample in dataset] == [[0], [1]]


@pytest.mark.parametrize("id_", ["01", "1.0", " 1", "+1", 1.5, float("nan"), float("inf"), "١"])
def test_what_only_resembles_an_id_is_another(write, id_):
    dataset, fault = only_fault(write(content(box(1), box(2, id_))))
    assert "which the file does not list" in fault.problem and len(dataset[0].labels) == 1


def test_without_a_box_the_extent_of_the_polygons_is_taken(write):
    polygons = [[10, 5, 20, 5.5, 15, 30], [30, 8, 31, 9, 32, 7.5, 30, 7]]
    root = write(content(box(1), box(2, bbox=()) | {"bbox": None, "segmentation": polygons}))
    dataset = open_dataset(root, strict=True)
    np.testing.assert_array_equal(dataset[0].boxes[1], [10, 5, 32, 30])
    (note,) = dataset.faults
    assert "has 1 annotation without bbox: read as their polygons' extents" in str(note)


@pytest.mark.parametrize(
    "mask", [{"counts": [5]}, [], [[]], [[1, 2, 3, 4]], [["1", 2, 3, 4, 5, 6]], [5], "text"]
)
def test_other_masks_give_no_box(write, mask):
    record = box(2) | {"bbox": None, "segmentation": mask}
    assert "annotation 2 (cat) has no bbox" in only_fault(write(content(box(1), record)))[1].problem


def test_ids_may_be_text(write):
    categories = [{"id": "z", "name": "dog"}, {"id": "b", "name": "cat"}]
    images = [picture("one", "a.jpg")]
    root = write(content(box(1, "one", "z"), images=images, categories=categories))
    assert open_dataset(root, strict=True)[0].labels.tolist() == [1]


@pytest.mark.parametrize(
    "value, problem",
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\xfa", "is not JSON"),
        (b'{"images": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b"[" * 100_000, "is not COCO JSON: it is nested too deeply"),
        (b'{"a":' * 100_000, "is not COCO JSON: it is nested too deeply"),
        (b"[]", r"is not COCO instance JSON: it holds \[\] in place of an object"),
        (b'"text"', "is not COCO instance JSON: it holds 'text' in place of an object"),
        ({}, "is not COCO instance JSON: it has no images; expected a list"),
        ({"images": [], "categories": []}, "it has no annotations; expected a list"),
        ({"images": {}, "annotations": []}, "images is an object; expected a list"),
        (content(categories=5), "categories is 5; expected a list"),
        (content(categories=[5]), "has 5 as record 1 of categories, not an object"),
        (content(categories=[{"id": 1}]), "category 1 has null as its name"),
        (content(categories=[{"id": 1, "name": " "}]), "category 1 has ' ' as its name"),
        (content(categories=[{"id": 1, "name": "\udc00"}]), "category 1 has '.udc00' as its name"),
        (content(categories=[{"id": [], "name": "x"}]), r"record 1 of categories has \[\] as its"),
        (content(categories=[*CATEGORIES, {"id": 3, "name": "x"}]), "category 3 is there twice"),
        (content(images=[]), "has no usable picture"),
        (content(categories=[]), "has no usable box"),
    ],
)
def test_what_is_no_coco_file(write, value, problem):
    root = write(value)
    with pytest.raises(DataError, match=problem) as caught:
        open_dataset(root)
    assert str(root) in str(caught.value) and "\n" not in str(caught.value)


def test_a_deeply_nested_value_in_a_record_is_no_traceback(write):
    value = json.dumps(content(box(1), box(2))).replace("[10, 5, 20, 30]", "[" * 200 + "]" * 200)
    dataset = open_dataset(write(value.encode()))
    assert len(dataset.faults) == 2 and "as its bbox, not four numbers" in str(dataset.faults[0])


def test_a_folder_of_the_name_of_a_file_is_none(write):
    root = write(content(box(1)))
    (root / "annotations" / "instances_train.json").unlink()
    (root / "annotations" / "instances_train.json").mkdir()
    with pytest.raises(DataError, match="is no data set"):
        open_dataset(root)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 70) | st.floats() | st.sampled_from(
        ["a.jpg", "b.jpg", "..", "cat", "\ud800", "1", ""]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["id", "image_id", "category_id", "bbox", "file_name", "name", "iscrowd"]),
        inner, max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip
RECORDS = st.lists(JSON, max_size=4)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.fixed_dictionaries({"images": RECORDS, "annotations": RECORDS, "categories": RECORDS})
    | st.builds(
        content,
        st.fixed_dictionaries({"id": JSON, "image_id": st.just(1), "category_id": JSON | st.just(3),
                               "bbox": JSON | st.lists(st.floats(), min_size=4, max_size=4)}),
        images=RECORDS.map(lambda more: [picture(1, "a.jpg"), *more]),
    )
    | JSON
)  # fmt: skip
def test_random_content_never_gives_another_error(write, value):
    root = write(value, pictures=())
    if not (root / "images").exists():
        write(value)
    try:
        dataset = open_dataset(root)
    except DataError as error:
        assert "\n" not in str(error)
        return
    dataset.summary().encode()
    for sample in dataset:
        assert (sample.boxes[:, 2:] > sample.boxes[:, :2]).all()
        assert (sample.boxes >= 0).all() and (sample.boxes <= [64, 48, 64, 48]).all()


def test_coco_tiny(real_data):
    root = real_data("coco_tiny")
    assert available_splits(root) == ("train2017", "val2017")
    train, val = (open_dataset(root, split, strict=True) for split in ("train", "val"))
    assert (len(train), len(val)) == (80, 80) and train.classes == val.classes
    assert sum(train.box_counts().values()) + sum(val.box_counts().values()) == 1503
    assert train.classes[:3] == ("umbrella", "carrot", "person")
    assert train[0].image == root / "train2017" / "000000262145.jpg"
