import json

import pytest

from frcnn.cli import main
from frcnn.data.dataset import open_dataset
from tiny import write_voc


@pytest.fixture
def voc(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_voc(tmp_path / "voc", 4, {"train": range(3), "val": range(3, 4)})


def test_all_splits_are_converted(voc, capsys):
    main(["convert-data", "voc", "coco", "--to", "coco"])
    assert capsys.readouterr().out == "Wrote coco (images: train 3, val 1).\n"
    assert len(open_dataset("coco", "train", strict=True)) == 3


def test_one_split_is_converted_and_losses_are_said(voc, capsys):
    file = voc / "Annotations" / "003.xml"
    text = file.read_text().replace("<difficult>0", "<difficult>1", 1)
    file.write_text(text.replace("</annotation>", "<object><name>x</name></object></annotation>"))
    main(["convert-data", "voc", "yolo", "--to", "yolo", "--split", "val", "--images", "link"])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "Left out: 0 images and 1 box.",
        "  voc/Annotations/003.xml: object 3 has no <xmin>",
        "Note: as yolo: It has no difficult or crowd objects: 1 box left out.",
        "Wrote yolo (images: val 1).",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["voc", "new"], "--to"),
        (["voc", "voc", "--to", "csv"], "voc is not an empty folder; name a new one"),
        (["none", "new", "--to", "csv"], "none: does not exist; expected a VOC folder"),
        (["voc", "new", "--to", "csv", "--split", "x"], "has no split 'x'; it has train, val"),
        (["voc", "new", "--to", "tfrecord"], "tfrecord"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(voc, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        main(["convert-data", *arguments])
    assert caught.value.code == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert message in shown and "Traceback" not in shown
    assert not (tmp_path / "new").exists()


def test_a_broken_file_is_one_sentence(voc, tmp_path, capsys):
    (tmp_path / "bad.json").write_text(json.dumps([[]]))
    with pytest.raises(SystemExit) as caught:
        main(["convert-data", "bad.json", "new", "--to", "voc"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("Error: bad.json: is not COCO instance JSON")
