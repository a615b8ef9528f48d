"""A detector for people, on Keras: it runs a ``DetectionModel``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from frcnn.inference.pictures import PictureDetector, Preparation
from frcnn.models.detector import DetectionModel, read_model


class Detector(PictureDetector):
    """A trained detector.

    Args:
        model: the network with its classes, sizes and thresholds.
    """

    def __init__(self, model: DetectionModel):
        self.model = model
        self._compiled: dict[tuple[int, ...], Callable | None] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""
        return self.model.classes

    @property
    def preparation(self) -> Preparation:
        """How pictures are prepared for ``infer``."""
        model = self.model
        return Preparation(model.short, model.long, model.canvases, model.resizing, model.multiple)

    @property
    def fills_batches(self) -> bool:
        """Compiled backends would compile again for a smaller last batch."""
        return keras.config.backend() != "torch"

    def infer(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network on prepared pictures, as ``PictureDetector`` says."""
        # One compiled function for each shape: TensorFlow would make one of all, of unknown sides.
        self.model.predict_function = self._compiled.get(images.shape)
        found = self.model.predict_on_batch({"images": images, "sizes": sizes})
        self._compiled[images.shape] = self.model.predict_function
        return found

    def save(self, path: str | Path) -> Path:
        """Write architecture, weights, classes, sizes and thresholds to one ``.keras`` file."""
        path = Path(path)
        if path.suffix != ".keras":
            raise ValueError(f"A detector is saved to a file ending in .keras. Received: {path}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{os.getpid()}.{path.name}")
        # A network in training has an optimizer, whose state would double the file.
        network = self.model.network
        optimizer = getattr(network, "optimizer", None)
        network.optimizer = None
        try:
            self.model.save(partial)
            partial.replace(path)
        finally:
            network.optimizer = optimizer
            partial.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Detector:
        """Read what ``save`` wrote, on any backend.

        Raises:
            UserError: the file is missing, damaged or holds something else.
        """
        return cls(read_model(path))
