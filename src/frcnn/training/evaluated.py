"""The network that is validated and saved, where it is not quite the one that trains."""

from __future__ import annotations

from contextlib import contextmanager

import keras
import numpy as np

from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.training.config import Config

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # of Keras


@contextmanager
def precision(name: str):
    """Layers made within compute with this precision; their weights are float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[name])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def needs_another(config: Config) -> bool:
    """Whether to validate and save a network apart from the one that trains.

    That has averaged weights, float32 arithmetic, and layers that are not frozen for a while only;
    the training is not touched.
    """
    return bool(config.ema or config.freeze_epochs or config.precision != "float32")


def show(trained: FasterRCNN, shown: FasterRCNN) -> None:
    """Give ``shown`` the weights of ``trained``, or their averages where it keeps such.

    Statistics of batch normalisation are the current ones.
    """
    if keras.config.backend() == "jax":
        trained.jax_state_sync()  # it trains on copies
    averages = {id(weight): average for weight, average in trained.optimizer.averaged()}
    for weight, other in zip(trained.weights, shown.weights, strict=True):
        value = keras.ops.convert_to_numpy(averages.get(id(weight), weight))
        other.assign(np.array(value))  # memory of its own: JAX gives the step's away
