"""Bringing pictures to a working size, and to one of a few fixed canvases.

A picture is scaled so that its short side has ``short`` pixels, or less where its long side
would pass ``long`` (Faster R-CNN, section 3.3), and then laid at the top left of a canvas.
Canvases are few because each is a shape that the network is compiled for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

Size = tuple[int, int]

STRIDE = 32  # canvas sides are multiples of the coarsest feature map's stride

# Padding all pictures by this share is cheaper than compiling the network for one more canvas.
_SPARED = 0.05


def scale_for(size: Size, short: int, long: int) -> float:
    """The factor that brings a picture of ``size`` (height, width) to the working size."""
    return min(short / min(size), long / max(size))


def fitting_scale(size: Size, short: int, long: int, canvas: Size) -> float:
    """``scale_for``, or less where the picture would pass the canvas (height, width)."""
    return min(scale_for(size, short, long), canvas[0] / size[0], canvas[1] / size[1])


def long_side(short: int) -> int:
    """The cap on the long side in training: 1000 for a short side of 600, as in the paper."""
    return round(short * 1000 / 600)


def reduction(size: Size, short: int, long: int, zoom: float = 1.0) -> int:
    """By how much a picture may be reduced as it is decoded, before it is resized.

    Args:
        size: (height, width) of the picture.
        short: pixels of the short side after resizing.
        long: most pixels of the long side after resizing.
        zoom: how much larger than that some of it may be shown.

    Returns:
        8, 4, 2 or 1. It divides both sides, so that coordinates are divided by it exactly, and
        leaves at least as many pixels as are wanted.
    """
    wanted = scale_for(size, short, long) * zoom
    fitting = (by for by in (8, 4, 2) if by * wanted <= 1 and not (size[0] % by or size[1] % by))
    return next(fitting, 1)


def scaled_size(size: Size, scale: float) -> Size:
    """(height, width) in whole pixels after scaling; at least one pixel each."""
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def plain_size(size: Size, short: int, long: int) -> Size:
    """(height, width) that torchvision resizes a picture to: rounded down."""
    scale = scale_for(size, short, long)
    return max(int(size[0] * scale), 1), max(int(size[1] * scale), 1)


def plan_canvases(
    sizes: Iterable[Size], short: int, long: int, stride: int = 32, limit: int = 3
) -> tuple[Size, ...]:
    """Choose a few canvases that hold every picture with little padding.

    Neighbouring canvases are joined, the cheapest pair first, until there are at most ``limit``
    and no further join costs less than a twentieth of the area.

    Args:
        sizes: (height, width) of the pictures in pixels, as they are on disk.
        short: pixels of the short side after resizing.
        long: most pixels of the long side after resizing.
        stride: canvas sides are multiples of it.
        limit: most canvases, at least 1.

    Returns:
        (height, width) of each canvas, the smallest area first.

    Raises:
        ValueError: no sizes.
    """
    counts: dict[Size, int] = {}
    for height, width in sizes:
        size = int(height), int(width)
        rows, columns = scaled_size(size, scale_for(size, short, long))
        canvas = (-(-rows // stride) * stride, -(-columns // stride) * stride)
        counts[canvas] = counts.get(canvas, 0) + 1
    if not counts:
        raise ValueError("Expected the size of at least one picture. Received: none.")
    canvases, weights = np.array(list(counts)), np.array(list(counts.values()))
    return _join(canvases, weights, limit)


def _join(canvases: np.ndarray, weights: np.ndarray, limit: int) -> tuple[Size, ...]:
    """Join canvases int (N, 2), holding ``weights`` (N,) pictures, greedily."""
    budget = _SPARED * (canvases.prod(axis=1) * weights).sum()
    while len(canvases) > 1:
        joined = np.maximum(canvases[:, None], canvases[None])  # [N,N,2]
        padded = canvases.prod(axis=1) * weights
        together = joined.prod(axis=2) * (weights[:, None] + weights[None])
        cost = (together - padded[:, None] - padded[None]).astype(float)
        np.fill_diagonal(cost, np.inf)
        first, second = np.unravel_index(cost.argmin(), cost.shape)
        budget -= cost[first, second]
        if len(canvases) <= limit and budget < 0:
            break
        canvases[first] = joined[first, second]
        weights[first] += weights[second]
        canvases, weights = np.delete(canvases, second, 0), np.delete(weights, second)
    order = np.lexsort((canvases[:, 0], canvases.prod(axis=1)))
    return tuple((int(height), int(width)) for height, width in canvases[order])


def fit_canvas(size: Size, canvases: Sequence[Size]) -> Size:
    """The smallest canvas that holds a resized picture of ``size`` (height, width).

    Where none does, the one that it must be shrunk least for.
    """

    def badness(canvas: Size) -> tuple[float, int]:
        return max(size[0] / canvas[0], size[1] / canvas[1], 1.0), canvas[0] * canvas[1]

    return min(canvases, key=badness)


def scaled_canvas(canvas: Size, factor: float) -> Size:
    """The canvas for pictures ``factor`` times as large as those that ``canvas`` is for."""
    if factor == 1:
        return canvas
    height, width = (math.ceil(side * factor / STRIDE) * STRIDE for side in canvas)
    return height, width


def resize(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize uint8 (H, W, 3) to ``size`` (height, width) by bilinear interpolation.

    A picture more than twice as large is halved first: bilinear sampling alone would skip pixels,
    halving is their mean, and OpenCV's own mean over any factor takes ten times as long.
    """
    if image.shape[:2] == tuple(size):
        return image
    while min(image.shape[0] / size[0], image.shape[1] / size[1]) > 2:
        half = (-(-image.shape[1] // 2), -(-image.shape[0] // 2))
        image = cv2.resize(image, half, interpolation=cv2.INTER_LINEAR)
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def canvas_for(
    size: Size,
    short: int,
    long: int,
    canvases: Sequence[Size] = (),
    plain: bool = False,
    multiple: int = STRIDE,
) -> Size:
    """The canvas for a picture of ``size`` (height, width) on disk.

    Args:
        size: of the picture.
        short: pixels of the short side after resizing.
        long: most pixels of the long side after resizing.
        canvases: to choose from; none: a canvas of its own, its sides rounded up.
        plain: whether ``fit_plain`` will resize it.
        multiple: of so many pixels are the sides of a canvas of its own.
    """
    if plain:
        resized = plain_size(size, short, long)
    else:
        resized = scaled_size(size, scale_for(size, short, long))
    if not canvases:
        return -(-resized[0] // multiple) * multiple, -(-resized[1] // multiple) * multiple
    return fit_canvas(resized, canvases)


def fit(
    image: np.ndarray, short: int, long: int, canvas: Size
) -> tuple[np.ndarray, tuple[float, float]]:
    """Resize a picture to lie on a canvas.

    Args:
        image: uint8 (H, W, 3).
        short: pixels of the short side after resizing.
        long: most pixels of the long side after resizing.
        canvas: (height, width); a picture that would pass it is shrunk further.

    Returns:
        The picture, uint8, ``image`` itself where it has that size; and the true scale, new over
        old, of (y, x): rounding to whole pixels makes the two differ.
    """
    height, width = image.shape[:2]
    size = scaled_size((height, width), fitting_scale((height, width), short, long, canvas))
    return resize(image, size), (size[0] / height, size[1] / width)


def fit_plain(
    image: np.ndarray, short: int, long: int, canvas: Size
) -> tuple[np.ndarray, tuple[float, float]]:
    """``fit`` as torchvision does: one bilinear interpolation in float32, sizes rounded down.

    Its weights were trained on pictures resized in this way, and give the published results on
    such alone. A large picture made small is not smoothed first.

    Returns:
        As ``fit``; the picture is float32, 0..255.
    """
    size = plain_size(image.shape[:2], short, long)
    if size[0] > canvas[0] or size[1] > canvas[1]:  # no canvas holds it
        shrink = min(canvas[0] / size[0], canvas[1] / size[1])
        size = max(int(size[0] * shrink), 1), max(int(size[1] * shrink), 1)
    resized = _interpolate(_interpolate(image, size[0], 0), size[1], 1)
    return resized, (size[0] / image.shape[0], size[1] / image.shape[1])


def _interpolate(image: np.ndarray, cells: int, axis: int) -> np.ndarray:
    """Linear interpolation along one axis in float32, to PyTorch's last bit of the coordinates."""
    last = image.shape[axis] - 1
    scale = np.float32(image.shape[axis]) / np.float32(cells)
    # Its multiplication and subtraction are fused, rounded once: as here, by way of float64.
    at = np.float64(scale) * (np.arange(cells) + 0.5) - 0.5
    at = at.astype(np.float32).clip(0)
    low = np.minimum(at.astype(np.int64), last)
    weight = (at - low.astype(np.float32)).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    below = np.take(image, low, axis).astype(np.float32)
    above = np.take(image, np.minimum(low + 1, last), axis).astype(np.float32)
    return below * (1 - weight) + above * weight


def lay(picture: np.ndarray, canvas: np.ndarray) -> None:
    """Lay a picture (h, w, 3) at the top left of a canvas (H, W, 3), with zeros beside it."""
    height, width = picture.shape[:2]
    canvas[:height, :width] = picture
    canvas[:height, width:] = 0
    canvas[height:] = 0


def prepare(
    image: np.ndarray, short: int, long: int, canvas: Size
) -> tuple[np.ndarray, Size, tuple[float, float]]:
    """``fit`` a picture and ``lay`` it on a canvas of its own.

    Returns:
        The canvas, uint8; the (height, width) of its valid part; and the scale of (y, x).
    """
    picture, scale = fit(image, short, long, canvas)
    padded = np.empty((*canvas, 3), np.uint8)
    lay(picture, padded)
    return padded, picture.shape[:2], scale
