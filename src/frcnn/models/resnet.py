"""ResNet-50 (He et al. 2016) as a feature extractor, and its last stage as a RoI head.

Layers are named as in Keras's weight files, ``conv{2..5}_block{1..6}_{0..3}_conv`` and ``_bn``, 0
being the projection of the shortcut; the stem is ``conv1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras

from frcnn.models.initializers import PIXEL_DEVIATION, Uniform
from frcnn.models.layers import AddReLU, Conv2D, MaxPool2D
from frcnn.models.normalization import ConvNorm

# What torchvision's weights were trained with: RGB, scaled to 0..1, then these.
IMAGENET_PREPROCESSING = {
    "mean": (0.485 * 255, 0.456 * 255, 0.406 * 255),
    "std": (0.229 * 255, 0.224 * 255, 0.225 * 255),
    "order": "rgb",
}

_BLOCKS = (3, 4, 6, 3)  # of stages 2 to 5
_STRIDES = {4: 2, 8: 3, 16: 4, 32: 5}  # of a map -> the stage that gives it


@dataclass(frozen=True)
class ResNetVariant:
    """What differs between the published ResNets of one name.

    Args:
        stride_in_3x3: where a stage halves the map: in its first 3x3 convolution (torchvision), or
            in the 1x1 before it (the paper, Keras).
        epsilon: of the batch normalisations.
        norm: "frozen" or "batch", as of ``ConvNorm``.
        padded_pool: whether the stem's pooling is padded; where it is not, as in keras-frcnn, the
            pooled map has a row and a column less.
        deviation: of the normalised pixels, by which the stem's random weights go.
    """

    stride_in_3x3: bool = True
    epsilon: float = 1e-5
    norm: str = "frozen"
    padded_pool: bool = True
    deviation: float = 1.0


TORCHVISION = ResNetVariant()
KERAS = ResNetVariant(stride_in_3x3=False, epsilon=1.001e-5, deviation=PIXEL_DEVIATION)


def resnet50(
    variant: ResNetVariant = TORCHVISION,
    frozen_stages: int = 2,
    taps: Sequence[int] = (4, 8, 16, 32),
) -> keras.Model:
    """ResNet-50 up to the coarsest map asked for.

    Args:
        variant: which of the published networks.
        frozen_stages: stages that are not trained: 1 is the stem, 2 adds stage 2, up to 5.
        taps: strides of the maps to give, fine to coarse, from 4, 8, 16 and 32: the outputs of
            stages 2 to 5, of 256, 512, 1024 and 2048 channels.

    Returns:
        A model from normalised pixels (B, H, W, 3) to the list of maps, each
        (B, ceil(H / stride), ceil(W / stride), C); to the map itself if it is one. Without
        ``padded_pool`` maps may have a row and a column less.

    Raises:
        ValueError: a tap that is none of these strides, or ``frozen_stages`` outside 0..5.
    """
    if not 0 <= frozen_stages <= 5:
        raise ValueError(
            f"Invalid value for argument `frozen_stages`. Expected 0..5. Received: {frozen_stages}"
        )
    if not taps or any(tap not in _STRIDES for tap in taps):
        raise ValueError(
            "Invalid value for argument `taps`. Expected strides out of 4, 8, 16, 32. "
            f"Received: {tuple(taps)}"
        )
    inputs = keras.Input((None, None, 3), name="pixels")
    stem = Conv2D(
        64,
        7,
        2,
        padding="symmetric",
        use_bias=False,
        kernel_initializer=Uniform(2.0 / variant.deviation**2),
        name="conv1_conv",
    )
    x = ConvNorm(
        stem, variant.epsilon, "relu", variant.norm, trainable=frozen_stages < 1, name="conv1"
    )(inputs)
    pool = MaxPool2D if variant.padded_pool else keras.layers.MaxPooling2D
    x = pool(3, 2, name="pool1")(x)
    maps = {}
    for stage in range(2, max(_STRIDES[tap] for tap in taps) + 1):
        x = _stage(x, stage, variant, trainable=frozen_stages < stage)
        maps[stage] = x
    outputs = [maps[_STRIDES[tap]] for tap in taps]
    return keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0], name="resnet50")


def resnet50_stage5(variant: ResNetVariant = KERAS) -> keras.Model:
    """The last stage by itself, which classifies RoIs pooled from stage 4 (the paper, appendix A).

    Returns:
        A model from (N, S, S, 1024) to (N, ceil(S / 2), ceil(S / 2), 2048).
    """
    inputs = keras.Input((None, None, 1024), name="pooled")
    return keras.Model(inputs, _stage(inputs, 5, variant, trainable=True), name="stage5")


def _stage(x, stage: int, variant: ResNetVariant, trainable: bool):
    for block in range(1, _BLOCKS[stage - 2] + 1):
        stride = 2 if block == 1 and stage > 2 else 1
        channels = 64 * 2 ** (stage - 2)
        x = _block(x, f"conv{stage}_block{block}", channels, stride, variant, trainable)
    return x


def _block(x, name: str, channels: int, stride: int, variant: ResNetVariant, trainable: bool):
    """Bottleneck: narrow, 3x3, widen fourfold; added to the shortcut."""

    def normed(x, part: int, filters: int, kernel: int, stride: int = 1, activation=None, gain=2.0):
        label = f"{name}_{part}"
        convolution = Conv2D(
            filters,
            kernel,
            stride,
            padding="symmetric",
            use_bias=False,
            kernel_initializer=Uniform(gain),
            name=f"{label}_conv",
        )
        layer = ConvNorm(
            convolution,
            variant.epsilon,
            activation,
            variant.norm,
            trainable=trainable,
            name=label,
        )
        return layer(x)

    first, second = (1, stride) if variant.stride_in_3x3 else (stride, 1)
    shortcut = x
    if stride > 1 or x.shape[-1] != 4 * channels:
        shortcut = normed(x, 0, 4 * channels, 1, stride)
    x = normed(x, 1, channels, 1, first, "relu")
    x = normed(x, 2, channels, 3, second, "relu")
    # Each block adds to what it is given. Where no statistics of a batch scale the sum, random
    # weights of He's scale would double it sixteen times over.
    x = normed(x, 3, 4 * channels, 1, gain=2.0 / sum(_BLOCKS))
    return AddReLU(name=f"{name}_out")([x, shortcut])
