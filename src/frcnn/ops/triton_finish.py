"""What follows a convolution on a CUDA device, in one pass over its map.

Triton comes with PyTorch's CUDA builds; this file is imported where it is used.
"""
# Kernels are written in Triton's language, of which a type checker of Python's makes little.
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

BLOCK = 2048  # values of a program


def triton_finish(x, bias, other, low, high):
    """``finish`` of a map with channels-last strides, and of ``other`` with such."""
    batch, channels, height, width = x.shape
    lower, narrower = (height, width) if other is None else other.shape[2:]
    length = width * channels
    _finish[(batch * height, triton.cdiv(length, BLOCK))](
        x,
        x if bias is None else bias,
        x if other is None else other,
        channels,
        height,
        width,
        lower,
        narrower,
        low,
        high,
        biased=bias is not None,
        added=other is not None,
        enlarged=(lower, narrower) != (height, width),
        block=BLOCK,
        num_warps=8,
    )


@triton.jit
def _finish(
    x,
    bias,
    other,
    channels,
    height,
    width,
    lower,
    narrower,
    low,
    high,
    biased: tl.constexpr,
    added: tl.constexpr,
    enlarged: tl.constexpr,
    block: tl.constexpr,
):
    """Some values of a row of cells, in their place.

    Args:
        x: (rows, width * channels), of all pictures; changed.
        bias: (channels,).
        other: (rows', narrower * channels), added.
        channels: of a cell.
        height: rows of a picture.
        width: cells of a row.
        lower: rows of a picture in ``other``.
        narrower: cells of a row in ``other``.
        low: what is below becomes this.
        high: what is above becomes this.
        biased: whether there is a bias.
        added: whether there is another map.
        enlarged: whether that is a smaller one.
        block: values of a program.
    """
    row = tl.program_id(0).to(tl.int64)
    offset = tl.program_id(1) * block + tl.arange(0, block)
    inside = offset < width * channels
    x += row * width * channels
    values = tl.load(x + offset, mask=inside).to(tl.float32)
    if biased:
        values += tl.load(bias + offset % channels, mask=inside).to(tl.float32)
    if added:
        if enlarged:
            image, line = row // height, row % height
            row = image * lower + line * lower // height
            cell = offset // channels
            offset += (cell * narrower // width - cell) * channels
        other += row * narrower * channels
        values += tl.load(other + offset, mask=inside).to(tl.float32)
    values = tl.where(values < low, low, values)  # NaN stays
    values = tl.where(values > high, high, values)
    offset = tl.program_id(1) * block + tl.arange(0, block)
    tl.store(x + offset, values.to(x.dtype.element_ty), mask=inside)
