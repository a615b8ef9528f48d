"""Label files that mean harm: left out and counted, or one sentence."""

import csv
import json
import os
import sys

import pytest

from faults import only_fault
from frcnn.cli import main
from frcnn.data import dataset as dataset_module
from frcnn.data import faults as faults_module
from frcnn.data import lookup
from frcnn.data.dataset import DataError, available_splits, open_dataset
from frcnn.errors import printable
from hostile import LABELS, NAME, NO_FILES, assert_sentence, fenced, png, two_pictures

PLACES = [(format, place) for format, places in LABELS.items() for place in places]


@pytest.mark.parametrize(("format", "place"), PLACES)
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_not_opened(tmp_path, format, place, kind):
    """Neither waited for nor read without end: a fault, a sentence, or as if there were none."""
    root = two_pictures(tmp_path, format)
    (root / place).unlink()
    NO_FILES[kind](root / place)
    with fenced():
        for split in (None, "train"):
            try:
                dataset = open_dataset(root, split)
            except DataError as error:
                assert_sentence(error)
            else:
                assert_sentence(printable(dataset.summary()))
        try:
            available_splits(root)
        except DataError as error:
            assert_sentence(error)


def test_links_between_folders_that_go_round_are_not_followed(tmp_path):
    root = two_pictures(tmp_path, "yolo")
    (root / "images/train/again").symlink_to(root / "images")
    (root / "images/train/up").symlink_to("..")
    with fenced():
        assert len(open_dataset(root, strict=True)) == 2


@pytest.mark.parametrize("place", ["/", "//", "../../../../../../../../../..", "images/train/up"])
def test_the_whole_file_system_is_no_folder_of_pictures(tmp_path, place):
    """As ``Nc: /`` was, that fuzzing wrote for ``nc: 2``."""
    root = two_pictures(tmp_path, "yolo")
    (root / "images/train/up").symlink_to("/")
    (root / "data.yaml").write_text(f"train: images/train\nNc: {place}\nnames: [cat, dog]\n")
    with fenced(), pytest.raises(DataError, match="is the whole file system, not a folder of"):
        open_dataset(root)
    assert len(open_dataset(root, "train")) == 2


def test_folders_of_more_files_than_any_data_set_has(tmp_path, monkeypatch):
    monkeypatch.setattr(lookup, "_MOST_FILES", 2)
    with pytest.raises(DataError, match="images/train: has more than 2 files below it"):
        open_dataset(two_pictures(tmp_path, "yolo"))


def row(name="images/b.png", label="dog"):
    return f"{name},1,2,30,40,{label}\n"


def annotation(id_, **fields):
    return {"id": id_, "image_id": 2, "category_id": 1, "bbox": [1, 2, 3, 4], **fields}


def with_coco(root, change):
    """Change the content of a COCO data set."""
    path = root / LABELS["coco"][0]
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))
    return root


OBJECT = (
    "<object><name>dog</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax>"
    "</bndbox></object>"
)
MANY = 10_001
CROWDED = {
    "voc": lambda root: (root / LABELS["voc"][0]).write_text(f"<a>{MANY * OBJECT}</a>"),
    "coco": lambda root: with_coco(
        root, lambda content: content.update(annotations=[annotation(n) for n in range(MANY)])
    ),
    "yolo": lambda root: (root / LABELS["yolo"][1]).write_text(MANY * "1 .5 .5 .2 .2\n"),
    "csv": lambda root: (root / LABELS["csv"][0]).write_text(row("images/a.png") + MANY * row()),
}


@pytest.mark.parametrize("format", CROWDED)
def test_more_boxes_than_a_picture_can_show(tmp_path, format):
    """Training would compare each of them with each anchor."""
    root = two_pictures(tmp_path, format)
    CROWDED[format](root)
    with fenced():
        dataset, fault = only_fault(root)
    assert [sample.image.name for sample in dataset] == ["a.png"]
    assert fault.problem == "has 10,001 boxes in b.png, more than 10,000" and fault.images == 1


def test_faults_without_number_are_counted_and_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(faults_module, "_MOST_KEPT", 5)
    root = two_pictures(tmp_path, "csv")
    (root / "train.csv").write_text(row() + 20 * "images/b.png,1,2\n")
    dataset = open_dataset(root)
    assert len(dataset.faults) == 6 and sum(fault.boxes for fault in dataset.faults) == 20
    assert "Left out: 0 images and 20 boxes." in dataset.summary()
    assert dataset.faults[-1].problem == "has 15 more faults, which are only counted"


def test_more_classes_than_a_network_can_have(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "_MOST_CLASSES", 1)
    with pytest.raises(DataError, match="has 2 classes, more than 1"):
        open_dataset(two_pictures(tmp_path, "voc"))


def test_many_categories_take_no_longer_each(tmp_path):
    """All are called and lie below the same, so that each had to be held against each other."""
    categories = [{"id": n, "name": "x", "supercategory": "x"} for n in range(30_000)]
    root = with_coco(
        two_pictures(tmp_path, "coco"), lambda content: content.update(categories=categories)
    )
    with fenced(seconds=8):
        assert open_dataset(root).classes == ("x",)


def test_ids_of_one_hash_are_none(tmp_path):
    """Looking up whole numbers that differ by this takes as long as there are such numbers."""
    ids = [n * (2**61 - 1) for n in range(20, 40_020)]
    root = two_pictures(tmp_path, "coco")
    with_coco(
        root, lambda content: content["annotations"].extend(annotation(n, image_id=n) for n in ids)
    )
    with_coco(
        root,
        lambda content: content["images"].extend({"id": n, "file_name": "a.png"} for n in ids),
    )
    with fenced(seconds=8):
        dataset = open_dataset(root)
    assert len(dataset) == 2 and len(dataset.faults) == 2 * len(ids)


def test_values_of_any_length_make_short_messages(tmp_path):
    digits = 10**4000
    root = with_coco(
        two_pictures(tmp_path, "coco"),
        lambda content: content["annotations"].append(
            annotation(9, bbox=[digits, 0, 1, 1], category_id=1)
        ),
    )
    assert len(assert_sentence(only_fault(root)[1].problem)) < 300
    root = two_pictures(tmp_path / root.name, "csv")
    (root / "train.csv").write_text(row() + f"../{'x' * 9999},1,2,3,4,dog\n")
    assert len(assert_sentence(only_fault(root)[1].problem)) < 300


LONG_ROWS = {
    "a cell": "x" * 3_000_000,
    "cells": "x," * 1_500_000,
    "lines in quotes": '"' + 200_000 * 'x\n","\n' + '"',
    "lines in one pair of quotes": '"' + 2_000_000 * "\n" + '"',
}


@pytest.mark.parametrize("kind", LONG_ROWS)
def test_a_row_without_end(tmp_path, kind):
    root = two_pictures(tmp_path, "csv")
    (root / "train.csv").write_text(row() + LONG_ROWS[kind])
    with fenced(), pytest.raises(DataError, match="row of more than 1,000,000|field larger than"):
        open_dataset(root)


def test_the_depth_of_xml_is_no_danger(tmp_path):
    root = two_pictures(tmp_path, "voc")
    depth = 200_000
    (root / LABELS["voc"][0]).write_bytes(b"<a>" * depth + b"</a>" * depth)
    with fenced():
        assert open_dataset(root)[1].image.name == "b.png"  # which then shows nothing


def test_xml_that_is_far_too_large(tmp_path):
    root = two_pictures(tmp_path, "voc")
    (root / LABELS["voc"][0]).write_bytes(b"<a>" + b"<b/>" * (1 << 21) + b"</a>")
    with fenced():
        assert "more than the limit of 8,388,608" in only_fault(root)[1].problem


def test_a_listed_name_that_no_file_can_have(tmp_path):
    root = two_pictures(tmp_path, "voc")
    (root / LABELS["voc"][1]).write_text(f"a\n{'x' * 5000}\nb\0\n")
    dataset = open_dataset(root, "train")
    assert len(dataset) == 1 and [fault.images for fault in dataset.faults] == [1, 1]
    for fault in dataset.faults:
        assert_sentence(fault)


@pytest.mark.parametrize("line", ["/", "//", "/.", "."])
def test_a_list_that_names_no_picture_but_the_root(tmp_path, line):
    root = two_pictures(tmp_path, "yolo")
    (root / "all.txt").write_text(f"images/train/a.png\n{line}\n")
    (root / "data.yaml").write_text("train: all.txt\nnames: [cat, dog]\n")
    dataset, fault = only_fault(root)
    assert len(dataset) == 1 and fault.images == 1


def named_in_voc(root):
    name = NAME.replace("\x1b", "")  # which XML cannot hold
    text = (root / LABELS["voc"][0]).read_text()
    (root / LABELS["voc"][0]).write_text(text.replace("<name>dog<", f"<name>x{name}x<"))


def named_in_coco(root):
    with_coco(root, lambda content: content["categories"][1].update(name=f"x{NAME}x"))


def named_in_yolo(root):
    (root / "data.yaml").write_text(
        f"train: images/train\nnames: [cat, {json.dumps(f'x{NAME}x')}]\n"
    )


def named_in_csv(root):
    with (root / LABELS["csv"][0]).open("a", newline="") as file:
        csv.writer(file).writerow(["images/b.png", 1, 2, 30, 40, f"x{NAME}x"])


NAMERS = {"voc": named_in_voc, "coco": named_in_coco, "yolo": named_in_yolo, "csv": named_in_csv}


@pytest.mark.parametrize("format", NAMERS)
def test_names_of_classes_do_not_steer_the_terminal(tmp_path, format, capsys):
    root = two_pictures(tmp_path, format)
    NAMERS[format](root)
    dataset = open_dataset(root)
    assert any(r"\x9b2J\u202eback" in name for name in dataset.classes)
    for name in (*dataset.classes, *dataset.summary().splitlines()):
        assert_sentence(name)
    main(["convert-data", str(root), str(tmp_path / "new"), "--to", "voc"])
    for line in capsys.readouterr().out.splitlines():
        assert_sentence(line)


@pytest.mark.parametrize("name", [NAME.encode(), b"\xff\xfe"])
def test_names_of_files_do_not_steer_the_terminal(tmp_path, name, capsys):
    """Nor do names that are no text keep anything from being printed."""
    root = two_pictures(tmp_path, "yolo")
    picture = os.path.join(os.fsencode(root), b"images", b"train", name + b".png")
    with open(picture, "wb") as file:
        file.write(png(64, 48)[:-20])
    with open(os.path.join(os.fsencode(root), b"labels", b"train", name + b".txt"), "w") as file:
        file.write("0 0.5 0.5 0.1 0.1")
    main(["convert-data", str(root), str(tmp_path / "new"), "--to", "coco"])
    lines = capsys.readouterr().out.splitlines()
    assert any("it is truncated" in line for line in lines)
    for line in lines:
        assert_sentence(line)


def test_names_of_splits_do_not_steer_the_terminal(tmp_path, capsys):
    root = two_pictures(tmp_path, "voc")
    (root / "ImageSets/Main" / f"{NAME}.txt").write_text("a\nb\n")
    with pytest.raises(DataError) as caught:
        open_dataset(root, "absent")
    assert_sentence(caught.value)
    main(["convert-data", str(root), str(tmp_path / "new"), "--to", "coco"])
    for line in capsys.readouterr().out.splitlines():
        assert_sentence(line)


def test_a_console_that_lacks_a_letter_gets_an_escape(tmp_path, monkeypatch):
    root = two_pictures(tmp_path, "csv")
    (root / "train.csv").write_text(row("images/a.png"))
    with open(tmp_path / "out", "w", encoding="ascii") as console:
        monkeypatch.setattr(sys, "stdout", console)
        (root / "\u732b.csv").write_text(row())
        main(["convert-data", str(root), str(tmp_path / "new"), "--to", "coco"])
    assert r"\u732b" in (tmp_path / "out").read_text("ascii")
