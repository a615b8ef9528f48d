"""Convolutions on JAX on a CPU: XLA's, and ours in other operations.

    python benchmarks/xla_convolutions.py [--rounds 5]

Of each layer of EfficientNet-Lite0 at 320 and of VGG16 at 600 below, batch 4, the milliseconds of
the forward pass and of it with both gradients, medians; the ratio is ours over XLA's of the latter.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import keras
import numpy as np
from keras import ops

from frcnn.models.xla_convolution import dense, depthwise, pointwise

BATCH = 4
# Height, width, channels, side of the kernel, stride.
DEPTHWISE = (
    (160, 224, 32, 3, 1),
    (160, 224, 96, 3, 2),
    (80, 112, 144, 5, 2),
    (20, 28, 480, 5, 1),
    (10, 14, 1152, 5, 1),
)
# Height, width, channels in and out.
POINTWISE = ((160, 224, 16, 96), (80, 112, 24, 144))
# Height, width, channels in and out, of 3x3 convolutions without strides.
DENSE = (
    (40, 56, 128, 128),
    (20, 28, 128, 128),
    (150, 200, 128, 256),
    (75, 100, 256, 512),
    (38, 50, 512, 512),
)


def milliseconds(convolve: Callable, inputs, kernel, rounds: int) -> tuple[float, float]:
    """Of the forward pass, and of it with the gradients of inputs and kernel."""
    both = jax.value_and_grad(lambda x, w: ops.sum(ops.square(convolve(x, w))), (0, 1))
    return _median(jax.jit(convolve), inputs, kernel, rounds), _median(
        jax.jit(both), inputs, kernel, rounds
    )


def _median(function: Callable, inputs, kernel, rounds: int) -> float:
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        jax.block_until_ready(function(inputs, kernel))
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times[1:])  # the first compiled


def show(name: str, xla: Callable, ours: Callable, inputs, kernel, rounds: int) -> None:
    """Print the row of a layer."""
    inputs, kernel = (ops.convert_to_tensor(each, "float32") for each in (inputs, kernel))
    np.testing.assert_allclose(xla(inputs, kernel), ours(inputs, kernel), rtol=1e-3, atol=1e-2)
    theirs, mine = (milliseconds(each, inputs, kernel, rounds) for each in (xla, ours))
    print(
        f"{name:<36}{theirs[0]:>8.1f}{theirs[1]:>9.1f}{mine[0]:>8.1f}{mine[1]:>9.1f}"
        f"{mine[1] / theirs[1]:>7.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    print(f"{'layer':<36}{'XLA':>8}{'+grad':>9}{'ours':>8}{'+grad':>9}{'ratio':>7}")
    for height, width, channels, side, stride in DEPTHWISE:
        layer = keras.layers.DepthwiseConv2D(side, stride, "same")
        show(
            f"depthwise {side}x{side}, {height}x{width}x{channels}, stride {stride}",
            lambda x, w, stride=stride: ops.depthwise_conv(x, w, stride, "same"),
            lambda x, w, layer=layer: depthwise(layer, x, w),
            rng.normal(size=(BATCH, height, width, channels)),
            rng.normal(size=(side, side, channels, 1)),
            rounds,
        )
    for height, width, before, after in POINTWISE:
        show(
            f"1x1, {height}x{width}, {before} to {after} channels",
            lambda x, w: ops.conv(x, w, 1, "same"),
            pointwise,
            rng.normal(size=(BATCH, height, width, before)),
            rng.normal(size=(1, 1, before, after)),
            rounds,
        )
    layer = keras.layers.Conv2D(1, 3, padding="same")
    for height, width, before, after in DENSE:
        show(
            f"3x3, {height}x{width}, {before} to {after} channels",
            lambda x, w: ops.conv(x, w, 1, "same"),
            lambda x, w: dense(layer, x, w),
            rng.normal(size=(BATCH, height, width, before)),
            rng.normal(size=(3, 3, before, after)),
            rounds,
        )


if __name__ == "__main__":
    main()
