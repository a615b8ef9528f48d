"""How a picture becomes what a network takes, and the way back to its own pixels; no Keras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from frcnn.data.faults import ImageError
from frcnn.data.images import decode_image, decode_reduced, read_image, read_reduced
from frcnn.data.resizing import STRIDE, Size, canvas_for, fit, fit_plain, lay

Image = str | Path | bytes | np.ndarray

UNNAMED = "the picture"  # what an error calls one that came as bytes


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

    def prepare(self, image: Image) -> Prepared:
        """Read a picture and resize it for its canvas.

        Raises:
            ValueError: it cannot be read, with its name, or is an array of other shape.
        """
        pixels, by = self.read(image)
        height, width = pixels.shape[:2]
        canvas = self.canvas((height, width))
        resized = fit_plain if self._plain else fit
        picture, (down, across) = resized(pixels, self.short, self.long, canvas)
        return Prepared(picture, canvas, (down / by, across / by), (height * by, width * by))

    def apply(self, pixels: np.ndarray) -> tuple[np.ndarray, Size, tuple[float, float]]:
        """Resize one picture, uint8 (H, W, 3), and lay it on a canvas of its own.

        Returns:
            As ``data.resizing.prepare``; float32 where ``resizing`` is "plain".
        """
        prepared = self.prepare(pixels)
        images = np.empty((1, *prepared.canvas, 3), prepared.pixels.dtype)
        lay_all([prepared], images)
        return images[0], prepared.pixels.shape[:2], prepared.scale

    def prepare_or_error(self, image: Image) -> Prepared | ImageError:
        """As ``prepare``, or what is wrong with a picture that cannot be read."""
        try:
            return self.prepare(image)
        except ImageError as error:
            return error

    def canvas(self, size: Size) -> Size:
        """The canvas (height, width) of a picture of this ``size``."""
        return canvas_for(size, self.short, self.long, self.canvases, self._plain, self.multiple)

    @property
    def _plain(self) -> bool:
        return self.resizing == "plain"


class Prepared(NamedTuple):
    """A picture in the network's pixels, and the way back to its own."""

    pixels: np.ndarray  # uint8 or float32 (h, w, 3); an array that was given, if of that size
    canvas: Size  # that it is to lie on
    scale: tuple[float, float]  # new over old, of (y, x)
    original: Size


def lay_all(pictures: Sequence[Prepared], images: np.ndarray) -> np.ndarray:
    """Lay pictures of one canvas on it, each at the top left with zeros beside it.

    Args:
        pictures: up to B of them.
        images: (B, H, W, 3), filled here; of rows without a picture only zeros become.

    Returns:
        int32 (B, 2), height and width of each picture; 1 where there is none.
    """
    sizes = np.ones((len(images), 2), np.int32)
    for row, item in enumerate(pictures):
        lay(item.pixels, images[row])
        sizes[row] = item.pixels.shape[:2]
    images[len(pictures) :] = 0
    return sizes


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
