"""Arithmetic that rounds the same way on every backend, where a last bit decides something."""

from __future__ import annotations

import numpy as np
from keras import ops


def divide(values, divisor: float):
    """``values / divisor`` for finite float32 ``values``, rounded once.

    XLA makes of a division by a constant a product with its reciprocal, and that other rounding
    moves samples, or whole cells, from bin to bin. No compiler takes this divisor for a constant.
    """
    return values / (0.0 * values + divisor)


def round_half_away(values):
    """C's ``round``; the backends' own rounds halves to even."""
    return ops.sign(values) * ops.floor(ops.abs(values) + 0.5)


def float32_below(value: float) -> float:
    """The largest float32 not above ``value``: ``x > it`` is exactly ``x > value`` in float32."""
    nearest = np.float32(value)
    return float(nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(-np.inf)))
