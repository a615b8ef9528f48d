"""Detectors broken on purpose, each in one way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from frcnn.inference.predict import Detector
from frcnn.structures import Detections


def with_large_anchors(path: Path, factor: float = 4.0) -> Detector:
    """Anchors so many times too large."""
    detector = Detector.load(path)
    rpn = detector.model.network.rpn
    sizes = tuple(tuple(factor * size for size in level) for level in rpn.anchors.sizes)
    rpn.anchors = replace(rpn.anchors, sizes=sizes)
    return detector


def with_shuffled_names(path: Path) -> Detector:
    """Names of classes in another order."""
    detector = Detector.load(path)
    names = detector.model.classes
    detector.model.classes = (*names[1:], names[0])
    return detector


def with_untrained_scores(path: Path) -> Detector:
    """The second stage's scores as they are before any training."""
    detector = Detector.load(path)
    for head in detector.model.network.roi_heads:
        _forget(head.classify)
    return detector


def _forget(layer) -> None:
    kernel = np.random.default_rng(0).normal(0, 0.01, tuple(layer.kernel.shape))
    layer.kernel.assign(kernel)
    layer.bias.assign(np.zeros(tuple(layer.bias.shape)))


def with_swapped_channels(path: Path) -> Detector:
    """Red and blue are exchanged before the network."""
    detector = Detector.load(path)
    infer = detector.infer
    detector.infer = lambda images, sizes: infer(images[..., ::-1].copy(), sizes)
    return detector


class Shifted(Detector):
    """Its boxes lie some pixels too far right and too low."""

    by = np.array([10, 10, 10, 10], np.float32)

    def detect(self, images, *arguments, **options):
        return [
            Detections(each.boxes + self.by, each.scores, each.labels, each.classes)
            for each in super().detect(images, *arguments, **options)
        ]
