"""Random draws whose state is how many rows were drawn for before."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from frcnn.ops.random import uniform


class Draws(keras.random.SeedGenerator):
    """Draws of which each row belongs to an image, or to a part of one, in the order of training.

    A batch that is taken in parts, or of which several processes take a share each, gets what it
    would get as a whole.

    Args:
        seed: of all of them.
        stream: tells draws apart that share a seed.

    Attributes:
        place: of this process among those that share each batch; or a function that gives it.
        places: how many those are.
    """

    def __init__(self, seed: int, stream: int = 0):
        super().__init__(seed)
        self.stream = stream
        self.place: Any = 0
        self.places = 1

    def uniform(self, shape, training: bool = True):
        """Uniform float32 in [0, 1) for the next rows; shape as of ``ops.random.uniform``.

        Without ``training`` they are the first rows' each time, and none is used up.
        """
        rows = ops.cast(shape[0], self.state.dtype)
        drawn = self.state.value * 1  # a copy
        counted = ops.stack([ops.zeros_like(rows), rows])
        if training:
            self.state.assign(drawn + self.places * counted)
        else:
            drawn = drawn * ops.convert_to_tensor([1, 0], drawn.dtype)
        place = ops.cast(self.place() if callable(self.place) else self.place, rows.dtype)
        return uniform(drawn + place * counted, shape, self.stream)
