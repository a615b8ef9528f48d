"""What an export will say of itself, decided from a detector and a user's wishes."""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import asdict
from datetime import UTC, datetime

import keras

from frcnn.data.resizing import Size
from frcnn.errors import UserError
from frcnn.inference.artefact import KEY, MOST_PIXELS, Artefact
from frcnn.models.detector import DetectionModel

_LONGEST = 2  # times the short side: keras-frcnn's models take pictures of any length


def describe(
    model: DetectionModel,
    size: Size | None = None,
    batch: int | None = 1,
    images: str | None = None,
    precision: str = "float32",
    source: str = "",
) -> Artefact:
    """The artefact that a detector is exported as.

    Args:
        model: the detector.
        size: (height, width) of its canvas. None: the largest that it has, of equal ones the
            landscape; without any, one that holds its longest side across, or twice the short one.
        batch: images at once; None leaves it open.
        images: "uint8" or "float32". None: what its pictures are prepared as.
        precision: "float32" or "int8".
        source: what the detector was read from, for the record.

    Raises:
        UserError: a size that the network does not take, too many pixels, or images that would be
            rounded.
    """
    prepared = "float32" if model.resizing == "plain" else "uint8"
    if model.resizing == "plain" and images == "uint8":
        raise UserError(
            "This detector's pictures are float32, as torchvision resizes them, and uint8 would "
            "round them. Leave out --images, or give float32."
        )
    canvas = height, width = _canvas(model, size)
    if height * width * (batch or 1) > MOST_PIXELS:
        raise UserError(
            f"Images of {height}x{width}{f' in batches of {batch}' if batch else ''} are more than "
            f"the {MOST_PIXELS:,} pixels that a graph may take. Give a smaller --size or --batch."
        )
    return Artefact(
        classes=model.classes,
        canvas=canvas,
        batch=batch,
        images=images or prepared,
        short=model.short,
        long=model.long,
        resizing=model.resizing,
        rule=asdict(model.rule),
        origin=_origin(source),
        precision=precision,
    )


def _canvas(model: DetectionModel, size: Size | None) -> Size:
    multiple = model.multiple
    if size is None:
        if model.canvases:
            return max(model.canvases, key=lambda canvas: (canvas[0] * canvas[1], canvas[1]))
        long = min(model.long, _LONGEST * model.short)
        height, width = (-(-side // multiple) * multiple for side in (model.short, long))
        return height, width
    if min(size) < multiple or size[0] % multiple or size[1] % multiple:
        raise UserError(
            f"The sides of --size must be multiples of {multiple}, as the network's coarsest map "
            f"needs them. Received: {size[0]}x{size[1]}."
        )
    return size


def _origin(source: str) -> dict[str, str]:
    backend = keras.config.backend()
    versions = {name: importlib.metadata.version(name) for name in (KEY, "keras")}
    versions[backend] = importlib.import_module(backend).__version__
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return {"model": source, "time": when, **versions}
