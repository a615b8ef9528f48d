"""Convolutions without layout copies, batch normalisation folded into them, input normalisation.

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
from frcnn.models.torch_convolution import convolve_view, max_pool_view
from frcnn.ops.torch_operators import exporting

_PACKAGE = "frcnn"


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
        return self.convolve(inputs, self.kernel, self.bias, self.activation)

    def convolve(self, inputs, kernel, bias, activation):
        """Convolve with a kernel (k, k, C_in // groups, C_out) and a bias (C_out,) of the caller's.

        ``bias`` and ``activation`` may be None.
        """
        if not _is_torch(self):
            outputs = self.convolution_op(self.pad(inputs), kernel)
            return _finish(outputs, bias, activation)
        kernel = _torch_tensor(kernel).permute(3, 2, 0, 1)
        return convolve_view(self, inputs, kernel, _torch_tensor(bias), activation)


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
        return self.convolve(inputs, self.kernel, self.bias, self.activation)

    def convolve(self, inputs, kernel, bias, activation):
        """Convolve with a kernel (k, k, C, multiplier) and a bias of the caller's, or None."""
        if not _is_torch(self):
            outputs = ops.depthwise_conv(
                self.pad(inputs),
                kernel,
                strides=self.strides,
                padding=self.padding,
                data_format=self.data_format,
                dilation_rate=self.dilation_rate,
            )
            return _finish(outputs, bias, activation)
        kernel = _torch_tensor(kernel).flatten(2).permute(2, 0, 1).unsqueeze(1)  # [C * m, 1, k, k]
        return convolve_view(self, inputs, kernel, _torch_tensor(bias), activation)


@keras.saving.register_keras_serializable(package=_PACKAGE)
class FrozenBatchNorm(keras.layers.Layer):
    """Batch normalisation with fixed statistics and a fixed affine map.

    The four weights are named as in ``keras.layers.BatchNormalization`` and none is trainable;
    the layer is one affine map of each channel, whatever the mode. Detectors see too few pictures
    at a time to estimate statistics of their own.

    Args:
        epsilon: added to the variance.
    """

    def __init__(self, epsilon: float = 1e-3, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        """Create the four weights for the channels of ``input_shape`` (..., C)."""

        def channel_weight(name, initializer):
            return self.add_weight(
                name=name,
                shape=(input_shape[-1],),
                initializer=initializer,
                trainable=False,
                autocast=False,  # `affine` rounds once, at its end
            )

        self.gamma = channel_weight("gamma", "ones")
        self.beta = channel_weight("beta", "zeros")
        self.moving_mean = channel_weight("moving_mean", "zeros")
        self.moving_variance = channel_weight("moving_variance", "ones")

    def affine(self):
        """The map as (scale, shift), each (C,): the normalised x is ``x * scale + shift``."""
        scale = self.gamma * ops.rsqrt(self.moving_variance + self.epsilon)
        shift = self.beta - self.moving_mean * scale
        return ops.cast(scale, self.compute_dtype), ops.cast(shift, self.compute_dtype)

    def call(self, inputs):
        """Normalise (..., C) channel by channel."""
        scale, shift = self.affine()
        return inputs * scale + shift

    def compute_output_shape(self, input_shape):
        """The shape is kept."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package=_PACKAGE)
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation that trains, with the ``affine`` that it is in use."""

    affine = FrozenBatchNorm.affine


NORMS = {"frozen": FrozenBatchNorm, "batch": BatchNorm}


@keras.saving.register_keras_serializable(package=_PACKAGE)
class ConvNorm(keras.layers.Layer):
    """A convolution, batch normalisation and an activation in one pass over the map.

    Where the normalisation is a fixed affine map, scaling the kernel does its work:
    ``conv(x, w) * scale + shift == conv(x, w * scale) + shift``. The kernel trains as it would
    with the two layers apart, and the map is neither written nor kept for the backward pass a
    second time.

    Args:
        convolution: a ``Conv2D`` or ``DepthwiseConv2D`` without bias and activation.
        epsilon: of the normalisation.
        activation: applied last; a name, a function or None.
        norm: "frozen" keeps the normalisation as it is; "batch" trains it, and normalises by the
            statistics of the batch in training.

    Raises:
        ValueError: a convolution with a bias or an activation of its own, another ``norm``.
    """

    def __init__(
        self,
        convolution: Conv2D | DepthwiseConv2D,
        epsilon: float = 1e-3,
        activation=None,
        norm: str = "frozen",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if norm not in NORMS:
            raise ValueError(f'Expected `norm` "frozen" or "batch". Received: {norm!r}.')
        if convolution.use_bias or convolution.activation is not keras.activations.linear:
            raise ValueError(
                "Expected a convolution without bias and activation, which the normalisation "
                f"would have to follow. Received: {convolution.name} with "
                f"use_bias={convolution.use_bias}, activation={convolution.activation.__name__}."
            )
        self.convolution = convolution
        options = {"name": f"{self.name}_bn", "dtype": self.dtype_policy}
        self.norm_kind = norm
        self.norm = NORMS[norm](epsilon=epsilon, **options)
        self.activation = keras.activations.get(activation)
        if not self.trainable:  # said before the parts were here to hear it
            self.convolution.trainable = self.norm.trainable = False

    def build(self, input_shape):
        """Build the convolution and the normalisation of what it gives."""
        if not self.convolution.built:  # one read back from a file builds itself
            self.convolution.build(input_shape)
        self.norm.build(self.compute_output_shape(input_shape))

    def call(self, inputs, training=False):
        """Convolve, normalise and activate (B, H, W, C)."""
        if training and self.norm_kind == "batch" and self.norm.trainable:
            return self.activation(self.norm(self.convolution(inputs), training=True))
        scale, shift = self.norm.affine()
        kernel = self.convolution.kernel
        # A convolution has its output channels last, a depthwise one splits them over two axes.
        by_output = ops.reshape(scale, (-1, kernel.shape[-1]))
        return self.convolution.convolve(inputs, kernel * by_output, shift, self.activation)

    def compute_output_shape(self, input_shape):
        """The shape of the convolution's output."""
        return self.convolution.compute_output_shape(input_shape)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "convolution": keras.saving.serialize_keras_object(self.convolution),
            "epsilon": self.norm.epsilon,
            "activation": keras.activations.serialize(self.activation),
            "norm": self.norm_kind,
        }
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config):
        """The layer of a configuration made by ``get_config``."""
        convolution = keras.saving.deserialize_keras_object(config["convolution"])
        return cls(**{**config, "convolution": convolution})


@keras.saving.register_keras_serializable(package=_PACKAGE)
class MaxPool2D(keras.layers.Layer):
    """The largest value of each window, padded symmetrically with nothing, as PyTorch pads.

    Args:
        size: side of the window, odd.
        stride: cells between windows.
    """

    def __init__(self, size: int, stride: int, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.stride = stride

    def call(self, inputs):
        """Pool (B, H, W, C) to (B, ceil(H / stride), ceil(W / stride), C)."""
        if keras.config.backend() == "torch":
            return max_pool_view(inputs, self.size, self.stride)
        margin = self.size // 2
        pads = [[0, 0], [margin, margin], [margin, margin], [0, 0]]
        padded = ops.pad(inputs, pads, constant_values=float("-inf"))
        return ops.max_pool(padded, self.size, self.stride, "valid")

    def compute_output_shape(self, input_shape):
        """The shape of the pooled map."""
        batch, *sides, channels = input_shape
        sides = [None if side is None else -(-side // self.stride) for side in sides]
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
        super().__init__(**kwargs)
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
        pixels = ops.cast(images, self.compute_dtype)
        if self.order == "bgr":
            pixels = ops.flip(pixels, axis=channels)
        shape = (3,) if channels == -1 else (3, 1, 1)
        mean = ops.convert_to_tensor(np.reshape(self.mean, shape), self.compute_dtype)
        std = ops.convert_to_tensor(np.reshape(self.std, shape), self.compute_dtype)
        valid = ops.expand_dims(valid, channels)
        return ops.where(valid, (pixels - mean) / std, ops.zeros((), self.compute_dtype))

    def compute_output_spec(self, images, sizes):
        """Shape of the pictures, in the compute dtype."""
        return keras.KerasTensor(images.shape, self.compute_dtype)

    def get_config(self):
        """The constructor's arguments."""
        own = {"mean": self.mean, "std": self.std, "order": self.order}
        return {**super().get_config(), **own}


def _is_torch(layer) -> bool:
    return keras.config.backend() == "torch" and layer.data_format == "channels_last"


def _torch_tensor(value) -> Any:
    return None if value is None else ops.convert_to_tensor(value)


def _finish(outputs, bias, activation):
    """Add the bias and activate; either may be None."""
    if bias is not None:
        outputs = outputs + bias
    return outputs if activation is None else activation(outputs)
