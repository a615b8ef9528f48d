"""The second stage: pooled features of a RoI -> class logits and box deltas (Fast R-CNN)."""

from __future__ import annotations

import math

import keras
from keras import ops

from frcnn.models.draws import Draws
from frcnn.models.initializers import Normal, Uniform
from frcnn.models.layers import Conv2D, freeze_parts
from frcnn.models.normalization import ConvNorm
from frcnn.ops.roi import pyramid_roi_align
from frcnn.ops.roi_crop import roi_crop
from frcnn.ops.roi_pool import roi_pool

# A third of the variance that keeps the signal's: with more, features of a pyramid that is not
# trained yet make steps at usual learning rates diverge. It is also what PyTorch starts with.
HIDDEN_SCALE = 1 / 3

# How a RoI's features are taken from a single map, in whole cells.
_POOLINGS = {"pool": roi_pool, "crop": roi_crop}


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
        self.draws = Draws(seed)
        self.built = True

    def call(self, inputs, training=False):
        """(rows, units) -> the same shape."""
        if not training or not self.rate:
            return inputs
        keys = self.draws.uniform(ops.shape(inputs))
        return ops.where(keys >= self.rate, inputs / (1.0 - self.rate), 0.0)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@keras.saving.register_keras_serializable(package="frcnn")
class RoIHead(keras.layers.Layer):
    """Pooling, hidden layers, then one softmax and one box for each class.

    Pooled maps pass through ``stage``, then ``convolutions``, then fully connected layers of
    ``units``; each may be absent. Without fully connected layers the maps are averaged.

    Args:
        num_classes: C, without background, which is the logit of index C.
        strides: of the feature maps RoIs are pooled from, fine to coarse; further maps that the
            network has (the coarsest of a pyramid) serve the RPN alone.
        units: of the fully connected layers.
        pool_size: side of the pooled map.
        sampling_ratio: bilinear samples along each side of a bin.
        aligned: cells are centred on i + 0.5; False is the older convention of RoIAlign.
        dropout: rate after each fully connected layer, in training.
        canonical: (size, level) of the FPN paper's equation 1; a RoI of this size in pixels is
            pooled from this level, the level being log2 of the stride.
        layer_names: of the fully connected layers, by which ImageNet files know them; more
            layers than names are called fc3 and so on.
        convolutions: channels of the 3x3 convolutions, each with normalisation and ReLU.
        norm: of those convolutions, "frozen" or "batch", as of ``ConvNorm``; None has biases.
        class_agnostic: one box for all classes.
        stage: a model (N, S, S, channels) -> (N, S', S', channels'), such as the last stage of a
            ResNet.
        pooling: "align", RoIAlign; on a single map also "pool", RoIPool, or "crop", keras-frcnn's
            crop and resize. ``sampling_ratio`` and ``aligned`` are of "align" alone.

    Raises:
        ValueError: no classes; another ``pooling``, or one that several maps do not have.
    """

    def __init__(
        self,
        num_classes: int,
        strides: tuple[int, ...],
        units: tuple[int, ...] = (1024, 1024),
        pool_size: int = 7,
        sampling_ratio: int = 2,
        aligned: bool = True,
        dropout: float = 0.0,
        canonical: tuple[int, int] = (224, 4),
        layer_names: tuple[str, ...] = ("fc1", "fc2"),
        convolutions: tuple[int, ...] = (),
        norm: str | None = "frozen",
        class_agnostic: bool = False,
        stage: keras.Model | None = None,
        pooling: str = "align",
        **kwargs,
    ):
        # In mixed precision the parts cast what they are given; RoIs stay float32, for with the
        # eight bits of a bfloat16 they would be off by pixels.
        super().__init__(**{"autocast": False, **kwargs})
        if num_classes < 1:
            raise ValueError(f"Expected num_classes of at least 1. Received: {num_classes}.")
        if pooling != "align" and (pooling not in _POOLINGS or len(strides) > 1):
            raise ValueError(
                'Expected `pooling` "align", or "pool" or "crop" for a single map. Received: '
                f"{pooling!r} for {len(strides)} maps."
            )
        self.num_classes = num_classes
        self.strides = tuple(strides)
        self.units = tuple(units)
        self.pool_size = pool_size
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned
        self.dropout = dropout
        self.canonical = canonical[0], canonical[1]
        more = (f"fc{number}" for number in range(len(layer_names) + 1, len(self.units) + 1))
        self.layer_names = (*layer_names, *more)[: len(self.units)]
        self.convolutions = tuple(convolutions)
        self.norm = norm
        self.class_agnostic = class_agnostic
        self.stage = stage
        self.pooling = pooling
        self.conv = [
            self._convolution(channels, f"box_conv{index}")
            for index, channels in enumerate(self.convolutions, start=1)
        ]
        self.hidden = [
            self._dense(units, name, Uniform(HIDDEN_SCALE), activation="relu")
            for units, name in zip(self.units, self.layer_names, strict=True)
        ]
        self.drop = [
            Dropout(dropout, seed=index, dtype=self.dtype_policy)
            for index in range(len(self.units))
        ]
        self.classify = self._dense(num_classes + 1, "class_logits", Normal(0.01))
        self.regress = self._dense(4 * self.boxes_per_roi, "box_deltas", Normal(0.001))
        freeze_parts(self)

    @property
    def boxes_per_roi(self) -> int:
        """C, or 1 where the classes share a box."""
        return 1 if self.class_agnostic else self.num_classes

    def _dense(self, units: int, name: str, initializer, **options) -> keras.layers.Dense:
        options = {"kernel_initializer": initializer, "dtype": self.dtype_policy, **options}
        return keras.layers.Dense(units, name=name, **options)

    def _convolution(self, channels: int, name: str) -> keras.layers.Layer:
        options = {"dtype": self.dtype_policy}
        if self.norm is None:
            return Conv2D(channels, 3, padding="same", activation="relu", name=name, **options)
        conv = Conv2D(channels, 3, padding="same", use_bias=False, name=f"{name}_conv", **options)
        return ConvNorm(conv, 1e-5, "relu", self.norm, name=name, **options)

    def build(self, feature_shapes):
        """Build for feature maps of ``feature_shapes[0][-1]`` channels."""
        shape: tuple = (None, self.pool_size, self.pool_size, feature_shapes[0][-1])
        if self.stage is not None:
            shape = self.stage.compute_output_shape(shape)
        for layer, channels in zip(self.conv, self.convolutions, strict=True):
            layer.build(shape)
            shape = (*shape[:-1], channels)
        inputs = math.prod(shape[1:]) if self.hidden else shape[-1]
        for layer in self.hidden:
            layer.build((None, inputs))
            inputs = layer.units
        self.classify.build((None, inputs))
        self.regress.build((None, inputs))
        self.built = True

    def call(self, features, rois, training=False):
        """Pool and classify RoIs.

        Args:
            features: the network's feature maps, fine to coarse, [(B, H, W, channels)].
            rois: float32 (B, R, 4), xyxy in canvas pixels; no gradient flows to them.
            training: whether dropout acts and batch statistics are taken.

        Returns:
            logits: float32 (B, R, C + 1), background last.
            deltas: float32 (B, R, C, 4), in units of the network's RoI box weights;
            (B, R, 1, 4) if the classes share a box.
        """
        pooled = self._pool(features, rois)
        count = rois.shape[1]
        hidden = ops.reshape(pooled, (-1, *pooled.shape[2:]))  # [B*R, S, S, channels]
        hidden = self._describe(hidden, training)  # [B*R, units]
        logits = ops.reshape(self.classify(hidden), (-1, count, self.num_classes + 1))
        deltas = ops.reshape(self.regress(hidden), (-1, count, self.boxes_per_roi, 4))
        return ops.cast(logits, "float32"), ops.cast(deltas, "float32")

    def _pool(self, features, rois):
        """Maps and RoIs (B, R, 4) -> what each RoI sees, (B, R, S, S, channels)."""
        if self.pooling in _POOLINGS:
            return _POOLINGS[self.pooling](features[0], rois, self.pool_size, 1 / self.strides[0])
        size, level = self.canonical
        return pyramid_roi_align(
            features[: len(self.strides)],
            rois,
            self.strides,
            self.pool_size,
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
            canonical_size=size,
            canonical_level=level,
        )

    def _describe(self, maps, training):
        """Pooled maps (N, S, S, channels) -> what the two outputs see, (N, units)."""
        if self.stage is not None:
            maps = self.stage(maps, training=training)
        mode = {} if self.norm is None else {"training": training}
        for layer in self.conv:
            maps = layer(maps, **mode)
        if not self.hidden:
            return ops.mean(maps, axis=(1, 2))
        hidden = ops.reshape(maps, (-1, math.prod(maps.shape[1:])))
        for dense, drop in zip(self.hidden, self.drop, strict=True):
            hidden = drop(dense(hidden), training=training)
        return hidden

    def get_config(self):
        """The constructor's arguments as plain values."""
        stage = self.stage
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "strides": self.strides,
            "units": self.units,
            "pool_size": self.pool_size,
            "sampling_ratio": self.sampling_ratio,
            "aligned": self.aligned,
            "dropout": self.dropout,
            "canonical": self.canonical,
            "layer_names": self.layer_names,
            "convolutions": self.convolutions,
            "norm": self.norm,
            "class_agnostic": self.class_agnostic,
            "stage": None if stage is None else keras.saving.serialize_keras_object(stage),
            "pooling": self.pooling,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Inverse of ``get_config``."""
        stage = config["stage"]
        if isinstance(stage, dict):
            stage = keras.saving.deserialize_keras_object(stage, custom_objects)
        return cls(**{**config, "stage": stage})
