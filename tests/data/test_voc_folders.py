"""Annotations in VOC's format that lie beside their pictures, or in folders of other names."""

import os
import shutil

import numpy as np
import pytest

from frcnn.data.dataset import available_splits, open_dataset
from frcnn.data.faults import DataError
from tiny import write_voc


@pytest.fixture
def voc(tmp_path):
    return write_voc(tmp_path / "voc", 6)


def beside(voc, folder, numbers):
    """Pictures and annotations in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        shutil.copy(voc / f"JPEGImages/{number:03d}.png", folder)
        shutil.copy(voc / f"Annotations/{number:03d}.xml", folder)
    return folder


def assert_same(found, expected):
    assert [sample.image.name for sample in found] == [sample.image.name for sample in expected]
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.boxes, two.boxes)
        np.testing.assert_array_equal(one.labels, two.labels)
    assert found.classes == expected.classes and not found.faults


def test_files_beside_their_pictures(voc, tmp_path):
    folder = beside(voc, tmp_path / "mine", range(6))
    assert_same(open_dataset(folder), open_dataset(voc))
    assert available_splits(folder) == ()


def test_a_folder_for_each_split(voc, tmp_path):
    for name, numbers in {"train": range(4), "valid": range(4, 6)}.items():
        beside(voc, tmp_path / "export" / name, numbers)
    assert available_splits(tmp_path / "export") == ("train", "valid")
    everything = open_dataset(voc)
    assert_same(open_dataset(tmp_path / "export", "train"), everything.subset(range(4)))
    assert_same(open_dataset(tmp_path / "export", "val"), everything.subset(range(4, 6)))
    assert_same(open_dataset(tmp_path / "export"), everything)


@pytest.mark.parametrize("names", [("annotations", "images"), ("Annotations", "images")])
@pytest.mark.parametrize("split", ["", "train"])
def test_folders_of_other_names(voc, tmp_path, names, split):
    root = tmp_path / "other"
    place = root / split
    place.mkdir(parents=True)
    for name, old in zip(names, ("Annotations", "JPEGImages"), strict=True):
        shutil.copytree(voc / old, place / name)
    assert_same(open_dataset(root if names[0].islower() else place), open_dataset(voc))


def moved(voc, annotations, images, numbers):
    """Annotations and pictures in two folders."""
    for folder, source, suffix in (
        (annotations, "Annotations", "xml"),
        (images, "JPEGImages", "png"),
    ):
        folder.mkdir(parents=True)
        for number in numbers:
            shutil.copy(voc / source / f"{number:03d}.{suffix}", folder)


SPLITS = {"train": range(4), "val": range(4, 6)}


@pytest.mark.parametrize(
    "annotations, images",
    [("{}/Annotations", "{}/JPEGImages"), ("{}/annotations", "{}/Images"),
     ("{}/annotations/xmls", "{}/images"), ("annotations/{}", "images/{}"),
     ("annotations/{}", "JPEGImages/{}"), ("Annotations/{}", "images/{}")],
)  # fmt: skip
def test_two_folders_for_each_split(voc, tmp_path, annotations, images):
    root = tmp_path / "other"
    for name, numbers in SPLITS.items():
        moved(voc, root / annotations.format(name), root / images.format(name), numbers)
    assert available_splits(root) == ("train", "val")
    everything = open_dataset(voc)
    assert_same(open_dataset(root, "train"), everything.subset(range(4)))
    assert_same(open_dataset(root, "val"), everything.subset(range(4, 6)))
    assert_same(open_dataset(root), everything)


def test_annotations_in_a_folder_below(voc, tmp_path):
    root = tmp_path / "pets"
    moved(voc, root / "annotations" / "xmls", root / "images", range(6))
    (root / "annotations" / "trimaps").mkdir()
    (root / "annotations" / "list.txt").write_text("000 1 1 1")
    assert_same(open_dataset(root), open_dataset(voc))
    assert available_splits(root) == ()


def test_folders_below_files_beside_their_pictures_are_passed_over(voc, tmp_path):
    folder = beside(voc, tmp_path / "mine", range(6))
    beside(voc, folder / "old", range(6))
    assert_same(open_dataset(folder), open_dataset(voc))


def test_what_is_at_fault_is_named(voc, tmp_path):
    folder = beside(voc, tmp_path / "mine", range(3))
    (folder / "001.png").unlink()
    (folder / "002.xml").write_text("<annotation><object></annotation>")
    dataset = open_dataset(folder)
    assert [sample.image.name for sample in dataset] == ["000.png"]
    assert {fault.file.name for fault in dataset.faults} == {"001.png", "002.xml"}
    with pytest.raises(DataError, match=r"001\.png|002\.xml"):
        open_dataset(folder, strict=True)


def test_other_xml_files_are_no_data_set(voc, tmp_path):
    folder = beside(voc, tmp_path / "mine", [0])
    (folder / "000.xml").write_text("<annotations><image id='0'/></annotations>")
    with pytest.raises(DataError, match="is no data set"):
        open_dataset(folder)


def test_yolo_beside_a_stray_xml_file_stays_yolo(voc, tmp_path):
    folder = beside(voc, tmp_path / "mine" / "images", [0])
    (tmp_path / "mine" / "labels").mkdir()
    (tmp_path / "mine" / "labels" / "000.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    assert folder.is_dir()
    assert sum(open_dataset(tmp_path / "mine").box_counts().values()) == 1


def test_a_damaged_file_before_the_others_does_not_hide_them(voc, tmp_path):
    folder = beside(voc, tmp_path / "mine", range(3))
    (folder / "000.xml").write_bytes(b"")
    dataset = open_dataset(folder)
    assert [sample.image.name for sample in dataset] == ["001.png", "002.png"]
    assert "000.xml" in str(dataset.faults[0])


def test_a_folder_that_may_not_be_looked_into_is_passed_over(voc, tmp_path, monkeypatch):
    beside(voc, tmp_path / "export" / "train", range(2))
    (tmp_path / "export" / "lost+found").mkdir()
    look = os.listdir

    def refuse(folder):
        if str(folder).endswith("lost+found"):
            raise PermissionError(13, "Permission denied", str(folder))
        return look(folder)

    monkeypatch.setattr("frcnn.data.voc_xml.os.listdir", refuse)
    assert available_splits(tmp_path / "export") == ("train",)
