"""Soft non-maximum suppression (Bodla et al. 2017): overlap costs a box score, not its place."""

from __future__ import annotations

import functools

import keras
from keras import ops

from frcnn.ops.boxes import pairwise_iou
from frcnn.ops.nms import uncompiled
from frcnn.ops.torch_operators import exporting, operators

# The score of a box that is out of the running: below every threshold, and times 0 not NaN.
OUT = -1.0


def soft_nms(
    boxes,
    scores,
    max_outputs,
    sigma=0.5,
    iou_threshold=None,
    score_threshold=1e-3,
    groups=None,
    valid=None,
):
    """Pick the most confident box, lower the scores of those it overlaps, and again.

    The picked box lowers another of its group by ``exp(-IoU**2 / sigma)``, the paper's gaussian,
    or, with an ``iou_threshold``, by ``1 - IoU`` where the IoU is at least that, its linear rule.
    Of equal scores the lower index is picked first. A box that is not finite or whose score is
    not finite is never kept. No gradient flows through.

    Args:
        boxes: float32 ``[B, N, 4]``, xyxy.
        scores: float32 ``[B, N]``.
        max_outputs: slots of the result, at least 1.
        sigma: above 0; the smaller, the more an overlap costs.
        iou_threshold: 0..1 for the linear rule, None for the gaussian one.
        score_threshold: 0 or above; boxes are kept whose lowered score is above it.
        groups: int ``[B, N]``; boxes of different groups (classes) never lower each other.
        valid: bool ``[B, N]``, which boxes take part. Default: all.

    Returns:
        int32 ``[B, max_outputs]``, indices into N; float32 ``[B, max_outputs]``, the lowered
        scores, descending; bool ``[B, max_outputs]``, whether the slot is used. An unused slot
        has index 0 and score 0.

    Raises:
        ValueError: ``sigma``, ``iou_threshold`` or ``score_threshold`` out of range.
    """
    _check(sigma, iou_threshold, score_threshold)
    boxes = ops.stop_gradient(ops.convert_to_tensor(boxes))
    scores = ops.stop_gradient(ops.convert_to_tensor(scores))
    usable = ops.all(ops.isfinite(boxes), axis=-1) & ops.isfinite(scores)
    if valid is not None:
        usable = usable & valid
    if groups is not None:
        groups = ops.convert_to_tensor(groups)
    boxes = ops.where(usable[..., None], boxes, 0.0)
    remaining = ops.where(usable, scores, OUT)
    if exporting():
        options = max_outputs, score_threshold, sigma, iou_threshold
        return operators().soft_nms(boxes, remaining, groups, *options)
    decay = functools.partial(_decay, sigma=sigma, iou_threshold=iou_threshold)
    arguments = boxes, remaining, groups, max_outputs, decay, score_threshold
    if keras.config.backend() == "torch":
        return uncompiled(_pick_in_turn, *arguments)
    return _pick_in_turn(*arguments)


def _pick_in_turn(boxes, remaining, groups, max_outputs, decay, score_threshold):
    """``soft_nms`` of finite boxes; those out of the running have the score ``OUT``."""
    batch, length = ops.shape(remaining)[0], remaining.shape[1]
    index = ops.zeros((batch, max_outputs), dtype="int32")
    lowered = ops.zeros((batch, max_outputs), dtype=remaining.dtype)
    if length == 0:
        return index, lowered, lowered > 0
    rows = ops.arange(length, dtype="int32")
    slots = ops.arange(max_outputs, dtype="int32")

    def unfinished(slot, remaining, index, lowered):
        return ops.logical_and(slot < max_outputs, ops.any(remaining > score_threshold))

    def pick(slot, remaining, index, lowered):
        score = ops.max(remaining, axis=1, keepdims=True)  # [B, 1]
        # Not argmax, which Keras makes of operators that TensorFlow Lite has not.
        best = ops.min(ops.where(remaining == score, rows, length), axis=1, keepdims=True)
        chosen = (slots == slot) & (score > score_threshold)  # [B, max_outputs]
        iou = pairwise_iou(ops.take_along_axis(boxes, best[..., None], axis=1), boxes)[:, 0]
        if groups is not None:
            iou = ops.where(groups == ops.take_along_axis(groups, best, axis=1), iou, 0.0)
        remaining = ops.where(rows == best, OUT, remaining * decay(iou))
        index, lowered = ops.where(chosen, best, index), ops.where(chosen, score, lowered)
        return slot + 1, remaining, index, lowered

    start = ops.zeros((), dtype="int32"), remaining, index, lowered
    _, _, index, lowered = ops.while_loop(unfinished, pick, start)
    return index, lowered, lowered > score_threshold


def _decay(iou, sigma, iou_threshold):
    """What scores are multiplied by, at these IoUs with the box picked."""
    if iou_threshold is None:
        return ops.exp(-iou * iou / sigma)
    return ops.where(iou >= iou_threshold, 1.0 - iou, 1.0)


def _check(sigma, iou_threshold, score_threshold):
    if not sigma > 0:
        raise ValueError(f"Expected `sigma` above 0. Received: {sigma}.")
    if iou_threshold is not None and not 0 <= iou_threshold <= 1:
        raise ValueError(f"Expected `iou_threshold` in 0..1, or None. Received: {iou_threshold}.")
    if not score_threshold >= 0:
        raise ValueError(f"Expected `score_threshold` of 0 or above. Received: {score_threshold}.")
