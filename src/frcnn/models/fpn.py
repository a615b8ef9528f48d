"""Feature pyramid (Lin et al. 2017): semantically strong maps at every scale."""

from __future__ import annotations

import keras
from keras import ops

from frcnn.models.initializers import Uniform
from frcnn.models.layers import Conv2D, freeze_parts
from frcnn.models.normalization import ConvNorm
from frcnn.models.torch_convolution import enlarge_view


@keras.saving.register_keras_serializable(package="frcnn")
class FeaturePyramid(keras.layers.Layer):
    """Top-down pyramid over a list of maps, fine to coarse.

    A 1x1 convolution brings each map to ``channels``; from the coarsest down, each is enlarged to
    the size of the next finer one (nearest neighbour) and added to it; a 3x3 convolution smooths
    each sum.

    Args:
        channels: of every level given.
        extra: "maxpool" appends a level of half the coarsest one's resolution, for large anchors
            (section 4.1, footnote 2: every second cell of it); None appends nothing.
        norm: batch normalisation after each convolution, "frozen" or "batch", as of ``ConvNorm``;
            None has biases instead.
        epsilon: of the normalisation.

    Raises:
        ValueError: another ``extra``.
    """

    def __init__(
        self,
        channels: int = 256,
        extra: str | None = "maxpool",
        norm: str | None = None,
        epsilon: float = 1e-5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if extra not in ("maxpool", None):
            raise ValueError(
                'Invalid value for argument `extra`. Expected "maxpool" or None. '
                f"Received: {extra!r}"
            )
        self.channels = channels
        self.extra = extra
        self.norm = norm
        self.epsilon = epsilon

    def build(self, input_shapes):
        """Create the convolutions for maps of these shapes, each (B, H, W, C)."""
        self.laterals = self._convolutions("lateral", 1, len(input_shapes))
        self.smoothings = self._convolutions("smoothing", 3, len(input_shapes))
        for shape, lateral, smoothing in zip(
            input_shapes, self.laterals, self.smoothings, strict=True
        ):
            lateral.build(shape)
            smoothing.build((*shape[:-1], self.channels))
        freeze_parts(self)

    def _convolutions(self, name: str, kernel: int, count: int) -> list[Conv2D | ConvNorm]:
        return [self._convolution(f"{name}{level}", kernel) for level in range(count)]

    def _convolution(self, name: str, kernel: int) -> Conv2D | ConvNorm:
        convolution = Conv2D(
            self.channels,
            kernel,
            padding="same",
            use_bias=self.norm is None,
            kernel_initializer=Uniform(scale=1.0),  # no ReLU follows
            name=name if self.norm is None else f"{name}_conv",
            dtype=self.dtype_policy,
        )
        if self.norm is None:
            return convolution
        return ConvNorm(
            convolution, self.epsilon, norm=self.norm, name=name, dtype=self.dtype_policy
        )

    def call(self, maps, training=False):
        """Maps [(B, H_l, W_l, C_l), ...], fine to coarse, to levels (B, H_l, W_l, channels)."""
        mode = {} if self.norm is None else {"training": training}
        sums = [lateral(x, **mode) for lateral, x in zip(self.laterals, maps, strict=True)]
        for level in reversed(range(len(sums) - 1)):
            sums[level] = sums[level] + _enlarge(sums[level + 1], ops.shape(sums[level])[1:3])
        levels = [smooth(x, **mode) for smooth, x in zip(self.smoothings, sums, strict=True)]
        if self.extra == "maxpool":
            levels.append(levels[-1][:, ::2, ::2])
        return levels

    def compute_output_shape(self, input_shapes):
        """Shapes of the levels, fine to coarse."""
        shapes = [(*shape[:-1], self.channels) for shape in input_shapes]
        if self.extra == "maxpool":
            batch, *size, _ = shapes[-1]
            half = [None if cells is None else -(-cells // 2) for cells in size]
            shapes.append((batch, *half, self.channels))
        return shapes

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "channels": self.channels,
            "extra": self.extra,
            "norm": self.norm,
            "epsilon": self.epsilon,
        }


def _enlarge(x, size):
    """Nearest neighbour: cell i of n takes cell floor(i * m / n) of the m there are."""
    if keras.config.backend() == "torch":
        return enlarge_view(x, size)
    for axis, cells in zip((1, 2), size, strict=True):
        x = ops.take(x, ops.arange(cells) * ops.shape(x)[axis] // cells, axis=axis)
    return x
