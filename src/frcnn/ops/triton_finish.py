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
    """``finish`` of a map with channels-last strides, and of ``other`` with the same ones."""
    length, channels = x.numel(), x.shape[1]
    _finish[(triton.cdiv(length, BLOCK),)](
        x,
        x if bias is None else bias,
        x if other is None else other,
        length,
        channels,
        low,
        high,
        biased=bias is not None,
        added=other is not None,
        block=BLOCK,
        num_warps=8,
    )


@triton.jit
def _finish(
    x,
    bias,
    other,
    length,
    channels,
    low,
    high,
    biased: tl.constexpr,
    added: tl.constexpr,
    block: tl.constexpr,
):
    """Some values in a row, in their place.

    Args:
        x: (length,), the channels of a cell side by side; changed.
        bias: (channels,).
        other: (length,), added.
        length: of the whole map.
        channels: of a cell.
        low: what is below becomes this.
        high: what is above becomes this.
        biased: whether there is a bias.
        added: whether there is another map.
        block: values of a program.
    """
    first = tl.program_id(0).to(tl.int64) * block
    offset = tl.arange(0, block)
    inside = offset < length - first
    values = tl.load(x + first + offset, mask=inside).to(tl.float32)
    if biased:
        channel = ((first % channels).to(tl.int32) + offset) % channels
        values += tl.load(bias + channel, mask=inside).to(tl.float32)
    if added:
        values += tl.load(other + first + offset, mask=inside).to(tl.float32)
    values = tl.where(values < low, low, values)  # NaN stays
    values = tl.where(values > high, high, values)
    tl.store(x + first + offset, values.to(x.dtype.element_ty), mask=inside)
