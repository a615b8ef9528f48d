"""The tables of a diagnosis, as rows of plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from frcnn.evaluation.errors import KINDS, Errors
from frcnn.evaluation.evaluate import Evaluation
from frcnn.evaluation.greedy import GreedyMatches, quick_ap
from frcnn.structures import Detections, Sample

CROWDS = {"1-3": (1, 3), "4-10": (4, 10), "11+": (11, math.inf)}  # objects in a picture
WORST = 20  # pictures named
MISTAKES = 20
_POINTS = 101  # of a curve


def sizes_table(evaluation: Evaluation, samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """AP and objects by COCO's sizes."""
    areas = [np.asarray(s.areas)[~np.asarray(s.difficult)] for s in samples]
    place = np.searchsorted([32.0**2, 96.0**2], np.concatenate([np.zeros(0), *areas]), "right")
    counts = np.bincount(place, minlength=3)
    return {
        name: {"AP": evaluation.coco[f"AP_{name}"], "objects": int(count)}
        for name, count in zip(("small", "medium", "large"), counts, strict=True)
    }


def crowding_table(
    found: Sequence[Detections], samples: Sequence[Sample], classes: int
) -> dict[str, dict[str, float]]:
    """AP by how many objects a picture has."""
    objects = np.array([int((~np.asarray(s.difficult)).sum()) for s in samples], np.int64)
    rows = {}
    for name, (low, high) in CROWDS.items():
        chosen = np.flatnonzero((objects >= low) & (objects <= high)).tolist()
        ap = quick_ap([found[i] for i in chosen], [samples[i] for i in chosen], classes)
        rows[name] = {"AP": ap, "images": len(chosen), "objects": int(objects[chosen].sum())}
    return rows


def curves_of(evaluation: Evaluation) -> dict[str, dict[str, list[float]]]:
    """Precision at evenly spread recalls, of each class with objects."""
    levels = np.linspace(0, 1, _POINTS)
    curves = {}
    for name, curve in evaluation.curves.items():
        if curve.positives:
            envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
            reached = np.searchsorted(curve.recall, levels, side="left")
            precision = np.append(envelope, 0.0)[reached]
            curves[name] = {"recall": levels.tolist(), "precision": precision.tolist()}
    return curves


def classes_table(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """``AP``, ``AP50``, ``objects`` and ``detections`` of each class."""
    return {
        name: {
            **evaluation.coco["per_class"][name],
            "objects": counts["boxes"],
            "detections": counts["detections"],
        }
        for name, counts in evaluation.per_class.items()
    }


def worst_table(
    matches: GreedyMatches, samples: Sequence[Sample], score: float
) -> list[dict[str, Any]]:
    """The pictures with most objects missed and false detections at a score."""
    count, shown = len(samples), (matches.scores >= score) & ~matches.ignored[0]
    right = matches.right[0]
    found = np.bincount(matches.images[shown & right], minlength=count)
    false = np.bincount(matches.images[shown & ~right], minlength=count)
    objects = np.bincount(matches.truth_images[~matches.difficult], minlength=count)
    order = np.argsort(-(objects - found + false), kind="stable")[:WORST]
    return [
        {
            "image": str(samples[i].image),
            "missed": int(objects[i] - found[i]),
            "false": int(false[i]),
            "found": int(found[i]),
        }
        for i in order.tolist()
        if objects[i] - found[i] + false[i]
    ]


def mistakes_table(
    errors: Errors, found: Sequence[Detections], samples: Sequence[Sample]
) -> list[dict[str, Any]]:
    """The most confident wrong detections."""
    wrong = np.flatnonzero(errors.kinds >= 0)
    places = [(int(errors.images[i]), int(errors.rows[i])) for i in wrong]
    scores = np.array([found[picture].scores[row] for picture, row in places])
    result = []
    for i in np.argsort(-scores, kind="stable")[:MISTAKES]:
        picture, row = places[i]
        each = found[picture]
        result.append(
            {
                "image": str(samples[picture].image),
                "box": [round(float(value), 1) for value in each.boxes[row]],
                "class": each.classes[each.labels[row]],
                "score": float(each.scores[row]),
                "kind": KINDS[errors.kinds[wrong[i]]],
            }
        )
    return result
