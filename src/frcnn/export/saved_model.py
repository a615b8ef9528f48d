"""TensorFlow's SavedModel: a folder that TensorFlow Serving and TensorFlow by itself run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from frcnn.errors import UserError
from frcnn.inference.artefact import INPUTS, KEY, OUTPUTS, Artefact
from frcnn.models.detector import DetectionModel

SIGNATURE = "serving_default"  # which TensorFlow Serving runs unless told otherwise
METADATA = Path("assets.extra", f"{KEY}.json")  # in the folder kept for what TensorFlow ignores


def write(model: DetectionModel, artefact: Artefact, path: Path) -> Path:
    """Write a detector as a SavedModel.

    Its signature ``serving_default`` has the named inputs and outputs of ``Artefact``, which
    lies beside the graph in ``assets.extra/frcnn.json``.

    Args:
        model: the detector, on Keras's TensorFlow backend.
        artefact: what is written; its ``batch`` may be None.
        path: of the folder.

    Returns:
        ``path``.

    Raises:
        UserError: Keras runs on another backend.
    """
    need_tensorflow_backend("SavedModels")
    tf = _tensorflow()
    height, width = artefact.canvas
    images = tf.TensorSpec((artefact.batch, height, width, 3), artefact.images, INPUTS[0])
    sizes = tf.TensorSpec((artefact.batch, 2), tf.int32, INPUTS[1])

    def detect(images, sizes):
        return model.call({"images": images, "sizes": sizes})

    module = tf.Module()
    module.weights = [weight.value for weight in model.weights]
    module.detect = tf.function(detect, input_signature=[images, sizes], autograph=False)
    tf.saved_model.save(module, str(path), signatures={SIGNATURE: module.detect})
    (path / METADATA).parent.mkdir(exist_ok=True)
    (path / METADATA).write_text(artefact.to_json(), "utf-8")
    return path


def read_artefact(path: Path) -> Artefact:
    """What the SavedModel in this folder says of itself.

    Raises:
        UserError: it says nothing that can be read.
    """
    try:
        text = (path / METADATA).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no folder of `frcnn export`: {error}.") from error
    return Artefact.from_json(text, str(path))


def open_artefact(path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Load a SavedModel; Keras has no part in running it.

    Returns:
        ``(images, sizes)`` -> a dict of arrays, as of ``Artefact``.

    Raises:
        UserError: there is no TensorFlow.
    """
    tf = _tensorflow()
    module = tf.saved_model.load(str(path))  # must outlive the signature, which borrows its weights

    def detect(images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        found = module.signatures[SIGNATURE](images=tf.constant(images), sizes=tf.constant(sizes))
        return {name: found[name].numpy() for name in OUTPUTS}

    return detect


def need_tensorflow_backend(files: str):
    """Raise ``UserError`` unless Keras runs on TensorFlow, without which there are no ``files``.

    JAX could write them too, but in a version of StableHLO that TensorFlow does not know yet.
    """
    backend = keras.config.backend()
    if backend != "tensorflow":
        raise UserError(
            f"{files} are written on Keras's TensorFlow backend, not on {backend}. Set the "
            "environment variable KERAS_BACKEND to tensorflow, on which the same model runs."
        )


def _tensorflow() -> Any:
    try:
        import tensorflow
    except ModuleNotFoundError as error:
        raise UserError(
            "SavedModels need TensorFlow, which is not installed. Install it with "
            "`pip install 'frcnn[tensorflow]'`."
        ) from error
    return tensorflow
