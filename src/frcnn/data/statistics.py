"""What a split of a data set holds, in figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from frcnn.data.anchor_fit import BINS, square_sides
from frcnn.data.dataset import Dataset, trained_on
from frcnn.data.object_sizes import Objects, objects_at

_MOST_SIZES = 5  # of pictures, the most frequent
_SHARES = (0, 5, 50, 95, 100)  # percentiles


@dataclass(frozen=True)
class SplitFigures:
    """What a split holds.

    Args:
        name: of the split; None for a data set without any.
        images: usable pictures.
        empty: pictures without objects.
        boxes: sound boxes, difficult ones included.
        difficult: of them, those neither trained on nor scored.
        classes: boxes of each class.
        picture_sizes: the five most frequent: ``width``, ``height`` and ``images``.
        sides: percentiles 0, 5, 50, 95, 100 of the objects' sizes, the square roots of their areas
            in pixels of the picture.
        sides_in_training: the same at the training size.
        bins: objects by that size: ``from`` (pixels) and ``boxes``.
        ratios: percentiles of the objects' height over width.
    """

    name: str | None
    images: int
    empty: int
    boxes: int
    difficult: int
    classes: dict[str, int]
    picture_sizes: tuple[dict[str, int], ...]
    sides: dict[str, float]
    sides_in_training: dict[str, float]
    bins: tuple[dict[str, int], ...]
    ratios: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, by the names of the arguments."""
        return {
            **vars(self),
            "picture_sizes": list(self.picture_sizes),
            "bins": list(self.bins),
        }


def split_figures(name: str | None, dataset: Dataset, short: int, long: int) -> SplitFigures:
    """Count and measure a split; ``short`` and ``long`` are of the training size."""
    objects = objects_at(dataset, short, long)
    counts = dataset.box_counts()
    sizes = Counter(sample.size for sample in dataset if sample.size)
    sides = square_sides(objects.boxes)
    wide, high = (objects.boxes[:, 2:] - objects.boxes[:, :2]).T
    return SplitFigures(
        name,
        images=len(dataset),
        empty=sum(not len(sample.labels) for sample in dataset),
        boxes=sum(counts.values()),
        difficult=sum(int((~trained_on(sample)).sum()) for sample in dataset),
        classes=counts,
        picture_sizes=tuple(
            {"width": width, "height": height, "images": count}
            for (height, width), count in sizes.most_common(_MOST_SIZES)
        ),
        sides=_percentiles(sides / objects.scales),
        sides_in_training=_percentiles(sides),
        bins=_binned(objects),
        ratios=_percentiles(high / wide),
    )


def _binned(objects: Objects) -> tuple[dict[str, int], ...]:
    counts, _ = np.histogram(square_sides(objects.boxes), (*BINS, np.inf))
    return tuple(
        {"from": low, "boxes": int(count)} for low, count in zip(BINS, counts, strict=True)
    )


def _percentiles(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    found = np.percentile(values, _SHARES)
    return {str(share): float(value) for share, value in zip(_SHARES, found, strict=True)}
