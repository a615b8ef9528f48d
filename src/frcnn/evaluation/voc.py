"""Average precision as PASCAL VOC's development kit computes it.

The Pascal Visual Object Classes Challenge (Everingham et al., IJCV 2010), section 4.2. Detections
of a class are taken over all pictures in the order of their scores. Each claims the ground-truth
box of its class and picture with the highest IoU: the first to claim a box with IoU of at least
``iou_threshold`` is right, every later one is wrong; a claim on a difficult box counts as neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from frcnn.evaluation.matching import Matches, check_pairs, match, relabel
from frcnn.structures import Detections, Sample

Points = Literal["07", "12"]


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Precision and recall of one class as the score threshold falls.

    Args:
        precision: float64 (N,), after each detection, most confident first. Detections that
            claim a difficult box are left out.
        recall: float64 (N,), never falling; NaN where the class has no boxes to find.
        scores: float32 (N,), the score of each detection.
        positives: how many boxes there are to find, difficult ones not counted.
    """

    precision: np.ndarray
    recall: np.ndarray
    scores: np.ndarray
    positives: int


def voc_average_precision(
    detections: Sequence[Detections],
    samples: Sequence[Sample],
    classes: Sequence[str],
    iou_threshold: float = 0.5,
    points: Points = "12",
) -> dict[str, float]:
    """Average precision of each class; ``mean_ap`` averages them.

    Args:
        detections: what was found, one entry a picture, in the order of ``samples``. Classes
            are matched by name; those not in ``classes`` are left out.
        samples: the pictures with their ground truth.
        classes: the names the labels of ``samples`` index.
        iou_threshold: the IoU from which a detection can be right, above 0 and at most 1.
        points: "07" for the mean of 11 interpolated precisions (VOC 2007), "12" for the area
            under the interpolated curve (VOC 2010 to 2012).

    Returns:
        class name -> AP in 0..1, NaN for a class without a box that is not difficult.

    Raises:
        ValueError: detections that do not fit the samples, or an argument out of range.
    """
    curves = precision_recall(detections, samples, classes, iou_threshold)
    return {name: average_precision(curve, points) for name, curve in curves.items()}


def mean_ap(per_class: dict[str, float]) -> float:
    """Mean over the classes that have ground truth; NaN where none has."""
    values = np.array(list(per_class.values()), np.float64)
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def precision_recall(
    detections: Sequence[Detections],
    samples: Sequence[Sample],
    classes: Sequence[str],
    iou_threshold: float = 0.5,
) -> dict[str, PrecisionRecall]:
    """The curve of each class; arguments and errors as in `voc_average_precision`."""
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"Expected an IoU threshold in (0, 1]. Received: {iou_threshold}.")
    check_pairs(detections, samples, classes)
    matches = match([relabel(d, classes) for d in detections], samples, iou_threshold)
    return {name: _curve(matches, label) for label, name in enumerate(classes)}


def _curve(matches: Matches, label: int) -> PrecisionRecall:
    rows = np.flatnonzero(matches.labels == label)
    rows = rows[np.argsort(-matches.scores[rows], kind="stable")]
    claimed = matches.claimed[rows]
    ignored = np.zeros(len(rows), bool)
    ignored[claimed >= 0] = matches.difficult[claimed[claimed >= 0]]
    rows, claimed = rows[~ignored], claimed[~ignored]

    right = np.zeros(len(rows), bool)
    right[np.unique(claimed, return_index=True)[1]] = True  # the first claim on each box ...
    right &= claimed >= 0  # ... and -1 is no box
    hits = np.cumsum(right)
    positives = int(np.sum((matches.truth_labels == label) & ~matches.difficult))
    return PrecisionRecall(
        precision=hits / np.arange(1, len(rows) + 1),
        recall=hits / positives if positives else np.full(len(rows), np.nan),
        scores=matches.scores[rows],
        positives=positives,
    )


def average_precision(curve: PrecisionRecall, points: Points = "12") -> float:
    """One number for a curve, 0..1; NaN where there is nothing to find.

    Recall levels of the 11 points are exactly k/10. (The Matlab devkit's ``0:0.1:1`` holds 0.3 a
    rounding error too high, so that a recall of exactly 3/10 misses its level there.)

    Raises:
        ValueError: ``points`` is neither "07" nor "12".
    """
    if points not in ("07", "12"):
        raise ValueError(f'Expected points to be "07" or "12". Received: {points!r}.')
    if not curve.positives:
        return float("nan")
    # The best precision at this recall or a higher one.
    envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
    if points == "12":
        return float(np.sum(np.diff(curve.recall, prepend=0.0) * envelope))
    reached = np.searchsorted(curve.recall, np.arange(11) / 10, side="left")
    return float(np.append(envelope, 0.0)[reached].mean())
