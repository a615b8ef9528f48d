"""A detector for people: pictures in, ``Detections`` in the pictures' own pixels out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, overload

import keras
import numpy as np

from frcnn.data.images import read_image
from frcnn.data.resizing import canvas_for, prepare, prepare_plain
from frcnn.models.detector import DetectionModel, read_model
from frcnn.structures import Detections

Image = str | Path | np.ndarray
Progress = Callable[[], None] | None


class _Prepared(NamedTuple):
    index: int
    pixels: np.ndarray  # uint8 or float32 (H, W, 3), padded to its canvas
    size: tuple[int, int]
    scale: tuple[float, float]
    original: tuple[int, int]


class Detector:
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

    @overload
    def detect(
        self, images: Image, score: float = ..., batch: int = ..., progress: Progress = ...
    ) -> Detections: ...
    @overload
    def detect(
        self,
        images: Sequence[Image],
        score: float = ...,
        batch: int = ...,
        progress: Progress = ...,
    ) -> list[Detections]: ...
    def detect(self, images: Any, score=0.0, batch=8, progress: Progress = None) -> Any:
        """Find objects in one picture or in several.

        Args:
            images: a picture, or a sequence of them: file paths, or arrays (H, W, 3), uint8 RGB.
            score: leave out detections scored lower. The model has a threshold of its own, 0.05
                unless it was built otherwise, below which nothing is returned.
            batch: pictures run through the network together.
            progress: called after each picture is done.

        Returns:
            ``Detections`` for one picture, a list of them, in order, for a sequence.

        Raises:
            ValueError: a picture that cannot be read, with its name, or an array of other shape.
        """
        single = isinstance(images, (str, Path)) or (
            isinstance(images, np.ndarray) and images.ndim == 3
        )
        many: list[Image] = [images] if single else [*images]  # type: ignore[misc]
        results: list[Detections | None] = [None] * len(many)
        batch = max(1, min(batch, len(many)))
        for group in self._batches(many, batch):
            for item, found in zip(group, self._run(group, batch), strict=False):
                results[item.index] = found.above(score)
                if progress:
                    progress()
        return results[0] if single else results

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

    def _batches(self, images: list[Image], batch: int) -> Iterator[list[_Prepared]]:
        """Prepared pictures in groups of up to ``batch`` that share a canvas.

        Pictures are decoded by threads, a little ahead of the network.
        """
        waiting: dict[tuple[int, ...], list[_Prepared]] = {}
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            for item in _ahead(pool, self._prepare, enumerate(images), 2 * batch):
                group = waiting.setdefault(item.pixels.shape, [])
                group.append(item)
                if len(group) == batch:
                    yield waiting.pop(item.pixels.shape)
        yield from waiting.values()

    def _prepare(self, numbered: tuple[int, Image]) -> _Prepared:
        index, image = numbered
        pixels = _pixels(image)
        original = pixels.shape[:2]
        short, long, plain = self.model.short, self.model.long, self.model.resizing == "plain"
        canvas = canvas_for(original, short, long, self.model.canvases, plain, self.model.multiple)
        resized = (prepare_plain if plain else prepare)(pixels, short, long, canvas)
        return _Prepared(index, *resized, original)

    def _run(self, group: list[_Prepared], batch: int) -> list[Detections]:
        images = np.stack([item.pixels for item in group])
        sizes = np.array([item.size for item in group], np.int32)
        # Compiled backends would compile again for a smaller last batch: it is filled up.
        missing = batch - len(group) if keras.config.backend() != "torch" else 0
        if missing > 0:
            images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
            sizes = np.concatenate([sizes, np.full((missing, 2), 1, sizes.dtype)])
        # One compiled function for each shape: TensorFlow would make one of all, of unknown sides.
        self.model.predict_function = self._compiled.get(images.shape)
        found = self.model.predict_on_batch({"images": images, "sizes": sizes})
        self._compiled[images.shape] = self.model.predict_function
        return [self._to_detections(item, found, row) for row, item in enumerate(group)]

    def _to_detections(self, item: _Prepared, found: dict, row: int) -> Detections:
        """Cut the padding off one row and scale its boxes to the original picture."""
        count = int(found["count"][row])
        (sy, sx), (height, width) = item.scale, item.original
        boxes = np.asarray(found["boxes"][row, :count], np.float32)
        boxes = boxes / np.array([sx, sy, sx, sy], np.float32)
        boxes = boxes.clip(0, np.array([width, height, width, height], np.float32))
        return Detections(
            boxes, found["scores"][row, :count], found["labels"][row, :count], self.classes
        )


def _pixels(image: Image) -> np.ndarray:
    """A picture as uint8 (H, W, 3)."""
    if not isinstance(image, np.ndarray):
        return read_image(Path(image))
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            "Expected a picture as a uint8 array of shape (height, width, 3), RGB. "
            f"Received: {image.dtype} of shape {image.shape}."
        )
    return image


def _ahead(pool: ThreadPoolExecutor, function, items: Iterable, depth: int) -> Iterator:
    """``map`` by the pool, in order, with at most ``depth`` results ahead of the consumer."""
    items = iter(items)
    queue = [pool.submit(function, item) for item in islice(items, depth)]
    while queue:
        done = queue.pop(0).result()
        queue.extend(pool.submit(function, item) for item in islice(items, 1))
        yield done
