"""A detector into a file of another runtime."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import keras

from frcnn.data.resizing import Size
from frcnn.errors import UserError
from frcnn.export.describe import describe
from frcnn.export.formats import FORMATS, Kind
from frcnn.inference.artefact import Artefact
from frcnn.models.detector import DetectionModel


def export_detector(
    model: DetectionModel,
    path: str | Path,
    kind: Kind,
    size: Size | None = None,
    batch: int | None = 1,
    images: str | None = None,
    winograd: bool = True,
) -> Path:
    """Write a detector in float32, unchecked: ``frcnn export`` also compares it with the model.

    Args:
        model: the detector, on the backend that the format needs.
        path: of the file, or of SavedModel's folder.
        kind: the format.
        size: (height, width) of the images that it will take; None: the model's largest canvas.
        batch: images that it will take at once; None: any number, where the format can.
        images: "uint8" or "float32"; None: what the model's pictures are prepared as.
        winograd: large 3x3 convolutions go by tiles, where the format can: faster on a processor,
            not for 16 bits or a GPU.

    Raises:
        UserError: Keras runs on another backend, a package is missing, or the format cannot hold
            what is wanted.
    """
    options = {"winograd": winograd} if FORMATS[kind].winograd else {}
    return write(model, describe(model, size, batch, images), Path(path), kind, **options)


def write(model: DetectionModel, artefact: Artefact, path: Path, kind: Kind, **options) -> Path:
    """Write what ``artefact`` describes; ``options`` are of the format's own ``write``."""
    chosen, backend = FORMATS[kind], keras.config.backend()
    if backend != chosen.backend:
        raise UserError(
            f"{chosen.title} is written on Keras's backend {chosen.backend}, not on {backend}. Set "
            f"the environment variable KERAS_BACKEND to {chosen.backend}; the model is the same."
        )
    if artefact.batch is None and not chosen.any_batch:
        raise UserError(f"{chosen.title} takes a fixed number of images at once; give --batch 1.")
    path.parent.mkdir(parents=True, exist_ok=True)
    return writer(kind).write(model, artefact, path, **options)


def writer(kind: Kind) -> ModuleType:
    """The file of a format, with its ``write`` and ``open_artefact``."""
    match kind:
        case "onnx":
            from frcnn.export import onnx as module
        case "openvino":
            from frcnn.export import openvino as module
        case "torch_export":
            from frcnn.export import torch_export as module
        case "saved_model":
            from frcnn.export import saved_model as module
        case "litert":
            from frcnn.export import litert as module
    return module
