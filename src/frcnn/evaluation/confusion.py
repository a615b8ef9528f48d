"""The confusion matrix of a detector, with background as one more class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frcnn.evaluation.greedy import covered_share
from frcnn.evaluation.matching import check_pairs, pairwise_iou, relabel
from frcnn.structures import Detections, Sample


@dataclass(frozen=True, eq=False)
class Confusion:
    """What objects of each class were taken for.

    Args:
        matrix: int64 (C + 1, C + 1): row, the true class; column, the class detected. The last row
            counts detections on background, the last column objects that were not found.
        classes: C names.
        score: detections scored lower were left out.
    """

    matrix: np.ndarray
    classes: tuple[str, ...]
    score: float

    @property
    def located(self) -> np.ndarray:
        """Objects that were found, whatever they were called: int64 (C, C)."""
        return self.matrix[:-1, :-1]

    def association(self) -> float:
        """How much the class detected says about the true one: 0 nothing, 1 all.

        Cramér's V with Bergsma's correction for bias (2013); NaN with fewer than two classes
        among the objects found.
        """
        table = self.located.astype(float)
        table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
        count, (rows, columns) = table.sum(), table.shape
        if rows < 2 or count < 2:
            return float("nan")
        if columns < 2:
            return 0.0
        expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / count
        phi = ((table - expected) ** 2 / expected).sum() / count
        phi = max(phi - (rows - 1) * (columns - 1) / (count - 1), 0.0)
        fewer = min(n - (n - 1) ** 2 / (count - 1) for n in (rows, columns))
        return float(min((phi / (fewer - 1)) ** 0.5, 1.0)) if fewer > 1 else float("nan")

    def pairs(self) -> list[tuple[str, str, int]]:
        """(true class, class detected, how often), the most frequent confusion first."""
        wrong = self.located.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")
        places = zip(*np.unravel_index(order[: np.count_nonzero(wrong)], wrong.shape), strict=True)
        return [(self.classes[t], self.classes[d], int(wrong[t, d])) for t, d in places]

    def to_dict(self) -> dict:
        """Plain values: ``matrix`` as rows, ``classes``, ``score``."""
        return {
            "matrix": self.matrix.tolist(),
            "classes": list(self.classes),
            "score": self.score,
        }


def confusion_matrix(
    detections: Sequence[Detections],
    samples: Sequence[Sample],
    classes: Sequence[str],
    score: float = 0.5,
    iou_threshold: float = 0.5,
) -> Confusion:
    """Pair detections with objects of any class, the most confident first.

    Each takes the free object that it overlaps most, if its IoU is at least ``iou_threshold``.
    Detections that lie on difficult objects, by that share of their own area, and take no other
    are left out.

    Args:
        detections: what was found, one entry a picture, in the order of ``samples``. Classes are
            matched by name; those not in ``classes`` are left out.
        samples: the pictures with their ground truth.
        classes: the names the labels of ``samples`` index.
        score: detections scored lower are left out.
        iou_threshold: from which a detection and an object belong together.

    Raises:
        ValueError: detections that do not fit the samples.
    """
    check_pairs(detections, samples, classes)
    none = len(classes)
    matrix = np.zeros((none + 1, none + 1), np.int64)
    for each, sample in zip(detections, samples, strict=True):
        found = relabel(each, classes).above(score)
        found = found[np.argsort(-found.scores, kind="stable")]
        difficult = np.asarray(sample.difficult)
        boxes, labels = sample.boxes[~difficult], sample.labels[~difficult]
        taken = pair_up(pairwise_iou(found.boxes, boxes), iou_threshold)
        hard = covered_share(found.boxes, sample.boxes[difficult]).max(axis=1, initial=0.0)
        counted = (taken >= 0) | (hard < iou_threshold)
        true = np.where(taken >= 0, np.append(labels, none)[taken], none)
        np.add.at(matrix, (true[counted], found.labels[counted]), 1)
        missed = np.setdiff1d(np.arange(len(labels)), taken)
        np.add.at(matrix[:, none], labels[missed], 1)
    return Confusion(matrix, tuple(classes), score)


def pair_up(overlap: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Let each row in turn take the free column that it overlaps most.

    Args:
        overlap: float (D, G), IoU.
        iou_threshold: least IoU of a pair.

    Returns:
        int64 (D,), the column taken, -1 where there is none.
    """
    overlap, taken = overlap.copy(), np.full(len(overlap), -1, np.int64)
    for row in np.flatnonzero(overlap.max(axis=1, initial=0.0) >= iou_threshold):
        best = overlap[row].argmax()
        if overlap[row, best] >= iou_threshold:
            taken[row] = best
            overlap[:, best] = -1.0
    return taken
