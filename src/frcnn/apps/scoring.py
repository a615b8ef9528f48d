"""A detector's figures on a data set, with a counter meanwhile."""

from __future__ import annotations

from frcnn.apps.progress import counting
from frcnn.data.dataset import Dataset
from frcnn.evaluation.evaluate import Evaluation, evaluate
from frcnn.inference.pictures import PictureDetector

CHUNK = 64  # pictures handed over at once: enough to fill batches of one canvas


def score_detector(detector: PictureDetector, dataset: Dataset) -> Evaluation:
    """Detect on all images and score.

    Raises:
        UserError: a picture cannot be read.
    """
    with counting("detecting", len(dataset)) as advance:
        return evaluate(
            lambda paths: detector.detect(paths, progress=advance), dataset, batch_size=CHUNK
        )
