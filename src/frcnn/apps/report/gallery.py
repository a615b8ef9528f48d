"""The pictures of a report: the worst, those with confident mistakes, and others."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from frcnn.data.faults import ImageError
from frcnn.data.images import read_image
from frcnn.errors import printable
from frcnn.evaluation.diagnosis import Diagnosis
from frcnn.evaluation.errors import IGNORED, KINDS, RIGHT
from frcnn.evaluation.matching import relabel
from frcnn.structures import Detections, Sample

MOST_PICTURES = 36
_WORST = 12
_MISTAKEN = 12
_SIDE = 640  # pixels of the longer side
_QUALITY = 80
_MOST_OBJECTS = 300  # drawn on a picture, and as many detections


@dataclass(frozen=True)
class Gallery:
    """Pictures with their boxes.

    Args:
        pictures: for each ``name``, ``why`` it was chosen, ``width`` and ``height`` of the
            original, ``source`` (a data URL), ``truth`` [{box, label}] and ``found`` [{box, label,
            score, kind}], the most confident first.
        classes: the names that labels index.
        score: from which detections are shown at first.
    """

    pictures: list[dict[str, Any]]
    classes: tuple[str, ...]
    score: float

    def to_dict(self) -> dict[str, Any]:
        """What the page's script needs; names are made printable."""
        keys = ("width", "height", "truth", "found")
        return {
            "classes": [printable(name) for name in self.classes],
            "pictures": [{key: each[key] for key in keys} for each in self.pictures],
        }


def make_gallery(
    diagnosis: Diagnosis,
    detections: Sequence[Detections],
    samples: Sequence[Sample],
    classes: Sequence[str],
) -> Gallery:
    """Choose pictures and shrink them; those that cannot be read are left out."""
    kinds = _kinds(diagnosis)
    pictures = []
    for index, why in _chosen(diagnosis, samples).items():
        try:
            pixels = read_image(samples[index].image)
        except ImageError:
            continue
        found = relabel(detections[index], classes)
        pictures.append(
            {
                "name": samples[index].image.name,
                "why": why,
                "height": pixels.shape[0],
                "width": pixels.shape[1],
                "source": _encoded(pixels),
                "truth": _truth(samples[index]),
                "found": _found(found, kinds.get(index, {})),
            }
        )
    return Gallery(pictures, tuple(classes), _first_score(diagnosis.score))


def _first_score(score: float) -> float:
    """In the hundredths of the slider, down, so that what has the score itself is shown."""
    return math.floor(round(100 * score, 2)) / 100


def _chosen(diagnosis: Diagnosis, samples: Sequence[Sample]) -> dict[int, str]:
    """Indices of pictures, each with the reason."""
    places = {str(sample.image): index for index, sample in enumerate(samples)}
    chosen: dict[int, str] = {}
    for row in diagnosis.worst[:_WORST]:
        why = f"{row['missed']} missed, {row['false']} false, {row['found']} found"
        chosen[places[row["image"]]] = why
    mistaken = 0
    for row in diagnosis.mistakes:
        index = places[row["image"]]
        if index not in chosen and mistaken < _MISTAKEN:
            chosen[index] = f"confident mistake: {row['class']} {row['score']:.2f}, {row['kind']}"
            mistaken += 1
    step = max(len(samples) // MOST_PICTURES, 1)
    for index in range(0, len(samples), step):
        if len(chosen) >= MOST_PICTURES:
            break
        chosen.setdefault(index, "one of all")
    return chosen


def _kinds(diagnosis: Diagnosis) -> dict[int, dict[int, str]]:
    """Picture -> row of its detections -> kind of error, or right, or ignored."""
    errors = diagnosis.errors
    result: dict[int, dict[int, str]] = {}
    columns = errors.images, errors.rows, errors.kinds, errors.ignored
    for picture, row, kind, ignored in zip(*columns, strict=True):
        name = IGNORED if ignored else RIGHT if kind < 0 else KINDS[kind]
        result.setdefault(int(picture), {})[int(row)] = name
    return result


def _truth(sample: Sample) -> list[dict[str, Any]]:
    rows = zip(sample.boxes.round(1).tolist(), sample.labels.tolist(), strict=True)
    return [{"box": box, "label": label} for box, label in rows][:_MOST_OBJECTS]


def _found(found: Detections, kinds: dict[int, str]) -> list[dict[str, Any]]:
    order = np.argsort(-found.scores, kind="stable")[:_MOST_OBJECTS].tolist()
    return [
        {
            "box": found.boxes[row].round(1).tolist(),
            "label": int(found.labels[row]),
            "score": round(float(found.scores[row]), 4),
            "kind": kinds[row],
        }
        for row in order
        if row in kinds
    ]


def _encoded(pixels: np.ndarray) -> str:
    scale = min(_SIDE / max(pixels.shape[:2]), 1.0)
    if scale < 1.0:
        size = tuple(max(round(side * scale), 1) for side in pixels.shape[1::-1])
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
