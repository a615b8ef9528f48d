"""Non-maximum suppression on a CUDA device, in two kernels and without waiting for the host.

Which later boxes a box excludes is a row of bits, made for all pairs at once. Then one program an
image goes down the sorted boxes, 64 at a time, and keeps the bits of what is already excluded.
Triton comes with PyTorch's CUDA builds; this file is imported where it is used.
"""
# Kernels are written in Triton's language, of which a type checker of Python's makes little.
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

from frcnn.ops.rounding import float32_below

TILE = tl.constexpr(64)  # boxes of a word of bits
ROWS = tl.constexpr(16)  # of bits read together


def triton_nms(boxes, scores, usable, groups, iou_threshold, max_outputs):
    """``nms`` of tensors on a device.

    Args:
        boxes: float32 ``[B, N, 4]``.
        scores: float32 ``[B, N]``.
        usable: bool ``[B, N]``.
        groups: int ``[B, N]`` or None.
        iou_threshold: as of ``nms``.
        max_outputs: as of ``nms``.

    Returns:
        As ``nms``. Bits of all pairs, ``B * N * N / 8`` bytes, are materialised.
    """
    batch, length = scores.shape
    words = triton.cdiv(max(length, 1), TILE.value)
    order = torch.argsort(torch.where(usable, -scores, torch.inf), dim=1, stable=True)
    order = torch.nn.functional.pad(order, (0, words * TILE.value - length))  # [B, P]
    present = torch.arange(order.shape[1], device=order.device) < usable.sum(1, keepdim=True)
    if not length:
        boxes = boxes.new_zeros((batch, 1, 4))
    rows = order[..., None].expand(-1, -1, 4)
    corners = torch.where(present[..., None], boxes.gather(1, rows), 0.0).mT.contiguous()
    members = order if groups is None else groups.gather(1, order)
    excluded = torch.empty((*order.shape, words), dtype=torch.int64, device=boxes.device)
    _exclusions[(words, words, batch)](
        corners,
        members.contiguous(),
        excluded,
        words,
        float32_below(iou_threshold),
        grouped=groups is not None,
        enable_fp_fusion=False,
    )
    kept = torch.zeros((batch, words), dtype=torch.int64, device=boxes.device)
    _sweep[(batch,)](
        excluded,
        present,
        kept,
        words,
        max_outputs,
        lanes=triton.next_power_of_2(words),
        num_warps=8,
    )
    bit = torch.arange(TILE.value, device=kept.device)
    chosen = ((kept[..., None] >> bit) & 1).bool().flatten(1)  # [B, P]
    slots = chosen.cumsum(1) - 1
    slots = torch.where(chosen & (slots < max_outputs), slots, max_outputs)  # the spare slot
    indices = torch.zeros((batch, max_outputs + 1), dtype=torch.int64, device=kept.device)
    indices.scatter_(1, slots, order)
    used = torch.arange(max_outputs, device=kept.device) < chosen.sum(1, keepdim=True)
    return torch.where(used, indices[:, :max_outputs], 0).int(), used


@triton.jit
def _corners(corners, at, length):
    """x1, y1, x2, y2 of some boxes of one image."""
    return (
        tl.load(corners + at),
        tl.load(corners + length + at),
        tl.load(corners + 2 * length + at),
        tl.load(corners + 3 * length + at),
    )


@triton.jit
def _exclusions(corners, members, excluded, words, threshold, grouped: tl.constexpr):
    """Bits of the boxes of one tile of columns that each box of a tile of rows excludes.

    Args:
        corners: float32 (B, 4, P), boxes by descending score.
        members: int (B, P), their groups.
        excluded: int64 (B, P, words), written on and right of the diagonal.
        words: P / TILE.
        threshold: an IoU above this excludes.
        grouped: whether groups count.
    """
    tile, word, image = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    if word < tile:
        return
    length = words * TILE
    rows, columns = tile * TILE + tl.arange(0, TILE), word * TILE + tl.arange(0, TILE)
    corners += image * 4 * length
    x1, y1, x2, y2 = _corners(corners, rows[:, None], length)
    x3, y3, x4, y4 = _corners(corners, columns[None, :], length)
    across = tl.maximum(tl.minimum(x2, x4) - tl.maximum(x1, x3), 0.0)
    down = tl.maximum(tl.minimum(y2, y4) - tl.maximum(y1, y3), 0.0)
    shared = across * down
    union = (x2 - x1) * (y2 - y1) + (x4 - x3) * (y4 - y3) - shared
    iou = tl.div_rn(shared, tl.where(union > 0, union, 1.0))
    excludes = (iou > threshold) & (columns[None, :] > rows[:, None])
    if grouped:
        members += image * length
        excludes &= tl.load(members + rows)[:, None] == tl.load(members + columns)[None, :]
    bits = excludes.to(tl.int64) << tl.arange(0, TILE).to(tl.int64)[None, :]
    tl.store(excluded + (image * length + rows) * words + word, tl.sum(bits, axis=1))


@triton.jit
def _either(first, second):
    return first | second


@triton.jit
def _sweep(excluded, present, kept, words, max_outputs, lanes: tl.constexpr):
    """Go down the boxes of one image and keep those that no kept one excludes.

    Args:
        excluded: int64 (B, P, words), of ``_exclusions``.
        present: bool (B, P), which boxes take part.
        kept: int64 (B, words), 0; receives the bits of the boxes kept, at least ``max_outputs`` of
            them if there are so many.
        words: P / TILE.
        max_outputs: boxes wanted.
        lanes: ``words`` rounded up to a power of two.
    """
    image = tl.program_id(0).to(tl.int64)
    excluded += image * words * TILE * words
    lane, bit = tl.arange(0, lanes), tl.arange(0, TILE)
    gone = tl.zeros([lanes], tl.int64)
    count = tl.zeros([], tl.int32)
    word = tl.zeros([], tl.int32)
    while (word < words) & (count < max_outputs):
        here = tl.load(present + image * words * TILE + word * TILE + bit).to(tl.int64)
        alive = tl.sum(here << bit.to(tl.int64), axis=0)
        alive &= ~tl.sum(tl.where(lane == word, gone, 0), axis=0)
        first = excluded + (word * TILE).to(tl.int64) * words
        for row in tl.static_range(TILE):  # a box excludes later ones alone
            own = tl.load(first + row * words + word)
            alive &= ~(own * ((alive >> row) & 1))
        tl.store(kept + image * words + word, alive)
        count += tl.sum((alive >> bit.to(tl.int64)) & 1, axis=0).to(tl.int32)
        for start in tl.static_range(0, TILE, ROWS):
            row = start + tl.arange(0, ROWS)
            is_kept = ((alive >> row.to(tl.int64)) & 1) != 0
            wanted = is_kept[:, None] & (lane > word)[None, :] & (lane < words)[None, :]
            bits = tl.load(first + row[:, None] * words + lane[None, :], mask=wanted, other=0)
            gone |= tl.reduce(bits, 0, _either)
        word += 1
