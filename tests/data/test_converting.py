import json

import pytest

from frcnn.data.audit import open_for_audit
from frcnn.data.converting import open_all_splits, splits_at


@pytest.fixture
def folder(tmp_path, write_image):
    write_image(tmp_path / "a.jpg")
    return tmp_path


def csv_of(file, name="cat"):
    file.write_text(f"a.jpg,1,2,30,40,{name}\n")
    return file


def coco_of(file):
    picture = {"id": 1, "file_name": "a.jpg"}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 29, 38]}
    lists = {"images": [picture], "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
    file.write_text(json.dumps(lists))
    return file


@pytest.mark.parametrize(
    "file, other, text",
    [
        ("mydata.json", "notes.json", "{}"),
        ("annotate.txt", "README.txt", "Pictures of cats, and of dogs.\n"),
        ("cars.csv", "cells.csv", "a.jpg,1,2,30,40,cell\n"),
        ("train.csv", "cells.csv", "a.jpg,1,2,30,40,cell\n"),
    ],
)
def test_a_file_is_read_without_others_beside_it(folder, file, other, text):
    path = (coco_of if file.endswith("json") else csv_of)(folder / file)
    (folder / other).write_text(text)
    name = file.split(".")[0]
    splits = open_all_splits(path, strict=True)
    assert {key: dataset.classes for key, dataset in splits.items()} == {name: ("cat",)}
    opened = open_for_audit(path)
    assert [*opened.splits] == [name] and not opened.faults
    assert not opened.splits[name].faults and opened.whole is (other == "notes.json")


@pytest.mark.parametrize(
    "names", [("train", "val"), ("train_labels", "test_labels"), ("train2017", "valid")]
)
def test_files_of_the_usual_splits_belong_together(folder, names):
    for name in (*names, "notes"):
        csv_of(folder / f"{name}.csv")
    assert splits_at(folder / f"{names[0]}.csv") == tuple(sorted(names))
    assert splits_at(folder / "notes.csv") == ("notes",)
    assert len(splits_at(folder)) == 3


def test_a_data_set_without_splits(folder):
    (folder / "a.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    (folder / "classes.txt").write_text("cat\n")
    assert splits_at(folder) == (None,)
    assert open_for_audit(folder).whole
