"""Run a detector over a data set and score it: VOC 2007, VOC 2012 and COCO figures at once."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from frcnn.evaluation.coco import coco_scores
from frcnn.evaluation.greedy import MOST
from frcnn.evaluation.matching import unknown_classes
from frcnn.evaluation.plain import plain
from frcnn.evaluation.voc import PrecisionRecall, average_precision, mean_ap, precision_recall
from frcnn.structures import Detections, Sample

Detect = Callable[[list[Path]], Sequence[Detections]]


class Labelled(Protocol):
    """What is asked of a data set: its samples, and the class names their labels index."""

    @property
    def samples(self) -> Sequence[Sample]:
        """The pictures with their ground truth."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """The class names."""
        ...


class HasDetect(Protocol):
    """An object whose ``detect`` takes picture paths and returns one `Detections` a picture."""

    def detect(self, images: list[Path]) -> Sequence[Detections]:
        """Find objects."""
        ...


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The scores of a detector on a data set. Figures are 0..1, NaN where undefined.

    ``print(evaluation)`` shows a table, `to_dict` gives plain values for JSON.

    Args:
        voc07: ``{"mAP": ..., "per_class": {name: AP}}``, 11 points at IoU 0.5.
        voc12: the same with the area under the curve.
        coco: the twelve figures of `frcnn.evaluation.coco.CocoScores` by name, and
            ``"per_class": {name: {"AP": ..., "AP50": ...}}``.
        curves: class name -> precision and recall at IoU 0.5.
        per_class: class name -> ``boxes`` (to find), ``difficult`` (ignored), ``detections``.
        images: pictures measured.
        boxes: boxes to find, difficult ones not counted.
        detections: detections received, those of classes the data set lacks included.
        unknown_classes: classes of the data set that the detector does not know; they score 0.
        crowded: pictures with more objects of a class than the 100 detections that COCO's figures
            take of it; VOC's take all.
        seconds_per_image: wall-clock time of detection, reading the picture included; None
            where the detections were made elsewhere.
    """

    voc07: dict[str, Any]
    voc12: dict[str, Any]
    coco: dict[str, Any]
    curves: dict[str, PrecisionRecall] = field(repr=False)
    per_class: dict[str, dict[str, int]]
    images: int
    boxes: int
    detections: int
    unknown_classes: tuple[str, ...] = ()
    crowded: int = 0
    seconds_per_image: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: NaN becomes None, the curves are left out."""
        return plain(
            {
                "voc07": self.voc07,
                "voc12": self.voc12,
                "coco": self.coco,
                "per_class": self.per_class,
                "images": self.images,
                "boxes": self.boxes,
                "detections": self.detections,
                "unknown_classes": list(self.unknown_classes),
                "crowded": self.crowded,
                "seconds_per_image": self.seconds_per_image,
            }
        )

    def __str__(self) -> str:
        return "\n".join([*_summary_lines(self), "", *_class_lines(self), *_warning_lines(self)])


def evaluate(
    detect: Detect | HasDetect,
    dataset: Labelled,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Detect on every picture of a data set and score the result.

    Args:
        detect: takes a list of picture paths, returns one `Detections` a picture, in order; or
            an object with such a method ``detect``.
        dataset: anything with ``samples`` and ``classes``.
        batch_size: pictures handed to ``detect`` at once.
        progress: called after each batch with the pictures done and the pictures in all.

    Raises:
        ValueError: ``batch_size`` below 1, or ``detect`` returns another number of entries than
            it was given pictures.
    """
    found, seconds = detect_all(detect, dataset.samples, batch_size, progress)
    return evaluate_detections(found, dataset.samples, dataset.classes, seconds)


def detect_all(
    detect: Detect | HasDetect,
    samples: Sequence[Sample],
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Detections], float | None]:
    """Detect on the pictures of samples.

    Args:
        detect: as of ``evaluate``, and so are the others.
        samples: the pictures.
        batch_size: pictures handed to ``detect`` at once.
        progress: called after each batch.

    Returns:
        one `Detections` a picture, and the seconds that a picture took, None without a picture.

    Raises:
        ValueError: as ``evaluate``.
    """
    if batch_size < 1:
        raise ValueError(f"Expected batch_size of at least 1. Received: {batch_size}.")
    run: Detect = getattr(detect, "detect", detect)  # type: ignore[assignment]
    paths = [sample.image for sample in samples]
    found: list[Detections] = []
    seconds = 0.0
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        began = time.perf_counter()
        answer = list(run(batch))
        seconds += time.perf_counter() - began
        if len(answer) != len(batch):
            raise ValueError(
                f"Expected detect to return one Detections for each of {len(batch)} pictures, "
                f"the first of them {batch[0]}. Received: {len(answer)}."
            )
        found.extend(answer)
        if progress is not None:
            progress(len(found), len(paths))
    return found, seconds / len(paths) if paths else None


def evaluate_detections(
    detections: Sequence[Detections],
    samples: Sequence[Sample],
    classes: Sequence[str],
    seconds_per_image: float | None = None,
) -> Evaluation:
    """Score detections that are already at hand.

    Args:
        detections: one entry a picture, in the order of ``samples``. Classes are matched by
            name: the detector's list may be ordered otherwise, or be longer.
        samples: the pictures with their ground truth.
        classes: the names the labels of ``samples`` index.
        seconds_per_image: how long detection took, to be reported along.

    Raises:
        ValueError: detections that do not fit the samples.
    """
    classes = tuple(classes)
    curves = precision_recall(detections, samples, classes)
    coco = coco_scores(detections, samples, classes)
    per_class = _counts(curves, detections, samples)
    return Evaluation(
        voc07=_voc(curves, "07"),
        voc12=_voc(curves, "12"),
        coco={**coco.summary, "per_class": coco.per_class},
        curves=curves,
        per_class=per_class,
        images=len(samples),
        boxes=sum(row["boxes"] for row in per_class.values()),
        detections=sum(len(found) for found in detections),
        unknown_classes=unknown_classes(detections, classes),
        crowded=sum(_is_crowded(sample) for sample in samples),
        seconds_per_image=seconds_per_image,
    )


def _is_crowded(sample: Sample) -> bool:
    labels = sample.labels[~np.asarray(sample.difficult)]
    return bool(len(labels)) and int(np.bincount(labels).max()) > MOST


def _voc(curves: dict[str, PrecisionRecall], points) -> dict[str, Any]:
    per_class = {name: average_precision(curve, points) for name, curve in curves.items()}
    return {"mAP": mean_ap(per_class), "per_class": per_class}


def _counts(
    curves: dict[str, PrecisionRecall], detections: Sequence[Detections], samples: Sequence[Sample]
) -> dict[str, dict[str, int]]:
    found = Counter(name for entry in detections for name in entry.names)
    difficult = Counter(
        label for sample in samples for label in sample.labels[sample.difficult].tolist()
    )
    return {
        name: {
            "boxes": curve.positives,
            "difficult": difficult[label],
            "detections": found[name],
        }
        for label, (name, curve) in enumerate(curves.items())
    }


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _summary_lines(scores: Evaluation) -> list[str]:
    coco = scores.coco
    counts = f"{scores.images:,} images, {scores.boxes:,} boxes, {scores.detections:,} detections"
    if scores.seconds_per_image is not None:
        counts += f", {1000 * scores.seconds_per_image:.1f} ms an image"
    rows = [
        ("VOC07 mAP, IoU 0.50", [scores.voc07["mAP"]]),
        ("VOC12 mAP, IoU 0.50", [scores.voc12["mAP"]]),
        ("COCO AP, AP50, AP75", [coco["AP"], coco["AP50"], coco["AP75"]]),
        ("AP small, medium, large", [coco["AP_small"], coco["AP_medium"], coco["AP_large"]]),
        ("AR with 1, 10, 100", [coco["AR1"], coco["AR10"], coco["AR100"]]),
        ("AR small, medium, large", [coco["AR_small"], coco["AR_medium"], coco["AR_large"]]),
    ]
    return [counts] + [f"{name:<24}" + "  ".join(map(_figure, values)) for name, values in rows]


def _class_lines(scores: Evaluation) -> list[str]:
    width = max([5, *map(len, scores.per_class)])
    lines = [f"{'class':<{width}}   boxes  detections  VOC07  VOC12     AP   AP50"]
    for name, counts in scores.per_class.items():
        coco = scores.coco["per_class"][name]
        figures = [scores.voc07["per_class"][name], scores.voc12["per_class"][name]]
        figures += [coco["AP"], coco["AP50"]]
        lines.append(
            f"{name:<{width}}  {counts['boxes']:>6}  {counts['detections']:>10}"
            + "".join(f"  {_figure(value):>5}" for value in figures)
        )
    return lines


def _warning_lines(scores: Evaluation) -> list[str]:
    lines = []
    if scores.unknown_classes:
        names = ", ".join(scores.unknown_classes)
        lines += ["", f"Warning: the detector does not know these classes, they score 0: {names}."]
    if scores.crowded:
        lines += [
            "",
            f"Note: images with more than {MOST} objects of one class: {scores.crowded:,}. COCO's "
            f"figures take the {MOST} most confident detections of it, VOC's take all.",
        ]
    return lines
