"""Random draws whose state is how many rows were drawn for before."""

from __future__ import annotations

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
        place: of this process among those that share each batch.
        places: how many those are.
    """

    def __init__(self, seed: int, stream: int = 0):
        super().__init__(seed)
        self.stream = stream
        self.place, self.places = 0, 1

    def uniform(self, shape):
        """Uniform float32 in [0, 1) for the next rows; shape as of ``ops.random.uniform``."""
        rows = ops.cast(shape[0], self.state.dtype)
        drawn = self.state.value * 1  # a copy
        counted = ops.stack([ops.zeros_like(rows), rows])
        self.state.assign(drawn + self.places * counted)
        return uniform(drawn + self.place * counted, shape, self.stream)
