"""Four pictures as one (the mosaic of Bochkovskiy et al., "YOLOv4", 2020, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from frcnn.data.resizing import Size, resize, scale_for, scaled_size
from frcnn.data.transforms import Labelled, crop

PICTURES = 4

# Where the four meet, in shares of the canvas, and how large they are beside the working size:
# smaller ones would leave the canvas mostly black.
_JOINT = (0.3, 0.7)
_SCALE = (0.5, 1.0)


def mosaic(
    pictures: Sequence[Labelled], canvas: Size, short: int, long: int, rng: np.random.Generator
) -> Labelled:
    """Lay four pictures about one point of a canvas, each in a quarter and cut where that ends.

    All are made smaller than the working size by one factor. The corner of each that is next to
    the point lies on it. Boxes whose centre stays are kept, clipped.

    Args:
        pictures: four of uint8 (H, W, 3), float32 (N, 4) xyxy in pixels, int64 (N,).
        canvas: (height, width) of the result.
        short: working size of the short side in pixels.
        long: most pixels of the long side at that.
        rng: draws the point and the factor.

    Returns:
        uint8 (*canvas, 3), black where no picture reaches, with the boxes and labels of all four.
    """
    height, width = canvas
    row, column = (int(side * rng.uniform(*_JOINT)) for side in canvas)
    factor = rng.uniform(*_SCALE)
    # Of each quarter: its top left corner, its size, and whether it ends at the point.
    quarters = (
        ((0, 0), (row, column), (True, True)),
        ((0, column), (row, width - column), (True, False)),
        ((row, 0), (height - row, column), (False, True)),
        ((row, column), (height - row, width - column), (False, False)),
    )
    image = np.zeros((*canvas, 3), np.uint8)
    boxes, labels = [], []
    for picture, (corner, room, at_end) in zip(pictures, quarters, strict=True):
        scale = factor * scale_for(picture[0].shape[:2], short, long)
        tile, own, names = _tile(picture, scale, room, at_end)
        top, left = (
            start + (space - side if end else 0)
            for start, space, side, end in zip(corner, room, tile.shape, at_end, strict=False)
        )
        image[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        boxes.append(own + np.array([left, top, left, top], np.float32))
        labels.append(names)
    return image, np.concatenate(boxes), np.concatenate(labels)


def _tile(picture: Labelled, scale: float, room: Size, at_end: tuple[bool, bool]) -> Labelled:
    """A picture resized and cut to ``room`` on the sides that are away from the point."""
    image, boxes, labels = picture
    size = scaled_size(image.shape[:2], scale)
    down, across = size[0] / image.shape[0], size[1] / image.shape[1]
    kept = min(size[0], room[0]), min(size[1], room[1])
    top, left = (
        side - part if end else 0 for side, part, end in zip(size, kept, at_end, strict=True)
    )
    boxes = boxes * np.array([across, down, across, down], np.float32)
    window = (left, top, left + kept[1], top + kept[0])
    return crop(resize(image, size), boxes, labels, window)
