"""How far an export may be from its model, and the words and figures that say how far it is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from frcnn.data.faults import plural
from frcnn.data.resizing import Size
from frcnn.export.parity import Comparison, Narrow
from frcnn.inference.artefact import Artefact


@dataclass(frozen=True)
class Tolerance:
    """What an export may differ by.

    Args:
        boxes: pixels of the canvas, of any corner; None: any.
        scores: of any detection; None: any.
        ap: loss of COCO AP, 0..1.
        share: of the model's detections that may be missing, and as many more may be there;
            None: any. Where two boxes overlap by the very threshold of NMS, the last bit decides
            which of them is kept.
    """

    boxes: float | None
    scores: float | None
    ap: float
    share: float | None


# Rounding moves corners by some thousandths of a pixel and scores by some millionths, on the
# largest canvases too; an operator that means something else moves them by more than this.
FLOAT32 = Tolerance(boxes=0.1, scores=1e-3, ap=0.002, share=0.002)
INT8 = Tolerance(boxes=None, scores=None, ap=0.05, share=None)
MARGIN = 1e-3  # a score so near to the lowest that is kept may be kept by the one alone
TOLERANCES = {"float32": FLOAT32, "int8": INT8}


@dataclass(frozen=True)
class Report:
    """The comparison of an export with its model, judged.

    Args:
        artefact: what was exported.
        title: the format's name.
        backend: of Keras, on which the model ran.
        pictures: which these were, in words.
        result: the figures.
    """

    artefact: Artefact
    title: str
    backend: str
    pictures: str
    result: Comparison

    @property
    def tolerance(self) -> Tolerance:
        """What is allowed at this precision."""
        return TOLERANCES[self.artefact.precision]

    @property
    def faults(self) -> list[str]:
        """What passes the tolerance, in words; none: the export may be used."""
        allowed, result = self.tolerance, self.result
        by = result.difference
        checks = [
            ("boxes differ by {} pixels", by.boxes, allowed.boxes),
            ("scores differ by {}", by.scores, allowed.scores),
            ("COCO AP falls by {}", _loss(result), allowed.ap),
        ]
        if allowed.share is not None:
            most = math.floor(allowed.share * result.detections)
            checks += [
                ("{} detections are missing", by.missing, most),
                ("{} detections are there that the model has not", by.more, most),
            ]
        return [
            f"{sentence.format(_short(value))}, {_short(most)} allowed"
            for sentence, value, most in checks
            if most is not None and not value <= most
        ]

    def write(self, path: Path) -> None:
        """Write all figures as JSON."""
        path.write_text(json.dumps(_plain(self.to_dict()), indent=2) + "\n", "utf-8")

    def to_dict(self) -> dict[str, Any]:
        """Plain values; NaN, AP where nothing is labelled, is among them."""
        result = self.result
        before, after = f"Keras on {self.backend}", self.title
        return {
            "passed": not self.faults,
            "faults": self.faults,
            "pictures": self.pictures,
            "images": result.images,
            "detections": result.detections,
            "difference": asdict(result.difference),
            "tolerance": asdict(self.tolerance),
            "AP": {before: result.ap[0], after: result.ap[1]},
            "AP50": {before: result.ap50[0], after: result.ap50[1]},
            "milliseconds_per_image": {
                before: result.milliseconds[0],
                after: result.milliseconds[1],
            },
            "narrow": None if result.narrow is None else asdict(result.narrow),
            "artefact": asdict(self.artefact),
        }

    def __str__(self) -> str:
        rows = [("", f"Keras, {self.backend}", f"{self.title}, {self.artefact.precision}", "")]
        rows += self._rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            f"{what:<{widths[0]}}  {before:>{widths[1]}}  {after:>{widths[2]}}  {remark}".rstrip()
            for what, before, after, remark in rows
        ]
        if not self.result.detections:
            lines.append(
                "The model found nothing on these pictures, so this says little: name "
                "pictures of its classes with --data."
            )
        if narrow := self.result.narrow:
            lines.append(_of_narrow(narrow, self.artefact.canvas))
        return "\n".join([f"Compared on {self.pictures}.", *lines])

    def _rows(self) -> Iterator[tuple[str, str, str, str]]:
        result, by = self.result, self.result.difference
        before, after = result.milliseconds
        found = result.detections
        yield (
            "detections",
            f"{found}",
            f"{by.matched} the same",
            f"{by.missing} missing, {by.more} more, {by.borderline} at the threshold",
        )
        allowed = self.tolerance
        yield "boxes, largest difference", "", f"{by.boxes:.2g} px", _most(allowed.boxes)
        yield "scores, largest difference", "", f"{by.scores:.2g}", _most(allowed.scores)
        for name, (first, second) in (("COCO AP", result.ap), ("COCO AP50", result.ap50)):
            yield name, f"{first:.4f}", f"{second:.4f}", f"{second - first:+.4f}"
        yield (
            "latency, an image",
            f"{before:.1f} ms",
            f"{after:.1f} ms",
            f"{after / before:.2f} of the time",
        )


def _of_narrow(narrow: Narrow, canvas: Size) -> str:
    (height, width), (more_height, more_width) = canvas, narrow.canvas
    return (
        f"The canvas of {height}x{width} shows {plural(narrow.images, 'picture')} smaller than the "
        f"model's own do, on which its COCO AP is {narrow.ap:.4f}: --size "
        f"{more_height}x{more_width} holds all in full."
    )


def _loss(result: Comparison) -> float:
    """Of COCO AP; 0 where nothing is labelled that the model knows."""
    before, after = result.ap
    return 0.0 if math.isnan(before) else before - after


def _most(value: float | None) -> str:
    return "" if value is None else f"{value:g} allowed"


def _short(value: float) -> str:
    return f"{value:.3g}"


def _plain(value: Any) -> Any:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
