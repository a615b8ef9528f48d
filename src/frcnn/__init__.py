"""Faster R-CNN for Keras 3: train, evaluate, understand and deploy a two-stage detector.

    import frcnn

    run = frcnn.train(frcnn.Config("VOCdevkit/VOC2007", epochs=10))
    detector = frcnn.load(run.folder)
    detections = detector.detect("street.jpg", score=0.5)
    print(frcnn.evaluate(detector, frcnn.open_dataset("VOCdevkit/VOC2007", split="test")))

Names are imported when they are first used, so that ``import frcnn`` is quick. The first of them
chooses the backend, of those that are installed, if Keras is not imported yet and
``KERAS_BACKEND`` is not set.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from frcnn.apps.diagnosing import diagnose as diagnose
    from frcnn.apps.training import train as train
    from frcnn.data.dataset import Dataset as Dataset
    from frcnn.data.dataset import open_dataset as open_dataset
    from frcnn.errors import UserError as UserError
    from frcnn.evaluation.evaluate import Evaluation as Evaluation
    from frcnn.evaluation.evaluate import evaluate as evaluate
    from frcnn.inference.load import load as load
    from frcnn.inference.predict import Detector as Detector
    from frcnn.models.detector import DetectionModel as DetectionModel
    from frcnn.models.faster_rcnn import FasterRCNN as FasterRCNN
    from frcnn.structures import Detections as Detections
    from frcnn.structures import Sample as Sample
    from frcnn.training.config import Config as Config

__version__ = "0.1.0"

_HOMES = {
    "Config": "training.config",
    "Dataset": "data.dataset",
    "DetectionModel": "models.detector",
    "Detections": "structures",
    "Detector": "inference.predict",
    "Evaluation": "evaluation.evaluate",
    "FasterRCNN": "models.faster_rcnn",
    "Sample": "structures",
    "UserError": "errors",
    "diagnose": "apps.diagnosing",
    "evaluate": "evaluation.evaluate",
    "load": "inference.load",
    "open_dataset": "data.dataset",
    "train": "apps.training",
}

__all__ = [
    "Config",
    "Dataset",
    "DetectionModel",
    "Detections",
    "Detector",
    "Evaluation",
    "FasterRCNN",
    "Sample",
    "UserError",
    "__version__",
    "diagnose",
    "evaluate",
    "load",
    "open_dataset",
    "train",
]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'frcnn' has no attribute {name!r}")
    from frcnn.backend import importing_keras

    with importing_keras():
        home = importlib.import_module(f"frcnn.{_HOMES[name]}")
    return getattr(home, name)


def __dir__():
    return sorted([*globals(), *_HOMES])
