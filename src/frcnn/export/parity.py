"""Does an exported detector find what the model finds? Measured on pictures, one by one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from frcnn.data.images import image_size
from frcnn.data.resizing import Size, fitting_scale
from frcnn.evaluation.evaluate import evaluate_detections
from frcnn.inference.pictures import PictureDetector
from frcnn.inference.predict import Detector
from frcnn.inference.preparation import Preparation
from frcnn.inference.wrapped import WrappedDetector
from frcnn.models.detector import DetectionModel
from frcnn.structures import Detections, Sample, pairwise_iou

_SHRUNK = 0.98  # of the size that the model sees: what is less is no rounding
SAME = 0.5  # IoU from which two boxes of a class can be the same detection


class Found(NamedTuple):
    """What was found on one canvas, in its pixels: (N, 4), (N,), (N,)."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class Watched(WrappedDetector):
    """A detector that keeps what its network gave for each picture, and how long it took.

    Args:
        detector: the detector.
        preparation: how pictures are prepared for it, whatever it would do itself.
        batch: pictures at once; None: as many as it is given.
    """

    def __init__(self, detector: PictureDetector, preparation: Preparation, batch: int | None):
        super().__init__(detector)
        self._preparation = preparation
        self._batch = batch
        self.found: list[Found] = []
        self.seconds: list[float] = []  # an image, one entry a call

    @property
    def preparation(self) -> Preparation:
        """As given."""
        return self._preparation

    @property
    def fills_batches(self) -> bool:
        """Always where the batch is fixed, so that both sides do the same work."""
        return self._batch is not None

    @property
    def fixed_batch(self) -> int | None:
        """As given."""
        return self._batch

    def infer(self, images: np.ndarray, sizes: np.ndarray) -> Mapping[str, Any]:
        """The detector's, watched."""
        began = time.perf_counter()
        found = dict(super().infer(images, sizes))  # looked at: a GPU is done with them then
        self.seconds.append((time.perf_counter() - began) / len(images))
        for boxes, scores, labels, count in zip(
            *(np.asarray(found[name]) for name in ("boxes", "scores", "labels", "count")),
            strict=True,
        ):
            self.found.append(Found(boxes[:count], scores[:count], labels[:count]))
        return found

    @property
    def milliseconds(self) -> float:
        """The median for an image; the first call, which sets things up, is not counted."""
        return 1000 * statistics.median(self.seconds[1:] or self.seconds)


@dataclass(frozen=True)
class Difference:
    """How two sets of detections differ.

    Args:
        boxes: largest difference of a corner's coordinate in pixels of the canvas.
        scores: largest difference of a score.
        matched: detections that both have.
        missing: detections that only the first has.
        more: detections that only the second has.
        borderline: detections that one has, scored so near to what is kept at all that the
            other may drop them.
    """

    boxes: float = 0.0
    scores: float = 0.0
    matched: int = 0
    missing: int = 0
    more: int = 0
    borderline: int = 0

    def __add__(self, other: Difference) -> Difference:
        return Difference(
            max(self.boxes, other.boxes),
            max(self.scores, other.scores),
            self.matched + other.matched,
            self.missing + other.missing,
            self.more + other.more,
            self.borderline + other.borderline,
        )


def difference(
    first: Found, second: Found, threshold: float, most: int, margin: float
) -> Difference:
    """Compare the detections of one picture, matched one to one by class and overlap.

    Args:
        first: what the model found.
        second: what the export found.
        threshold: detections scored higher are kept,
        most: and so many of them.
        margin: detections scored within so much of the lowest that is kept are borderline.
    """
    rows, columns = _pairs(first, second)
    alone = [
        np.delete(each.scores, matched) for each, matched in ((first, rows), (second, columns))
    ]
    full = [each.scores.min() for each in (first, second) if len(each.scores) >= most]
    lowest = max([threshold, *full]) + margin
    missing, more = (int((scores > lowest).sum()) for scores in alone)
    gaps = np.abs(first.boxes[rows] - second.boxes[columns])
    shifts = np.abs(first.scores[rows] - second.scores[columns])
    return Difference(
        boxes=float(gaps.max(initial=0.0)),
        scores=float(shifts.max(initial=0.0)),
        matched=len(rows),
        missing=missing,
        more=more,
        borderline=sum(map(len, alone)) - missing - more,
    )


def _pairs(first: Found, second: Found) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the one and of the other that are the same detection, the most alike first."""
    iou = pairwise_iou(first.boxes, second.boxes)  # [N, M]
    alike = (iou >= SAME) & (first.labels[:, None] == second.labels)
    rows, columns = np.nonzero(alike)
    shifts = np.abs(first.scores[rows] - second.scores[columns])
    taken: dict[int, int] = {}
    for at in np.lexsort((shifts, -iou[rows, columns])):
        row, column = int(rows[at]), int(columns[at])
        if row not in taken and column not in taken.values():
            taken[row] = column
    return np.array(list(taken), int), np.array(list(taken.values()), int)


@dataclass(frozen=True)
class Narrow:
    """What becomes of pictures that the export's one canvas shows smaller than the model's do.

    Args:
        images: how many of the compared ones.
        canvas: (height, width) that would hold these too.
        ap: COCO AP of the model on its own canvases, of all images.
    """

    images: int
    canvas: Size
    ap: float


@dataclass(frozen=True)
class Comparison:
    """The model and its export on the same pictures.

    Args:
        images: pictures.
        detections: of the model on all of them.
        difference: of the export's.
        ap: COCO AP of the model and of the export.
        ap50: AP at IoU 0.5 of both.
        milliseconds: an image in the network of both, without its preparation.
    """

    images: int
    detections: int
    difference: Difference
    ap: tuple[float, float]
    ap50: tuple[float, float]
    milliseconds: tuple[float, float]
    narrow: Narrow | None = None


def compare(
    model: DetectionModel,
    exported: PictureDetector,
    canvas: Size,
    samples: Sequence[Sample],
    classes: Sequence[str],
    margin: float,
    progress: Callable[[], None] = lambda: None,
) -> Comparison:
    """Detect on pictures by both, turn by turn, and compare.

    Args:
        model: the model that was exported.
        exported: the export, opened.
        canvas: (height, width) that pictures are laid on for both.
        samples: labelled pictures.
        classes: names of the labels.
        margin: as of ``difference``.
        progress: called after each picture.
    """
    narrow = _narrow(model, canvas, samples, classes)
    preparation = Preparation(model.short, model.long, (canvas,), model.resizing)
    batch = exported.fixed_batch
    sides = [Watched(each, preparation, batch) for each in (Detector(model), exported)]
    found: list[list[Detections]] = [[], []]
    for paths in _groups([sample.image for sample in samples], batch):
        for side, results in zip(sides, found, strict=True):
            results += side.detect(paths)
        for _ in paths:
            progress()
    scores = [evaluate_detections(results, samples, classes).coco for results in found]
    before, after = sides
    return Comparison(
        images=len(samples),
        detections=sum(map(len, found[0])),
        difference=sum_of(
            difference(*pair, model.rule.score, model.rule.count, margin)
            for pair in zip(before.found, after.found, strict=True)
        ),
        ap=(scores[0]["AP"], scores[1]["AP"]),
        ap50=(scores[0]["AP50"], scores[1]["AP50"]),
        milliseconds=(before.milliseconds, after.milliseconds),
        narrow=narrow,
    )


def _groups(paths: Sequence[Path], batch: int | None) -> Iterator[Sequence[Path]]:
    """Batch by batch; where any will do, the first two together and then one at a time."""
    start = 0
    while start < len(paths):
        count = batch or (1 if start else 2)
        yield paths[start : start + count]
        start += count


def _narrow(
    model: DetectionModel, canvas: Size, samples: Sequence[Sample], classes: Sequence[str]
) -> Narrow | None:
    detector, sides = Detector(model), (model.short, model.long)
    larger = []
    for sample in samples:
        size = image_size(sample.image)
        own = detector.preparation.canvas(size)
        if _SHRUNK * fitting_scale(size, *sides, own) > fitting_scale(size, *sides, canvas):
            larger.append(own)
    if not larger:
        return None
    height, width = np.max([canvas, *larger], axis=0)
    found = detector.detect([sample.image for sample in samples], batch=1)
    ap = evaluate_detections(found, samples, classes).coco["AP"]
    return Narrow(len(larger), (int(height), int(width)), ap)


def sum_of(differences: Iterable[Difference]) -> Difference:
    """Of all pictures together."""
    return sum(differences, Difference())
