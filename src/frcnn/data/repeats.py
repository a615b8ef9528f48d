"""How often samples are shown so that rare classes are seen: repeat-factor sampling."""

from __future__ import annotations

import numpy as np

from frcnn.data.dataset import Dataset, trained_on


def repeat_factors(dataset: Dataset, threshold: float) -> np.ndarray:
    """How many times an epoch shows each sample (Gupta et al., "LVIS", 2019, section 5.2 and B).

    A class that a share ``f`` of the samples has is repeated ``max(1, sqrt(threshold / f))`` times,
    a sample as often as the rarest class in it; difficult objects do not count.

    Args:
        dataset: the samples.
        threshold: classes that fewer than this share of the samples have are repeated, 0..1.

    Returns:
        float64 (N,), at least 1; samples without objects are shown once.
    """
    present = np.zeros((len(dataset), len(dataset.classes)), bool)
    for row, sample in enumerate(dataset):
        present[row, sample.labels[trained_on(sample)]] = True
    share = np.maximum(present.mean(axis=0), 1 / len(dataset))  # of a class that none has: any
    of_class = np.maximum(1.0, np.sqrt(threshold / share))
    return np.where(present, of_class, 1.0).max(axis=1)
