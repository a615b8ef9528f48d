"""What a detector finds on a data set, and its figures, with a counter meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from frcnn.console import counting
from frcnn.data.dataset import Dataset, trained_on
from frcnn.data.faults import ImageError, describe_faults
from frcnn.evaluation.evaluate import Evaluation, detect_all, evaluate_detections
from frcnn.inference.pictures import PictureDetector
from frcnn.inference.seen import Seen, seen
from frcnn.structures import Detections

CHUNK = 64  # pictures handed over at once: enough to fill batches of one canvas


def detect_dataset(
    detector: PictureDetector, dataset: Dataset, strict: bool = False
) -> tuple[Seen, float | None]:
    """Detect on all images; those that cannot be decoded are left out and named.

    Args:
        detector: what detects.
        dataset: the images.
        strict: raise at the first that cannot be decoded instead.

    Returns:
        what was seen, and the seconds that an image took, None without an image.

    Raises:
        UserError: no picture can be read; with ``strict``, this one.
    """
    errors: dict[int, ImageError] = {}
    handed = 0

    def detect(paths: list[Path]) -> Sequence[Detections]:
        nonlocal handed
        broken: dict[int, ImageError] = {}
        found = detector.detect(paths, progress=advance, errors=None if strict else broken)
        errors.update({handed + place: error for place, error in broken.items()})
        handed += len(paths)
        return found

    with counting("detecting", len(dataset)) as advance:
        found, seconds = detect_all(detect, dataset.samples, batch_size=CHUNK)
    result = seen(dataset, found, errors)
    if result.faults:
        print(describe_faults(result.faults))
    return result, seconds


def too_few_boxes(detector: PictureDetector, dataset: Dataset) -> str | None:
    """A sentence where images have more objects than the detector returns boxes, else None."""
    most = detector.most_boxes
    counts = [int(trained_on(sample).sum()) for sample in dataset]
    if most is None or max(counts, default=0) <= most:
        return None
    more = sum(count > most for count in counts)
    return (
        f"Note: the detector returns at most {most:,} boxes an image; images with more objects, up "
        f"to {max(counts):,}: {more:,}. One that is trained on such images returns more."
    )


def score_detector(detector: PictureDetector, dataset: Dataset) -> Evaluation:
    """Detect on all images that can be read, and score.

    Raises:
        UserError: no picture can be read.
    """
    (dataset, found, _), seconds = detect_dataset(detector, dataset)
    return evaluate_detections(found, dataset.samples, dataset.classes, seconds)
