"""The numbers by which a 3x3 convolution goes by tiles of 4x4 results.

A tile is a product of two polynomials, those of a 6x6 piece of the map and of the kernel, and a
polynomial is known by its values at six points: there the product is one of numbers (Winograd 1980;
Lavin and Gray 2016, arXiv:1509.09308, section 4). The points decide how far rounding goes: with 0,
5/8, -5/8, 3/2, -3/2 and infinity the largest error is about that of a plain convolution in float32;
with the usual 0, 1, -1, 2, -2 and infinity four times that.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial.polynomial import polyfromroots

P, Q = 5 / 8, 3 / 2  # the points, with their negatives, zero and infinity

_POINTS = np.array([0, P, -P, Q, -Q])


def of_kernels() -> np.ndarray:
    """(6, 3): three values of a kernel -> its values at the points, over what these differ by."""
    differences = _POINTS[:, None] - _POINTS
    np.fill_diagonal(differences, 1)
    powers = _POINTS[:, None] ** np.arange(3) / differences.prod(1, keepdims=True)
    return np.concatenate([powers, [[0, 0, 1]]])


def of_maps() -> np.ndarray:
    """(6, 6): six values of a map -> their share of the results at the points."""
    rows = [np.append(polyfromroots(np.delete(_POINTS, k)), 0) for k in range(5)]
    return np.array([*rows, polyfromroots(_POINTS)])


def of_results() -> np.ndarray:
    """(4, 6): products at the points -> four results."""
    powers = _POINTS ** np.arange(4)[:, None]
    return np.concatenate([powers, [[0], [0], [0], [1]]], axis=1)
