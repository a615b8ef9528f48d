"""A detector that looks at each picture in several ways with another detector's network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from frcnn.inference.pictures import PictureDetector
from frcnn.inference.preparation import Preparation


class WrappedDetector(PictureDetector):
    """What a wrapper has of the detector within; a subclass overrides ``find``, or a view of it.

    Args:
        detector: the one within, of Keras or exported.
    """

    def __init__(self, detector: PictureDetector):
        self.detector = detector

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""
        return self.detector.classes

    @property
    def preparation(self) -> Preparation:
        """How pictures are prepared for ``infer``."""
        return self.detector.preparation

    @property
    def fills_batches(self) -> bool:
        """As of the detector within."""
        return self.detector.fills_batches

    @property
    def fixed_batch(self) -> int | None:
        """As of the detector within."""
        return self.detector.fixed_batch

    @property
    def fixed_canvas(self) -> bool:
        """As of the detector within."""
        return self.detector.fixed_canvas

    @property
    def batches_ahead(self) -> int:
        """As of the detector within."""
        return self.detector.batches_ahead

    def batch_memory(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """As of the detector within."""
        return self.detector.batch_memory(shape, dtype)

    def infer(self, images: np.ndarray, sizes: np.ndarray) -> Mapping[str, Any]:
        """Run the network once, as ``PictureDetector`` says."""
        return self.detector.infer(images, sizes)
