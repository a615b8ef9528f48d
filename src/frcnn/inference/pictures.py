"""Pictures in, ``Detections`` in their own pixels out, whatever runs the network; no Keras."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from frcnn.data.faults import ImageError
from frcnn.data.images import MAX_PIXELS, decode_image, decode_reduced, read_image, read_reduced
from frcnn.data.resizing import STRIDE, Size, canvas_for, prepare, prepare_plain
from frcnn.structures import Detections

Image = str | Path | bytes | np.ndarray
Progress = Callable[[], None] | None
Errors = dict[int, ImageError] | None

UNNAMED = "the picture"  # what an error calls one that came as bytes
_MOST_WAITING = 64  # pictures in memory for others of their canvas
MOST_DECODERS = 4  # threads; a network takes longer over a picture than decoding it


@dataclass(frozen=True)
class Preparation:
    """How a picture becomes what a network takes.

    Args:
        short: pixels that a picture's short side is resized to.
        long: pixels that its long side may have at most.
        canvases: (height, width) to choose from; none: a picture has a canvas of its own.
        resizing: "smooth" or "plain", as of ``DetectionModel``.
        multiple: of so many pixels are the sides of a canvas of its own.
    """

    short: int
    long: int
    canvases: tuple[Size, ...]
    resizing: str
    multiple: int = STRIDE

    def read(self, image: Image) -> tuple[np.ndarray, int]:
        """A picture as uint8 (H, W, 3), and by how much both sides were divided in reading it.

        A file may be read smaller than it is, as in training, where much is left to shrink.
        """
        if isinstance(image, np.ndarray):
            return checked(image), 1
        plain = self._plain  # which takes single pixels, not means
        if isinstance(image, bytes):
            if plain:
                return decode_image(image, UNNAMED), 1
            return decode_reduced(image, UNNAMED, self.short, self.long)
        return (read_image(image), 1) if plain else read_reduced(image, self.short, self.long)

    def apply(self, pixels: np.ndarray) -> tuple[np.ndarray, Size, tuple[float, float]]:
        """Resize a picture, uint8 (H, W, 3), and pad it: as ``data.resizing.prepare``."""
        resized = prepare_plain if self._plain else prepare
        height, width = pixels.shape[:2]
        return resized(pixels, self.short, self.long, self.canvas((height, width)))

    def canvas(self, size: Size) -> Size:
        """The canvas (height, width) of a picture of this ``size``."""
        return canvas_for(size, self.short, self.long, self.canvases, self._plain, self.multiple)

    @property
    def _plain(self) -> bool:
        return self.resizing == "plain"


class Prepared(NamedTuple):
    """A picture on its canvas, and the way back to its own pixels."""

    pixels: np.ndarray  # uint8 or float32 (H, W, 3), padded to its canvas
    size: Size  # of the valid part
    scale: tuple[float, float]  # new over old, of (y, x)
    original: Size


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
            ``labels`` (B, D) and ``count`` (B,), how many of the D rows are real.
        """

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
        for group in self._groups(images, batch, errors):
            found = self.detect_prepared([item for _, item in group], batch)
            for (index, _), detections in zip(group, found, strict=True):
                results[index] = detections.above(score)
                if progress:
                    progress()
        for index in range(len(images)):
            if index not in results:  # it is among the errors
                results[index] = self.nothing()
                if progress:
                    progress()
        return [results[index] for index in range(len(images))]

    def nothing(self) -> Detections:
        """No objects, as of a picture that cannot be read."""
        return Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), self.classes)

    def prepare(self, image: Image) -> Prepared:
        """Read a picture, resize it and lay it on its canvas; any thread may.

        Raises:
            ValueError: as ``detect``.
        """
        return _prepare(self.preparation, image)

    def _groups(
        self, images: list[Image], batch: int, errors: Errors
    ) -> Iterator[list[tuple[int, Prepared]]]:
        """Prepared pictures with their places, in groups of up to ``batch`` that share a canvas.

        Pictures are decoded by threads, a little ahead of the network. Those that cannot be read
        are in no group. Where many canvases differ, the group that waits longest goes as it is.
        """
        waiting: dict[tuple[int, ...], list[tuple[int, Prepared]]] = {}
        for index, item in enumerate(self._prepared(images, 2 * batch)):
            if isinstance(item, ImageError):
                if errors is None:
                    raise item
                errors[index] = item
                continue
            group = waiting.setdefault(item.pixels.shape, [])
            group.append((index, item))
            if len(group) == batch:
                yield waiting.pop(item.pixels.shape)
            elif sum(map(len, waiting.values())) > max(_MOST_WAITING, batch):
                yield waiting.pop(next(iter(waiting)))
        yield from waiting.values()

    def _prepared(self, images: list[Image], depth: int) -> Iterator[Prepared | ImageError]:
        """Prepared pictures in order, or what is wrong with them, up to ``depth`` ahead."""
        prepare = partial(_prepared_or_error, self.preparation)
        if len(images) == 1:  # nothing to decode ahead
            yield prepare(images[0])
            return
        with ThreadPoolExecutor(min(MOST_DECODERS, available_cores())) as pool:
            yield from _ahead(pool, prepare, images, depth)

    def detect_prepared(self, group: Sequence[Prepared], batch: int) -> list[Detections]:
        """Find objects in prepared pictures that share a canvas.

        Args:
            group: up to ``batch`` pictures from ``prepare``, with ``pixels`` of one shape.
            batch: as of ``detect``.
        """
        images = np.stack([item.pixels for item in group])
        sizes = np.array([item.size for item in group], np.int32)
        missing = batch - len(group) if self.fills_batches else 0
        if missing > 0:
            images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
            sizes = np.concatenate([sizes, np.full((missing, 2), 1, sizes.dtype)])
        found = self.infer(images, sizes)
        return [self._to_detections(item, found, row) for row, item in enumerate(group)]

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


def available_cores() -> int:
    """Cores that this process may run on: a container or ``taskset`` may leave it but some."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _prepare(preparation: Preparation, image: Image) -> Prepared:
    pixels, by = preparation.read(image)
    height, width = pixels.shape[:2]
    padded, size, (down, across) = preparation.apply(pixels)
    return Prepared(padded, size, (down / by, across / by), (height * by, width * by))


def _prepared_or_error(preparation: Preparation, image: Image) -> Prepared | ImageError:
    try:
        return _prepare(preparation, image)
    except ImageError as error:
        return error


def checked(image: np.ndarray) -> np.ndarray:
    """A picture's pixels as they are.

    Raises:
        ValueError: they are not uint8 (H, W, 3).
    """
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
