"""From what a user names to a detector."""

from __future__ import annotations

from pathlib import Path

from frcnn.backend import importing_keras
from frcnn.inference.artefact import is_artefact
from frcnn.inference.pictures import PictureDetector


def load(reference: str | Path) -> PictureDetector:
    """Open a trained detector, on whichever backend Keras runs now; an exported one without Keras.

    Args:
        reference: a run folder, of which the best model is taken; a ``.keras`` file; an ``.onnx``
            file, or an ``.xml`` file of OpenVINO, that ``frcnn export`` wrote;
            ``torchvision:fasterrcnn_resnet50_fpn`` or another of its names, trained on COCO and
            downloaded at the first call; ``hf://owner/name``.

    Raises:
        UserError: there is no model, or it cannot be fetched or read.
        ImportError: it needs Keras, whose backend is not installed.
    """
    if is_artefact(reference):
        from frcnn.inference.runtime import open_artefact

        return open_artefact(reference)
    with importing_keras():
        from frcnn.inference.predict import Detector
        from frcnn.zoo.references import open_model
    return Detector(open_model(reference, ["an exported .onnx or .xml file"]))
