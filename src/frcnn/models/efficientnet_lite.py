"""EfficientNet-Lite feature extractors.

EfficientNet (Tan and Le 2019) without squeeze-and-excitation and with ReLU6, as published in
TensorFlow's ``efficientnet/lite``: inverted residual blocks, TensorFlow's "same" padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras

from frcnn.models.layers import Conv2D, DepthwiseConv2D
from frcnn.models.normalization import ConvNorm

EFFICIENTNET_LITE_PREPROCESSING = {
    "mean": (127.0, 127.0, 127.0),
    "std": (128.0, 128.0, 128.0),
    "order": "rgb",
}

_EPSILON = 1e-3
_STEM_CHANNELS = 32


class _Stage(NamedTuple):
    """Blocks of one kind; the first of them has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


def efficientnet_lite0(frozen_stages: int = 0, taps: Sequence[int] = (8, 16, 32)) -> keras.Model:
    """EfficientNet-Lite0 as a feature extractor.

    Layers are named ``stem`` and ``block{0..15}_{expand,depthwise,project}``.

    Args:
        frozen_stages: 0 trains all convolutions, n > 0 keeps the stem and the first n of the seven
            stages as they are. Batch normalisation is frozen throughout.
        taps: strides of the maps to give, fine to coarse, from 4, 8, 16 and 32: the outputs of
            blocks 2, 4, 10 and 15, of 24, 40, 112 and 320 channels.

    Returns:
        A model from (B, H, W, 3), normalised by ``EFFICIENTNET_LITE_PREPROCESSING``, to the list
        of maps, each (B, ceil(H / stride), ceil(W / stride), C).

    Raises:
        ValueError: a tap that is none of these strides, or ``frozen_stages`` outside 0..7.
    """
    return efficientnet_lite("efficientnet_lite0", 1.0, 1.0, frozen_stages, taps)


def efficientnet_lite2(frozen_stages: int = 0, taps: Sequence[int] = (8, 16, 32)) -> keras.Model:
    """EfficientNet-Lite2: as ``efficientnet_lite0``, with blocks 0..20.

    Args:
        frozen_stages: as for ``efficientnet_lite0``.
        taps: strides out of 4, 8, 16 and 32: blocks 3, 6, 14 and 20, of 24, 48, 120 and 352
            channels.
    """
    return efficientnet_lite("efficientnet_lite2", 1.1, 1.2, frozen_stages, taps)


def efficientnet_lite(
    name: str, width: float, depth: float, frozen_stages: int, taps: Sequence[int]
) -> keras.Model:
    """The family's member with these multipliers; see ``efficientnet_lite0`` for the rest.

    Args:
        name: of the model.
        width: multiplies channels: 1.0, 1.0, 1.1, 1.2, 1.4 for lite0 to lite4.
        depth: multiplies blocks a stage: 1.0, 1.1, 1.2, 1.4, 1.8.
        frozen_stages: as for ``efficientnet_lite0``.
        taps: as for ``efficientnet_lite0``; block numbers and channels are the member's.
    """
    if not 0 <= frozen_stages <= len(_STAGES):
        raise ValueError(
            f"Invalid value for argument `frozen_stages`. Expected 0..{len(_STAGES)}. "
            f"Received: {frozen_stages}"
        )
    inputs = keras.Input((None, None, 3), name="pixels")
    stem = Conv2D(_STEM_CHANNELS, 3, 2, padding="same", use_bias=False, name="stem_conv")
    x = ConvNorm(stem, _EPSILON, "relu6", trainable=frozen_stages == 0, name="stem")(inputs)
    maps, stride, index = {}, 2, 0
    for number, stage in enumerate(_scaled(width, depth), start=1):
        for block in range(stage.blocks):
            step = stage.stride if block == 0 else 1
            x = _block(x, f"block{index}", stage, step, trainable=number > frozen_stages)
            index += 1
        stride *= stage.stride
        maps[stride] = x  # the last stage at a stride wins: the deepest features of it
    unknown = [tap for tap in taps if tap not in maps or tap == 2]
    if unknown or not taps:
        raise ValueError(
            "Invalid value for argument `taps`. Expected strides out of 4, 8, 16, 32. "
            f"Received: {tuple(taps)}"
        )
    return keras.Model(inputs, [maps[tap] for tap in taps], name=name)


def _block(x, name: str, stage: _Stage, stride: int, trainable: bool):
    """Inverted residual: widen, convolve each channel, narrow, add the input where shapes agree."""

    def normed(convolution, part, activation):
        label = f"{name}_{part}"
        return ConvNorm(convolution, _EPSILON, activation, trainable=trainable, name=label)

    def pointwise(channels, part):
        return Conv2D(channels, 1, use_bias=False, name=f"{name}_{part}_conv")

    shortcut, channels = x, x.shape[-1]
    if stage.expansion != 1:
        x = normed(pointwise(channels * stage.expansion, "expand"), "expand", "relu6")(x)
    depthwise = DepthwiseConv2D(
        stage.kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv"
    )
    x = normed(depthwise, "depthwise", "relu6")(x)
    x = normed(pointwise(stage.channels, "project"), "project", None)(x)
    if stride == 1 and channels == stage.channels:
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return x


def _scaled(width: float, depth: float) -> Iterator[_Stage]:
    """The stages widened and deepened; the Lite family keeps the first and last stage's depth."""
    last = len(_STAGES) - 1
    for number, stage in enumerate(_STAGES):
        blocks = stage.blocks if number in (0, last) else math.ceil(depth * stage.blocks)
        yield stage._replace(blocks=blocks, channels=_round_channels(width * stage.channels))


def _round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of ``divisor``, never more than a tenth below."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
