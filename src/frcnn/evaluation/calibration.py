"""Whether scores are what they say: the share of detections that are right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 10


@dataclass(frozen=True)
class Calibration:
    """A reliability diagram and its summary.

    Args:
        error: expected calibration error, 0..1 (Guo et al., ICML 2017); NaN without detections.
        bias: mean score less the share that is right; above 0 the detector is too sure.
        ranking: the probability that a right detection is scored above a wrong one (the area
            under the ROC curve); 0.5 is chance. NaN where one of the two is missing.
        spread: standard deviation of the scores.
        bins: for each tenth of 0..1 ``from``, ``count``, ``score`` (mean) and ``right`` (share);
            the last two are NaN where it is empty.
    """

    error: float
    bias: float
    ranking: float
    spread: float
    bins: tuple[dict[str, float], ...]

    def to_dict(self) -> dict:
        """Plain values, by the names of the arguments."""
        return {
            "error": self.error,
            "bias": self.bias,
            "ranking": self.ranking,
            "spread": self.spread,
            "bins": [dict(each) for each in self.bins],
        }


def calibrate(scores: np.ndarray, right: np.ndarray) -> Calibration:
    """Compare scores with what came true.

    Args:
        scores: float (N,), 0..1.
        right: bool (N,), whether each detection is right.
    """
    scores, right = np.asarray(scores, np.float64), np.asarray(right, bool)
    place = np.minimum((scores * BINS).astype(int), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    filled = np.maximum(counts, 1)
    means = np.bincount(place, scores, BINS) / filled
    shares = np.bincount(place, right, BINS) / filled
    total = len(scores)
    nothing = float("nan")
    return Calibration(
        error=float((counts * np.abs(means - shares)).sum() / total) if total else nothing,
        bias=float(scores.mean() - right.mean()) if total else nothing,
        ranking=ranking(scores, right),
        spread=float(scores.std()) if total else nothing,
        bins=tuple(
            {
                "from": index / BINS,
                "count": int(counts[index]),
                "score": float(means[index]) if counts[index] else nothing,
                "right": float(shares[index]) if counts[index] else nothing,
            }
            for index in range(BINS)
        ),
    )


def ranking(scores: np.ndarray, right: np.ndarray) -> float:
    """The probability that a right one is scored above a wrong one, ties counted half."""
    hits, misses = int(right.sum()), int((~right).sum())
    if not hits or not misses:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[place]  # equal scores share their mean rank
    return float((ranks[right].sum() - hits * (hits + 1) / 2) / (hits * misses))


def object_ranking(scores: np.ndarray, overlap: np.ndarray) -> float:
    """Whether boxes on objects are scored above boxes beside them, as ``ranking``.

    Args:
        scores: float (N,).
        overlap: float (N,), IoU of each box with the object that it overlaps most. From 0.5 on it
            is on that, below 0.3 beside all; what lies between is left out.
    """
    clear = (overlap >= 0.5) | (overlap < 0.3)
    return ranking(scores[clear], overlap[clear] >= 0.5)


def best_score(scores: np.ndarray, right: np.ndarray, objects: int) -> tuple[float, float]:
    """The score from which detections are best kept, and its F1.

    Args:
        scores: float (N,).
        right: bool (N,).
        objects: how many there are to find.

    Returns:
        the threshold with the highest F1 (2 right / (kept + objects)), and that F1; the threshold
        is NaN where nothing is right, and both are without detections or objects.
    """
    if not len(scores) or not objects:
        return float("nan"), float("nan")
    if not right.any():
        return float("nan"), 0.0
    order = np.argsort(-scores, kind="stable")
    values = 2 * np.cumsum(right[order]) / (np.arange(1, len(order) + 1) + objects)
    # Equal scores are kept together.
    last = np.append(scores[order][1:] != scores[order][:-1], True)
    best = int(np.argmax(np.where(last, values, -1.0)))
    return float(scores[order][best]), float(values[best])
