"""Boxes that a reader takes and a person would not have drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from frcnn.data.dataset import trained_on
from frcnn.data.faults import Kind, plural
from frcnn.data.findings import Finding, finding
from frcnn.structures import Sample, box_areas

# IoU. Two people who draw the same object agree less well than this, two objects hardly ever do.
_SAME = 0.95
_TINY = 3.0  # pixels: what a slip of the hand leaves
_WHOLE = 0.98  # of the picture's area
_ROWS = 256  # boxes of one picture compared with the others at once

Places = list[tuple[Path, str]]  # a picture, and what of it


def box_findings(samples: Iterable[Sample], classes: Sequence[str]) -> list[Finding]:
    """Findings on the boxes that are trained on.

    Args:
        samples: each picture once.
        classes: names by label.
    """
    twice: Places = []
    of_two: Places = []
    tiny: Places = []
    whole: Places = []
    for sample in samples:
        easy = trained_on(sample)
        boxes, labels = sample.boxes[easy], sample.labels[easy]
        if not len(boxes):
            continue
        names = [classes[label] for label in labels]
        for first, second in same_boxes(boxes):
            if labels[first] == labels[second]:
                twice.append((sample.image, f"{names[first]} at {_shown(boxes[first])}"))
            else:
                what = f"{names[first]} and {names[second]} at {_shown(boxes[first])}"
                of_two.append((sample.image, what))
        for row in np.flatnonzero((boxes[:, 2:] - boxes[:, :2]).min(axis=1) < _TINY):
            tiny.append((sample.image, f"{names[row]} at {_shown(boxes[row])}"))
        if sample.size is not None:
            area = sample.size[0] * sample.size[1]
            for row in np.flatnonzero(box_areas(boxes) >= _WHOLE * area):
                whole.append((sample.image, str(names[row])))
    return [
        _of_boxes(kind, places, what)
        for kind, places, what in (
            (Kind.BOX_TWICE, twice, "drawn twice (same class, IoU 0.95 or more): remove one"),
            (Kind.BOX_OF_TWO, of_two, "drawn as two classes (IoU 0.95 or more): keep one"),
            (Kind.TINY, tiny, "less than 3 pixels wide or high: a slip of the hand?"),
            (Kind.WHOLE, whole, "as large as the picture: is the object meant, or the picture?"),
        )
        if places
    ]


def _of_boxes(kind: Kind, places: Places, what: str) -> Finding:
    image, shown = places[0]
    first = "the first: " if len(places) > 1 else ""
    sentence = f"{plural(len(places), 'box')} {what} {first}{image}: {shown}."
    return finding(kind, len(places), sentence, (image for image, _ in places))


def same_boxes(boxes: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of boxes (N, 4) that are the same but for a few pixels: a box and the next like it."""
    areas = box_areas(boxes)
    pairs = []
    for start in range(0, len(boxes), _ROWS):
        rows = boxes[start : start + _ROWS, None].astype(np.float64)
        low = np.maximum(rows[..., :2], boxes[None, :, :2])
        high = np.minimum(rows[..., 2:], boxes[None, :, 2:])
        common = np.clip(high - low, 0, None).prod(axis=2)
        same = common >= _SAME * (areas[start : start + _ROWS, None] + areas[None] - common)
        later = np.arange(len(boxes))[None] > np.arange(start, start + len(rows))[:, None]
        same &= later
        for row in np.flatnonzero(same.any(axis=1)):
            pairs.append((start + int(row), int(same[row].argmax())))
    return pairs


def _shown(box: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"
