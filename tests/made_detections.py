"""Detections made from ground truth, and changed as a faulty detector would."""

import numpy as np

from frcnn.structures import Detections, Sample

CLASSES = ("cat", "dog", "cow", "yak")


def scene(seed=0, images=20, sides=(15, 60), spread=1.5, most=8):
    """Objects and what a fair detector finds of them, with false alarms of low scores."""
    rng = np.random.default_rng(seed)
    samples, found = [], []
    for index in range(images):
        count = int(rng.integers(1, most))
        corner = rng.uniform(10, 300, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(*sides, (count, 2))], axis=1)
        labels = rng.integers(0, len(CLASSES), count)
        samples.append(Sample(f"{index}.jpg", boxes, labels))
        stray = rng.uniform(0, 300, (3, 2))
        near = np.concatenate(
            [boxes + rng.normal(0, spread, boxes.shape), np.hstack([stray, stray + 30])]
        )
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        scores = np.append(rng.uniform(0.5, 1, count), rng.uniform(0.05, 0.4, 3))
        order = np.argsort(-scores)
        names = np.append(labels, rng.integers(0, len(CLASSES), 3))
        found.append(Detections(near[order], scores[order], names[order], CLASSES))
    return found, samples


def moved(found, x, y):
    by = np.array([x, y, x, y], np.float32)
    return [Detections(d.boxes + by, d.scores, d.labels, d.classes) for d in found]


def renamed(found, target):
    return [Detections(d.boxes, d.scores, np.array(target)[d.labels], d.classes) for d in found]
