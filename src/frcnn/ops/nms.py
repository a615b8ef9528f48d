"""Non-maximum suppression, exact and greedy, into a fixed number of slots."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from frcnn.ops.boxes import pairwise_iou
from frcnn.ops.rounding import float32_below
from frcnn.ops.torch_operators import installed, operators, runs_triton

# Boxes looked at together. A tile is compared with every box kept so far and with itself.
TILE = 256
# Boxes that torchvision's kernel is given at once, at least: below, its calls cost more than it.
STRETCH = 1024


def nms(boxes, scores, iou_threshold, max_outputs, groups=None, valid=None):
    """Keep the most confident boxes, dropping those that overlap one already kept.

    Boxes are visited from the highest score down, equal scores by lower index; one is dropped if
    its IoU with a kept box of its group is above ``iou_threshold`` (equal is not enough). A box
    that is not finite or whose score is NaN is never kept. No gradient flows through.

    Args:
        boxes: float32 ``[B, N, 4]``, xyxy.
        scores: float32 ``[B, N]``.
        iou_threshold: 0..1.
        max_outputs: slots of the result, at least 1.
        groups: int ``[B, N]``; boxes of different groups (classes, levels) never drop each other.
        valid: bool ``[B, N]``, which boxes take part. Default: all.

    Returns:
        int32 ``[B, max_outputs]``, indices into N, most confident first, and bool
        ``[B, max_outputs]``, whether the slot is used; an unused slot has index 0.

    Raises:
        ValueError: ``iou_threshold`` outside 0..1.
    """
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"Expected `iou_threshold` in 0..1. Received: {iou_threshold}.")
    boxes = ops.stop_gradient(ops.convert_to_tensor(boxes))
    scores = ops.stop_gradient(ops.convert_to_tensor(scores))
    usable = ops.all(ops.isfinite(boxes), axis=-1) & ops.logical_not(ops.isnan(scores))
    if valid is not None:
        usable = usable & valid
    if groups is not None:
        groups = ops.convert_to_tensor(groups)
    arguments = boxes, scores, usable, groups, iou_threshold, max_outputs
    if keras.config.backend() == "torch":
        return operators().nms(*arguments)
    return portable_nms(*arguments)


def uncompiled(function, *arguments):
    """Call ``function`` as one step that ``torch.compile`` does not look into.

    For PyTorch only. How much suppression there is to do depends on the data at every turn, so it
    would compile many fragments.
    """
    import torch

    opaque: Any = torch.compiler.disable(function)
    return opaque(*arguments)


def portable_nms(boxes, scores, usable, groups, iou_threshold, max_outputs):
    """``nms`` in tiles of the sorted boxes; materialises ``[B, TILE, max_outputs]`` at most."""
    batch, length = ops.shape(scores)[0], scores.shape[1]
    tile = min(TILE, length + 1)
    padding = tile - length % tile  # at least 1: the last row is a box that overlaps nothing
    tiles = (length + padding) // tile
    null = length + padding - 1
    order = ops.cast(ops.argsort(ops.where(usable, -scores, math.inf), axis=1), "int32")
    boxes = ops.where(usable[..., None], boxes, 0.0)
    boxes = ops.pad(_rows(boxes, order), [[0, 0], [0, padding], [0, 0]])
    rest = [[0, 0], [0, padding]]
    usable = ops.pad(ops.take_along_axis(usable, order, axis=1), rest)
    if groups is not None:
        groups = ops.pad(ops.take_along_axis(groups, order, axis=1), rest)
    order = ops.pad(order, rest)
    threshold = float32_below(iou_threshold)
    rows = ops.arange(tile, dtype="int32")
    earlier = rows[:, None] < rows[None, :]  # [tile, tile]
    first_slot = ops.arange(batch, dtype="int32")[:, None] * (max_outputs + 1)  # [B, 1]

    def overlapping(first, second):
        """Bool [B, I, J] for positions [B, I] and [B, J] in the sorted boxes."""
        overlap = pairwise_iou(_rows(boxes, first), _rows(boxes, second)) > threshold
        if groups is None:
            return overlap
        first, second = (ops.take_along_axis(groups, at, axis=1) for at in (first, second))
        return overlap & (first[:, :, None] == second[:, None, :])

    def unfinished(index, kept, counts):
        return ops.logical_and(index < tiles, ops.any(counts < max_outputs))

    def visit(index, kept, counts):
        positions = ops.zeros_like(first_slot) + index * tile + rows  # [B, tile]
        alive = ops.take_along_axis(usable, positions, axis=1)
        alive = alive & ~ops.any(overlapping(kept, positions), axis=1)
        alive = _suppress_within(overlapping(positions, positions) & earlier, alive)
        slots = counts[:, None] + ops.cumsum(ops.cast(alive, "int32"), axis=1) - 1
        # Boxes not kept go to the spare slot at the end of their image, as the null box.
        alive = alive & (slots < max_outputs)
        slots = first_slot + ops.where(alive, slots, max_outputs)
        kept = ops.scatter_update(
            ops.reshape(kept, (-1,)),
            ops.reshape(slots, (-1, 1)),
            ops.reshape(ops.where(alive, positions, null), (-1,)),
        )
        kept = ops.reshape(kept, (-1, max_outputs + 1))
        return index + 1, kept, counts + ops.sum(ops.cast(alive, "int32"), axis=1)

    kept = ops.full((batch, max_outputs + 1), null, dtype="int32")
    counts = ops.zeros((batch,), dtype="int32")
    start = ops.zeros((), dtype="int32")
    _, kept, counts = ops.while_loop(unfinished, visit, (start, kept, counts))
    kept = kept[:, :max_outputs]
    used = ops.arange(max_outputs, dtype="int32") < counts[:, None]
    return ops.where(used, ops.take_along_axis(order, kept, axis=1), 0), used


def _rows(boxes, positions):
    """Gather ``[B, P, 4]``, ``[B, I]`` -> ``[B, I, 4]``."""
    return ops.take_along_axis(boxes, positions[..., None], axis=1)


def _suppress_within(overlaps, alive):
    """Greedy suppression inside one sorted tile.

    Whoever overlaps no living earlier box lives. Starting from all, each pass settles at least
    one more rank, and a pass without a change is the greedy answer.

    Args:
        overlaps: bool ``[B, T, T]``, [earlier, later] pairs that exclude each other.
        alive: bool ``[B, T]``, the candidates.
    """

    def unsettled(_, changed):
        return changed

    def settle(current, _):
        dropped = ops.any(overlaps & current[:, :, None], axis=1)
        after = alive & ops.logical_not(dropped)
        return after, ops.any(after != current)

    changed = ops.convert_to_tensor(True)
    return ops.while_loop(unsettled, settle, (alive, changed))[0]


def torch_nms(boxes, scores, usable, groups, iou_threshold, max_outputs):
    """``nms`` on PyTorch: by our kernels on a GPU, else by torchvision's if it is installed."""
    suppress = portable_nms
    if runs_triton(boxes):
        from frcnn.ops.triton_nms import triton_nms as suppress
    elif installed("torchvision"):
        suppress = _torchvision_nms
    return suppress(boxes, scores, usable, groups, iou_threshold, max_outputs)


def _torchvision_nms(boxes, scores, usable, groups, iou_threshold, max_outputs):
    """``nms`` with torchvision's kernel, image by image."""
    import torch

    indices = torch.zeros((len(boxes), max_outputs), dtype=torch.int32, device=boxes.device)
    used = torch.zeros_like(indices, dtype=torch.bool)
    for image in range(len(boxes)):
        rows = usable[image].nonzero().squeeze(1)
        ranked = torch.argsort(scores[image].index_select(0, rows), descending=True, stable=True)
        rows = rows.index_select(0, ranked)
        members = None if groups is None else groups[image].index_select(0, rows)
        ordered = boxes[image].index_select(0, rows)  # several times as fast as boxes[image, rows]
        kept = _torchvision_greedy(ordered, members, iou_threshold, max_outputs)
        indices[image, : len(kept)] = rows[kept].int()
        used[image, : len(kept)] = True
    return indices, used


def _torchvision_greedy(boxes, groups, iou_threshold, max_outputs):
    """Positions of the boxes kept among sorted ``boxes`` [N, 4] of one image.

    The kernel cannot stop at ``max_outputs``, and its time grows with the boxes it keeps times
    those it is given. So it is given a stretch at a time, less what earlier ones already exclude.
    """
    import torch

    kept = torch.zeros(0, dtype=torch.int64, device=boxes.device)
    size = max(STRETCH, 2 * max_outputs)
    for stretch in torch.arange(len(boxes), device=boxes.device).split(size):
        if len(kept):
            iou = pairwise_iou(boxes.index_select(0, kept), boxes.index_select(0, stretch))
            overlap = iou > float32_below(iou_threshold)
            if groups is not None:
                overlap &= groups[kept, None] == groups[stretch]
            stretch = stretch[~overlap.any(dim=0)]
        members = None if groups is None else groups[stretch]
        stretch = stretch[
            _torchvision_kernel(boxes.index_select(0, stretch), members, iou_threshold)
        ]
        kept = torch.cat([kept, stretch])
        if len(kept) >= max_outputs:
            break
    return kept[:max_outputs]


def _torchvision_kernel(boxes, groups, iou_threshold):
    """Mask of the boxes kept among sorted ``boxes`` [N, 4], one call of the kernel a group."""
    import torch
    from torchvision.ops import nms as kernel

    alive = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    ranks = -torch.arange(len(boxes), dtype=torch.float32, device=boxes.device)
    if groups is None:
        alive[kernel(boxes, ranks, iou_threshold)] = True
        return alive
    for group in groups.unique():
        rows = (groups == group).nonzero().squeeze(1)
        alive[rows[kernel(boxes.index_select(0, rows), ranks[rows], iou_threshold)]] = True
    return alive
