"""The second stage: pooled features of a RoI -> class logits and box deltas (Fast R-CNN)."""

from __future__ import annotations

import keras
from keras import ops

from frcnn.models.initializers import Normal, Uniform
from frcnn.ops.random import uniform
from frcnn.ops.roi import pyramid_roi_align

# A third of the variance that keeps the signal's: with more, features of a pyramid that is not
# trained yet make steps at usual learning rates diverge. It is also what PyTorch starts with.
HIDDEN_SCALE = 1 / 3


@keras.saving.register_keras_serializable(package="frcnn")
class Dropout(keras.layers.Layer):
    """Dropout (Srivastava et al. 2014) that drops the same units on every backend.

    Args:
        rate: share of the units that are zeroed in training; the others grow to make up for it.
        seed: of the draws.
    """

    def __init__(self, rate: float, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs, training=False):
        """(rows, units) -> the same shape."""
        if not training or not self.rate:
            return inputs
        keys = uniform(self.seed_generator.next(), ops.shape(inputs))
        return ops.where(keys >= self.rate, inputs / (1.0 - self.rate), 0.0)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@keras.saving.register_keras_serializable(package="frcnn")
class RoIHead(keras.layers.Layer):
    """RoIAlign, two fully connected layers, then one softmax and one box for each class.

    Args:
        num_classes: C, without background, which is the logit of index C.
        strides: of the feature maps RoIs are pooled from, fine to coarse; further maps that the
            network has (the coarsest of a pyramid) serve the RPN alone.
        units: of the fully connected layers.
        pool_size: side of the pooled map.
        sampling_ratio: bilinear samples along each side of a bin.
        dropout: rate after each fully connected layer, in training.
        canonical: (size, level) of the FPN paper's equation 1; a RoI of this size in pixels is
            pooled from this level, the level being log2 of the stride.
        layer_names: of the two fully connected layers, by which ImageNet files know them.
    """

    def __init__(
        self,
        num_classes: int,
        strides: tuple[int, ...],
        units: int = 1024,
        pool_size: int = 7,
        sampling_ratio: int = 2,
        dropout: float = 0.0,
        canonical: tuple[int, int] = (224, 4),
        layer_names: tuple[str, str] = ("fc1", "fc2"),
        **kwargs,
    ):
        super().__init__(**kwargs)
        if num_classes < 1:
            raise ValueError(f"Expected num_classes of at least 1. Received: {num_classes}.")
        self.num_classes = num_classes
        self.strides = tuple(strides)
        self.units = units
        self.pool_size = pool_size
        self.sampling_ratio = sampling_ratio
        self.dropout = dropout
        self.canonical = canonical[0], canonical[1]
        self.layer_names = tuple(layer_names)

        def dense(units, name, **options):
            return keras.layers.Dense(units, name=name, dtype=self.dtype_policy, **options)

        self.hidden = [
            dense(units, name, activation="relu", kernel_initializer=Uniform(HIDDEN_SCALE))
            for name in self.layer_names
        ]
        self.drop = [
            Dropout(dropout, seed=index, dtype=self.dtype_policy)
            for index in range(len(self.layer_names))
        ]
        self.classify = dense(
            num_classes + 1,
            "class_logits",
            kernel_initializer=Normal(0.01),
        )
        self.regress = dense(
            4 * num_classes,
            "box_deltas",
            kernel_initializer=Normal(0.001),
        )

    def build(self, feature_shapes):
        """Build for feature maps of ``feature_shapes[0][-1]`` channels."""
        inputs = self.pool_size**2 * feature_shapes[0][-1]
        for layer in self.hidden:
            layer.build((None, inputs))
            inputs = self.units
        self.classify.build((None, self.units))
        self.regress.build((None, self.units))
        self.built = True

    def call(self, features, rois, training=False):
        """Pool and classify RoIs.

        Args:
            features: the network's feature maps, fine to coarse, [(B, H, W, channels)].
            rois: float32 (B, R, 4), xyxy in canvas pixels; no gradient flows to them.
            training: whether dropout acts.

        Returns:
            logits: float32 (B, R, C + 1), background last.
            deltas: float32 (B, R, C, 4), in units of the network's RoI box weights.
        """
        size, level = self.canonical
        pooled = pyramid_roi_align(
            features[: len(self.strides)],
            rois,
            self.strides,
            self.pool_size,
            sampling_ratio=self.sampling_ratio,
            canonical_size=size,
            canonical_level=level,
        )
        count = rois.shape[1]
        hidden = ops.reshape(pooled, (-1, self.hidden[0].kernel.shape[0]))  # [B*R, S*S*channels]
        for dense, drop in zip(self.hidden, self.drop, strict=True):
            hidden = drop(dense(hidden), training=training)
        logits = ops.reshape(self.classify(hidden), (-1, count, self.num_classes + 1))
        deltas = ops.reshape(self.regress(hidden), (-1, count, self.num_classes, 4))
        return ops.cast(logits, "float32"), ops.cast(deltas, "float32")

    def get_config(self):
        """The constructor's arguments as plain values."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "strides": self.strides,
            "units": self.units,
            "pool_size": self.pool_size,
            "sampling_ratio": self.sampling_ratio,
            "dropout": self.dropout,
            "canonical": self.canonical,
            "layer_names": self.layer_names,
        }
