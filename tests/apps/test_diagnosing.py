"""A detector that was trained for seconds, broken in every way: its diagnosis names the way."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

import frcnn
from broken import (
    Shifted,
    with_large_anchors,
    with_shuffled_names,
    with_swapped_channels,
    with_untrained_scores,
)
from frcnn.apps.diagnosing import diagnose_found, spread, training_images
from frcnn.cli import main
from frcnn.data.dataset import Dataset
from frcnn.inference.pictures import PictureDetector
from frcnn.inference.predict import Detector
from frcnn.models.detector import DetectionModel, DetectionRule
from frcnn.training.config import Config
from tiny import CANVAS, CLASSES, tiny_batch, tiny_network

STEPS = 300
COLOURS = ((230, 30, 30), (100, 230, 30))
SHOWN = 32  # pictures of each split that are written


@dataclass
class Trained:
    """A run folder and its data."""

    run: Path
    data: Path

    @property
    def model(self) -> Path:
        return self.run / "best.keras"


def pictures(count: int, seed: int):
    """Squares in the colour of their class on dark noise."""
    x, y = tiny_batch(count, 3, 4, seed)
    for image, boxes, labels in zip(x["images"], y["boxes"], y["labels"], strict=True):
        for (x1, y1, x2, y2), label in zip(boxes.astype(int), labels, strict=True):
            if label >= 0:
                image[y1:y2, x1:x2] = COLOURS[label]
    return x, y


def write_split(folder: Path, name: str, x, y) -> None:
    rows = []
    for index in range(SHOWN):
        file = folder / f"{name}-{index}.png"
        cv2.imwrite(str(file), np.ascontiguousarray(x["images"][index][..., ::-1]))
        for box, label in zip(y["boxes"][index], y["labels"][index], strict=True):
            if label >= 0:
                rows.append(f"{file.name},{','.join(f'{v:g}' for v in box)},{CLASSES[label]}")
    (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("diagnosed")
    network = tiny_network(head={"units": (64, 64)})
    x, y = pictures(256, seed=1)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, STEPS)
    network.compile(keras.optimizers.Adam(rate))
    for step in range(STEPS):
        rows = np.random.default_rng(step).integers(0, 256, 8)
        network.train_on_batch(*({k: v[rows] for k, v in part.items()} for part in (x, y)))
    rule = DetectionRule(score=0.05, count=20)
    data, run = folder / "data", folder / "run"
    data.mkdir()
    write_split(data, "train", x, y)
    write_split(data, "test", *pictures(SHOWN, seed=2))
    Detector(DetectionModel(network, CLASSES, 64, 96, (CANVAS,), rule)).save(run / "best.keras")
    config = Config(str(data), train_split="train", val_split="none", out=str(run))
    (run / "config.toml").write_text(config.to_toml())
    return Trained(run, data)


def diagnosed(detector, trained, split="test"):
    dataset = frcnn.open_dataset(trained.data, split, CLASSES)
    return frcnn.diagnose(detector, dataset, trained.run)


FAULTS = {
    "anchors",
    "proposals",
    "objectness",
    "labels",
    "random_labels",
    "shift",
    "scores",
    "channels",
}


def test_the_sound_detector_has_errors_but_no_fault(trained):
    diagnosis = diagnosed(Detector.load(trained.model), trained)
    assert diagnosis.errors.ap50 > 0.5  # it has learnt something
    kinds = [limit.kind for limit in diagnosis.limits]
    assert not {*FAULTS, "training_images", "nothing_found"} & set(kinds), kinds
    assert set(diagnosis.proposals.recall) == {100, 300, 1000}
    assert diagnosis.proposals.recall[1000]["all"] > 0.8


class Exported(PictureDetector):
    """As an exported detector: it detects, and gives no proposals."""

    def __init__(self, detector):
        self.infer = detector.infer
        self.classes, self.preparation = detector.classes, detector.preparation
        self.fills_batches = detector.fills_batches

    infer = classes = preparation = fills_batches = None


def test_proposals_of_an_exported_detector_are_unknown(trained):
    own = Detector.load(trained.model)
    diagnosis = diagnosed(Exported(own), trained)
    assert diagnosis.proposals is None and diagnosis.to_dict()["anchors"] is None
    assert "unknown; an exported detector gives none" in str(diagnosis)
    assert diagnosis.errors.gains == diagnosed(own, trained).errors.gains


@pytest.mark.parametrize(
    ("broken", "kind", "words"),
    [
        (with_large_anchors, "anchors", "anchors are too large"),
        (with_shuffled_names, "labels", "'square' is 'disc'"),
        (Shifted.load, "shift", "pixels too far to the right and"),
        (with_untrained_scores, "scores", "scores do not tell right from wrong"),
        (with_swapped_channels, "channels", "Red and blue are exchanged"),
    ],
)
def test_each_fault_is_named_first(trained, broken, kind, words):
    diagnosis = diagnosed(broken(trained.model), trained)
    assert diagnosis.limits[0].kind == kind, str(diagnosis)
    assert words in diagnosis.to_dict()["sentences"][0]


def test_images_that_were_trained_on_are_named_first(trained):
    first = diagnosed(Detector.load(trained.model), trained, "train").limits[0]
    assert first.kind == "training_images"
    assert f"{SHOWN} of the {SHOWN} images were trained on" in first.sentence


def test_the_command_prints_the_sentences_and_writes_the_tables(trained, tmp_path, capsys):
    out = tmp_path / "figures.json"
    arguments = [str(trained.run), str(trained.data), "--split", "test", "--json", str(out)]
    main(["evaluate", *arguments, "--diagnose"])
    shown = capsys.readouterr().out
    values = json.loads(out.read_text())
    assert f"1. {values['diagnosis']['sentences'][0]}" in shown
    assert {"voc12", "coco"} <= set(values)
    assert values["diagnosis"]["shared"] == {"shared": 0, "images": SHOWN, "examples": []}
    main(["evaluate", *arguments])
    assert "diagnosis" not in json.loads(out.read_text())


def test_two_runs_are_compared(trained, tmp_path, capsys):
    worse = tmp_path / "worse.keras"
    with_untrained_scores(trained.model).save(worse)
    out = tmp_path / "figures.json"
    data = [str(trained.data), "--split", "test", "--json", str(out)]
    main(["compare", str(worse), str(trained.run), *data])
    assert "The second detector is better, beyond chance" in capsys.readouterr().out
    values = json.loads(out.read_text())
    assert values["figures"]["AP"]["low"] > 0 and set(values["per_class"]) == set(CLASSES)
    main(["compare", str(trained.run), str(trained.run), *data])
    assert "within chance" in capsys.readouterr().out


def test_pictures_trained_on_are_known_of_a_run_alone(trained, tmp_path):
    assert len(training_images(trained.run)) == SHOWN
    assert training_images(trained.model) == training_images(trained.run)
    assert training_images(tmp_path) is None
    assert training_images("torchvision:fasterrcnn_resnet50_fpn") is None
    gone = Config(str(tmp_path / "gone"), out=str(tmp_path))
    (tmp_path / "config.toml").write_text(gone.to_toml())
    assert training_images(tmp_path) is None


class Scripted:
    """It finds and proposes one box in every picture, and counts the pictures."""

    most_pixels = 10**6

    def __init__(self):
        self.asked: list[int] = []

    def detect(self, images, progress=None):
        self.asked.append(len(images))
        return [frcnn.Detections([[0, 0, 9, 9]], [0.9], [0], CLASSES) for _ in images]

    def proposals(self, images, count, progress=None):
        return self.detect(images)


def test_pictures_with_objects_are_asked_about_however_few_they_are(tmp_path):
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), np.zeros((20, 20, 3), np.uint8))
    box, seldom = np.array([[10, 10, 19, 19]]), {7, 90, 151, 222, 283}
    samples = [
        frcnn.Sample(file, box, [0]) if i in seldom else frcnn.Sample(file, box, [0], [True])
        for i in range(300)
    ]
    detector, dataset = Scripted(), Dataset(tuple(samples), CLASSES, tmp_path)
    found = detector.detect([file] * 300)
    diagnosis = diagnose_found(detector, dataset, found, None, 10, 4)
    assert detector.asked[1:] == [5, 4]
    assert diagnosis.proposals.images == 5 and diagnosis.evidence.channels.images == 4
    assert "nan" not in str(diagnosis)
    assert np.isfinite([limit.cost for limit in diagnosis.limits]).all()


def test_indices_are_spread_evenly():
    assert spread(3, 5).tolist() == [0, 1, 2] and spread(0, 5).tolist() == []
    assert spread(100, 4).tolist() == [0, 33, 66, 99]
