"""Validation after each epoch, and the pictures a run leaves."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from frcnn.data.batching import DetectionBatches
from frcnn.data.dataset import Dataset
from frcnn.data.faults import Fault, ImageError
from frcnn.data.images import read_image
from frcnn.draw import contact_sheet, draw_boxes, draw_detections, save_image
from frcnn.evaluation.evaluate import evaluate_detections
from frcnn.inference.predict import Detector
from frcnn.inference.seen import Seen, seen
from frcnn.training.run import Run

log = logging.getLogger(__name__)

FIGURES = ("VOC07", "VOC12", "AP", "AP50")  # validation's columns in the history
PICTURES = 8  # on a contact sheet


class Validate(keras.callbacks.Callback):
    """After each epoch: detect on the validation images, score, save the best and the last.

    Args:
        run: where models and pictures go.
        detector: wraps the network that trains, or one that is given its weights.
        dataset: the validation images, or None.
        epochs: of the whole training.
        samples_every: epochs between pictures, 0 for never.
        stopped: whether the training was stopped within an epoch; then nothing is measured.
        refresh: called first, to give the detector its weights.
        batch: gives how many images are run through the network together.
        strict: raise at an image that cannot be decoded. Otherwise each epoch leaves it out.

    Attributes:
        best: AP of the best epoch so far, 0..1.
        best_seen: what was seen and found in it; None where it was another process's.
        faults: the images that could not be decoded, in this process's epochs.
    """

    def __init__(
        self,
        run: Run,
        detector: Detector,
        dataset: Dataset | None,
        epochs: int,
        samples_every: int,
        stopped: Callable[[], bool],
        refresh: Callable[[], None],
        batch: Callable[[], int],
        strict: bool = False,
    ):
        super().__init__()
        self._run, self._detector, self._dataset = run, detector, dataset
        self._epochs, self._samples_every = epochs, samples_every
        self._stopped, self._refresh, self._batch = stopped, refresh, batch
        self._strict = strict
        self.best: float | None = None
        self.best_seen: Seen | None = None
        self.faults: tuple[Fault, ...] = ()

    def on_epoch_end(self, epoch, logs: Any = None):
        """Score and save."""
        self._refresh()
        self._detector.save(self._run.last)  # first: validation may find its images damaged
        if self._stopped():
            return
        if self._dataset is None:  # the last epoch counts as the best
            self._detector.save(self._run.best)
        else:
            self._score(epoch, logs)

    def keep_last(self) -> Path:
        """Save the network as it is, within an epoch, and say where."""
        if keras.config.backend() == "jax":
            self.model.jax_state_sync()  # it trains on copies
        self._refresh()
        self._detector.save(self._run.last)
        return self._run.last

    def _score(self, epoch: int, logs: dict):
        began = time.perf_counter()
        assert self._dataset is not None
        shown = self._see(self._dataset)
        seconds = (time.perf_counter() - began) / len(self._dataset)
        samples, classes = shown.dataset.samples, shown.dataset.classes
        scores = evaluate_detections(shown.found, samples, classes, seconds)
        values = (scores.voc07["mAP"], scores.voc12["mAP"], scores.coco["AP"], scores.coco["AP50"])
        logs.update({f"val_{name}": float(v) for name, v in zip(FIGURES, values, strict=True)})
        # COCO's mean over IoU 0.50..0.95 tells epochs apart that score alike at 0.5. Without an
        # object to find it is NaN: no epoch beats another, and the last is kept.
        average = float(scores.coco["AP"])
        current = -1.0 if math.isnan(average) else average
        if self.best is None or current >= self.best:
            self.best, self.best_seen = current, shown
            self._detector.save(self._run.best)
            self._run.write_metrics({"epoch": epoch + 1, **scores.to_dict()})
        if self._samples_every and (
            (epoch + 1) % self._samples_every == 0 or epoch + 1 == self._epochs
        ):
            self._picture(epoch, shown)

    def _see(self, dataset: Dataset) -> Seen:
        """Detect; an image that cannot be decoded is tried, and left out, in each epoch alike."""
        errors: dict[int, ImageError] = {}
        paths = [sample.image for sample in dataset]
        found = self._detector.detect(
            paths, batch=self._batch(), errors=None if self._strict else errors
        )
        result = seen(dataset, found, errors)
        new = tuple(fault for fault in result.faults if fault not in self.faults)
        for fault in new:
            log.warning("%s; left out of validation", fault)
        self.faults += new
        return result

    def _picture(self, epoch: int, shown: Seen):
        chosen = list(zip(shown.dataset, shown.found, strict=True))[:PICTURES]
        pictures = [draw_detections(read_image(s.image), each.above(0.5)) for s, each in chosen]
        name = f"validation-epoch{epoch + 1:03d}.jpg"
        save_image(self._run.samples / name, contact_sheet(pictures, columns=4))


def picture_batch(run: Run, batches: DetectionBatches, classes) -> None:
    """Save the first training batch as the network sees it, with its boxes."""
    x, y = batches[0]
    pictures = []
    for image, (height, width), boxes, labels in zip(
        x["images"], x["sizes"], y["boxes"], y["labels"], strict=True
    ):
        real = labels >= 0
        names = [classes[label] for label in labels[real]]
        image = np.ascontiguousarray(image[:height, :width])
        pictures.append(draw_boxes(image, boxes[real], names, labels[real]))
    save_image(run.samples / "training-batch.jpg", contact_sheet(pictures[:PICTURES], columns=4))
