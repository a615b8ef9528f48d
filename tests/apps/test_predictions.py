"""What becomes of the pictures that a detector is used on, beside what is found in them."""

import os

import cv2
import numpy as np
import pytest

from frcnn.apps.predictions import plan_drawings, write_predictions
from frcnn.cli import main
from frcnn.errors import UserError
from frcnn.inference.predict import Detector
from tiny import tiny_detector


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
