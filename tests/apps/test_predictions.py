"""What becomes of the pictures that a detector is used on, beside what is found in them."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from exported import write_onnx
from frcnn.apps.predictions import plan_drawings, write_predictions
from frcnn.cli import main
from frcnn.errors import UserError
from frcnn.inference.predict import Detector
from serving import slowed
from tiny import damage, tiny_detector, write_voc


@pytest.fixture(scope="module")
def detector():
    return Detector(tiny_detector())


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "predictions").mkdir()
    paths = [tmp_path / "predictions" / f"{name}.png" for name in "abc"]
    for path in paths:
        cv2.imwrite(str(path), rng.integers(0, 255, (60, 90, 3), np.uint8))
    return paths


def test_drawings_do_not_go_to_a_folder_of_a_videos_name(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["predict", "no-such-run", "predictions", "--out", "drawn.mp4"])
    assert "--out names the folder for drawn pictures, not a video" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--out", "predictions"], ["--out", "link"], []])
def test_no_drawing_overwrites_its_picture(pictures, arguments, detector, capsys):
    """Nor does one in the default folder, which is the pictures' here."""
    os.symlink("predictions", "link")
    before = [path.read_bytes() for path in pictures]
    with pytest.raises(SystemExit) as ended:
        main(["predict", "no-such-run", "predictions", *arguments])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "a.png would overwrite the picture" in said
    assert "--out" in said
    with pytest.raises(UserError, match="would overwrite"):
        write_predictions(detector, pictures, 0.5, "link")
    assert [path.read_bytes() for path in pictures] == before


def test_drawings_of_an_earlier_run_are_overwritten(pictures, detector):
    for _ in range(2):
        write_predictions(detector, pictures, 0.5, "drawn")
    assert sorted(os.listdir("drawn")) == ["a.png", "b.png", "c.png"]
    assert plan_drawings([*pictures, pictures[0]], "drawn")[3].name == "a-2.png"


def test_each_drawing_has_a_name_of_its_own():
    def names(*pictures):
        return [each.name for each in plan_drawings(map(Path, pictures), "drawn")]

    given = ("1/a.jpg", "1/a-2.jpg", "2/a.jpg", "3/a.jpg", "2/a-2.jpg", "3/a-2.jpg")
    assert names(*given) == ["a.jpg", "a-2.jpg", "a-3.jpg", "a-4.jpg", "a-2-2.jpg", "a-2-3.jpg"]
    # Where a disk knows no case these would be one file.
    assert names("1/A.jpg", "1/a.jpg", "2/A.jpg") == ["A.jpg", "a-2.jpg", "A-3.jpg"]


def test_many_pictures_of_one_name_are_named_quickly():
    began = time.perf_counter()
    drawings = plan_drawings((Path(str(i), "a.jpg") for i in range(20_000)), "no-such-folder")
    assert time.perf_counter() - began < 10  # a second; it was a minute
    assert drawings[-1].name == "a-20000.jpg"


def test_the_others_go_on_where_a_picture_cannot_be_read(pictures, detector, capsys):
    damage(pictures[1])
    (pictures[0].parent / "._a.png").write_bytes(b"of macOS")
    model = str(detector.save("tiny.keras"))
    with pytest.raises(SystemExit) as ended:
        main(["predict", model, "predictions", "--out", "drawn", "--json", "found.json"])
    shown = capsys.readouterr()
    assert ended.value.code == 2 and "1 of 3 pictures could not be read" in shown.err
    assert shown.err.count("b.png: cannot be decoded") == 1 and "2 pictures," in shown.out
    assert sorted(os.listdir("drawn")) == ["a.png", "c.png"]
    with open("found.json") as file:
        rows = json.load(file)
    assert [os.path.basename(row["image"]) for row in rows] == ["a.png", "b.png", "c.png"]
    assert [sorted(row) for row in rows[:2]] == [["detections", "image"], ["error", "image"]]


def test_the_others_go_on_where_a_drawing_cannot_be_written(
    pictures, detector, monkeypatch, capsys
):
    """A folder has one's name, and another is too large for the format, which OpenCV reports so."""
    encode = cv2.imencode
    monkeypatch.setattr(
        cv2, "imencode", lambda kind, image: encode(kind, image) if kind == ".png" else (False, ())
    )
    (pictures[0].parent / "b.png").rename(pictures[0].parent / "b.jpg")
    os.makedirs("drawn/a.png")
    model = str(detector.save("tiny.keras"))
    with pytest.raises(SystemExit) as ended:
        main(["predict", model, "predictions", "--out", "drawn", "--json", "found.json"])
    shown = capsys.readouterr()
    assert ended.value.code == 2 and "2 of 3 pictures could not be drawn." in shown.err
    assert "a.png is not drawn: drawn/a.png: Is a directory" in shown.err
    assert "b.jpg is not drawn: drawn/b.jpg cannot be written" in shown.err
    assert "3 pictures," in shown.out and sorted(os.listdir("drawn")) == ["a.png", "c.png"]
    with open("found.json") as file:
        rows = json.load(file)
    assert [set(row) - {"image", "detections"} for row in rows] == [{"not_drawn"}] * 2 + [set()]


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError("The detector cannot be run.")])
def test_what_was_detected_before_an_end_is_in_the_json(pictures, detector, monkeypatch, error):
    monkeypatch.setattr("frcnn.apps.predictions.CHUNK", 1)
    detect, calls = detector.detect, []

    def detect_one(*given, **settings):
        calls.append(given)
        if len(calls) > 1:
            raise error
        return detect(*given, **settings)

    monkeypatch.setattr(detector, "detect", detect_one)
    with pytest.raises((KeyboardInterrupt, UserError)):
        write_predictions(detector, pictures, 0.5, "drawn", "found.json")
    with open("found.json") as file:
        assert [os.path.basename(row["image"]) for row in json.load(file)] == ["a.png"]
    assert os.listdir("drawn") == ["a.png"]


def test_sigterm_leaves_whole_json(pictures, tmp_path):
    model = write_onnx(tmp_path / "tiny.onnx")
    given = [str(model), *map(str, pictures * 40), "--json", "found.json", "--out", "drawn"]
    with subprocess.Popen([*slowed(0.2), "predict", *given], stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 60
        while not os.path.exists("drawn/a.png") and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        message = process.communicate(timeout=30)[1]
    assert process.returncode == 143 and b"what was finished is saved" in message
    with open("found.json") as file:
        assert 0 < len(json.load(file)) < 120


def test_a_suffix_that_cannot_be_written_becomes_jpg(pictures, detector):
    renamed = [pictures[0].rename("photo.jfif"), pictures[1].rename("photo")]
    write_predictions(detector, [*renamed, pictures[2]], 0.5, "drawn")
    assert sorted(os.listdir("drawn")) == ["c.png", "photo-2.jpg", "photo.jpg"]


def test_pictures_too_large_for_others_are_drawn_and_measured_with_tiles(
    tmp_path, detector, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_voc(tmp_path / "voc", 2)  # of 64 x 96 pixels
    model = str(detector.save("tiny.keras"))
    for name in ("images.read_image", "images.image_size"):
        monkeypatch.setattr(f"frcnn.data.{name}.__defaults__", (6_000,))
    monkeypatch.setattr("frcnn.inference.pictures.MAX_PIXELS", 6_000)
    with pytest.raises(SystemExit):
        main(["evaluate", model, "voc"])
    assert "more than the limit of 6,000" in capsys.readouterr().err
    main(["evaluate", model, "voc", "--tiles", "48", "--diagnose"])
    assert "2 images, 4 boxes" in capsys.readouterr().out
    main(["predict", model, "voc/JPEGImages", "--tiles", "48", "--out", "drawn"])
    assert sorted(os.listdir("drawn")) == ["000.png", "001.png"]
