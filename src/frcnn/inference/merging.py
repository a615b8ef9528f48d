"""One list of detections from those of several views of a picture; NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from frcnn.structures import Detections, pairwise_iou


def joined(found: Sequence[Detections]) -> Detections:
    """All detections of several lists, most confident first; at least one list."""
    scores = np.concatenate([each.scores for each in found])
    order = np.argsort(-scores, kind="stable")
    return Detections(
        np.concatenate([each.boxes for each in found])[order],
        scores[order],
        np.concatenate([each.labels for each in found])[order],
        found[0].classes,
    )


def suppress(found: Detections, iou: float) -> Detections:
    """Class-wise greedy NMS: what overlaps a more confident detection of its class goes.

    Args:
        found: most confident first.
        iou: above which one goes.
    """
    kept = np.zeros(len(found), bool)
    for label in np.unique(found.labels):
        rows = np.flatnonzero(found.labels == label)
        while len(rows):
            kept[rows[0]] = True
            overlaps = pairwise_iou(found.boxes[rows[:1]], found.boxes[rows])[0]
            rows = rows[1:][overlaps[1:] <= iou]
    return found[kept]


def fuse(found: Sequence[Detections], iou: float) -> Detections:
    """Weighted boxes fusion (Solovyev, Wang and Gabruseva 2021, section 3).

    Detections of one class that overlap become one box, the mean of theirs weighted by their
    scores. Its score is the mean of theirs, times the share of the views that saw it.

    Args:
        found: the detections of each view, in pixels of the same picture.
        iou: of a detection and the box fused so far, above which it joins.
    """
    views = len(found)
    every = joined(found)
    boxes, scores, labels = [], [], []
    for label in np.unique(every.labels):
        rows = np.flatnonzero(every.labels == label)
        fused, sums, counts = _clusters(every.boxes[rows], every.scores[rows], iou)
        boxes.append(fused)
        scores.append(sums / counts * np.minimum(counts, views) / views)
        labels.append(np.full(len(fused), label))
    if not boxes:
        return every
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return Detections(
        np.concatenate(boxes)[order],
        np.concatenate(scores)[order],
        np.concatenate(labels)[order],
        every.classes,
    )


def _clusters(
    boxes: np.ndarray, scores: np.ndarray, iou: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fused boxes (K, 4) of one class, the sums of their scores (K,) and how many each is of."""
    weighted = np.zeros((len(boxes), 4))
    sums, counts = np.zeros(len(boxes)), np.zeros(len(boxes))
    used = 0
    for box, score in zip(boxes.astype(np.float64), scores, strict=True):
        weight = max(float(score), 1e-6)
        fused = weighted[:used] / sums[:used, None]
        overlaps = pairwise_iou(box[None], fused)[0] if used else np.zeros(0)
        place = int(overlaps.argmax()) if used and overlaps.max() > iou else used
        used = max(used, place + 1)
        weighted[place] += weight * box
        sums[place] += weight
        counts[place] += 1
    return weighted[:used] / sums[:used, None], sums[:used], counts[:used]
