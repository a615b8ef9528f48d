"""What a detector would score if one thing about it were otherwise.

A fault that is the same everywhere, such as labels in another order or boxes that all lie too far
right, is seen by mending it: AP then rises as it never does by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frcnn.evaluation.confusion import Confusion
from frcnn.evaluation.greedy import quick_ap
from frcnn.evaluation.matching import pairwise_iou
from frcnn.structures import Detections, Sample

_REACH = 64.0  # pixels; boxes are looked for so far off, or twice their side
_BIN = 2.0  # pixels
_INEXACT = 0.15  # of its side that a box may lie off
_ALIKE = 0.7  # width and height of boxes that may be the same agree to this ratio
_MOST_PAIRS = 2_000_000
_CLEAR = 0.6  # share of a class's detections that lie on one other class
_FEWEST = 3
_SAME = 0.5  # IoU of detections of several classes that are one


@dataclass(frozen=True)
class Relabelling:
    """Detections with other names.

    Args:
        names: class detected -> the class that it lies on.
        ap: COCO's AP with these names, 0..1.
    """

    names: dict[str, str]
    ap: float


def find_relabelling(
    confusion: Confusion,
    detections: Sequence[Detections],
    samples: Sequence[Sample],
) -> Relabelling | None:
    """Names under which detections would fit, where most of a class lie on one other class.

    Args:
        confusion: of these detections at a score of 0, so that all are in it.
        detections: labelled as the samples are.
        samples: the pictures with their ground truth.
    """
    if not confusion.classes:
        return None
    table, classes = confusion.located, confusion.classes
    found = table.sum(axis=0)
    target = table.argmax(axis=0)
    clear = (table.max(axis=0) >= _CLEAR * found) & (found >= _FEWEST)
    target = np.where(clear, target, np.arange(len(classes)))
    moved = np.flatnonzero(target != np.arange(len(classes)))
    if not len(moved):
        return None
    renamed = [Detections(d.boxes, d.scores, target[d.labels], classes) for d in detections]
    names = {classes[label]: classes[target[label]] for label in moved}
    return Relabelling(names, quick_ap(renamed, samples, len(classes)))


@dataclass(frozen=True)
class Shift:
    """A distance that boxes are off by.

    Args:
        x: pixels of the original picture that detections lie too far right.
        y: too far down.
        ap: COCO's AP with the boxes put right, 0..1.
    """

    x: float
    y: float
    ap: float


def find_shift(
    detections: Sequence[Detections], samples: Sequence[Sample], classes: int
) -> Shift | None:
    """By how much boxes are off, on the whole.

    Each detection votes for the distances to all objects of its class and about its size that are
    near; the distance with the most votes is refined by the median of those close to it. IoU is not
    asked, which a shift may have left at 0.

    Args:
        detections: labelled as the samples are.
        samples: the pictures with their ground truth.
        classes: how many.
    """
    votes = []
    total = 0
    for found, sample in zip(detections, samples, strict=True):
        real = ~np.asarray(sample.difficult)
        kept = found[: max(int(real.sum()), 1)]
        votes.append(_distances(kept, sample.boxes[real], sample.labels[real]))
        total += len(votes[-1])
        if total > _MOST_PAIRS:
            break
    if total < _FEWEST:
        return None
    x, y = _mode(np.concatenate(votes))
    moved = [_moved(each, -x, -y) for each in detections]
    return Shift(x, y, quick_ap(moved, samples, classes))


def _moved(found: Detections, x: float, y: float) -> Detections:
    by = np.array([x, y, x, y], np.float32)
    return Detections(found.boxes + by, found.scores, found.labels, found.classes)


def _distances(found: Detections, boxes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of centres in x and y, detection less object, and the object's larger side: (K, 3)."""
    if not len(found) or not len(boxes):
        return np.zeros((0, 3))
    ours, theirs = found.boxes.astype(np.float64)[:, None], boxes.astype(np.float64)[None]
    apart = (ours[..., :2] + ours[..., 2:] - theirs[..., :2] - theirs[..., 2:]) / 2  # (D, G, 2)
    side, other = (np.maximum(b[..., 2:] - b[..., :2], 1e-6) for b in (ours, theirs))
    alike = (np.minimum(side / other, other / side) >= _ALIKE).all(axis=-1)
    larger = np.broadcast_to(other.max(axis=-1), alike.shape)
    near = np.abs(apart).max(axis=-1) <= np.maximum(_REACH, 2 * larger)
    chosen = alike & near & (found.labels[:, None] == labels[None])
    return np.concatenate([apart[chosen], larger[chosen][:, None]], axis=1)


def _mode(votes: np.ndarray) -> tuple[float, float]:
    """The most frequent of 2-D distances, given with their objects' sides (K, 3)."""
    apart = votes[:, :2]
    cells = np.round(apart / _BIN).astype(np.int64)
    low = cells.min(axis=0) - 1
    # Of the cells those with votes alone, for a dense table of large pictures takes gigabytes. The
    # margin is empty, so that nothing comes in from the row before or after.
    wide = int(cells[:, 1].max() - low[1]) + 2
    places, counts = np.unique((cells - low) @ [wide, 1], return_counts=True)
    steps = [down * wide + across for down in (-1, 0, 1) for across in (-1, 0, 1)]
    near, where = np.unique(np.add.outer(steps, places), return_inverse=True)
    smooth = np.bincount(where.ravel(), np.tile(counts, len(steps)))
    centre = (np.array(divmod(int(near[smooth.argmax()]), wide)) + low) * _BIN
    # Large boxes are less exact, in pixels.
    window = np.maximum(1.5 * _BIN, _INEXACT * votes[:, 2])
    close = np.abs(apart - centre).max(axis=1) <= window
    x, y = np.median(apart[close], axis=0)
    return float(x), float(y)


def without_classes(
    detections: Sequence[Detections], samples: Sequence[Sample]
) -> tuple[list[Detections], list[Sample]]:
    """As if there were but one class: detections of several classes on one place become one."""
    found, truth = [], []
    for each, sample in zip(detections, samples, strict=True):
        kept = _suppress(each[np.argsort(-each.scores, kind="stable")])
        found.append(Detections(kept.boxes, kept.scores, np.zeros(len(kept)), ("object",)))
        labels = np.zeros(len(sample.labels), np.int64)
        truth.append(
            Sample(sample.image, sample.boxes, labels, sample.difficult, areas=sample.areas)
        )
    return found, truth


def _suppress(found: Detections) -> Detections:
    """Drop what overlaps something more confident of another class."""
    overlap = pairwise_iou(found.boxes, found.boxes)
    overlap[found.labels[:, None] == found.labels[None]] = 0.0
    kept = np.ones(len(found), bool)
    for row in range(len(found)):
        if kept[row]:
            kept[row + 1 :] &= overlap[row, row + 1 :] < _SAME
    return found[kept]
