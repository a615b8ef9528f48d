"""The first stage in use: what the region proposal network proposes for pictures."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from frcnn.inference.pictures import PictureDetector
from frcnn.inference.preparation import Preparation
from frcnn.models.faster_rcnn import FasterRCNN


class Proposer(PictureDetector):
    """A trained detector's first stage: its detections are proposals, all of one class.

    Args:
        network: the detector's network.
        preparation: how the detector prepares pictures.
        count: proposals of a picture, at most; they have gone through NMS, as in use.

    Raises:
        ValueError: ``count`` below 1.
    """

    def __init__(self, network: FasterRCNN, preparation: Preparation, count: int):
        if count < 1:
            raise ValueError(f"Expected `count` of at least 1. Received: {count}.")
        self._stage = _FirstStage(network)
        self._preparation = preparation
        self._count = count
        self._compiled: dict[Hashable, Any] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        """A proposal may be anything."""
        return ("object",)

    @property
    def preparation(self) -> Preparation:
        """How pictures are prepared for ``infer``."""
        return self._preparation

    @property
    def fills_batches(self) -> bool:
        """Compiled backends would compile again for a smaller last batch."""
        return keras.config.backend() != "torch"

    def infer(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """Propose on prepared pictures, as ``PictureDetector`` says."""
        stage, case = self._stage, (images.shape, images.dtype)
        stage.predict_function = self._compiled.get(case)
        with self._passing_on(stage.network.rpn):
            found = stage.predict_on_batch({"images": images, "sizes": sizes})
        self._compiled[case] = stage.predict_function
        return {**found, "labels": np.zeros(found["scores"].shape, np.int32)}

    @contextmanager
    def _passing_on(self, rpn) -> Iterator[None]:
        """The region proposal network passes on the wanted number of boxes meanwhile."""
        before = rpn.inference_rule
        most = max(before.before_nms, self._count)
        rpn.inference_rule = replace(before, before_nms=most, after_nms=self._count)
        try:
            yield
        finally:
            rpn.inference_rule = before


class _FirstStage(keras.Model):
    """Boxes in canvas pixels, their objectness, and how many there are of each image."""

    def __init__(self, network: FasterRCNN):
        super().__init__(name="first_stage")  # of the class's own name TensorFlow makes no scope
        self.network = network
        self.built = True

    def call(self, inputs):
        found = self.network(inputs, training=False)
        logits = ops.take_along_axis(found["rpn_logits"], found["origins"], axis=1)  # [B, P]
        return {
            "boxes": found["proposals"],
            "scores": ops.where(found["valid"], ops.sigmoid(logits), 0.0),
            "count": ops.sum(ops.cast(found["valid"], "int32"), axis=1),
        }
