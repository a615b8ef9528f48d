"""COCO's matching of detections with ground truth, and its average precision, in NumPy.

What `frcnn.evaluation.coco` has computed by a library gives figures alone. Here the pairs are
kept, so that errors can be told apart and pictures be weighted. The definitions are those of
pycocotools: in each picture and class the most confident detection chooses first, the free
object that it overlaps most; a detection on a difficult object is neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from frcnn.evaluation.matching import pairwise_iou
from frcnn.structures import Detections, Sample, box_areas

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST = 100  # detections of a picture and class, as COCO has it


@dataclass(frozen=True, eq=False)
class GreedyMatches:
    """Every detection of a data set, by picture and then by score, with the object it took.

    Args:
        thresholds: float64 (T,), the IoUs from which a detection takes an object.
        images: int64 (N,), number of the picture of each detection.
        rows: int64 (N,), its row in the picture's ``Detections``.
        labels: int64 (N,).
        scores: float32 (N,).
        claimed: int64 (T, N), number of the object taken, counted through the whole data set;
            -1 where there is none.
        ignored: bool (T, N), detections on difficult objects.
        truth_images: int64 (M,), number of the picture of each object.
        truth_labels: int64 (M,).
        difficult: bool (M,).
    """

    thresholds: np.ndarray
    images: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    claimed: np.ndarray
    ignored: np.ndarray
    truth_images: np.ndarray
    truth_labels: np.ndarray
    difficult: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Which detections are right at each threshold, bool (T, N)."""
        return (self.claimed >= 0) & ~self.ignored


def enough(samples: Iterable[Sample]) -> int:
    """Detections of a picture that suffice to tell its errors.

    COCO's and TIDE's hundred; or twice the objects of the most crowded picture where that has
    more, as many of them would count as missed otherwise.
    """
    most = max((int((~np.asarray(sample.difficult)).sum()) for sample in samples), default=0)
    return MOST if most <= MOST else 2 * most


def greedy_match(
    detections: Sequence[Detections],
    samples: Sequence[Sample],
    thresholds: Sequence[float] | np.ndarray = THRESHOLDS,
    most: int = MOST,
) -> GreedyMatches:
    """Match as COCO does.

    Args:
        detections: one entry a picture, labelled as the samples are (`matching.relabel`).
        samples: the pictures with their ground truth.
        thresholds: the IoUs wanted, each in (0, 1].
        most: detections of a picture and class that count, the most confident.
    """
    thresholds = np.asarray(thresholds, np.float64)
    parts, first = [], 0
    for found, sample in zip(detections, samples, strict=True):
        rows = _most_confident(found, most)
        parts.append((rows, found.labels[rows], found.scores[rows]))
        parts[-1] += _match_picture(found[rows], sample, thresholds, first)
        first += len(sample.boxes)
    rows, labels, scores, claimed, ignored = zip(*parts, strict=True) if parts else [()] * 5
    empty = np.zeros((len(thresholds), 0))
    return GreedyMatches(
        thresholds,
        np.repeat(np.arange(len(parts)), [len(each) for each in rows]),
        np.concatenate([np.zeros(0, np.int64), *rows]),
        np.concatenate([np.zeros(0, np.int64), *labels]),
        np.concatenate([np.zeros(0, np.float32), *scores]),
        np.concatenate([empty.astype(np.int64), *claimed], axis=1),
        np.concatenate([empty.astype(bool), *ignored], axis=1),
        np.repeat(np.arange(len(samples)), [len(sample.boxes) for sample in samples]),
        np.concatenate([np.zeros(0, np.int64), *(sample.labels for sample in samples)]),
        np.concatenate([np.zeros(0, bool), *(sample.difficult for sample in samples)]),
    )


def _most_confident(found: Detections, most: int) -> np.ndarray:
    """Rows by falling score, at most ``most`` of each class."""
    order = np.argsort(-found.scores, kind="stable")
    if len(order) <= most:
        return order
    labels = found.labels[order]
    rank = np.zeros(len(order), np.int64)
    for label in np.unique(labels):
        mine = labels == label
        rank[mine] = np.arange(mine.sum())
    return order[rank < most]


def _match_picture(
    found: Detections, sample: Sample, thresholds: np.ndarray, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """``claimed`` and ``ignored`` of one picture, (T, D) each."""
    claimed = np.full((len(thresholds), len(found)), -1, np.int64)
    ignored = np.zeros(claimed.shape, bool)
    difficult = np.asarray(sample.difficult)
    overlap = pairwise_iou(found.boxes, sample.boxes)  # (D, G)
    if difficult.any():
        overlap[:, difficult] = covered_share(found.boxes, sample.boxes[difficult])
    levels = np.minimum(thresholds, 1 - 1e-10)
    for label in np.intersect1d(found.labels, sample.labels):
        objects = np.flatnonzero(sample.labels == label)
        objects = objects[np.argsort(difficult[objects], kind="stable")]
        hard = difficult[objects]
        free = np.ones((len(thresholds), len(objects)), bool)
        for row in np.flatnonzero(found.labels == label):
            values = overlap[row, objects]
            fits = free & (values >= levels[:, None])
            easy = fits & ~hard
            fits = np.where(easy.any(axis=1, keepdims=True), easy, fits)
            # Of equals the last one, as in pycocotools.
            best = len(objects) - 1 - np.where(fits, values, -1.0)[:, ::-1].argmax(axis=1)
            hit = fits.any(axis=1)
            claimed[hit, row] = objects[best[hit]] + first
            ignored[hit, row] = hard[best[hit]]
            free[hit, best[hit]] = hard[best[hit]]  # a difficult one can be taken again
    return claimed, ignored


def covered_share(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """How much of each box lies in each region: float64 (N, M), 0..1, for xyxy (N, 4), (M, 4)."""
    a, b = boxes.astype(np.float64)[:, None], regions.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    areas = box_areas(boxes)[:, None]
    return np.divide(shared, areas, out=np.zeros_like(shared), where=areas > 0)


def interpolated_ap(
    right: np.ndarray,
    positives: float,
    weights: np.ndarray | None = None,
    recalls: np.ndarray = RECALLS,
) -> np.ndarray:
    """COCO's average precision: the mean of the precisions at 101 recalls.

    Args:
        right: bool (T, N), detections by falling score.
        positives: how many objects there are to find, above 0.
        weights: float (T, N), how often each detection counts; default once.
        recalls: float (R,), ascending; default COCO's, of which some, such as 0.57, are a rounding
            error too high.

    Returns:
        float64 (T,), 0..1.
    """
    counted = np.ones(right.shape) if weights is None else weights
    hits = np.cumsum(right * counted, axis=1)
    precision = hits / np.maximum(np.cumsum(counted, axis=1), np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = hits / positives
    result = np.zeros(len(right))
    for level in range(len(right)):
        reached = np.searchsorted(recall[level], recalls, side="left")
        result[level] = np.append(precision[level], 0.0)[reached].mean()
    return result


def class_ap(matches: GreedyMatches, classes: int) -> np.ndarray:
    """AP of each class at each threshold, float64 (C, T); NaN where nothing is to be found."""
    positives = np.bincount(matches.truth_labels[~matches.difficult], minlength=classes)
    result = np.full((classes, len(matches.thresholds)), np.nan)
    right = matches.right
    for label in np.flatnonzero(positives):
        mine = np.flatnonzero(matches.labels == label)
        mine = mine[np.argsort(-matches.scores[mine], kind="stable")]
        counted = (~matches.ignored[:, mine]).astype(float)
        result[label] = interpolated_ap(right[:, mine], positives[label], counted)
    return result


def mean_of(values: np.ndarray) -> float:
    """The mean of what is not NaN; NaN if nothing is left."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def quick_ap(
    detections: Sequence[Detections],
    samples: Sequence[Sample],
    classes: int,
    thresholds: Sequence[float] | np.ndarray = THRESHOLDS,
) -> float:
    """COCO's AP, or the mean over other thresholds, of detections labelled as the samples are."""
    return mean_of(class_ap(greedy_match(detections, samples, thresholds), classes))
