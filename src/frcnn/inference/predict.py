"""A detector for people, on Keras: it runs a ``DetectionModel``."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from frcnn.inference.pictures import PictureDetector, Progress
from frcnn.inference.preparation import Image, Preparation
from frcnn.inference.proposing import Proposer
from frcnn.models.detector import DetectionModel, read_model
from frcnn.structures import Detections

LOGGER = logging.getLogger(__name__)

# Batches of one shape after which PyTorch records the network: recording takes as long as it then
# saves in some dozens of batches.
RECORD_AFTER = 16
# Shapes that are recorded at a time: each recording has its own copy of the weights. A server's
# batches on the canvases of a training take twelve.
MOST_RECORDED = 12


class Detector(PictureDetector):
    """A trained detector.

    Args:
        model: the network with its classes, sizes and thresholds.
    """

    def __init__(self, model: DetectionModel):
        self.model = model
        self._compiled: dict[Hashable, Callable | None] = {}
        self._seen: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, Callable | None] = {}
        self._proposers: dict[int, Proposer] = {}

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
    def most_boxes(self) -> int | None:
        """Boxes that are returned for a picture, at most."""
        return self.model.rule.count

    @property
    def fills_batches(self) -> bool:
        """Compiled backends would compile again for a smaller last batch."""
        return keras.config.backend() != "torch"

    def batch_memory(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Memory that a GPU reads by itself, kept and used again by PyTorch."""
        if not self._on_gpu:
            return super().batch_memory(shape, dtype)
        from frcnn.models.torch_host import pinned

        return pinned(shape, dtype)

    @property
    def _on_gpu(self) -> bool:
        """Whether PyTorch runs the network on a GPU of NVIDIA's."""
        return (
            keras.config.backend() == "torch"
            and self.model.network.variables[0].value.device.type == "cuda"
        )

    @property
    def batches_ahead(self) -> int:
        """A GPU computes while the next batch is put together."""
        return 1 if self._on_gpu else 0

    def infer(self, images: np.ndarray, sizes: np.ndarray) -> Mapping[str, np.ndarray]:
        """Run the network on prepared pictures, as ``PictureDetector`` says."""
        rules = self.model.rule, self.model.network.rpn.inference_rule
        case = images.shape, images.dtype, rules
        if keras.config.backend() == "torch" and (graph := self._recording(case, images, sizes)):
            from frcnn.models.torch_host import on_host

            return on_host(graph(images, sizes), [images, sizes])
        # One compiled function for each shape: TensorFlow would make one of all, of unknown sides.
        self.model.predict_function = self._compiled.get(case)
        found = self.model.predict_on_batch({"images": images, "sizes": sizes})
        self._compiled[case] = self.model.predict_function
        return found

    def _recording(self, case: Hashable, images, sizes) -> Callable | None:
        """The network's recorded operations for batches like this one, once there were enough."""
        self._seen[case] += 1
        if case in self._recorded:
            self._recorded[case] = self._recorded.pop(case)  # used last, forgotten last
            return self._recorded[case]
        if self._seen[case] <= RECORD_AFTER:
            return None
        if len(self._recorded) == MOST_RECORDED:
            forgotten = next(iter(self._recorded))
            del self._recorded[forgotten], self._seen[forgotten]
        from frcnn.models.torch_graph import RecordedGraph

        def function(images, sizes):
            return self.model({"images": images, "sizes": sizes}, training=False)

        inputs = [keras.ops.convert_to_tensor(each) for each in (images, sizes)]
        try:
            self._recorded[case] = RecordedGraph(function, inputs)
        except RuntimeError as error:  # Soft-NMS, or a layer of the user's own
            self._recorded[case] = None
            LOGGER.info("The network's operations depend on its inputs' values: %s", error)
        return self._recorded[case]

    def proposals(
        self,
        images: Sequence[Image],
        count: int = 1000,
        batch: int = 8,
        progress: Progress = None,
    ) -> list[Detections]:
        """What the first stage proposes: boxes that may hold an object of any class.

        Args:
            images: file paths, or arrays (H, W, 3), uint8 RGB.
            count: proposals of a picture, at most; they have gone through NMS, as in use.
            batch: pictures run through the network together.
            progress: called after each picture is done.

        Returns:
            for each picture its proposals, the most confident first: boxes in pixels of the
            original, the objectness, 0..1, as score, and one class, "object".

        Raises:
            ValueError: ``count`` below 1; a picture that cannot be read.
        """
        if count not in self._proposers:
            self._proposers[count] = Proposer(self.model.network, self.preparation, count)
        return self._proposers[count].detect(images, batch=batch, progress=progress)

    @property
    def anchor_shapes(self) -> np.ndarray:
        """Width and height of all anchors of a cell, in the network's pixels: float32 (K, 2)."""
        anchors = self.model.network.rpn.anchors
        boxes = anchors.boxes([(1, 1)] * len(anchors.strides))
        return boxes[:, 2:] - boxes[:, :2]

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
