"""Anchors: the boxes a region proposal network starts from (Faster R-CNN paper, section 3.1.1).

Feature maps have static shapes, so anchors are constants and made with NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def base_anchors(
    sizes: Sequence[float], ratios: Sequence[float], rounded: bool = False
) -> np.ndarray:
    """The anchors of one cell, centred on (0, 0).

    Args:
        sizes: square roots of the areas, in pixels.
        ratios: height / width; every ratio of one size has the same area.
        rounded: round corners to whole pixels, as torchvision does.

    Returns:
        float32 ``[len(ratios) * len(sizes), 4]``, every size of the first ratio first.
    """
    root = np.sqrt(np.asarray(ratios, np.float32))[:, None]
    side = np.asarray(sizes, np.float32)[None, :]
    widths = (1 / root * side).reshape(-1)
    heights = (root * side).reshape(-1)
    anchors = np.stack([-widths, -heights, widths, heights], axis=1) / np.float32(2)
    return np.round(anchors) if rounded else anchors


def grid_anchors(
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[float | tuple[float, float]],
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[Sequence[float]],
    offset: float = 0.5,
    rounded: bool = False,
) -> np.ndarray:
    """The anchors of every cell of every feature map.

    Args:
        shapes: (height, width) of each level's feature map, in cells.
        strides: pixels from one cell to the next, of each level; a pair is (down, across).
        sizes: ``base_anchors``' sizes, of each level.
        ratios: ``base_anchors``' ratios, of each level.
        offset: where in its cell an anchor is centred: 0.5 is the middle, right for continuous
            coordinates; 0.0 the upper left corner, which is torchvision's convention.
        rounded: as of ``base_anchors``.

    Returns:
        float32 ``[A, 4]``, xyxy in pixels, in the order level, row, column, anchor of the cell.

    Raises:
        ValueError: as many shapes, strides, sizes and ratios were not given.
    """
    lengths = [len(shapes), len(strides), len(sizes), len(ratios)]
    if len(set(lengths)) != 1:
        raise ValueError(
            "Expected one shape, stride, tuple of sizes and tuple of ratios a level. "
            f"Received: {lengths[0]} shapes, {lengths[1]} strides, {lengths[2]} tuples of sizes "
            f"and {lengths[3]} of ratios."
        )
    levels = []
    for (height, width), stride, level_sizes, level_ratios in zip(
        shapes, strides, sizes, ratios, strict=True
    ):
        down, across = stride if isinstance(stride, tuple) else (stride, stride)
        y = (np.arange(height, dtype=np.float32) + np.float32(offset)) * np.float32(down)
        x = (np.arange(width, dtype=np.float32) + np.float32(offset)) * np.float32(across)
        x, y = np.meshgrid(x, y)  # [height, width] each
        centres = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
        cell = base_anchors(level_sizes, level_ratios, rounded)
        levels.append((centres + cell).reshape(-1, 4))
    return np.concatenate(levels)
