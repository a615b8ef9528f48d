"""How a picture becomes what a network takes, and the way back to its own pixels; no Keras."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from frcnn.data.faults import ImageError
from frcnn.data.images import decode_image, decode_reduced, read_image, read_reduced
from frcnn.data.resizing import STRIDE, Size, canvas_for, prepare, prepare_plain

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

    def apply(self, pixels: np.ndarray) -> tuple[np.ndarray, Size, tuple[float, float]]:
        """Resize a picture, uint8 (H, W, 3), and pad it: as ``data.resizing.prepare``."""
        resized = prepare_plain if self._plain else prepare
        height, width = pixels.shape[:2]
        return resized(pixels, self.short, self.long, self.canvas((height, width)))

    def prepare(self, image: Image) -> Prepared:
        """Read a picture, resize it and lay it on its canvas.

        Raises:
            ValueError: it cannot be read, with its name, or is an array of other shape.
        """
        pixels, by = self.read(image)
        height, width = pixels.shape[:2]
        padded, size, (down, across) = self.apply(pixels)
        return Prepared(padded, size, (down / by, across / by), (height * by, width * by))

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
    """A picture on its canvas, and the way back to its own pixels."""

    pixels: np.ndarray  # uint8 or float32 (H, W, 3), padded to its canvas
    size: Size  # of the valid part
    scale: tuple[float, float]  # new over old, of (y, x)
    original: Size


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
