"""The convolutions that XLA does badly on a CPU, in operations that it does well.

Its gradients of depthwise convolutions take many times as long as the sums of shifted maps that
these are, and those of other convolutions longer than the matrix products.
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


def is_dense(layer) -> bool:
    """Whether each cell of a convolution's kernel reads all channels, at every place."""
    return all(size == 1 for size in (*layer.strides, layer.groups))


def dense(layer, inputs, kernel):
    """Convolve without strides.

    XLA convolves; its gradient of the kernel, a convolution whose batch are the channels, is what
    takes longest, so that this one is a product of two matrices for each of the kernel's cells.

    Args:
        layer: as of ``depthwise``.
        inputs: (B, H, W, C_in).
        kernel: (k, k, C_in, C_out).
    """
    axes = _axes(layer, inputs)
    dilation = layer.dilation_rate

    @ops.custom_gradient
    def convolve(inputs, kernel):
        def gradients(*given, upstream=None):
            given = given[0] if upstream is None else upstream
            padded = ops.pad(given, [(0, 0), *(axis.whole_pad for axis in axes), (0, 0)])
            turned = ops.swapaxes(ops.flip(kernel, (0, 1)), 2, 3)
            of_inputs = ops.conv(padded, turned, 1, "valid", dilation_rate=dilation)
            return of_inputs, _dense_kernel_gradient(inputs, given, axes)

        return ops.conv(inputs, kernel, 1, layer.padding, dilation_rate=dilation), gradients

    return convolve(inputs, kernel)


def _dense_kernel_gradient(inputs, given, axes):
    """(B, H, W, C_in), (B, H', W', C_out) -> (k, k, C_in, C_out)."""
    padded = ops.pad(inputs, [(0, 0), *(axis.pad for axis in axes), (0, 0)])
    down, across = (axis.reads for axis in axes)
    given = ops.reshape(given, (-1, given.shape[-1]))
    products = [
        ops.transpose(ops.reshape(padded[:, rows, columns], (-1, inputs.shape[-1]))) @ given
        for (_, rows), (_, columns) in itertools.product(down, across)
    ]
    sides = len(down), len(across)
    return ops.reshape(ops.stack(products), (*sides, inputs.shape[-1], given.shape[-1]))


def depthwise(layer, inputs, kernel):
    """Convolve each channel by itself.

    The gradients are written out: those that XLA derives take four times as long, most of it sums
    over all cells.

    Args:
        layer: for its kernel's size, strides, dilation and padding, "valid" or "same".
        inputs: (B, H, W, C).
        kernel: (k, k, C, 1).
    """
    axes = _axes(layer, inputs)

    @ops.custom_gradient
    def convolve(inputs, kernel):
        padded = ops.pad(inputs, [(0, 0), *(axis.pad for axis in axes), (0, 0)])
        down, across = (axis.reads for axis in axes)

        def gradients(*given, upstream=None):
            given = given[0] if upstream is None else upstream
            of_kernel = _kernel_gradient(padded, given, axes)
            return _inputs_gradient(given, kernel, axes), of_kernel

        return _shifted_sum(padded, kernel, down, across), gradients

    return convolve(inputs, kernel)


def _axes(layer, inputs) -> list[_Axis]:
    """Down and across."""
    rules = layer.kernel_size, layer.strides, layer.dilation_rate
    return [_Axis(layer, *each) for each in zip(inputs.shape[1:3], *rules, strict=True)]


class _Axis:
    """Which cells a convolution reads along one axis, and which cells read one.

    Attributes:
        size: cells of the input.
        groups: of them, as many as the stride each.
        pad: zeros (before, after) it.
        reads: of each cell of the kernel, its number and the slice of the padded input it reads.
        whole_pad: zeros (before, after) the output's gradient, of which a convolution without
            strides by the turned kernel gives the input's.
        back_pad: the same for ``back_reads``.
        back_reads: for the inputs whose place has the remainder 0, 1, ... by the stride: of each
            cell of the kernel that reads these, its number and the slice of the padded gradient.
    """

    def __init__(self, layer, size: int, cells: int, stride: int, dilation: int):
        self.size = size
        self.pad = (0, 0)
        if layer.padding == "same":
            self.pad = same_padding(size, cells, stride, dilation)
        taps = [(cell, cell * dilation) for cell in range(cells)]
        self.whole_pad = (taps[-1][1] - self.pad[0], taps[-1][1] - self.pad[1])
        last = size + sum(self.pad) - taps[-1][1]  # one past the last place of the first cell
        self.reads = [(cell, slice(at, at + last, stride)) for cell, at in taps]
        outputs, self.groups = -(-last // stride), -(-size // stride)
        # Input ``stride * m + rest`` is read by output ``m + shift``.
        shifts = [
            [
                (cell, (rest + self.pad[0] - at) // stride)
                for cell, at in taps
                if (rest + self.pad[0] - at) % stride == 0
            ]
            for rest in range(stride)
        ]
        every = [shift for phase in shifts for _, shift in phase]
        before = max(-min(every), 0)
        self.back_pad = (before, max(self.groups + max(every) - outputs, 0))
        self.back_reads = [
            [(cell, slice(before + shift, before + shift + self.groups)) for cell, shift in phase]
            for phase in shifts
        ]


def _shifted_sum(cells, kernel, down, across, total=0.0):
    """What the kernel's cells read, times their weights, added to ``total``."""
    for (row, rows), (column, columns) in itertools.product(down, across):
        total = total + cells[:, rows, columns] * kernel[row, column, :, 0]
    return total


def _inputs_gradient(given, kernel, axes):
    """(B, H', W', C) -> (B, H, W, C): a sum for each remainder by the strides, then interleaved."""
    (height, width), (strides_down, strides_across) = zip(
        *((axis.groups, len(axis.back_reads)) for axis in axes), strict=True
    )
    given = ops.pad(given, [(0, 0), *(axis.back_pad for axis in axes), (0, 0)])
    nothing = ops.zeros_like(given[:, :height, :width])
    rows = [
        ops.stack(
            [_shifted_sum(given, kernel, down, across, nothing) for across in axes[1].back_reads],
            axis=3,
        )
        for down in axes[0].back_reads
    ]
    sizes = (height * strides_down, width * strides_across, given.shape[-1])
    cells = ops.reshape(ops.stack(rows, axis=2), (-1, *sizes))
    return cells[:, : axes[0].size, : axes[1].size]


def _kernel_gradient(padded, given, axes):
    """(k, k, C, 1): for each of the kernel's cells the sum of what it reads times the gradient.

    Pictures are added cell by cell, then cells by a product with ones: XLA's own sums over all but
    the last axis take several times as long. In a loop, for XLA would fuse what makes the maps into
    every sum, make them as many times, and take twice as long to compile.
    """
    batch, height, width, channels = given.shape
    ones = ops.ones((1, height * width), given.dtype)
    (_, first), (_, left) = (axis.reads[0] for axis in axes)

    def of_cell(place):
        start, shape = (0, place[0], place[1], 0), (batch, first.stop, left.stop, channels)
        read = ops.slice(padded, start, shape)[:, :: first.step, :: left.step]
        products = sum(read[picture] * given[picture] for picture in range(batch))
        return ones @ ops.reshape(products, (height * width, channels))

    down, across = ([reads.start for _, reads in axis.reads] for axis in axes)
    places = ops.convert_to_tensor(list(itertools.product(down, across)), "int32")
    return ops.reshape(ops.map(of_cell, places), (len(down), len(across), channels, 1))
