"""Labelled pictures that a detector has seen: those that could not be read are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from frcnn.data.dataset import Dataset
from frcnn.data.faults import DataError, Fault, ImageError, plural
from frcnn.structures import Detections


class Seen(NamedTuple):
    """What a detector has seen of a data set, so that figures are of nothing else.

    Args:
        dataset: the pictures that could be read, with their ground truth.
        found: one ``Detections`` for each of them.
        faults: the other pictures.
    """

    dataset: Dataset
    found: list[Detections]
    faults: tuple[Fault, ...] = ()


def seen(dataset: Dataset, found: Sequence[Detections], errors: Mapping[int, ImageError]) -> Seen:
    """Leave the pictures out that could not be read, and their ground truth.

    Whether a picture can be read is told by its header when a data set is opened; that its data is
    damaged comes out only when it is decoded.

    Args:
        dataset: the labelled pictures.
        found: one ``Detections`` a picture.
        errors: what is wrong with pictures, by their indices; as ``PictureDetector.detect`` gives.

    Raises:
        DataError: no picture could be read.
    """
    if not errors:
        return Seen(dataset, list(found))
    kept, faults = readable(dataset, errors)
    return Seen(kept, [each for index, each in enumerate(found) if index not in errors], faults)


def readable(
    dataset: Dataset, errors: Mapping[int, ImageError]
) -> tuple[Dataset, tuple[Fault, ...]]:
    """The pictures without those that could not be read, and what is wrong with these.

    Raises:
        DataError: no picture could be read.
    """
    faults = tuple(
        Fault(error.file, error.problem, images=1, kind=error.kind)
        for _, error in sorted(errors.items())
    )
    kept = [index for index in range(len(dataset)) if index not in errors]
    if faults and not kept:
        count = plural(len(dataset), "image")
        raise DataError(f"{dataset.root}: none of its {count} can be read; the first: {faults[0]}")
    return dataset.subset(kept), faults
