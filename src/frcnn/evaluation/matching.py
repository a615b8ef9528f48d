"""Detections against ground truth: class names aligned, IoU, and the devkit's matching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frcnn.structures import Detections, Sample, pairwise_iou


def relabel(detections: Detections, classes: Sequence[str]) -> Detections:
    """Express detections in another list of classes, by name; unknown names are dropped.

    A detector may know its classes in another order than the data set, or know more of them.
    """
    if detections.classes == tuple(classes):
        return detections
    index = {name: label for label, name in enumerate(classes)}
    lookup = np.array([index.get(name, -1) for name in detections.classes], np.int64)
    labels = lookup[detections.labels]
    kept = labels >= 0
    return Detections(detections.boxes[kept], detections.scores[kept], labels[kept], tuple(classes))


def unknown_classes(detections: Sequence[Detections], classes: Sequence[str]) -> tuple[str, ...]:
    """Those of ``classes`` that the detector does not know; none where it found on no picture."""
    known = {name for found in detections for name in found.classes}
    return tuple(name for name in classes if detections and name not in known)


def check_pairs(
    detections: Sequence[Detections], samples: Sequence[Sample], classes: Sequence[str]
) -> None:
    """Check that detections and samples belong together.

    Raises:
        ValueError: a different number of pictures, or a label of a sample without a class.
    """
    if len(detections) != len(samples):
        raise ValueError(
            f"Expected the detections of {len(samples)} pictures, one entry a picture. "
            f"Received: {len(detections)}."
        )
    for sample in samples:
        wrong = (sample.labels < 0) | (sample.labels >= len(classes))
        if wrong.any():
            raise ValueError(
                f"Expected labels in 0..{len(classes) - 1} for {len(classes)} classes. "
                f"Received: {sample.labels[wrong][0]} in {sample.image}."
            )


@dataclass(frozen=True, eq=False)
class Matches:
    """Every detection of a data set with the ground truth it claims.

    Args:
        labels: int64 (N,), class of each detection.
        scores: float32 (N,).
        claimed: int64 (N,), number of the ground-truth box claimed (they are counted through
            the whole data set), -1 where no box of the class overlaps enough.
        difficult: bool (M,), by ground-truth number.
        truth_labels: int64 (M,), by ground-truth number.
    """

    labels: np.ndarray
    scores: np.ndarray
    claimed: np.ndarray
    difficult: np.ndarray
    truth_labels: np.ndarray


def match(
    detections: Sequence[Detections], samples: Sequence[Sample], iou_threshold: float
) -> Matches:
    """Let each detection claim the ground-truth box of its class with the highest IoU.

    The claim does not depend on other detections: VOC's devkit looks for the best box first,
    and only then asks whether a better scored detection already took it.
    """
    claims, first = [np.zeros(0, np.int64)], 0
    for found, sample in zip(detections, samples, strict=True):
        claims.append(_claims(found, sample, iou_threshold, first))
        first += len(sample.boxes)
    return Matches(
        labels=_joined([d.labels for d in detections], np.int64),
        scores=_joined([d.scores for d in detections], np.float32),
        claimed=np.concatenate(claims),
        difficult=_joined([s.difficult for s in samples], bool),
        truth_labels=_joined([s.labels for s in samples], np.int64),
    )


def _claims(found: Detections, sample: Sample, iou_threshold: float, first: int) -> np.ndarray:
    if not len(found) or not len(sample.boxes):
        return np.full(len(found), -1, np.int64)
    overlap = pairwise_iou(found.boxes, sample.boxes)  # (D, G)
    overlap[found.labels[:, None] != sample.labels[None]] = -1.0
    best = overlap.argmax(axis=1)
    return np.where(overlap.max(axis=1) >= iou_threshold, best + first, -1)


def _joined(columns: list, dtype) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *columns])
