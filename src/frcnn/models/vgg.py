"""VGG16's convolutions (Simonyan and Zisserman 2015, configuration D) as a feature extractor."""

from __future__ import annotations

import keras

from frcnn.models.initializers import PIXEL_DEVIATION, Uniform
from frcnn.models.layers import Conv2D, MaxPool2D

# Caffe's preprocessing, which the published weights were trained with: BGR, mean only.
VGG_PREPROCESSING = {
    "mean": (103.939, 116.779, 123.68),
    "std": (1.0, 1.0, 1.0),
    "order": "bgr",
}

_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # convolutions, channels


def vgg16(frozen_blocks: int = 2) -> keras.Model:
    """VGG16 down to ``block5_conv3``, at stride 16 (the last pooling is left out).

    Layers are named ``block{1..5}_conv{1..3}``, as in the published weight files.

    Args:
        frozen_blocks: how many blocks, counted from the input, are not trained (0..5);
            Fast R-CNN, section 4.5, keeps two.

    Returns:
        A model from (B, H, W, 3), normalised by ``VGG_PREPROCESSING``, to one map
        (B, H // 16, W // 16, 512).

    Raises:
        ValueError: ``frozen_blocks`` outside 0..5.
    """
    if not 0 <= frozen_blocks <= len(_BLOCKS):
        raise ValueError(
            f"Invalid value for argument `frozen_blocks`. Expected 0..{len(_BLOCKS)}. "
            f"Received: {frozen_blocks}"
        )
    inputs = x = keras.Input((None, None, 3), name="pixels")
    for block, (convolutions, channels) in enumerate(_BLOCKS, start=1):
        if block > 1:
            x = MaxPool2D(2, 2, name=f"block{block - 1}_pool")(x)
        for index in range(1, convolutions + 1):
            first = block == index == 1
            x = Conv2D(
                channels,
                3,
                padding="same",
                activation="relu",
                kernel_initializer=Uniform(2.0 / PIXEL_DEVIATION**2 if first else 2.0),
                trainable=block > frozen_blocks,
                name=f"block{block}_conv{index}",
            )(x)
    return keras.Model(inputs, x, name="vgg16")
