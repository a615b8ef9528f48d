"""Initial weights that are the same on every backend for the same ``set_random_seed``.

Keras's own initializers draw from the backend's generator; these draw from NumPy's global one,
which ``keras.utils.set_random_seed`` also seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import keras
import numpy as np
from keras import ops

# Of pixels 0..255 of photographs, for a first kernel that is given them with their mean taken off
# but not scaled: it is made so much smaller.
PIXEL_DEVIATION = 58.0


_undrawn: ContextVar[bool] = ContextVar("undrawn", default=False)


@contextmanager
def undrawn() -> Iterator[None]:
    """Layers built within have zeros: their weights are read from a file next.

    Drawing a ResNet-50's is a third of the time that it takes to open one.
    """
    before = _undrawn.set(True)
    try:
        yield
    finally:
        _undrawn.reset(before)


@keras.saving.register_keras_serializable(package="frcnn")
class Normal(keras.initializers.Initializer):
    """Normal around zero.

    Args:
        stddev: its standard deviation.
    """

    def __init__(self, stddev: float):
        self.stddev = stddev

    def __call__(self, shape, dtype=None):
        """Weights of this shape."""
        if _undrawn.get():
            return ops.zeros(shape, dtype)
        return ops.convert_to_tensor(np.random.normal(0.0, self.stddev, shape), dtype)

    def get_config(self):
        """The constructor's argument."""
        return {"stddev": self.stddev}


@keras.saving.register_keras_serializable(package="frcnn")
class Uniform(keras.initializers.Initializer):
    """Uniform around zero with variance ``scale / inputs`` of a unit (He et al. 2015).

    Args:
        scale: 2 keeps the variance through a ReLU, 1 where none follows.
        depthwise: the kernel's third axis counts channels of their own, not inputs to one sum.
    """

    def __init__(self, scale: float = 2.0, depthwise: bool = False):
        self.scale = scale
        self.depthwise = depthwise

    def __call__(self, shape, dtype=None):
        """Weights of this shape, outputs last."""
        if _undrawn.get():
            return ops.zeros(shape, dtype)
        inputs = math.prod(shape[: 2 if self.depthwise else -1])
        limit = math.sqrt(3.0 * self.scale / inputs)
        return ops.convert_to_tensor(np.random.uniform(-limit, limit, shape), dtype)

    def get_config(self):
        """The constructor's arguments."""
        return {"scale": self.scale, "depthwise": self.depthwise}
