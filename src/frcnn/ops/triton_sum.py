"""RoIAlign's weighted sum on a CUDA device, in one kernel that reads maps of any precision.

Triton comes with PyTorch's CUDA builds; this file is imported where it is used.
"""
# Kernels are written in Triton's language, of which a type checker of Python's makes little.
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

MOST_CHANNELS = 256  # of a program


def triton_weighted_sum(table, y, x, y_weights, x_weights):
    """``weighted_sum`` of tensors on a device, without a gradient; nothing else is materialised."""
    *rois, bins, taps = y.shape
    channels = table.shape[1]
    total = table.new_empty((*rois, bins, bins, channels))
    rows = total.numel() // max(bins * channels, 1)
    if not rows or not channels:
        return total
    block = min(MOST_CHANNELS, triton.next_power_of_2(channels))
    _weighted_sum[(rows, triton.cdiv(channels, block))](
        table.contiguous(),
        y.contiguous(),
        x.contiguous(),
        y_weights.contiguous(),
        x_weights.contiguous(),
        total,
        channels,
        bins=bins,
        taps=taps,
        block=block,
        num_warps=max(1, block * table.element_size() // 512),  # 16 bytes a thread at a time
    )
    return total


@triton.jit
def _weighted_sum(
    table,
    y,
    x,
    y_weights,
    x_weights,
    total,
    channels,
    bins: tl.constexpr,
    taps: tl.constexpr,
    block: tl.constexpr,
):
    """The bins of one row of a RoI.

    Args:
        table: (T, channels), all cells.
        y: int32 (rows, taps), where a row of cells starts.
        x: int32 (rows, taps), columns; those of a RoI stand once in as many rows as it has bins.
        y_weights: float32 (rows, taps).
        x_weights: float32 (rows, taps).
        total: (rows, bins, channels), written.
        channels: of a cell.
        bins: along a side of a RoI.
        taps: cells of a bin along a side.
        block: channels of a program, a power of two.
    """
    row = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * block + tl.arange(0, block)
    inside = channel < channels
    roi = row // bins * bins
    for column in range(bins):
        at = (roi + column) * taps
        sums = tl.zeros([block], tl.float32)
        for i in tl.static_range(taps):
            start = tl.load(y + row * taps + i).to(tl.int64)
            weight = tl.load(y_weights + row * taps + i)
            for j in tl.static_range(taps):
                cell = start + tl.load(x + at + j)
                values = tl.load(table + cell * channels + channel, mask=inside, other=0.0)
                sums += values.to(tl.float32) * (weight * tl.load(x_weights + at + j))
        place = total + (row * bins + column) * channels + channel
        tl.store(place, sums.to(total.dtype.element_ty), mask=inside)
