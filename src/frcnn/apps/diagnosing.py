"""A diagnosis of a detector: what the pictures, the network and its run add to the detections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from frcnn.apps.scoring import CHUNK, detect_dataset
from frcnn.console import counting
from frcnn.data.dataset import Dataset
from frcnn.data.images import read_image
from frcnn.data.resizing import scale_for
from frcnn.data.same_files import same_files
from frcnn.errors import UserError
from frcnn.evaluation.comparison import compare
from frcnn.evaluation.diagnosis import Diagnosis, Evidence, diagnose_detections
from frcnn.evaluation.measured import Channels, Shared
from frcnn.evaluation.proposals import COUNTS, AnchorFit, anchor_fit
from frcnn.inference.pictures import PictureDetector
from frcnn.structures import Detections
from frcnn.training.config import Config
from frcnn.training.splits import open_splits

PROPOSED = 300  # pictures whose proposals are looked at
SWAPPED = 32  # pictures tried with red and blue exchanged
_AT_ONCE = 4  # of them in memory
_RESAMPLES = 300


def diagnose(
    detector: PictureDetector,
    dataset: Dataset,
    run: str | Path | None = None,
    detections: Sequence[Detections] | None = None,
) -> Diagnosis:
    """Find out what limits a detector.

    Beside what it finds, its proposals on up to 300 pictures with objects are looked at, and what
    it finds on up to 32 of those with red and blue exchanged.

    Args:
        detector: the detector; an exported one has no proposals to be asked for.
        dataset: the labelled pictures.
        run: the detector's run folder, or a file in it, that says what it was trained on.
        detections: what it found on the pictures, in their order. Left out: it is run on them.

    Raises:
        UserError: a picture cannot be read.
    """
    if detections is None:
        (dataset, detections, _), _ = detect_dataset(detector, dataset)
    trained_on = None if run is None else training_images(run)
    return diagnose_found(detector, dataset, detections, trained_on, run=run)


def diagnose_found(
    detector: PictureDetector,
    dataset: Dataset,
    detections: Sequence[Detections],
    trained_on: Sequence[Path] | None,
    proposed: int = PROPOSED,
    swapped: int = SWAPPED,
    run: str | Path | None = None,
) -> Diagnosis:
    """Find out what limits a detector from what it found.

    Args:
        detector: as of ``diagnose``, and so are the next two.
        dataset: the labelled pictures.
        detections: what it found on them.
        trained_on: pictures that it was trained on, as far as they are known.
        proposed: pictures whose proposals are looked at, at most.
        swapped: pictures tried with red and blue exchanged, at most.
        run: what was asked for the pictures that it was trained on.

    Raises:
        UserError: a picture cannot be read.
    """
    evidence = Evidence(
        _proposals(detector, dataset, proposed),
        _anchors(detector, dataset),
        _channels(detector, dataset, detections, swapped),
        _shared(dataset, trained_on),
        None if run is None else str(run),
    )
    return diagnose_detections(detections, dataset.samples, dataset.classes, evidence)


def training_images(reference: str | Path) -> list[Path] | None:
    """The pictures that a detector was trained on.

    Args:
        reference: what ``frcnn.load`` takes; of a run folder, or a file in one, it is known.

    Returns:
        None where it is not known: there is no run, or its data set is no longer where it was.
    """
    path = Path(reference)
    file = (path if path.is_dir() else path.parent) / "config.toml"
    if not file.is_file() or not path.exists():
        return None
    try:
        return [sample.image for sample in open_splits(Config.from_toml(file)).train]
    except UserError:
        return None


def spread(count: int, most: int) -> np.ndarray:
    """At most ``most`` of the indices 0..count-1, evenly spread: int64."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _with_objects(dataset: Dataset, most: int) -> np.ndarray:
    """Of the pictures with an object that counts at most so many, evenly spread: int64.

    Nothing can be said from the others, which may be nearly all.
    """
    counted = [not np.all(sample.difficult) for sample in dataset]
    return np.flatnonzero(counted)[spread(sum(counted), most)]


def _proposals(
    detector: PictureDetector, dataset: Dataset, most: int
) -> list[Detections | None] | None:
    propose = getattr(detector, "proposals", None)
    if propose is None:
        return None
    chosen = _with_objects(dataset, most)
    proposals: list[Detections | None] = [None] * len(dataset)
    with counting("proposing", len(chosen)) as advance:
        for start in range(0, len(chosen), CHUNK):
            part = chosen[start : start + CHUNK]
            paths = [dataset[i].image for i in part]
            for i, found in zip(part, propose(paths, max(COUNTS), progress=advance), strict=True):
                proposals[i] = found
    return proposals


def _anchors(detector: PictureDetector, dataset: Dataset) -> AnchorFit | None:
    shapes = getattr(detector, "anchor_shapes", None)
    if shapes is None:
        return None
    of = detector.preparation
    sizes = dataset.sizes().tolist()
    scales = np.array([scale_for((h, w), of.short, of.long) for h, w in sizes])
    return anchor_fit(shapes, dataset.samples, scales)


def _channels(
    detector: PictureDetector, dataset: Dataset, detections: Sequence[Detections], most: int
) -> Channels | None:
    chosen = _with_objects(dataset, most)
    if not len(chosen):
        return None
    swapped: list[Detections] = []
    with counting("swapping red and blue", len(chosen)) as advance:
        for start in range(0, len(chosen), _AT_ONCE):
            paths = [dataset[i].image for i in chosen[start : start + _AT_ONCE]]
            swapped += detector.detect(
                [_exchanged(path, detector.most_pixels) for path in paths], progress=advance
            )
    samples, found = [dataset[i] for i in chosen], [detections[i] for i in chosen]
    ap = compare(found, swapped, samples, dataset.classes, _RESAMPLES).figures["AP"]
    return Channels(len(chosen), ap.first, ap.second, ap.sure)


def _exchanged(path: Path, most: int) -> np.ndarray:
    """A picture with red and blue exchanged."""
    return np.ascontiguousarray(read_image(path, most)[..., ::-1])


def _shared(dataset: Dataset, trained_on: Sequence[Path] | None) -> Shared | None:
    if trained_on is None:
        return None
    paths = [sample.image for sample in dataset]
    found = same_files(paths, trained_on)
    return Shared(len(found), len(paths), tuple(paths[i].name for i in found[:3]))
