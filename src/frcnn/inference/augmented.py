"""Test-time augmentation: a picture seen mirrored and in several sizes, fused to one answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from frcnn.data.resizing import scaled_canvas
from frcnn.inference.merging import fuse, joined, suppress
from frcnn.inference.pictures import Errors, PictureDetector, Progress
from frcnn.inference.preparation import Image, Preparation, Prepared
from frcnn.inference.wrapped import WrappedDetector
from frcnn.structures import Detections

SCALES = (1.0, 1.25)


class AugmentedDetector(WrappedDetector):
    """Looks at each picture several times, and merges what it sees.

    Args:
        detector: one of Keras or an exported one, no wrapper; wrap this one in tiles, not tiles in
            this one.
        scales: sizes, as shares of the detector's own, above 0. An exported detector takes one
            canvas, so that larger scales are left out there.
        flip: also look at the mirrored picture, in each size.
        merge: "fuse" for weighted boxes fusion, "nms" for what is most confident.
        iou: above which two detections are of one object.

    Raises:
        ValueError: a wrapper, no scale that can be had, or another ``merge``.
    """

    def __init__(
        self,
        detector: PictureDetector,
        scales: Sequence[float] = SCALES,
        flip: bool = True,
        merge: Literal["fuse", "nms"] = "fuse",
        iou: float = 0.6,
    ):
        super().__init__(detector)
        if isinstance(detector, WrappedDetector):
            raise ValueError("Expected a detector that is no wrapper of another.")
        if merge not in ("fuse", "nms"):
            raise ValueError(f"Expected merge 'fuse' or 'nms'. Received: {merge!r}.")
        usable = [scale for scale in scales if scale <= 1 or not detector.fixed_canvas]
        if not usable or min(usable) <= 0:
            raise ValueError(f"Expected scales that the detector can take. Received: {scales}.")
        self.views = [_View(detector, s, f) for s in usable for f in (False, True)[: 1 + flip]]
        self.merge = merge
        self.iou = iou

    def find(
        self,
        images: list[Image],
        score: float,
        batch: int,
        progress: Progress = None,
        errors: Errors = None,
    ) -> list[Detections]:
        """As ``detect``, of a list; each picture is decoded for each view."""
        *others, last = self.views
        seen = [view.find(images, 0.0, batch, None, errors) for view in others]
        seen.append(last.find(images, 0.0, batch, progress, errors))
        return [self._merged(each).above(score) for each in zip(*seen, strict=True)]

    def _merged(self, found: Sequence[Detections]) -> Detections:
        if self.merge == "fuse":
            return fuse(found, self.iou)
        return suppress(joined(found), self.iou)


@dataclass(frozen=True)
class _Mirroring(Preparation):
    """Prepares the mirrored picture."""

    def read(self, image: Image) -> tuple[np.ndarray, int]:
        pixels, by = super().read(image)
        return np.ascontiguousarray(pixels[:, ::-1]), by


class _View(WrappedDetector):
    """A detector that sees pictures in another size, mirrored or not."""

    def __init__(self, detector: PictureDetector, scale: float, flip: bool):
        super().__init__(detector)
        self._scale, self._flip = scale, flip

    @property
    def preparation(self) -> Preparation:
        own = self.detector.preparation
        short, long = (max(round(side * self._scale), 1) for side in (own.short, own.long))
        canvases = own.canvases
        if not self.detector.fixed_canvas:
            canvases = tuple(scaled_canvas(canvas, self._scale) for canvas in canvases)
        changed = replace(own, short=short, long=long, canvases=canvases)
        return _Mirroring(**vars(changed)) if self._flip else changed

    def _to_detections(self, item: Prepared, found: Mapping[str, Any], row: int) -> Detections:
        seen = super()._to_detections(item, found, row)
        if not self._flip:
            return seen
        boxes = seen.boxes.copy()
        boxes[:, [0, 2]] = item.original[1] - boxes[:, [2, 0]]
        return Detections(boxes, seen.scores, seen.labels, seen.classes)
