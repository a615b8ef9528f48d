"""MobileNetV3-Large (Howard et al. 2019) as a feature extractor, as torchvision defines it.

Layers are named ``stem``, ``block{1..15}_{expand,depthwise,squeeze,excite,project}`` and ``last``.
"""

from __future__ import annotations

from typing import NamedTuple

import keras

from frcnn.models.layers import Conv2D, DepthwiseConv2D
from frcnn.models.normalization import ConvNorm


class _Block(NamedTuple):
    """One inverted residual block."""

    kernel: int
    expanded: int
    channels: int
    squeezed: bool
    activation: str
    stride: int


_BLOCKS = (
    _Block(3, 16, 16, False, "relu", 1),
    _Block(3, 64, 24, False, "relu", 2),
    _Block(3, 72, 24, False, "relu", 1),
    _Block(5, 72, 40, True, "relu", 2),
    _Block(5, 120, 40, True, "relu", 1),
    _Block(5, 120, 40, True, "relu", 1),
    _Block(3, 240, 80, False, "hard_silu", 2),
    _Block(3, 200, 80, False, "hard_silu", 1),
    _Block(3, 184, 80, False, "hard_silu", 1),
    _Block(3, 184, 80, False, "hard_silu", 1),
    _Block(3, 480, 112, True, "hard_silu", 1),
    _Block(3, 672, 112, True, "hard_silu", 1),
    _Block(5, 672, 160, True, "hard_silu", 2),
    _Block(5, 960, 160, True, "hard_silu", 1),
    _Block(5, 960, 160, True, "hard_silu", 1),
)
_STAGE_STARTS = (0, 2, 4, 7, 13, 16)  # stem and last layer are counted as blocks 0 and 16
_TAPS = (13, 16)


def mobilenet_v3_large(frozen_stages: int = 3, epsilon: float = 1e-5) -> keras.Model:
    """MobileNetV3-Large without its classifier.

    Args:
        frozen_stages: 0 trains all; n keeps the first n of six stages, which begin at the stem, at
            blocks 2, 4, 7 and 13 and at the last convolution; as torchvision's
            ``trainable_backbone_layers=6 - n``. Batch normalisation is frozen throughout.
        epsilon: of the batch normalisations.

    Returns:
        A model from normalised pixels (B, H, W, 3) to two maps of stride 32, of 160 and 960
        channels: the outputs of block 13 and of the last convolution.

    Raises:
        ValueError: ``frozen_stages`` outside 0..6.
    """
    if not 0 <= frozen_stages <= 6:
        raise ValueError(
            f"Invalid value for argument `frozen_stages`. Expected 0..6. Received: {frozen_stages}"
        )
    frozen = (*_STAGE_STARTS, 17)[frozen_stages]
    inputs = keras.Input((None, None, 3), name="pixels")

    def normed(x, convolution, name: str, activation, index: int):
        trainable = index >= frozen
        return ConvNorm(convolution, epsilon, activation, trainable=trainable, name=name)(x)

    stem = Conv2D(16, 3, 2, padding="symmetric", use_bias=False, name="stem_conv")
    x = normed(inputs, stem, "stem", "hard_silu", 0)
    maps = {}
    for index, block in enumerate(_BLOCKS, start=1):
        maps[index] = x = _inverted_residual(x, block, index, normed, index >= frozen)
    last = Conv2D(960, 1, use_bias=False, name="last_conv")
    maps[16] = normed(x, last, "last", "hard_silu", 16)
    return keras.Model(inputs, [maps[tap] for tap in _TAPS], name="mobilenet_v3_large")


def _inverted_residual(x, block: _Block, index: int, normed, trainable: bool):
    name, shortcut, channels = f"block{index}", x, x.shape[-1]

    def pointwise(filters, part):
        return Conv2D(filters, 1, use_bias=False, name=f"{name}_{part}_conv")

    if block.expanded != channels:
        expand = pointwise(block.expanded, "expand")
        x = normed(x, expand, f"{name}_expand", block.activation, index)
    depthwise = DepthwiseConv2D(
        block.kernel,
        block.stride,
        padding="symmetric",
        use_bias=False,
        name=f"{name}_depthwise_conv",
    )
    x = normed(x, depthwise, f"{name}_depthwise", block.activation, index)
    if block.squeezed:
        x = _squeeze_excite(x, name, trainable)
    x = normed(x, pointwise(block.channels, "project"), f"{name}_project", None, index)
    if block.stride == 1 and channels == block.channels:
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return x


def _squeeze_excite(x, name: str, trainable: bool):
    """Scale each channel by what its mean, and the others', say of it (Hu et al. 2018)."""
    channels = x.shape[-1]
    scale = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    squeeze = Conv2D(
        _eighths(channels // 4), 1, activation="relu", trainable=trainable, name=f"{name}_squeeze"
    )
    excite = Conv2D(
        channels, 1, activation="hard_sigmoid", trainable=trainable, name=f"{name}_excite"
    )
    return keras.layers.Multiply(name=f"{name}_scale")([x, excite(squeeze(scale))])


def _eighths(channels: int) -> int:
    """The nearest multiple of 8, never more than a tenth below."""
    rounded = max(8, (channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
