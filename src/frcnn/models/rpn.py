"""The region proposal network (Faster R-CNN, Ren et al. 2015, section 3.1)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import keras
import numpy as np
from keras import ops

from frcnn.models.initializers import Normal
from frcnn.models.layers import Conv2D, freeze_parts
from frcnn.ops import anchors as anchor_ops
from frcnn.ops import boxes as box_ops
from frcnn.ops.nms import nms


@dataclass(frozen=True)
class AnchorGrid:
    """Which anchors stand on each cell of each feature map.

    Args:
        strides: pixels of the image a cell covers, one a level, fine to coarse.
        sizes: anchor sides in pixels (square root of the area), one tuple a level.
        ratios: height over width, the same on each level.
        offset: where in its cell an anchor is centred; 0.5 is the middle.
        rounded: round the anchors to whole pixels, as torchvision does.
        floored: space the cells of a level by the canvas's side over their number, rounded down,
            as torchvision does: the 13 cells that a pyramid's last level has for 800 pixels stand
            61 apart, not 64. The canvas is as large as the first level's cells are.
    """

    strides: tuple[int, ...]
    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    offset: float = 0.5
    rounded: bool = False
    floored: bool = False

    def __post_init__(self):
        object.__setattr__(self, "strides", tuple(self.strides))
        object.__setattr__(self, "sizes", tuple(tuple(level) for level in self.sizes))
        object.__setattr__(self, "ratios", tuple(self.ratios))
        if len(self.sizes) != len(self.strides):
            raise ValueError(
                "Expected one tuple of anchor sizes a stride. Received: "
                f"{len(self.sizes)} tuples of sizes for strides {self.strides}."
            )
        if len({len(level) for level in self.sizes}) != 1:
            raise ValueError(
                "Expected the same number of anchor sizes on each level, since the levels share "
                f"one head. Received: sizes {self.sizes}."
            )

    @property
    def per_cell(self) -> int:
        """Anchors on one cell."""
        return len(self.sizes[0]) * len(self.ratios)

    def boxes(self, shapes) -> np.ndarray:
        """All anchors of feature maps of these (height, width): float32 (A, 4)."""
        ratios = (self.ratios,) * len(self.strides)
        strides = self.strides
        if self.floored:
            canvas = [cells * strides[0] for cells in shapes[0]]
            strides = [(canvas[0] // height, canvas[1] // width) for height, width in shapes]
        return anchor_ops.grid_anchors(
            shapes, strides, self.sizes, ratios, offset=self.offset, rounded=self.rounded
        )


@dataclass(frozen=True)
class ProposalRule:
    """How many of the RPN's boxes become proposals.

    Args:
        before_nms: boxes of each level, by score, that enter NMS.
        after_nms: boxes of all levels together that leave it.
    """

    before_nms: int
    after_nms: int


@keras.saving.register_keras_serializable(package="frcnn")
class RegionProposalNetwork(keras.layers.Layer):
    """3x3 convolutions, then for each anchor an objectness logit and four box deltas.

    Args:
        anchors: the anchor grid.
        channels: of the 3x3 convolutions.
        training: the proposals passed on in training.
        inference: the proposals passed on in use.
        iou_threshold: of the NMS, which runs on each level by itself.
        min_size: proposals narrower or lower than this many pixels are dropped.
        min_score: proposals whose objectness, 0..1, is lower are dropped.
        depth: how many 3x3 convolutions; 0 for none.
        whole_cells: round proposals to whole cells, as ``to_whole_cells`` does (keras-frcnn).
    """

    def __init__(
        self,
        anchors: AnchorGrid,
        channels: int = 256,
        training: ProposalRule = ProposalRule(2000, 1000),
        inference: ProposalRule = ProposalRule(1000, 1000),
        iou_threshold: float = 0.7,
        min_size: float = 1e-3,
        min_score: float = 0.0,
        depth: int = 1,
        whole_cells: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.anchors = anchors
        self.channels = channels
        self.training_rule = training
        self.inference_rule = inference
        self.iou_threshold = iou_threshold
        self.min_size = min_size
        self.min_score = min_score
        self.depth = depth
        self.whole_cells = whole_cells

        def convolution(filters, kernel, name, **options):
            start = Normal(0.01)
            options = {"kernel_initializer": start, "dtype": self.dtype_policy, **options}
            return Conv2D(filters, kernel, name=name, **options)

        self.hidden = [
            convolution(channels, 3, f"rpn_conv{index + 1}", padding="same", activation="relu")
            for index in range(depth)
        ]
        self.objectness = convolution(anchors.per_cell, 1, "objectness")
        self.deltas = convolution(4 * anchors.per_cell, 1, "deltas")
        freeze_parts(self)

    def build(self, feature_shapes):
        """Build the shared head for feature maps of ``feature_shapes[0][-1]`` channels."""
        inputs = feature_shapes[0][-1]
        for layer in self.hidden:
            layer.build((None, None, None, inputs))
            inputs = self.channels
        self.objectness.build((None, None, None, inputs))
        self.deltas.build((None, None, None, inputs))
        self.built = True

    def call(self, features):
        """Feature maps [(B, H, W, channels)] -> logits (B, A), deltas (B, A, 4), float32."""
        logits, deltas = [], []
        for feature in features:
            hidden = feature
            for layer in self.hidden:
                hidden = layer(hidden)
            batch, height, width, _ = hidden.shape
            count = height * width * self.anchors.per_cell
            batch = -1 if batch is None else batch
            logits.append(ops.reshape(self.objectness(hidden), (batch, count)))
            deltas.append(ops.reshape(self.deltas(hidden), (batch, count, 4)))
        return (
            ops.cast(ops.concatenate(logits, axis=1), "float32"),
            ops.cast(ops.concatenate(deltas, axis=1), "float32"),
        )

    def propose(self, logits, deltas, shapes, sizes, training: bool):
        """The best boxes after NMS; no gradient flows through them.

        Args:
            logits: float32 (B, A).
            deltas: float32 (B, A, 4).
            shapes: (height, width) of each feature map.
            sizes: (B, 2), height and width of the valid part of each image.
            training: which of the two rules to follow.

        Returns:
            proposals: float32 (B, P, 4), xyxy in canvas pixels, most confident first.
            valid: bool (B, P), False on the rows that only fill up.
            origins: int32 (B, P), the anchor that each proposal was made from.
        """
        rule = self.training_rule if training else self.inference_rule
        logits, deltas = ops.stop_gradient(logits), ops.stop_gradient(deltas)
        anchors = self.anchors.boxes(shapes)  # [A, 4]
        scores, boxes, origins, levels, start = [], [], [], [], 0
        for level, (height, width) in enumerate(shapes):
            end = start + height * width * self.anchors.per_cell
            best, index = ops.top_k(logits[:, start:end], min(rule.before_nms, end - start))
            picked = ops.take_along_axis(deltas[:, start:end], index[..., None], axis=1)
            reference = ops.take(ops.convert_to_tensor(anchors[start:end]), index, axis=0)
            decoded = box_ops.decode(reference, picked)
            if self.whole_cells:
                stride = self.anchors.strides[level]
                decoded = to_whole_cells(decoded, stride, (height, width), sizes)
            scores.append(best)
            boxes.append(decoded)
            origins.append(ops.cast(index, "int32") + start)
            levels.append(ops.zeros_like(index) + level)
            start = end
        scores = ops.concatenate(scores, axis=1)  # [B, N]
        boxes = box_ops.clip(ops.concatenate(boxes, axis=1), ops.cast(sizes, "float32"))
        usable = ops.all(boxes[..., 2:] - boxes[..., :2] >= self.min_size, axis=-1)
        if self.min_score > 0:
            usable = usable & (ops.sigmoid(scores) >= self.min_score)
        index, valid = nms(
            boxes,
            scores,
            self.iou_threshold,
            rule.after_nms,
            groups=ops.concatenate(levels, axis=1) if len(shapes) > 1 else None,
            valid=usable,
        )
        proposals = ops.take_along_axis(boxes, index[..., None], axis=1)
        proposals = ops.where(valid[..., None], proposals, 0.0)
        origins = ops.take_along_axis(ops.concatenate(origins, axis=1), index, axis=1)
        return ops.stop_gradient(proposals), valid, origins

    def get_config(self):
        """The constructor's arguments as plain values."""
        return {
            **super().get_config(),
            "anchors": asdict(self.anchors),
            "channels": self.channels,
            "training": asdict(self.training_rule),
            "inference": asdict(self.inference_rule),
            "iou_threshold": self.iou_threshold,
            "min_size": self.min_size,
            "min_score": self.min_score,
            "depth": self.depth,
            "whole_cells": self.whole_cells,
        }

    @classmethod
    def from_config(cls, config):
        """Inverse of ``get_config``."""
        config = dict(config)
        config["anchors"] = AnchorGrid(**config["anchors"])
        config["training"] = ProposalRule(**config["training"])
        config["inference"] = ProposalRule(**config["inference"])
        return cls(**config)


def to_whole_cells(boxes, stride: int, shape: tuple[int, int], sizes):
    """Round boxes to the cells of a map, as keras-frcnn does with its proposals.

    The first corner is rounded, and so are width and height, to at least one cell; what lies
    before the map or in its last row and column is cut off.

    Args:
        boxes: float32 (B, N, 4), xyxy in canvas pixels.
        stride: pixels a cell.
        shape: (height, width) of the map in cells.
        sizes: (B, 2), height and width of the valid part of each image in pixels.

    Returns:
        float32 (B, N, 4), xyxy in canvas pixels; without area where the box lies outside.
    """
    cells = ops.ceil(ops.cast(sizes, "float32") / stride)  # [B, 2]
    cells = ops.minimum(cells, ops.convert_to_tensor(shape, "float32"))
    last = ops.flip(cells, axis=-1)[:, None] - 1.0  # [B, 1, 2], x before y
    first = ops.round(boxes[..., :2] / stride)
    sides = ops.maximum(ops.round((boxes[..., 2:] - boxes[..., :2]) / stride), 1.0)
    end = ops.minimum(first + sides, last)
    return ops.concatenate([ops.maximum(first, 0.0), end], axis=-1) * stride
