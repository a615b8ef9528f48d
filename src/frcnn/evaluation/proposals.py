"""How many of the objects a region proposal network proposes, and whether its anchors fit them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frcnn.evaluation.calibration import object_ranking
from frcnn.evaluation.greedy import THRESHOLDS
from frcnn.evaluation.matching import pairwise_iou
from frcnn.structures import Detections, Sample

COUNTS = (100, 300, 1000)
SIZES = {"all": (0.0, np.inf), "small": (0.0, 1024.0), "medium": (1024.0, 9216.0)}
SIZES["large"] = (9216.0, np.inf)  # square pixels of the original picture, as COCO has them
FACTORS = 2.0 ** np.arange(-4, 4.5, 0.5)  # by which anchors are tried larger or smaller
FITTING = 0.5  # IoU
_NEARLY = 0.02  # of the mean IoU


@dataclass(frozen=True, eq=False)
class ProposalRecall:
    """The share of the objects that proposals cover, 0..1; NaN without an object of the size.

    An object is covered when one proposal at least has IoU 0.5 with it (Hosang et al., PAMI 2016).

    Args:
        recall: proposals a picture -> size ("all", "small", "medium", "large") -> share covered.
        average: proposals a picture -> the share, averaged over IoU 0.50, 0.55, ... 0.95.
        objects: size -> how many objects.
        images: pictures measured on.
        ranking: the probability that a proposal on an object (IoU 0.5) has a higher objectness than
            one beside all (below 0.3); 0.5 is chance.
        covered: bool (M,), by object, difficult ones included: whether the most proposals cover it.
    """

    recall: dict[int, dict[str, float]]
    average: dict[int, float]
    objects: dict[str, int]
    images: int
    ranking: float
    covered: np.ndarray

    def to_dict(self) -> dict:
        """Plain values; the counts of proposals are texts, as JSON has keys."""
        return {
            "recall": {str(count): dict(row) for count, row in self.recall.items()},
            "average": {str(count): value for count, value in self.average.items()},
            "objects": dict(self.objects),
            "images": self.images,
            "ranking": self.ranking,
        }


def proposal_recall(
    proposals: Sequence[Detections],
    samples: Sequence[Sample],
    counts: Sequence[int] = COUNTS,
) -> ProposalRecall:
    """Measure proposals.

    Args:
        proposals: boxes with scores of each picture, in the order of ``samples``; their classes
            do not matter.
        samples: the pictures with their ground truth; difficult objects are left out.
        counts: how many of a picture's proposals are taken, the most confident.
    """
    best = np.zeros((len(counts), sum(len(each.boxes) for each in samples)))
    first = 0
    ranked: list[np.ndarray] = [np.zeros((2, 0))]  # objectness, best IoU
    for found, sample in zip(proposals, samples, strict=True):
        last = first + len(sample.boxes)
        order = np.argsort(-found.scores, kind="stable")[: max(counts)]
        overlap = pairwise_iou(found.boxes[order], sample.boxes)  # (P, G)
        for index, count in enumerate(counts):
            best[index, first:last] = overlap[:count].max(axis=0, initial=0.0)
        ranked.append(np.stack([found.scores[order], overlap.max(axis=1, initial=0.0)]))
        first = last
    real = ~np.concatenate([np.zeros(0, bool), *(np.asarray(s.difficult) for s in samples)])
    areas = np.concatenate([np.zeros(0), *(np.asarray(s.areas) for s in samples)])
    groups = {name: real & (areas >= low) & (areas < high) for name, (low, high) in SIZES.items()}
    levels = best[:, None, real] >= THRESHOLDS[None, :, None]  # (counts, T, M)
    return ProposalRecall(
        {
            count: {name: _mean(best[i, chosen] >= FITTING) for name, chosen in groups.items()}
            for i, count in enumerate(counts)
        },
        {count: _mean(levels[i]) for i, count in enumerate(counts)},
        {name: int(chosen.sum()) for name, chosen in groups.items()},
        len(samples),
        object_ranking(*np.concatenate(ranked, axis=1)),
        best[int(np.argmax(counts))] >= FITTING,
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


@dataclass(frozen=True)
class AnchorFit:
    """How well anchors fit the objects, position apart: by the IoU with the most alike anchor.

    Args:
        mean_iou: over the objects.
        fitting: share of the objects with an anchor of IoU 0.5 or more.
        best_factor: all anchors this many times as large would have nearly the highest mean; of
            several such factors, which anchors of many sizes have, the one nearest to 1.
        best_mean_iou: that mean.
        object_side: median of the objects' sides (square root of the area), in the network's
            pixels.
        smallest: side of the smallest anchor, in the network's pixels.
        largest: side of the largest.
    """

    mean_iou: float
    fitting: float
    best_factor: float
    best_mean_iou: float
    object_side: float
    smallest: float
    largest: float


def anchor_fit(
    shapes: np.ndarray, samples: Sequence[Sample], scales: np.ndarray
) -> AnchorFit | None:
    """Compare anchors with objects.

    Args:
        shapes: float (K, 2), width and height of the anchors in the network's pixels.
        samples: the pictures with their ground truth; difficult objects are left out.
        scales: float (N,), by how much each picture is enlarged for the network.

    Returns:
        None where there is no object.
    """
    sides = [
        (each.boxes[~np.asarray(each.difficult), 2:] - each.boxes[~np.asarray(each.difficult), :2])
        * scale
        for each, scale in zip(samples, scales, strict=True)
    ]
    objects = np.concatenate([np.zeros((0, 2)), *sides])
    objects = objects[(objects > 0).all(axis=1)]
    if not len(objects):
        return None
    means = np.array([_best_iou(objects, factor * shapes).mean() for factor in FACTORS])
    good = np.flatnonzero(means >= means.max() - _NEARLY)
    best = good[np.argmin(np.abs(np.log(FACTORS[good])))]
    own = _best_iou(objects, shapes)
    sizes = np.sqrt(shapes.prod(axis=1))
    return AnchorFit(
        float(own.mean()),
        float((own >= FITTING).mean()),
        float(FACTORS[best]),
        float(means[best]),
        float(np.median(np.sqrt(objects.prod(axis=1)))),
        float(sizes.min()),
        float(sizes.max()),
    )


def _best_iou(objects: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Of each object (N, 2) with the most alike of shapes (K, 2), centres laid on each other."""
    best = np.zeros(len(objects))
    for shape in shapes:
        shared = np.minimum(objects, shape).prod(axis=1)
        best = np.maximum(best, shared / (objects.prod(axis=1) + shape.prod() - shared))
    return best
