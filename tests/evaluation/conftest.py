"""Random ground truth with detections that hit, nearly hit, repeat and miss."""

import json
from pathlib import Path

import numpy as np
import pytest

from frcnn.structures import Detections, Sample

CLASSES = ("cat", "dog", "cow")


def random_case(seed, images=6, classes=CLASSES, distinct_scores=True, most=6):
    """Samples and detections; whole-number coordinates, so that IoU is hit exactly at times."""
    rng = np.random.default_rng(seed)
    samples, detections = [], []
    for index in range(images):
        count = int(rng.integers(0, most))
        corner = rng.integers(0, 100, (count, 2))
        boxes = np.concatenate([corner, corner + rng.integers(4, 140, (count, 2))], axis=1)
        labels = rng.integers(0, len(classes), count)
        samples.append(Sample(f"{index}.jpg", boxes, labels, rng.random(count) < 0.25))

        repeats = rng.integers(0, max(count, 1), int(rng.integers(0, 8)) if count else 0)
        near = boxes[repeats] + rng.integers(-6, 7, (len(repeats), 4)) * rng.integers(0, 3)
        stray = rng.integers(0, 100, (int(rng.integers(0, 4)), 2))
        stray = np.concatenate([stray, stray + rng.integers(5, 60, stray.shape)], axis=1)
        found = np.concatenate([near, stray])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        names = np.concatenate([labels[repeats], rng.integers(0, len(classes), len(stray))])
        scores = rng.random(len(found))
        if not distinct_scores:
            scores = np.round(scores, 1)
        detections.append(Detections(found, scores, names.astype(int), classes))
    return detections, samples


@pytest.fixture
def make_case():
    return random_case


def perfect(samples, classes=CLASSES):
    """Every box found, difficult ones too, scores all different."""
    rng = np.random.default_rng(0)
    return [
        Detections(s.boxes, rng.permutation(len(s.boxes)) / 10 + 0.1, s.labels, classes)
        for s in samples
    ]


@pytest.fixture
def find_all():
    return perfect


@pytest.fixture(scope="session")
def demo_case():
    """All that the detector of `frcnn demo` found on its 40 validation pictures.

    Returns:
        Detections, samples, classes.
    """
    kept = json.loads((Path(__file__).parent / "demo_detections.json").read_text())
    samples, detections = [], []
    for index, picture in enumerate(kept["pictures"]):
        objects = np.array(picture["objects"], float).reshape(-1, 6)
        found = np.array(picture["found"], float).reshape(-1, 6)
        labels, difficult = objects[:, 4].astype(int), objects[:, 5] > 0
        samples.append(Sample(f"{index}.jpg", objects[:, :4], labels, difficult))
        names = found[:, 4].astype(int)
        detections.append(Detections(found[:, :4], found[:, 5], names, tuple(kept["classes"])))
    return detections, samples, tuple(kept["classes"])
