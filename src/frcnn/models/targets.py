"""Ground truth -> what each stage is asked to predict (Faster R-CNN, section 3.1.2)."""

from __future__ import annotations

from dataclasses import dataclass

from keras import ops

from frcnn.ops import boxes as box_ops
from frcnn.ops.assign import match, sample


@dataclass(frozen=True)
class RPNTargetRule:
    """Which anchors train the RPN.

    Args:
        foreground: anchors with at least this IoU are foreground, and so is the best of a box.
        background: anchors below this IoU with every box are background.
        count: anchors sampled in an image.
        fraction: of them, at most this share is foreground.
        ignore_border: leave out anchors that cross the image's border.
    """

    foreground: float = 0.7
    background: float = 0.3
    count: int = 256
    fraction: float = 0.5
    ignore_border: bool = False


@dataclass(frozen=True)
class RoITargetRule:
    """Which proposals train the RoI head.

    Args:
        foreground: proposals with at least this IoU are foreground, all others background.
        count: RoIs sampled in an image.
        fraction: of them, at most this share is foreground.
        weights: multiply the four box deltas (the inverse of their usual deviations).
    """

    foreground: float = 0.5
    count: int = 128
    fraction: float = 0.25
    weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)

    def __post_init__(self):
        object.__setattr__(self, "weights", tuple(self.weights))
        if self.count < 1:
            raise ValueError(f"Expected a `count` of at least 1. Received: {self.count}.")

    @property
    def most_foreground(self) -> int:
        """RoIs of an image that may be foreground: one at least, or no class would be learned."""
        return max(int(self.count * self.fraction), 1)


def _gather(rows, index):
    """rows (B, N, 4), index (B, K) -> (B, K, 4)."""
    return ops.take_along_axis(rows, index[..., None], axis=1)


def rpn_targets(anchors, boxes, labels, sizes, keys, rule: RPNTargetRule):
    """Sample anchors and say what the RPN should answer for them.

    Args:
        anchors: float32 (A, 4).
        boxes: float32 (B, G, 4), padded.
        labels: int (B, G), -1 where padded.
        sizes: (B, 2), height and width of the valid part of each image.
        keys: float32 (B, A) in [0, 1), random: the sample is drawn by the highest keys.
        rule: which anchors count.

    Returns:
        index: int32 (B, S) of the sampled anchors.
        foreground: bool (B, S).
        valid: bool (B, S), False where an image has fewer than S anchors to sample.
        deltas: float32 (B, S, 4), what the box branch should answer; of use on foreground.
    """
    anchors, sizes = ops.convert_to_tensor(anchors), ops.convert_to_tensor(sizes)
    valid_box = labels >= 0
    iou = box_ops.pairwise_iou(anchors[None], boxes)  # [B, A, G]
    inside = _inside(anchors, sizes) if rule.ignore_border else None
    matched, status = match(
        iou, valid_box, rule.foreground, rule.background, best_anchor=True, inside=inside
    )
    index, foreground, valid = sample(status, rule.count, int(rule.count * rule.fraction), keys)
    reference = ops.take(anchors, index, axis=0)
    targets = _gather(boxes, ops.take_along_axis(matched, index, axis=1))
    # Rows that are not foreground may hold padding: any finite box serves there.
    targets = ops.where(foreground[..., None], targets, reference)
    return index, foreground, valid, box_ops.encode(reference, targets)


def _inside(anchors, sizes):
    """Whether each anchor lies wholly in the valid part of each image: bool (B, A)."""
    height = ops.cast(sizes[:, 0:1], "float32")
    width = ops.cast(sizes[:, 1:2], "float32")
    x1, y1, x2, y2 = (anchors[None, :, i] for i in range(4))
    return (x1 >= 0) & (y1 >= 0) & (x2 <= width) & (y2 <= height)


def roi_candidates(proposals, valid, boxes, labels):
    """Proposals with the ground truth added, so that each box has a RoI from the first step.

    Returns:
        candidates: float32 (B, P + G, 4).
        valid: bool (B, P + G).
    """
    return (
        ops.concatenate([proposals, ops.cast(boxes, proposals.dtype)], axis=1),
        ops.concatenate([valid, labels >= 0], axis=1),
    )


def roi_targets(candidates, valid, boxes, labels, keys, rule: RoITargetRule):
    """Sample RoIs and say what the RoI head should answer for them.

    Args:
        candidates: float32 (B, N, 4), from ``roi_candidates``.
        valid: bool (B, N).
        boxes: float32 (B, G, 4), padded.
        labels: int (B, G), -1 where padded.
        keys: float32 (B, N) in [0, 1), random: the sample is drawn by the highest keys.
        rule: which RoIs count.

    Returns:
        rois: float32 (B, R, 4).
        classes: int32 (B, R), the class on foreground, -1 elsewhere.
        sampled: bool (B, R), False on the rows that only fill up.
        deltas: float32 (B, R, 4), what the box branch should answer; of use on foreground.
    """
    iou = box_ops.pairwise_iou(candidates, boxes)  # [B, N, G]
    matched, status = match(iou, labels >= 0, rule.foreground, rule.foreground)
    status = ops.where(valid, status, -1)
    index, foreground, sampled = sample(status, rule.count, rule.most_foreground, keys)
    rois = ops.where(sampled[..., None], _gather(candidates, index), 0.0)
    owner = ops.take_along_axis(matched, index, axis=1)
    return _roi_answers(rois, sampled, foreground, owner, boxes, labels, rule)


def roi_targets_of_all(rois, sampled, boxes, labels, rule: RoITargetRule):
    """Say what a RoI head should answer for RoIs that are all kept: those of a cascade.

    Args:
        rois: float32 (B, R, 4).
        sampled: bool (B, R), False on the rows that only fill up.
        boxes: float32 (B, G, 4), padded.
        labels: int (B, G), -1 where padded.
        rule: what counts as foreground; its ``count`` and ``fraction`` play no part.

    Returns:
        As ``roi_targets``.
    """
    iou = box_ops.pairwise_iou(rois, boxes)  # [B, R, G]
    owner, status = match(iou, labels >= 0, rule.foreground, rule.foreground)
    return _roi_answers(rois, sampled, (status == 1) & sampled, owner, boxes, labels, rule)


def _roi_answers(rois, sampled, foreground, owner, boxes, labels, rule: RoITargetRule):
    classes = ops.where(foreground, ops.take_along_axis(labels, owner, axis=1), -1)
    targets = ops.where(foreground[..., None], _gather(boxes, owner), rois)
    return (
        ops.stop_gradient(rois),
        classes,
        sampled,
        ops.stop_gradient(box_ops.encode(rois, targets, rule.weights)),
    )
