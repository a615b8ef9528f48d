"""What a detector finds on a data set, and its figures, with a counter meanwhile."""

from __future__ import annotations

from frcnn.console import counting
from frcnn.data.dataset import Dataset
from frcnn.evaluation.evaluate import Evaluation, detect_all, evaluate_detections
from frcnn.inference.pictures import PictureDetector
from frcnn.structures import Detections

CHUNK = 64  # pictures handed over at once: enough to fill batches of one canvas


def detect_dataset(
    detector: PictureDetector, dataset: Dataset
) -> tuple[list[Detections], float | None]:
    """Detect on all images.

    Returns:
        one ``Detections`` an image, and the seconds that an image took, None without an image.

    Raises:
        UserError: a picture cannot be read.
    """
    with counting("detecting", len(dataset)) as advance:
        return detect_all(
            lambda paths: detector.detect(paths, progress=advance),
            dataset.samples,
            batch_size=CHUNK,
        )


def score_detector(detector: PictureDetector, dataset: Dataset) -> Evaluation:
    """Detect on all images and score.

    Raises:
        UserError: a picture cannot be read.
    """
    found, seconds = detect_dataset(detector, dataset)
    return evaluate_detections(found, dataset.samples, dataset.classes, seconds)
