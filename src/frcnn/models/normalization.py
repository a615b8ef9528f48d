"""Batch normalisation with fixed statistics, folded into the convolution before it."""

from __future__ import annotations

import keras
from keras import ops

from frcnn.models.layers import Conv2D, DepthwiseConv2D, freeze_parts

_PACKAGE = "frcnn"


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
        freeze_parts(self)

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
        # A convolution has its output channels last, a depthwise one splits them over two axes.
        by_output = ops.reshape(scale, (-1, self.convolution.kernel.shape[-1]))
        return self.convolution.convolve(inputs, by_output, shift, self.activation)

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
