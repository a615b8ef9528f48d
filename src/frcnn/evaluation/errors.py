"""Which errors cost how much: TIDE (Bolya, Foley, Hays and Hoffman, ECCV 2020).

Every wrong detection has one of five kinds of error, by its IoU with the objects; an object that
neither a right detection nor a mendable one stands for is missed, the sixth kind. What a kind
costs is how much AP at IoU 0.5 rises when its errors alone are mended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frcnn.evaluation.greedy import enough, greedy_match, interpolated_ap, mean_of
from frcnn.evaluation.matching import check_pairs, pairwise_iou, relabel
from frcnn.structures import Detections, Sample

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
FOREGROUND, BACKGROUND = 0.5, 0.1  # IoU
RIGHT, IGNORED = "right", "ignored"
_RECALLS = np.arange(101) / 100

_CLASSIFICATION, _LOCALISATION, _BOTH, _DUPLICATE, _BACKGROUND, _MISSED = range(6)


@dataclass(frozen=True, eq=False)
class Errors:
    """TIDE's decomposition.

    Args:
        ap50: AP at IoU 0.5, 0..1, the mean over classes with objects; NaN without any.
        gains: kind -> how much AP50 rises when these errors are mended, 0..1: the class or the box
            put right, the rest removed.
        false_positives: how much it rises when nothing wrong is scored above anything right.
        false_negatives: how much it rises when the objects without a right detection are gone.
        counts: kind -> how many, of the detections that count.
        images: int64 (N,), number of the picture of each detection.
        rows: int64 (N,), its row in the picture's ``Detections``, in which only classes of the data
            set count.
        kinds: int64 (N,), index into ``KINDS``, -1 where the detection is right or ignored.
        ignored: bool (N,), whether it lies on a difficult object: neither right nor wrong.
        missed: int64 (K,), numbers of the objects that are missed, counted through the data set.
    """

    ap50: float
    gains: dict[str, float]
    false_positives: float
    false_negatives: float
    counts: dict[str, int]
    images: np.ndarray
    rows: np.ndarray
    kinds: np.ndarray
    ignored: np.ndarray
    missed: np.ndarray

    def to_dict(self) -> dict:
        """Plain values: ``ap50``, ``gains``, ``false_positives``, ``false_negatives``, counts."""
        return {
            "ap50": self.ap50,
            "gains": dict(self.gains),
            "false_positives": self.false_positives,
            "false_negatives": self.false_negatives,
            "counts": dict(self.counts),
        }


def find_errors(
    detections: Sequence[Detections], samples: Sequence[Sample], classes: Sequence[str]
) -> Errors:
    """Decompose the errors of detections.

    Args:
        detections: what was found, one entry a picture, in the order of ``samples``; of each the
            most confident are looked at (`greedy.enough`). Classes are matched by name.
        samples: the pictures with their ground truth.
        classes: the names the labels of ``samples`` index.

    Raises:
        ValueError: detections that do not fit the samples.
    """
    check_pairs(detections, samples, classes)
    named = [relabel(each, classes) for each in detections]
    most = enough(samples)
    kept = [_most_confident(each, most) for each in named]
    found = [each[rows] for each, rows in zip(named, kept, strict=True)]
    state = _State(found, samples, len(classes), most)
    base = state.ap()
    gains = {kind: _rise(state.mended(index), base) for index, kind in enumerate(KINDS)}
    matches = state.matches
    kinds = np.where(matches.ignored[0], -1, state.kinds)
    counts = np.bincount(kinds[kinds >= 0], minlength=len(KINDS))
    counts[_MISSED] = state.missed.sum()
    return Errors(
        base,
        gains,
        state.only_right() - base,
        state.all_found() - base,
        dict(zip(KINDS, counts.tolist(), strict=True)),
        matches.images,
        np.array([kept[i][row] for i, row in zip(matches.images, matches.rows, strict=True)], int),
        kinds,
        matches.ignored[0],
        np.flatnonzero(state.missed),
    )


def _most_confident(found: Detections, most: int) -> np.ndarray:
    """The rows that are looked at, ascending."""
    return np.sort(np.argsort(-found.scores, kind="stable")[:most])


def _rise(value: float, base: float) -> float:
    return max(value - base, 0.0) if value == value else value


class _State:
    """Detections with their kinds of error, and AP with some of them mended."""

    def __init__(self, found: list[Detections], samples: Sequence[Sample], classes: int, most: int):
        self.classes = classes
        self.matches = matches = greedy_match(found, samples, [FOREGROUND], most)
        taken = matches.claimed[0]
        self.right = matches.right[0]
        self.used = np.zeros(len(matches.truth_labels), bool)
        self.used[taken[self.right]] = True
        self.kinds = np.full(len(taken), -1, np.int64)
        self.targets = np.full(len(taken), -1, np.int64)  # the object that an error is about
        ends = np.cumsum([0, *(len(each.boxes) for each in samples)])
        rows = np.searchsorted(matches.images, np.arange(len(samples) + 1))
        for picture, (each, sample) in enumerate(zip(found, samples, strict=True)):
            mine = np.arange(rows[picture], rows[picture + 1])
            mine = mine[~self.right[mine]]
            if len(mine):
                self._sort_out(mine, each[matches.rows[mine]], sample, ends[picture])
        self._choose_mended()
        self.missed = ~self.used & ~self.wanted & ~matches.difficult

    def _sort_out(self, mine: np.ndarray, wrong: Detections, sample: Sample, first: int) -> None:
        """Give the wrong detections of one picture their kinds."""
        real = np.flatnonzero(~np.asarray(sample.difficult))
        if not len(real):
            self.kinds[mine] = _BACKGROUND
            return
        iou = pairwise_iou(wrong.boxes, sample.boxes[real])  # (D, G)
        same = wrong.labels[:, None] == sample.labels[real][None]
        own, other = np.where(same, iou, 0.0), np.where(same, 0.0, iou)
        used = np.where(same & self.used[first + real], iou, 0.0)
        best = own.max(axis=1)
        cases = [
            (best >= BACKGROUND) & (best <= FOREGROUND),
            other.max(axis=1) >= FOREGROUND,
            used.max(axis=1) >= FOREGROUND,
            iou.max(axis=1) <= BACKGROUND,
        ]
        order = [_LOCALISATION, _CLASSIFICATION, _DUPLICATE, _BACKGROUND]
        kinds = np.select(cases, order, _BOTH)
        self.kinds[mine] = kinds
        objects = np.where(kinds == _LOCALISATION, own.argmax(axis=1), other.argmax(axis=1))
        mendable = (kinds == _LOCALISATION) | (kinds == _CLASSIFICATION)
        self.targets[mine] = np.where(mendable, first + real[objects], -1)

    def _choose_mended(self) -> None:
        """Of the errors about one free object, the most confident alone would be right."""
        rows = np.flatnonzero(self.targets >= 0)
        rows = rows[~self.used[self.targets[rows]]]
        rows = rows[np.argsort(-self.matches.scores[rows], kind="stable")]
        objects, first = np.unique(self.targets[rows], return_index=True)
        self.mendable = np.zeros(len(self.kinds), bool)
        self.mendable[rows[first]] = True
        self.wanted = np.zeros(len(self.used), bool)
        self.wanted[objects] = True

    def ap(self, kept=None, right=None, labels=None, gone=None) -> float:
        """AP50 with some detections removed or changed and some objects gone."""
        matches = self.matches
        kept = ~matches.ignored[0] if kept is None else kept
        right = self.right if right is None else right
        labels = matches.labels if labels is None else labels
        real = ~matches.difficult
        measured = np.bincount(matches.truth_labels[real], minlength=self.classes)
        left = real if gone is None else real & ~gone
        positives = np.bincount(matches.truth_labels[left], minlength=self.classes)
        values = np.full(self.classes, np.nan)
        for label in np.flatnonzero(measured):
            mine = np.flatnonzero(kept & (labels == label))
            if positives[label]:
                mine = mine[np.argsort(-matches.scores[mine], kind="stable")]
                curve = right[None, mine]
                values[label] = interpolated_ap(curve, positives[label], recalls=_RECALLS)[0]
            elif len(mine):
                values[label] = 0.0
        return mean_of(values)

    def mended(self, kind: int) -> float:
        """AP50 with the errors of one kind mended."""
        if kind == _MISSED:
            return self.ap(gone=self.missed)
        concerned = self.kinds == kind
        kept = np.where(concerned, self.mendable, ~self.matches.ignored[0])
        labels = self.matches.labels
        if kind == _CLASSIFICATION:
            labels = labels.copy()
            moved = concerned & self.mendable
            labels[moved] = self.matches.truth_labels[self.targets[moved]]
        return self.ap(kept, self.right | (concerned & self.mendable), labels)

    def only_right(self) -> float:
        """AP50 without any wrong detection."""
        return self.ap(kept=self.right)

    def all_found(self) -> float:
        """AP50 without the objects that were not found."""
        return self.ap(gone=~self.used)
