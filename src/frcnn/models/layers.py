"""Convolutions and pooling without layout copies, and the normalisation of pictures.

Maps are channels last, (B, H, W, C), on every backend. PyTorch's kernels want (B, C, H, W) shapes
but like channels-last *strides* best, so a permuted view of our maps is exactly their food; Keras's
own layers copy the map twice per convolution on the way there. The layers here hand over the view
instead, add the bias inside the kernel and clip in place; on the other backends, whose compilers
do as much by themselves, they run Keras's code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from frcnn.models.initializers import Uniform
from frcnn.models.torch_convolution import convolve_view, max_pool_view, relu_of
from frcnn.models.xla_convolution import (
    dense,
    depthwise,
    is_dense,
    is_pointwise,
    on_xla_cpu,
    pointwise,
)
from frcnn.ops.torch_operators import exporting

_PACKAGE = "frcnn"


def freeze_parts(layer: keras.Layer) -> None:
    """Freeze the parts of a frozen layer, which it has only now: what is said of it is theirs."""
    if not layer.trainable:
        for part in layer._flatten_layers(include_self=False):
            part.trainable = False


class _Padded(keras.layers.Layer):
    """Adds to a convolution layer the padding "symmetric".

    Half the kernel's reach in zeros goes before and after each axis, whatever the stride, as
    PyTorch pads. Keras's "same" puts the odd zero of a strided convolution after alone.
    """

    def __init__(self, *args, **kwargs):
        self.symmetric = kwargs.get("padding") == "symmetric"
        if self.symmetric:
            kwargs["padding"] = "valid"
        super().__init__(*args, **kwargs)

    def margins(self) -> tuple[int, int]:
        """Zeros before, and after, the rows and the columns."""
        if not self.symmetric:
            return 0, 0
        pairs = zip(self.kernel_size, self.dilation_rate, strict=True)
        rows, columns = ((size - 1) * dilation // 2 for size, dilation in pairs)
        return rows, columns

    def pad(self, inputs):
        """Put the zeros on (B, H, W, C)."""
        rows, columns = self.margins()
        if not rows and not columns:
            return inputs
        return ops.pad(inputs, [[0, 0], [rows, rows], [columns, columns], [0, 0]])

    def compute_output_shape(self, input_shape):
        """The shape of what the convolution gives for (B, H, W, C)."""
        batch, *sides, channels = input_shape
        sides = [
            None if side is None else side + 2 * margin
            for side, margin in zip(sides, self.margins(), strict=True)
        ]
        return super().compute_output_shape((batch, *sides, channels))

    def get_config(self):
        """The constructor's arguments."""
        own = {"padding": "symmetric"} if self.symmetric else {}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package=_PACKAGE)
class Conv2D(_Padded, keras.layers.Conv2D):
    """``keras.layers.Conv2D`` that copies no map on the PyTorch backend; same arguments.

    Kernels start as He et al. (2015) advise, unless told otherwise; ``padding`` may also be
    "symmetric", PyTorch's.
    """

    def __init__(self, *args, kernel_initializer=None, **kwargs):
        super().__init__(*args, kernel_initializer=kernel_initializer or Uniform(), **kwargs)

    def call(self, inputs):
        """Convolve (B, H, W, C)."""
        return self.convolve(inputs, None, self.bias, self.activation)

    def convolve(self, inputs, scale, bias, activation):
        """Convolve with the layer's kernel times ``scale``, and a bias of the caller's.

        Args:
            inputs: (B, H, W, C_in).
            scale: (1, C_out) or None.
            bias: (C_out,) or None.
            activation: a function or None.
        """
        if not _is_torch(self):
            inputs, kernel = self.pad(inputs), _scaled(self.kernel, scale)
            if on_xla_cpu() and is_pointwise(self):
                outputs = pointwise(inputs, kernel)
            elif on_xla_cpu() and is_dense(self):
                outputs = dense(self, inputs, kernel)
            else:
                outputs = self.convolution_op(inputs, kernel)
            return _finish(outputs, bias, activation)
        kernel, scale = _torch_tensor(self.kernel), _torch_tensor(scale)
        return convolve_view(
            self,
            inputs,
            lambda: _scaled(kernel, scale).permute(3, 2, 0, 1),
            _torch_tensor(bias),
            activation,
        )


@keras.saving.register_keras_serializable(package=_PACKAGE)
class DepthwiseConv2D(_Padded, keras.layers.DepthwiseConv2D):
    """``keras.layers.DepthwiseConv2D`` that copies no map on the PyTorch backend.

    ``padding`` may also be "symmetric", PyTorch's.
    """

    def __init__(self, *args, depthwise_initializer=None, **kwargs):
        initializer = depthwise_initializer or Uniform(depthwise=True)
        super().__init__(*args, depthwise_initializer=initializer, **kwargs)

    def call(self, inputs):
        """Convolve each channel of (B, H, W, C) by itself."""
        return self.convolve(inputs, None, self.bias, self.activation)

    def convolve(self, inputs, scale, bias, activation):
        """As ``Conv2D.convolve``; ``scale`` is (C, multiplier) or None."""
        if not _is_torch(self):
            inputs, kernel = self.pad(inputs), _scaled(self.kernel, scale)
            if on_xla_cpu() and self.depth_multiplier == 1:
                outputs = depthwise(self, inputs, kernel)
            else:
                outputs = ops.depthwise_conv(
                    inputs,
                    kernel,
                    strides=self.strides,
                    padding=self.padding,
                    data_format=self.data_format,
                    dilation_rate=self.dilation_rate,
                )
            return _finish(outputs, bias, activation)
        kernel, scale = _torch_tensor(self.kernel), _torch_tensor(scale)
        return convolve_view(
            self,
            inputs,
            lambda: _scaled(kernel, scale).flatten(2).permute(2, 0, 1).unsqueeze(1),
            _torch_tensor(bias),
            activation,
        )


@keras.saving.register_keras_serializable(package=_PACKAGE)
class AddReLU(keras.layers.Layer):
    """ReLU of the sum of two maps, which PyTorch keeps once."""

    def call(self, inputs):
        """[(B, H, W, C), (B, H, W, C)] -> (B, H, W, C)."""
        first, second = inputs
        if keras.config.backend() == "torch":
            return relu_of(first + second)
        return ops.relu(first + second)

    def compute_output_shape(self, input_shapes):
        """The shape is kept."""
        return input_shapes[0]


@keras.saving.register_keras_serializable(package=_PACKAGE)
class MaxPool2D(keras.layers.Layer):
    """The largest value of each window.

    Args:
        size: side of the window. An odd one is padded by half of it with nothing, as PyTorch
            pads, an even one not at all.
        stride: cells between windows.
    """

    def __init__(self, size: int, stride: int, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.stride = stride

    def call(self, inputs):
        """Pool (B, H, W, C)."""
        margin = self._margin()
        if keras.config.backend() == "torch":
            return max_pool_view(inputs, self.size, self.stride, margin)
        if margin:
            pads = [[0, 0], [margin, margin], [margin, margin], [0, 0]]
            inputs = ops.pad(inputs, pads, constant_values=float("-inf"))
        return ops.max_pool(inputs, self.size, self.stride, "valid")

    def _margin(self) -> int:
        return (self.size - 1) // 2

    def compute_output_shape(self, input_shape):
        """The shape of the pooled map."""
        batch, *sides, channels = input_shape
        beyond = 2 * self._margin() - self.size
        sides = [None if side is None else (side + beyond) // self.stride + 1 for side in sides]
        return (batch, *sides, channels)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "size": self.size, "stride": self.stride}


@keras.saving.register_keras_serializable(package=_PACKAGE)
class Normalize(keras.layers.Layer):
    """Bring pictures to the scale a feature extractor was trained with, and blank the padding.

    Args:
        mean: one value a channel, subtracted; in the order of ``order``.
        std: one value a channel, divided by; in the order of ``order``.
        order: "rgb" keeps the channels, "bgr" reverses them first.

    Raises:
        ValueError: an order other than these two.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], order: str = "rgb", **kwargs):
        super().__init__(**{"autocast": False, **kwargs})  # pictures stay as they are until then
        if order not in ("rgb", "bgr"):
            raise ValueError(
                f'Invalid value for argument `order`. Expected "rgb" or "bgr". Received: {order!r}'
            )
        self.mean = tuple(float(value) for value in mean)
        self.std = tuple(float(value) for value in std)
        self.order = order

    def call(self, images, sizes):
        """Normalise a batch.

        Args:
            images: (B, H, W, 3), RGB, 0..255, uint8 or float.
            sizes: (B, 2), (height, width) of the valid part of each picture in pixels.

        Returns:
            (B, H, W, 3) in the compute dtype; 0 outside the valid part.
        """
        height, width = ops.shape(images)[1:3]
        sizes = ops.cast(sizes, "int32")
        rows = ops.arange(height)[None, :] < sizes[:, :1]  # [B, H]
        columns = ops.arange(width)[None, :] < sizes[:, 1:]  # [B, W]
        valid = ops.logical_and(rows[:, :, None], columns[:, None, :])  # [B, H, W]
        if not exporting():
            return self._normalize(images, valid, channels=-1)
        # A deployed graph's convolutions take channels first, and 3 channels last are slow there.
        normalized = self._normalize(ops.transpose(images, (0, 3, 1, 2)), valid, channels=1)
        return ops.transpose(normalized, (0, 2, 3, 1))

    def _normalize(self, images, valid, channels: int):
        """Images with their ``channels`` on that axis, and the mask of their valid part."""
        pixels = ops.cast(images, "float32")
        if self.order == "bgr":
            pixels = ops.flip(pixels, axis=channels)
        shape = (3,) if channels == -1 else (3, 1, 1)
        mean = ops.convert_to_tensor(np.reshape(self.mean, shape), "float32")
        std = ops.convert_to_tensor(np.reshape(self.std, shape), "float32")
        valid = ops.expand_dims(valid, channels)
        # Rounded to the precision of the convolutions at the end, once.
        return ops.cast(ops.where(valid, (pixels - mean) / std, 0.0), self.compute_dtype)

    def compute_output_spec(self, images, sizes):
        """Shape of the pictures, in the compute dtype."""
        return keras.KerasTensor(images.shape, self.compute_dtype)

    def get_config(self):
        """The constructor's arguments."""
        own = {"mean": self.mean, "std": self.std, "order": self.order}
        return {**super().get_config(), **own}


def _is_torch(layer) -> bool:
    return keras.config.backend() == "torch" and layer.data_format == "channels_last"


def _scaled(kernel, scale):
    return kernel if scale is None else kernel * scale


def _torch_tensor(value) -> Any:
    return None if value is None else ops.convert_to_tensor(value)


def _finish(outputs, bias, activation):
    """Add the bias and activate; either may be None."""
    if bias is not None:
        outputs = outputs + bias
    return outputs if activation is None else activation(outputs)
