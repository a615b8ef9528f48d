"""How large objects are once their pictures have the size that a network is trained at."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from frcnn.data.anchor_fit import (
    HIGH,
    LOW,
    Anchors,
    Fit,
    measure_fit,
    square_sides,
    suggest_anchors,
)
from frcnn.data.dataset import trained_on
from frcnn.data.faults import Kind
from frcnn.data.findings import Finding, finding
from frcnn.data.resizing import STRIDE, scale_for
from frcnn.structures import Sample

SMALL = 16  # pixels; two cells of a stride of 8
_SHARE = 0.05  # of small objects that is not worth a word, and that a mending size may leave
_FITTING = 0.9  # of the boxes with an anchor above LOW
_FEWEST = 20  # objects of which shares say something
_LARGEST = 10_000  # pixels that a training may be asked for


@dataclass(frozen=True)
class Working:
    """What pictures become in training, and the anchors that meet them there.

    Args:
        preset: the architecture's name.
        short: pixels of the short side.
        long: most pixels of the long side; in proportion to ``short`` where that changes.
        anchors: of the network.
    """

    preset: str
    short: int
    long: int
    anchors: Anchors


@dataclass(frozen=True)
class Objects:
    """The objects that are trained on, at the size they are trained at.

    Args:
        boxes: float64 (N, 4), xyxy in pixels of the resized picture.
        extents: float64 (N, 2), width and height of the resized picture of each.
        scales: float64 (N,), by how much its picture was resized.
    """

    boxes: np.ndarray
    extents: np.ndarray
    scales: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def small_share(self) -> float:
        """The share of objects below 16 pixels, by the square root of their area."""
        return float((square_sides(self.boxes) < SMALL).mean())

    def mending_size(self, short: int) -> int:
        """The short side, a multiple of 32, at which at most a twentieth is below 16 pixels.

        Args:
            short: that of these boxes.
        """
        wanted = short * SMALL / square_sides(self.boxes)
        least = np.sort(wanted)[math.ceil((1 - _SHARE) * len(wanted)) - 1]
        return math.ceil(least / STRIDE) * STRIDE


def objects_at(samples: Iterable[Sample], short: int, long: int) -> Objects:
    """The boxes of samples that state their sizes, but the difficult ones, resized."""
    boxes, extents, scales = [np.zeros((0, 4))], [np.zeros((0, 2))], [np.zeros(0)]
    for sample in samples:
        easy = sample.boxes[trained_on(sample)].astype(np.float64)
        if sample.size is not None and len(easy):
            scale = scale_for(sample.size, short, long)
            boxes.append(easy * scale)
            extents.append(np.full((len(easy), 2), sample.size[::-1]) * scale)
            scales.append(np.full(len(easy), scale))
    return Objects(np.concatenate(boxes), np.concatenate(extents), np.concatenate(scales))


def size_findings(objects: Objects, working: Working) -> list[Finding]:
    """Whether many objects are too small at the training size, with the size that mends it."""
    if len(objects) < _FEWEST or (share := objects.small_share()) <= _SHARE:
        return []
    size = objects.mending_size(working.short)
    count = int(round(share * len(objects)))
    sentence = (
        f"{share:.0%} of the objects are below {SMALL} pixels at the training size "
        f"({working.short}), where few are found: "
    )
    # Enlarged more than twice, pictures show no more than before.
    enlarged = np.median(objects.scales) * size / working.short > 2
    if size > _LARGEST or enlarged:
        sentence += "no size mends it; cut the pictures into tiles, or take them from nearer."
    else:
        sentence += f"--size {size} leaves {_SHARE:.0%} or less."
    return [finding(Kind.SMALL, count, sentence)]


def anchor_findings(
    objects: Objects, working: Working
) -> tuple[Fit | None, tuple[Anchors, Fit] | None, list[Finding]]:
    """How the anchors fit, which would fit better, and a finding where they fit badly."""
    if not len(objects):
        return None, None, []
    fit = measure_fit(objects.boxes, objects.extents, working.anchors)
    better = suggest_anchors(objects.boxes, objects.extents, working.anchors)
    if fit.low >= _FITTING or len(objects) < _FEWEST:
        return fit, better, []
    sentence = (
        f"{fit.low:.0%} of the objects have an anchor of {working.preset} above IoU {LOW} at the "
        f"training size ({working.short}), {fit.high:.0%} above {HIGH}"
    )
    if better:
        sentence += f"; sizes {_shown(better[0])} would make it {better[1].low:.0%}"
    bad = round((1 - fit.low) * fit.boxes)
    return fit, better, [finding(Kind.ANCHORS, bad, sentence + ".")]


def _shown(anchors: Anchors) -> str:
    levels = ", ".join("+".join(f"{size:g}" for size in level) for level in anchors.sizes)
    ratios = ", ".join(f"{ratio:g}" for ratio in anchors.ratios)
    return f"({levels}) and ratios ({ratios})"
