"""How well anchors fit the boxes of a data set, and which would fit better."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

BINS = (0, 16, 32, 64, 128, 256)  # pixels: lower ends of the sizes that boxes are sorted into
HIGH, LOW = 0.7, 0.5  # IoU: of a foreground anchor in the paper, and what refining can mend

_AT_ONCE = 1 << 15  # boxes compared with all anchors of a cell
_FEWEST = 50  # boxes from which anchors are suggested
_GAIN = 0.03  # of the share above LOW, or of the mean, that makes other anchors worth their while
_ROUNDS = 100


@dataclass(frozen=True)
class Anchors:
    """The anchors of a network, as ``frcnn.models.rpn.AnchorGrid`` has them.

    Args:
        strides: pixels from one cell to the next, one a level.
        sizes: square roots of the areas in pixels, one tuple a level.
        ratios: height over width.
        offset: where in its cell an anchor is centred.
        rounded: whether corners are rounded to whole pixels.
    """

    strides: tuple[int, ...]
    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...]
    offset: float = 0.5
    rounded: bool = False

    def halves(self, level: int) -> np.ndarray:
        """Half the width and height of each anchor on a cell: float64 (sizes * ratios, 2)."""
        side = np.asarray(self.sizes[level], np.float64)[None]
        root = np.sqrt(np.asarray(self.ratios, np.float64))[:, None]
        halves = np.stack([side / root, side * root], axis=-1).reshape(-1, 2) / 2
        return np.round(halves) if self.rounded else halves


@dataclass(frozen=True)
class Fit:
    """How well anchors fit.

    Args:
        boxes: how many were compared.
        mean: of the boxes' IoU with their best anchor, 0..1.
        high: the share of boxes with an anchor of IoU 0.7 or more.
        low: the same of 0.5.
        bins: the same by size: ``from`` (pixels of the square root of the area), ``boxes``,
            ``high`` and ``low``; sizes without boxes are left out.
    """

    boxes: int
    mean: float
    high: float
    low: float
    bins: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, by the names of the arguments."""
        return {**asdict(self), "bins": list(self.bins)}


def best_ious(boxes: np.ndarray, extents: np.ndarray, anchors: Anchors) -> np.ndarray:
    """Each box's IoU with the best of all anchors of its picture, float64 (N,).

    Of the anchors of one shape none overlaps a box more than the one centred nearest to it, so the
    others need not be looked at.

    Args:
        boxes: (N, 4), xyxy in pixels of the resized picture.
        extents: (N, 2), width and height of the picture of each, in the same pixels.
        anchors: their strides are taken as they are: torchvision's coarsest level, whose cells can
            stand a few pixels closer, is taken as if they did not.
    """
    best = np.zeros(len(boxes))
    for start in range(0, len(boxes), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        corners = np.asarray(boxes[part], np.float64)
        for level, stride in enumerate(anchors.strides):
            halves = anchors.halves(level)
            ious = _level_ious(corners, extents[part], stride, anchors.offset, halves)
            best[part] = np.maximum(best[part], ious)
    return best


def _level_ious(
    boxes: np.ndarray, extents: np.ndarray, stride: int, offset: float, halves: np.ndarray
) -> np.ndarray:
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    cells = np.ceil(np.asarray(extents) / stride)
    nearest = np.clip(np.round(centres / stride - offset), 0, cells - 1)
    centres = ((nearest + offset) * stride)[:, None]  # [N, 1, 2]
    low = np.maximum(boxes[:, None, :2], centres - halves)  # [N, K, 2]
    high = np.minimum(boxes[:, None, 2:], centres + halves)
    common = np.clip(high - low, 0, None).prod(axis=2)  # [N, K]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[:, None]
    return (common / (areas + 4 * halves.prod(axis=1) - common)).max(axis=1)


def measure_fit(boxes: np.ndarray, extents: np.ndarray, anchors: Anchors) -> Fit:
    """Compare boxes with anchors; arguments as of ``best_ious``, at least one box."""
    ious = best_ious(boxes, extents, anchors)
    sides = square_sides(boxes)
    bins = []
    for low, high in zip(BINS, (*BINS[1:], np.inf), strict=True):
        inside = ious[(sides >= low) & (sides < high)]
        if len(inside):
            bins.append({"from": low, "boxes": len(inside), **_shares(inside)})
    return Fit(len(ious), float(ious.mean()), bins=tuple(bins), **_shares(ious))


def _shares(ious: np.ndarray) -> dict[str, float]:
    return {"high": float((ious >= HIGH).mean()), "low": float((ious >= LOW).mean())}


def square_sides(boxes: np.ndarray) -> np.ndarray:
    """The square roots of the areas of xyxy boxes (N, 4), float64 (N,)."""
    corners = np.asarray(boxes, np.float64)
    return np.sqrt((corners[:, 2:] - corners[:, :2]).prod(axis=1))


def suggest_anchors(
    boxes: np.ndarray, extents: np.ndarray, anchors: Anchors
) -> tuple[Anchors, Fit] | None:
    """As many anchors, but with sizes and ratios that are the means of clusters of the boxes'.

    Args:
        boxes: as of ``best_ious``.
        extents: likewise.
        anchors: those there are.

    Returns:
        The anchors with how they fit, or None where that is hardly better, or boxes are too few.
    """
    if len(boxes) < _FEWEST:
        return None
    per_level = len(anchors.sizes[0])
    wide, high = (np.asarray(boxes[:, 2:], np.float64) - boxes[:, :2]).T
    sizes = _means(square_sides(boxes), len(anchors.strides) * per_level)
    ratios = _means(high / wide, len(anchors.ratios))
    levels = [sizes[at : at + per_level] for at in range(0, len(sizes), per_level)]
    suggested = Anchors(
        anchors.strides,
        tuple(tuple(float(max(round(size), 1)) for size in level) for level in levels),
        tuple(round(float(ratio), 2) for ratio in ratios),
        anchors.offset,
        anchors.rounded,
    )
    now, then = (measure_fit(boxes, extents, each) for each in (anchors, suggested))
    better = max(then.low - now.low, then.mean - now.mean) >= _GAIN and then.low >= now.low
    return (suggested, then) if better else None


def _means(values: np.ndarray, count: int) -> np.ndarray:
    """Geometric means of ``count`` clusters of positive values, ascending (Lloyd 1982)."""
    values = np.log(np.sort(values))
    sums = np.concatenate([[0], np.cumsum(values)])
    means = np.quantile(values, (np.arange(count) + 0.5) / count)
    for _ in range(_ROUNDS):
        borders = np.searchsorted(values, (means[1:] + means[:-1]) / 2)
        borders = np.concatenate([[0], borders, [len(values)]])
        sizes = np.diff(borders)
        filled = sizes > 0
        new = means.copy()
        new[filled] = np.diff(sums[borders])[filled] / sizes[filled]
        if np.array_equal(new, means):
            break
        means = new
    return np.exp(means)
