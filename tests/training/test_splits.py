"""Which pictures train and which validate, in every format; nothing is trained here."""

import json

import pytest

from frcnn.data.converting import open_all_splits
from frcnn.data.dataset import open_dataset, training_split
from frcnn.data.faults import DataError
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
