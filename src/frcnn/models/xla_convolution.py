"""The convolutions that XLA does badly on a CPU, in operations that it does well.

Its gradients of depthwise convolutions take many times as long as the sums of shifted maps that
these are, and those of 1x1 convolutions longer than the matrix products.
Only for JAX: TensorFlow's deployment formats know depthwise convolutions by their name.
"""

from __future__ import annotations

import functools
import itertools

import keras
from keras import ops

from frcnn.models.torch_convolution import same_padding


@functools.cache
def on_xla_cpu() -> bool:
    """Whether Keras runs on JAX, and that on a CPU."""
    if keras.config.backend() != "jax":
        return False
    return all(device.startswith("cpu") for device in keras.distribution.list_devices())


def is_pointwise(layer) -> bool:
    """Whether a convolution is a matrix product at each cell."""
    sizes = (*layer.kernel_size, *layer.strides, layer.groups)
    return all(size == 1 for size in sizes)


def pointwise(inputs, kernel):
    """(B, H, W, C_in), (1, 1, C_in, C_out) -> (B, H, W, C_out).

    One product of two matrices: of a map with a matrix, XLA's gradient transposes maps first.
    """
    cells = ops.matmul(ops.reshape(inputs, (-1, inputs.shape[-1])), kernel[0, 0])
    return ops.reshape(cells, (-1, *inputs.shape[1:-1], kernel.shape[-1]))


def depthwise(layer, inputs, kernel):
    """Convolve each channel by itself.

    Args:
        layer: for its kernel's size, strides, dilation and padding, "valid" or "same".
        inputs: (B, H, W, C).
        kernel: (k, k, C, 1).
    """
    pads, reads = [(0, 0)], []
    for size, cells, stride, dilation in zip(
        inputs.shape[1:3], layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        pad = same_padding(size, cells, stride, dilation) if layer.padding == "same" else (0, 0)
        pads.append(pad)
        last = size + sum(pad) - (cells - 1) * dilation  # one past the last cell's first row
        reads.append([slice(at * dilation, at * dilation + last, stride) for at in range(cells)])
    inputs = ops.pad(inputs, [*pads, (0, 0)])
    total = 0.0
    for (row, down), (column, across) in itertools.product(*map(enumerate, reads)):
        total = total + inputs[:, down, across] * kernel[row, column, :, 0]
    return total
