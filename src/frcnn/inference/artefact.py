"""What an exported detector says of itself, so that any runtime can use it as it was meant."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from frcnn.errors import UserError, printable

MOST_PIXELS = 1 << 30  # of the images that a graph takes at once

KEY = "frcnn"  # under which a format keeps it among its own metadata
VERSION = 1
SUFFIXES = (".onnx", ".xml")  # of ONNX and of OpenVINO

INPUTS = ("images", "sizes")
OUTPUTS = ("boxes", "scores", "labels", "count")


def is_artefact(reference: str | Path) -> bool:
    """Whether this names an exported detector rather than one of Keras."""
    return Path(reference).suffix.lower() in SUFFIXES and not os.path.isdir(reference)


@dataclass(frozen=True)
class Artefact:
    """How pictures are prepared for an exported graph, and what its numbers mean.

    The graph takes ``images`` (B, H, W, 3), RGB, 0..255, each laid at the top left of the canvas,
    and ``sizes`` int32 (B, 2), height and width of that picture on it. It gives ``boxes`` float32
    (B, D, 4), xyxy in pixels of the canvas, ``scores`` float32 (B, D), descending, ``labels``
    int32 (B, D), -1 where there is no detection, and ``count`` int32 (B,).

    Args:
        classes: names, in label order.
        canvas: (height, width) of the images that the graph takes.
        batch: images that it takes at once; None: any number.
        images: "uint8" or "float32", of what type they are; float32 where ``resizing`` is "plain",
            which does not round.
        short: pixels that a picture's short side is resized to.
        long: pixels that its long side may have at most.
        resizing: "smooth" or "plain", as of ``DetectionModel``.
        rule: the thresholds inside, as of ``DetectionRule``.
        origin: what was exported, when and by which versions.
        precision: "float32" or "int8".

    Raises:
        ValueError: another ``images``, ``resizing`` or ``precision``, a number below 1.
    """

    classes: tuple[str, ...]
    canvas: tuple[int, int]
    batch: int | None
    images: str
    short: int
    long: int
    resizing: str
    rule: dict[str, float]
    origin: dict[str, str] = field(default_factory=dict)
    precision: str = "float32"

    def __post_init__(self):
        object.__setattr__(self, "classes", tuple(printable(str(each)) for each in self.classes))
        height, width = self.canvas
        object.__setattr__(self, "canvas", (int(height), int(width)))
        for name in ("batch", "short", "long"):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= 1 or name == "batch" and value is None):
                raise ValueError(f"Expected `{name}` of at least 1. Received: {value!r}.")
        if min(self.canvas) < 1 or height * width * (self.batch or 1) > MOST_PIXELS:
            raise ValueError(
                "Expected a `canvas` of at least one pixel, and no more than "
                f"{MOST_PIXELS:,} with its `batch`. Received: {self.canvas} and {self.batch}."
            )
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"Expected `{name}` to be one of {', '.join(choices)}. "
                    f"Received: {getattr(self, name)!r}."
                )
        if self.resizing == "plain" and self.images != "float32":
            raise ValueError(
                'Expected `images` to be "float32", as pictures are that `resizing` "plain" gives. '
                f"Received: {self.images!r}."
            )

    @property
    def description(self) -> dict[str, str]:
        """What each input and output is, in words, for those who have nothing but the file."""
        height, width = self.canvas
        batch = self.batch or "batch"
        if self.resizing == "plain":
            resized = "once in float32, as torchvision does, its sides rounded down,"
        else:
            resized = "its sides rounded, halved first while more than twice as large,"
        return {
            "images": f"{self.images} ({batch}, {height}, {width}, 3), RGB, 0..255; normalisation "
            "is inside. A picture of H x W pixels is resized bilinearly by "
            f"min({self.short} / min(H, W), {self.long} / max(H, W), {height} / H, {width} / W), "
            f"{resized} and laid at the top left; the rest is zero.",
            "sizes": f"int32 ({batch}, 2): height and width of each picture after resizing.",
            "boxes": f"float32 ({batch}, D, 4): x1, y1, x2, y2 in pixels of the images. Times H / "
            "height (y) and W / width (x) of sizes they are in pixels of the picture.",
            "scores": f"float32 ({batch}, D): from 0 to 1, the highest first.",
            "labels": f"int32 ({batch}, D): places in the list of classes.",
            "count": f"int32 ({batch},): detections of each picture; further rows are empty.",
        }

    def to_json(self) -> str:
        """One line of JSON, what ``from_json`` reads; ``description`` is for people alone."""
        values = {"version": VERSION, **asdict(self), "description": self.description}
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str, source: str) -> Artefact:
        """Read what ``to_json`` wrote.

        Args:
            text: the JSON.
            source: where it was found, for messages.

        Raises:
            UserError: it is none of ours, or of a later version.
        """
        try:
            values = json.loads(text)
            version = values.pop("version")
            values.pop("description", None)  # earlier files have none
            if version == VERSION:
                return cls(**values)
        except RecursionError:
            raise UserError(f"{source} has metadata that are nested too deeply.") from None
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise UserError(
                f"{source} has no metadata of `frcnn export` that can be read: {error}."
            ) from error
        raise UserError(
            f"{source} was exported by another version of frcnn (its metadata has version "
            f"{version!r:.20}, not {VERSION}). Export it again, or install that version."
        )


_CHOICES = {
    "images": ("uint8", "float32"),
    "resizing": ("smooth", "plain"),
    "precision": ("float32", "int8"),
}
