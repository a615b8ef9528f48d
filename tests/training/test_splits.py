"""Which pictures train and which validate, in every format; nothing is trained here."""

import json
import shutil
from itertools import product

import pytest

from frcnn.data.converting import open_all_splits
from frcnn.data.dataset import open_dataset
from frcnn.data.faults import DataError
from frcnn.data.split_choice import training_split
from frcnn.data.writing import FORMATS, write_dataset
from frcnn.training.config import Config
from frcnn.training.splits import open_splits
from tiny import write_voc


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same data in each format: 4 pictures to train on, 2 to validate."""
    root = tmp_path_factory.mktemp("data")
    voc = write_voc(root / "source", 6, {"train": range(4), "val": range(4, 6)})
    for format in FORMATS:
        write_dataset(open_all_splits(voc), root / format, format)
    return root


@pytest.mark.parametrize("format", FORMATS)
def test_train_and_val_are_found(folders, format):
    splits = open_splits(Config(str(folders / format)))
    assert (len(splits.train), len(splits.validation)) == (4, 2)
    assert splits.train.classes == splits.validation.classes == ("disc", "square")
    assert splits.note == "Validation: 2 images of val."


@pytest.mark.parametrize("file", ["coco/annotations/instances_train.json", "csv/train.csv"])
def test_a_file_is_trained_on_and_val_beside_it_validates(folders, file):
    splits = open_splits(Config(str(folders / file)))
    assert (len(splits.train), len(splits.validation)) == (4, 2)
    assert "of val" in splits.note


@pytest.mark.parametrize("file", ["coco/annotations/instances_val.json", "csv/val.csv"])
def test_a_file_of_another_name_is_all_there_is(folders, file):
    assert training_split(folders / file) is None
    splits = open_splits(Config(str(folders / file)))
    assert (len(splits.train), len(splits.validation)) == (1, 1)
    assert "held out" in splits.note


def test_other_spellings_of_the_splits(folders, tmp_path):
    names = {"train": "train2017", "val": "valid"}
    for split, name in names.items():
        text = (folders / "csv" / f"{split}.csv").read_text()
        text = text.replace("images/", f"{folders}/csv/images/")
        (tmp_path / f"{name}.csv").write_text(text)
    splits = open_splits(Config(str(tmp_path)))
    assert (len(splits.train), len(splits.validation)) == (4, 2)
    assert splits.note == "Validation: 2 images of valid."


def spelled(folders, target, format, train, other):
    """The data with its splits called otherwise: 4 pictures of ``train``, 2 of ``other``."""
    if format == "yolo":
        for kind, (split, name) in product(
            ("images", "labels"), {"train": train, "val": other}.items()
        ):
            shutil.copytree(folders / f"yolo/{kind}/{split}", target / kind / name)
        return target
    shutil.copytree(folders / format, target)
    pattern = {"voc": "ImageSets/Main/{}.txt", "coco": "annotations/{}.json", "csv": "{}.csv"}
    old = {"voc": "{}", "coco": "instances_{}", "csv": "{}"}[format]
    for split, name in {"train": train, "val": other}.items():
        file = target / pattern[format].format(old.format(split))
        file.rename(target / pattern[format].format(name))
    return target


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "train, val",
    [("training", "validation"), ("train_labels", "valid_labels"), ("Train", "Val2017"),
     ("obj_train_data", "obj_valid_data")],
)  # fmt: skip
def test_usual_spellings_are_trained_on_and_validated(folders, tmp_path, format, train, val):
    data = spelled(folders, tmp_path / "set", format, train, val)
    splits = open_splits(Config(str(data)))
    assert (len(splits.train), len(splits.validation)) == (4, 2)
    assert splits.note == f"Validation: 2 images of {val}."


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "train, test", [("training", "testing"), ("train_labels", "test_labels"), ("trainval", "test")]
)
def test_what_is_for_testing_is_not_trained_on(folders, tmp_path, format, train, test):
    data = spelled(folders, tmp_path / "set", format, train, test)
    splits = open_splits(Config(str(data)))
    names = {sample.image.stem for part in splits[:2] for sample in part}
    assert names == {sample.image.stem for sample in open_dataset(data, train)}
    assert splits.note.startswith("Validation: 1 of the 4 images, held out")
    assert len(open_dataset(data, "test")) == 2


@pytest.mark.parametrize("format", FORMATS)
def test_splits_none_of_which_is_for_training_are_named(folders, tmp_path, format):
    data = spelled(folders, tmp_path / "set", format, "cars", "cells")
    splits = open_splits(Config(str(data)))
    assert (len(splits.train), len(splits.validation)) == (5, 1)
    assert splits.note.startswith(
        "No one split is called train, so all are trained on: cars, cells; --train-split names "
        "one. Validation: 1 of the 6 images"
    )
    other = open_splits(Config(str(data), val_split="none"))
    assert other.note.startswith("No one split is called train") and "No validation" in other.note
    named = open_splits(Config(str(data), train_split="cars"))
    assert len(named.train) == 3 and named.note.startswith("Validation: 1 of the 4")


@pytest.mark.parametrize("val_split", [None, "val"])
def test_classes_that_training_lacks_are_named(folders, tmp_path, val_split):
    write_dataset(open_all_splits(folders / "coco"), tmp_path / "coco", "coco")
    file = tmp_path / "coco" / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    content["categories"] = [{"id": 1, "name": "Disc"}, {"id": 2, "name": "star"}]
    file.write_text(json.dumps(content))
    splits = open_splits(Config(str(tmp_path / "coco"), val_split=val_split))
    assert splits.note == (
        "Validation: 2 images of val. Its boxes of classes that the training images lack are left "
        "out: 'Disc' (spelled 'disc' in training), 'star'."
    )
    assert splits.validation.classes == ("disc", "square")
    with pytest.raises(DataError, match="has class 'Disc'.*is 'disc' meant"):
        open_splits(Config(str(tmp_path / "coco"), val_split=val_split, strict=True))


def test_a_missing_split_names_those_there_are(folders):
    for format in FORMATS:
        with pytest.raises(DataError, match=f"{format}: has no split 'test'; it has train, val"):
            open_dataset(folders / format, "test")
