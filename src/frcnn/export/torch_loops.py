"""The operators of ``ops/torch_operators.py`` in PyTorch's own, loops included.

For formats that have no operators for them. A loop is one node of the graph, ``torch.while_loop``,
whose body PyTorch traces by itself; Keras's functions are more than it can follow there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from frcnn.ops import roi
from frcnn.ops.rounding import float32_below
from frcnn.ops.soft_nms import OUT
from frcnn.ops.torch_operators import operators


def decompositions(names: tuple[str, ...]) -> dict:
    """What ``ExportedProgram.run_decompositions`` is to make of these of our operators."""
    align = partial(roi.portable_align, summed=roi.torch_bag_sum)
    functions = {"nms": nms, "soft_nms": soft_nms, "roi_align": align}
    return {getattr(operators(), name).default: functions[name] for name in names}


def nms(boxes, scores, usable, groups, iou_threshold: float, max_outputs: int):
    """``ops.nms.nms``: the best box is kept, those that overlap it are dropped, and again."""
    threshold = float32_below(iou_threshold)
    remaining = torch.where(usable, scores, -math.inf)
    boxes = torch.where(usable[..., None], boxes, 0.0)

    def drop(remaining, iou):
        return torch.where(iou > threshold, -math.inf, remaining)

    return _pick(boxes, remaining, groups, max_outputs, -math.inf, drop)[::2]


def soft_nms(
    boxes,
    remaining,
    groups,
    max_outputs: int,
    score_threshold: float,
    sigma: float,
    iou_threshold: float | None,
):
    """``ops.soft_nms.soft_nms`` of finite boxes."""

    def lower(remaining, iou):
        if iou_threshold is None:
            return remaining * torch.exp(-iou * iou / sigma)
        return remaining * torch.where(iou >= iou_threshold, 1.0 - iou, 1.0)

    index, picked, used = _pick(boxes, remaining, groups, max_outputs, score_threshold, lower)
    return index, torch.where(used, picked, 0.0), used


def _pick(
    boxes: Tensor,
    remaining: Tensor,
    groups: Tensor | None,
    slots: int,
    floor: float,
    lower: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Take the best box of each image ``slots`` times, lowering the others' scores each time.

    Args:
        boxes: float32 [B, N, 4].
        remaining: float32 [B, N], scores; below 0, and not above ``floor``, if out of the running.
        groups: int [B, N] or None; boxes of another group than the best keep their score.
        slots: how many.
        floor: only boxes scored higher are taken; -inf, or 0 and above.
        lower: scores and their IoU with the best box, [B, N] each -> scores.

    Returns:
        int32, float32 and bool [B, slots]: the boxes, their scores, and whether a slot is used;
        a free slot has 0 and the lowest score.
    """
    # Not always infinite: a score of that times an IoU's 0 would not be a number.
    out = OUT if floor >= 0 else -math.inf
    batch = boxes.shape[0]
    column = torch.arange(boxes.shape[1], device=boxes.device)
    slot = torch.arange(slots, device=boxes.device)

    def unfinished(turn, remaining, index, picked):
        # Not by `slots`: a number from outside would be one more input, of no format's liking.
        return (turn < index.shape[1]) & (remaining > floor).any()

    def pick(turn, remaining, index, picked):
        best = remaining.argmax(dim=1, keepdim=True)  # [B, 1], of equal ones the first
        score = remaining.gather(1, best)
        chosen = (slot == turn) & (score > floor)  # [B, slots]
        iou = _iou(boxes.gather(1, best[..., None].expand(-1, 1, 4)), boxes)  # [B, N]
        if groups is not None:
            iou = torch.where(groups == groups.gather(1, best), iou, 0.0)
        remaining = torch.where(column == best, out, lower(remaining, iou))
        index = torch.where(chosen, best.to(torch.int32), index)
        return turn + 1, remaining, index, torch.where(chosen, score, picked)

    start = (
        torch.zeros((), dtype=torch.int64, device=boxes.device),
        remaining.clone(),
        torch.zeros((batch, slots), dtype=torch.int32, device=boxes.device),
        torch.full((batch, slots), out, dtype=remaining.dtype, device=boxes.device),
    )
    _, _, index, picked = torch.while_loop(unfinished, pick, start)
    return index, picked, picked > floor


def _iou(one: Tensor, boxes: Tensor) -> Tensor:
    """IoU of [B, 1, 4] with [B, N, 4] as ``ops.boxes.pairwise_iou`` has it: [B, N]."""
    left, top = (torch.maximum(one[..., at], boxes[..., at]) for at in (0, 1))
    right, bottom = (torch.minimum(one[..., at], boxes[..., at]) for at in (2, 3))
    intersection = (right - left).clamp(min=0) * (bottom - top).clamp(min=0)
    union = _area(one) + _area(boxes) - intersection
    return intersection / torch.where(union > 0, union, 1.0)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
