"""Pictures in, ``Detections`` in their own pixels out, whatever runs the network; no Keras."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from frcnn.data.faults import ImageError
from frcnn.data.images import MAX_PIXELS
from frcnn.data.resizing import Size
from frcnn.inference.preparation import Image, Preparation, Prepared, lay_all
from frcnn.structures import Detections
from frcnn.threads import decoders, map_ahead

Progress = Callable[[], None] | None
Errors = dict[int, ImageError] | None

_MOST_WAITING = 64  # pictures in memory for others of their canvas


class PictureDetector(ABC):
    """A trained detector; a subclass runs the network."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""

    @property
    @abstractmethod
    def preparation(self) -> Preparation:
        """How pictures are prepared for ``infer``."""

    @property
    @abstractmethod
    def fills_batches(self) -> bool:
        """Whether ``infer`` is to be given full batches alone, blank pictures added at the end."""

    @property
    def most_pixels(self) -> int:
        """Pixels that a picture's file may have."""
        return MAX_PIXELS

    @property
    def most_boxes(self) -> int | None:
        """Boxes that are returned for a picture, at most; None: any number."""
        return None

    @property
    def fixed_batch(self) -> int | None:
        """Pictures that ``infer`` takes at once, whatever the caller wishes; None: any number."""
        return None

    @property
    def fixed_canvas(self) -> bool:
        """Whether ``infer`` takes pictures on the canvas of ``preparation`` alone."""
        return False

    @abstractmethod
    def infer(self, images: np.ndarray, sizes: np.ndarray) -> Mapping[str, Any]:
        """Run the network on prepared pictures.

        Args:
            images: uint8 or float32 (B, H, W, 3), RGB, 0..255, on a canvas.
            sizes: int32 (B, 2), height and width of each picture on it.

        Returns:
            Arrays ``boxes`` (B, D, 4), xyxy in pixels of the canvas, ``scores`` (B, D), descending,
            ``labels`` (B, D) and ``count`` (B,), how many of the D rows are real. They may be
            waited for when they are first looked at; the pictures stay as they are until then.
        """

    @property
    def batches_ahead(self) -> int:
        """Batches that ``infer`` is given before an earlier one's results are looked at."""
        return 0

    def batch_memory(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array for the pictures that ``infer`` is given, where it reads them fastest."""
        return np.empty(shape, dtype)

    @overload
    def detect(
        self,
        images: Image,
        score: float = ...,
        batch: int = ...,
        progress: Progress = ...,
        errors: Errors = ...,
    ) -> Detections: ...
    @overload
    def detect(
        self,
        images: Sequence[Image],
        score: float = ...,
        batch: int = ...,
        progress: Progress = ...,
        errors: Errors = ...,
    ) -> list[Detections]: ...
    def detect(
        self, images: Any, score=0.0, batch=8, progress: Progress = None, errors: Errors = None
    ) -> Any:
        """Find objects in one picture or in several.

        Args:
            images: a picture, or a sequence of them: file paths, the bytes of such files, or
                arrays (H, W, 3), uint8 RGB; or one array of several (B, H, W, 3).
            score: leave out detections scored lower. The model has a threshold of its own, 0.01
                if it was trained here, below which nothing is returned.
            batch: pictures run through the network together; a detector exported with a fixed
                batch keeps to that. A compiled backend is given so many of any sequence, blank
                ones at the end, so that it compiles for one picture and for these.
            progress: called after each picture is done.
            errors: takes what is wrong with each picture that cannot be read, by its place among
                ``images``; nothing is found in it, and the others go on. None: that is raised.

        Returns:
            ``Detections`` for one picture, a list of them, in order, for a sequence.

        Raises:
            ValueError: a picture that cannot be read, with its name, or an array of other shape.
        """
        single = isinstance(images, (str, Path, bytes)) or (
            isinstance(images, np.ndarray) and images.ndim != 4
        )
        many: list[Image] = [images] if single else [*images]  # type: ignore[misc]
        found = self.find(many, score, batch, progress, errors)
        return found[0] if single else found

    def find(
        self,
        images: list[Image],
        score: float,
        batch: int,
        progress: Progress = None,
        errors: Errors = None,
    ) -> list[Detections]:
        """As ``detect``, of a list."""
        results: dict[int, Detections] = {}
        fewest = batch if self.fills_batches and len(images) > 1 else len(images)
        batch = self.fixed_batch or max(1, min(batch, fewest))
        for group, finish in self._begun(self._groups(images, batch, errors), batch):
            for (index, _), detections in zip(group, finish(), strict=True):
                results[index] = detections.above(score)
                if progress:
                    progress()
        for index in range(len(images)):
            if index not in results:  # it is among the errors
                results[index] = self.nothing()
                if progress:
                    progress()
        return [results[index] for index in range(len(images))]

    def _begun(
        self, groups: Iterable[list[tuple[int, Prepared]]], batch: int
    ) -> Iterator[tuple[list[tuple[int, Prepared]], Callable[[], list[Detections]]]]:
        """Each group with what waits for its detections, later ones having been begun."""
        waiting = deque()
        for group in groups:
            waiting.append((group, self._begin_prepared([item for _, item in group], batch)))
            if len(waiting) > self.batches_ahead:
                yield waiting.popleft()
        yield from waiting

    def nothing(self) -> Detections:
        """No objects, as of a picture that cannot be read."""
        return Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), self.classes)

    def prepare(self, image: Image) -> Prepared:
        """Read a picture and resize it for its canvas; any thread may.

        Raises:
            ValueError: as ``detect``.
        """
        return self.preparation.prepare(image)

    def _groups(
        self, images: list[Image], batch: int, errors: Errors
    ) -> Iterator[list[tuple[int, Prepared]]]:
        """Prepared pictures with their places, in groups of up to ``batch`` that share a canvas.

        Pictures are decoded by threads, a little ahead of the network. Those that cannot be read
        are in no group. Where many canvases differ, the group that waits longest goes as it is.
        """
        waiting: dict[Size, list[tuple[int, Prepared]]] = {}
        for index, item in enumerate(self._prepared(images, 2 * batch)):
            if isinstance(item, ImageError):
                if errors is None:
                    raise item
                errors[index] = item
                continue
            group = waiting.setdefault(item.canvas, [])
            group.append((index, item))
            if len(group) == batch:
                yield waiting.pop(item.canvas)
            elif sum(map(len, waiting.values())) > max(_MOST_WAITING, batch):
                yield waiting.pop(next(iter(waiting)))
        yield from waiting.values()

    def _prepared(self, images: list[Image], depth: int) -> Iterator[Prepared | ImageError]:
        """Prepared pictures in order, or what is wrong with them, up to ``depth`` ahead."""
        prepare = self.preparation.prepare_or_error
        if len(images) == 1:  # nothing to decode ahead
            yield prepare(images[0])
            return
        with decoders() as pool:
            yield from map_ahead(pool, prepare, images, depth)

    def detect_prepared(self, group: Sequence[Prepared], batch: int) -> list[Detections]:
        """Find objects in prepared pictures that share a canvas.

        Args:
            group: up to ``batch`` pictures from ``prepare``.
            batch: as of ``detect``.
        """
        return self._begin_prepared(group, batch)()

    def _begin_prepared(
        self, group: Sequence[Prepared], batch: int
    ) -> Callable[[], list[Detections]]:
        """Begin what ``detect_prepared`` does; a function that waits for its detections."""
        first = group[0]
        rows = max(batch, len(group)) if self.fills_batches else len(group)
        images = self.batch_memory((rows, *first.canvas, 3), first.pixels.dtype)
        sizes = lay_all(group, images)
        found = self.infer(images, sizes)
        return lambda: [self._to_detections(item, found, row) for row, item in enumerate(group)]

    def _to_detections(self, item: Prepared, found: Mapping[str, Any], row: int) -> Detections:
        """Cut the padding off one row and scale its boxes to the original picture."""
        count = int(found["count"][row])
        (sy, sx), (height, width) = item.scale, item.original
        boxes = np.asarray(found["boxes"][row, :count], np.float32)
        boxes = boxes / np.array([sx, sy, sx, sy], np.float32)
        boxes = boxes.clip(0, np.array([width, height, width, height], np.float32))
        return Detections(
            boxes, found["scores"][row, :count], found["labels"][row, :count], self.classes
        )
