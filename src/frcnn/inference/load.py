"""From what a user names to a detector."""

from __future__ import annotations

from pathlib import Path

from frcnn.inference.predict import Detector
from frcnn.zoo.references import open_model


def load(reference: str | Path) -> Detector:
    """Open a trained detector, on whichever backend Keras runs now.

    Args:
        reference: a run folder, of which the best model is taken; a ``.keras`` file;
            ``torchvision:fasterrcnn_resnet50_fpn`` or another of its names, trained on COCO and
            downloaded at the first call; ``hf://owner/name``.

    Raises:
        UserError: there is no model, or it cannot be fetched or read.
    """
    return Detector(open_model(reference))
