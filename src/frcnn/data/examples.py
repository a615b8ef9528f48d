"""One picture of a batch: decoded, changed at random, brought to its size, laid on its canvas."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import numpy as np

from frcnn.data.dataset import Dataset, trained_on
from frcnn.data.faults import DataError, Fault, ImageError
from frcnn.data.images import read_reduced
from frcnn.data.mosaic import PICTURES, mosaic
from frcnn.data.resizing import Size, prepare
from frcnn.data.transforms import Labelled, Transform, apply, largest_zoom

Example = tuple[np.ndarray, Size, np.ndarray, np.ndarray]

log = logging.getLogger(__name__)

_SMALLEST_SIDE = 1.0  # pixels of the canvas; a thinner box is no target


class Examples:
    """Makes examples of a data set's samples; many threads may ask at once.

    Args:
        dataset: the samples.
        transforms: applied to the decoded picture, in turn.
        replace: whether the next sound sample takes the place of one that cannot be decoded.
        strict: raise at such a one instead.

    Attributes:
        faults: the pictures that could not be decoded.
    """

    def __init__(
        self, dataset: Dataset, transforms: Sequence[Transform], replace: bool, strict: bool
    ):
        self._dataset, self._transforms = dataset, tuple(transforms)
        self._zoom = largest_zoom(self._transforms)
        self._replace, self._strict = replace, strict
        self._lock = threading.Lock()
        self.faults: tuple[Fault, ...] = ()

    def make(
        self,
        index: int,
        canvas: Size,
        short: int,
        long: int,
        rng: np.random.Generator,
        mosaics: float = 0.0,
    ) -> Example | None:
        """Make an example; the same arguments always give the same.

        Args:
            index: of the sample.
            canvas: (height, width).
            short: pixels of the short side after resizing.
            long: most pixels of the long side after resizing.
            rng: draws all that is random.
            mosaics: how often three others, drawn evenly, are joined with the sample, 0..1.

        Returns:
            The canvas with the picture, uint8; the (height, width) of the picture in it; boxes
            float32 (N, 4) in pixels of the canvas, labels (N,). None for a picture that cannot be
            decoded and is not to be replaced.

        Raises:
            DataError: no picture of the data set can be decoded; with ``strict``, this one.
        """
        if mosaics and rng.random() < mosaics:
            others = rng.integers(len(self._dataset), size=PICTURES - 1)
            pictures = [self._augmented(int(i), short, long, rng) for i in (index, *others)]
            picture = mosaic([each for each in pictures if each], canvas, short, long, rng)
            padded, size, scale = picture[0], canvas, (1.0, 1.0)
        else:
            picture = self._augmented(index, short, long, rng)
            if picture is None:
                return None
            padded, size, scale = prepare(picture[0], short, long, canvas)
        boxes = picture[1] * np.array([scale[1], scale[0]] * 2, np.float32)
        kept = (boxes[:, 2:] - boxes[:, :2] >= _SMALLEST_SIDE).all(axis=1)
        return padded, size, boxes[kept], picture[2][kept]

    def _augmented(
        self, index: int, short: int, long: int, rng: np.random.Generator
    ) -> Labelled | None:
        """A sample's picture with its targets, transformed."""
        for step in range(len(self._dataset)):
            sample = self._dataset[(index + step) % len(self._dataset)]
            try:
                image, reduced = read_reduced(sample.image, short, long, self._zoom)
            except ImageError as error:
                if self._strict:
                    raise
                self._report(Fault(error.file, error.problem, images=1, kind=error.kind))
                if not self._replace:
                    return None
                continue
            easy = trained_on(sample)
            boxes, labels = sample.boxes[easy] / reduced, sample.labels[easy]
            return apply(self._transforms, image, boxes, labels, rng)
        count = len(self._dataset)
        raise DataError(f"{self._dataset.root}: none of its {count} images can be read")

    def _report(self, fault: Fault) -> None:
        with self._lock:
            if fault in self.faults:
                return
            self.faults += (fault,)
        log.warning("%s; %s", fault, "another takes its place" if self._replace else "left blank")
