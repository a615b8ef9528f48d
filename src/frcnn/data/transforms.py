"""Random changes of a picture and its boxes for training.

Every transform is called as ``transform(image, boxes, labels, rng)`` with uint8 (H, W, 3) RGB,
float32 (N, 4) xyxy in pixels, int64 (N,) and a ``numpy.random.Generator``, and gives the three
back as new arrays, or the given ones where nothing changed; inputs are never written to. Several
are applied in turn by ``apply``. How often a transform draws does not depend on the picture's
content, so runs repeat.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from frcnn.data.resizing import resize, scaled_size

Labelled = tuple[np.ndarray, np.ndarray, np.ndarray]
Transform = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], Labelled]

# Luma of ITU-R BT.601, as OpenCV's grey conversion has it.
_LUMA = np.array([0.299, 0.587, 0.114])


def apply(
    transforms: Iterable[Transform],
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
) -> Labelled:
    """Apply ``transforms`` one after the other; shapes as in this module's description."""
    for transform in transforms:
        image, boxes, labels = transform(image, boxes, labels, rng)
    return image, boxes, labels


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirror left and right with probability ``p``."""

    p: float = 0.5

    def __call__(self, image, boxes, labels, rng) -> Labelled:
        """See the module."""
        if rng.random() >= self.p:
            return image, boxes, labels
        width = image.shape[1]
        flipped = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
        return cv2.flip(image, 1), flipped.astype(np.float32), labels


@dataclass(frozen=True)
class VerticalFlip:
    """Mirror top and bottom with probability ``p``."""

    p: float = 0.5

    def __call__(self, image, boxes, labels, rng) -> Labelled:
        """See the module."""
        if rng.random() >= self.p:
            return image, boxes, labels
        height = image.shape[0]
        flipped = np.stack(
            [boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], 1
        )
        return cv2.flip(image, 0), flipped.astype(np.float32), labels


@dataclass(frozen=True)
class Rotate90:
    """Turn by 90, 180 or 270 degrees, each as likely, with probability ``p``."""

    p: float = 0.5

    def __call__(self, image, boxes, labels, rng) -> Labelled:
        """See the module."""
        turned, quarters = rng.random() < self.p, int(rng.integers(1, 4))
        if not turned:
            return image, boxes, labels
        code = (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)
        height = image.shape[0]
        image = cv2.rotate(image, code[quarters - 1])
        for _ in range(quarters):  # a quarter clockwise: (x, y) goes to (height - y, x)
            x1, y1, x2, y2 = boxes.T
            boxes = np.stack([height - y2, x1, height - y1, x2], 1).astype(np.float32)
            height = image.shape[0] + image.shape[1] - height
        return image, boxes, labels


@dataclass(frozen=True)
class ScaleJitter:
    """Make everything larger or smaller by a factor drawn from ``low``..``high``.

    The factor is drawn evenly on a logarithmic scale. Above 1 a random window of the picture is
    kept, below 1 the picture is laid at a random place on a larger black one, either of the same
    proportions: brought to the working size afterwards, objects are that much larger or smaller
    (the large-scale jitter of Ghiasi et al., "Simple Copy-Paste", section 3).
    """

    low: float = 0.5
    high: float = 1.5

    def __post_init__(self):
        if not 0 < self.low <= self.high:
            raise ValueError(f"Expected 0 < low <= high. Received: {self.low}, {self.high}.")

    def __call__(self, image, boxes, labels, rng) -> Labelled:
        """See the module."""
        factor = float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
        place = rng.random(2)
        height, width = image.shape[:2]
        size = max(round(height / factor), 1), max(round(width / factor), 1)
        top, left = (
            int(part * (abs(new - old) + 1))
            for part, new, old in zip(place, size, (height, width), strict=True)
        )
        if factor >= 1:
            return crop(image, boxes, labels, (left, top, left + size[1], top + size[0]))
        larger = np.zeros((*size, 3), np.uint8)
        larger[top : top + height, left : left + width] = image
        shift = np.array([left, top, left, top], np.float32)
        return larger, boxes + shift, labels


@dataclass(frozen=True)
class LargeScaleJitter:
    """Make everything larger or smaller by a factor drawn evenly from ``low``..``high``.

    The large-scale jitter of Ghiasi et al., "Simple Copy-Paste" (2021), section 3: above 1 a random
    window of the picture is kept, below 1 the picture shrinks and lies at a random place on a black
    one of the same size. ``ScaleJitter``, for small changes, loses no pixels where it shrinks.
    """

    low: float = 0.1
    high: float = 2.0

    def __post_init__(self):
        if not 0 < self.low <= self.high:
            raise ValueError(f"Expected 0 < low <= high. Received: {self.low}, {self.high}.")

    def __call__(self, image, boxes, labels, rng) -> Labelled:
        """See the module."""
        factor = float(rng.uniform(self.low, self.high))
        place = rng.random(2)
        whole = image.shape[:2]
        size = scaled_size(whole, factor if factor < 1 else 1 / factor)
        top, left = (
            int(part * (side - own + 1)) for part, side, own in zip(place, whole, size, strict=True)
        )
        if factor >= 1:
            return crop(image, boxes, labels, (left, top, left + size[1], top + size[0]))
        framed = np.zeros_like(image)
        framed[top : top + size[0], left : left + size[1]] = resize(image, size)
        down, across = size[0] / whole[0], size[1] / whole[1]
        scale = np.array([across, down, across, down], np.float32)
        return framed, boxes * scale + np.array([left, top, left, top], np.float32), labels


@dataclass(frozen=True)
class RandomCrop:
    """Keep a random window with probability ``p``; each side at least ``low`` of the picture's.

    Boxes whose centre stays are kept, clipped. Windows are drawn until one keeps an object, at
    most ``tries`` times; then the picture stays whole.
    """

    p: float = 0.5
    low: float = 0.5
    tries: int = 10

    def __post_init__(self):
        if not 0 < self.low <= 1:
            raise ValueError(f"Expected 0 < low <= 1. Received: {self.low}.")

    def __call__(self, image, boxes, labels, rng) -> Labelled:
        """See the module."""
        if rng.random() >= self.p:
            return image, boxes, labels
        height, width = image.shape[:2]
        for _ in range(self.tries):
            rows = max(round(height * rng.uniform(self.low, 1)), 1)
            columns = max(round(width * rng.uniform(self.low, 1)), 1)
            top = int(rng.integers(height - rows + 1))
            left = int(rng.integers(width - columns + 1))
            cropped = crop(image, boxes, labels, (left, top, left + columns, top + rows))
            if len(cropped[1]) or not len(boxes):
                return cropped
        return image, boxes, labels


@dataclass(frozen=True)
class Photometric:
    """Change brightness, contrast, saturation and hue, each by a draw of its own.

    All four are linear in RGB, so they are one 3x4 matrix applied once.

    Args:
        brightness: largest change, in parts of the full range (0.125 is 32 of 255).
        contrast: the distance from mid-grey is multiplied by 1 - contrast .. 1 + contrast.
        saturation: likewise for the distance from the pixel's own grey.
        hue: largest turn of the colours about the grey axis, in degrees.
    """

    brightness: float = 0.125
    contrast: float = 0.3
    saturation: float = 0.3
    hue: float = 10.0

    def __call__(self, image, boxes, labels, rng) -> Labelled:
        """See the module."""
        shift, contrast, saturation, hue = rng.uniform(-1, 1, 4) * (
            self.brightness,
            self.contrast,
            self.saturation,
            self.hue,
        )
        matrix = _turn_about_grey(np.deg2rad(hue))
        grey = np.tile(_LUMA, (3, 1))
        matrix = (1 + saturation) * matrix + (1 - (1 + saturation)) * grey @ matrix
        matrix = (1 + contrast) * matrix
        offset = 255 * shift + 127.5 * (1 - (1 + contrast))
        coefficients = np.hstack([matrix, np.full((3, 1), offset)])
        return cv2.transform(image, coefficients), boxes, labels


def largest_zoom(transforms: Iterable[Transform]) -> float:
    """How many times larger than the whole picture would be, a part of it may come to be shown.

    Infinity where one of them is not of this module, so that nobody knows.
    """
    zoom = 1.0
    for transform in transforms:
        match transform:
            case HorizontalFlip() | VerticalFlip() | Rotate90() | Photometric():
                pass
            case ScaleJitter() | LargeScaleJitter():
                zoom *= max(transform.high, 1.0)
            case RandomCrop():
                zoom /= transform.low
            case _:
                return math.inf
    return zoom


def crop(
    image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, window: tuple[int, int, int, int]
) -> Labelled:
    """Cut out ``window`` (xyxy, whole pixels); boxes whose centre stays are kept, clipped."""
    x1, y1, x2, y2 = window
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((centres >= (x1, y1)) & (centres < (x2, y2))).all(axis=1)
    shifted = boxes[inside] - np.array([x1, y1, x1, y1], np.float32)
    clipped = np.clip(shifted, 0, np.array([x2 - x1, y2 - y1] * 2, np.float32))
    return image[y1:y2, x1:x2].copy(), clipped, labels[inside]


def _turn_about_grey(angle: float) -> np.ndarray:
    """The 3x3 matrix that turns RGB about the axis (1, 1, 1) (Rodrigues' formula)."""
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
