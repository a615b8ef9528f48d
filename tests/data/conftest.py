"""Small data sets on disk, in every layout the readers know."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest


def written_image(path: Path, size=(48, 64), seed=0) -> Path:
    """A picture of noise, RGB on disk as it is in memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


class VocFolder:
    """Builds a VOC root picture by picture."""

    def __init__(self, root: Path):
        self.root = root
        (root / "Annotations").mkdir(parents=True)
        (root / "JPEGImages").mkdir()

    def add(self, name, *objects, size=(48, 64), stated="", suffix=".jpg", xml=None) -> Path:
        if size is not None:
            written_image(self.root / "JPEGImages" / f"{name}{suffix}", size, seed=len(name))
        return self.annotate(name, *objects, stated=stated, xml=xml)

    def annotate(self, name, *objects, stated="", xml=None) -> Path:
        file = self.root / "Annotations" / f"{name}.xml"
        file.write_text(xml or f"<annotation>{stated}{''.join(objects)}</annotation>")
        return file

    def split(self, name, *lines) -> Path:
        file = self.root / "ImageSets" / "Main" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in lines))
        return file


class YoloFolder:
    """Builds a YOLO data set picture by picture."""

    def __init__(self, root: Path):
        self.root, self.write_image = root, written_image
        root.mkdir()

    def add(self, image, *rows, label=None):
        """A picture of 64 x 48 and, unless there is no row at all, its label file."""
        self.write_image(self.root / image, (48, 64), seed=len(str(image)))
        if rows:
            place = label or image.replace("images", "labels")
            file = (self.root / place).with_suffix(".txt")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{row}\n" for row in rows))

    def yaml(self, text, name="data.yaml"):
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        return file


@pytest.fixture
def write_image():
    """Write a picture of noise: ``write_image(path, size, seed)``."""
    return written_image


@pytest.fixture
def voc(tmp_path) -> VocFolder:
    """An empty VOC root."""
    return VocFolder(tmp_path / "data")


@pytest.fixture
def make_voc(tmp_path):
    """Make empty VOC roots at paths below the test's folder."""
    return lambda path: VocFolder(tmp_path / path)


@pytest.fixture
def yolo(tmp_path) -> YoloFolder:
    """An empty YOLO data set."""
    return YoloFolder(tmp_path / "data")


@pytest.fixture
def one(yolo) -> YoloFolder:
    """A YOLO data set of one split with one picture, a.jpg, of a cat."""
    yolo.add("images/train/a.jpg", "0 0.5 0.5 0.25 0.5")
    yolo.yaml("train: images/train\nnames: [cat, dog]\n")
    return yolo


@pytest.fixture(scope="session")
def real_data():
    """Find a folder of real data, or skip."""

    def find(name: str) -> Path:
        default = Path(__file__).parents[2] / "../shared/data"
        folder = Path(os.environ.get("FRCNN_DATA", default)) / name
        if not folder.is_dir():
            pytest.skip(f"The real data set {name!r} is not under FRCNN_DATA.")
        return folder

    return find
