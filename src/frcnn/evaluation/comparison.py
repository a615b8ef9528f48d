"""Whether one detector is better than another on the same pictures, beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from frcnn.evaluation.greedy import GreedyMatches, greedy_match, interpolated_ap, mean_of
from frcnn.evaluation.matching import check_pairs, relabel, unknown_classes
from frcnn.structures import Detections, Sample

RESAMPLES = 1000
FEWEST = 200  # resamples, where there are many detections
MOST_WORK = 1_000_000_000  # detections times thresholds times resamples
LEVEL = 0.95
# Images with objects, without which nothing is sure: of a few, the draws are so much alike that
# the interval is too narrow; of one, they are the same and it has no width at all.
LEAST_IMAGES = 10


@dataclass(frozen=True)
class Difference:
    """A figure of two detectors, and how sure the difference is.

    Args:
        first: of the first detector, 0..1.
        second: of the second.
        low: lower end of the 95 % interval of ``second - first``.
        high: its upper end.
        images: pictures with objects that the figure is of.
    """

    first: float
    second: float
    low: float
    high: float
    images: int

    @property
    def difference(self) -> float:
        """By how much the second is higher."""
        return self.second - self.first

    @property
    def sure(self) -> bool:
        """Whether there are images enough, and the interval leaves out 0."""
        return self.images >= LEAST_IMAGES and (self.low > 0 or self.high < 0)

    def to_dict(self) -> dict:
        """Plain values, by the names of the arguments and properties."""
        return {
            "first": self.first,
            "second": self.second,
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
            "images": self.images,
            "sure": self.sure,
        }


@dataclass(frozen=True)
class Comparison:
    """Two detectors on the same pictures.

    Args:
        figures: "AP" and "AP50" -> their difference.
        per_class: class name -> that of its AP; classes without objects are left out.
        images: pictures compared on.
        resamples: how often they were drawn anew.
        unknown_classes: "first" and "second" -> classes of the data that this detector does not
            know; they score 0.
    """

    figures: dict[str, Difference]
    per_class: dict[str, Difference]
    images: int
    resamples: int
    unknown_classes: dict[str, tuple[str, ...]]

    def to_dict(self) -> dict:
        """Plain values, by the names of the arguments."""
        return {
            "figures": {name: each.to_dict() for name, each in self.figures.items()},
            "per_class": {name: each.to_dict() for name, each in self.per_class.items()},
            "images": self.images,
            "resamples": self.resamples,
            "unknown_classes": {name: list(each) for name, each in self.unknown_classes.items()},
        }

    def sentence(self) -> str:
        """Whether one is better, in a sentence."""
        ap = self.figures["AP"]
        if np.isnan(ap.difference):
            return "There is no object to compare the detectors on."
        shown = f"AP {ap.first:.3f} and {ap.second:.3f}, difference {_interval(ap)}"
        if ap.images < LEAST_IMAGES:
            return (
                f"There are too few images to tell: {shown}. Compare on {LEAST_IMAGES} images "
                f"with objects or more, not {ap.images}."
            )
        if not ap.sure:
            return (
                f"The difference is within chance: {shown}, an interval with 0 in it. "
                f"Compare on more than these {self.images} images to tell them apart."
            )
        better = "second" if ap.difference > 0 else "first"
        return f"The {better} detector is better, beyond chance: {shown}."

    def __str__(self) -> str:
        rows = [*self.figures.items(), *self.per_class.items()]
        width = max(len(name) for name, _ in rows)
        lines = [f"{'':<{width}}   first  second  difference, 95 % interval"]
        for name, each in rows:
            mark = " *" if each.sure else ""
            lines.append(
                f"{name:<{width}}  {each.first:>6.3f}  {each.second:>6.3f}  {_interval(each)}{mark}"
            )
        note = f"* beyond chance; {self.resamples} resamples of {self.images} images."
        if len(self.per_class) > 1:
            note += (
                " Each line is at 95 % by itself: of twenty classes that differ by chance alone "
                "about one has a star."
            )
        warnings = [
            f"Warning: the {name} detector does not know these classes, they score 0: "
            f"{', '.join(unknown)}."
            for name, unknown in self.unknown_classes.items()
            if unknown
        ]
        return "\n".join([*lines, note, self.sentence(), *warnings])


def _interval(each: Difference) -> str:
    return f"{each.difference:+.3f} ({each.low:+.3f} to {each.high:+.3f})"


def compare(
    first: Sequence[Detections],
    second: Sequence[Detections],
    samples: Sequence[Sample],
    classes: Sequence[str],
    resamples: int | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare two detectors by a paired bootstrap (Efron and Tibshirani 1993, chapter 13).

    Pictures are drawn with replacement, the same for both, as many as there are; the interval is
    between the 2.5 and 97.5 percentiles of the differences. It covers the choice of the pictures,
    not the chance in training.

    Args:
        first: what one detector found, one entry a picture, in the order of ``samples``; classes
            are matched by name.
        second: what the other found.
        samples: the pictures with their ground truth.
        classes: the names the labels of ``samples`` index.
        resamples: how often; default 1000, fewer, down to 200, for very many detections.
        seed: of the draws.

    Raises:
        ValueError: detections that do not fit the samples.
    """
    tables = []
    for detections in (first, second):
        check_pairs(detections, samples, classes)
        found = [relabel(each, classes) for each in detections]
        tables.append(_Table(greedy_match(found, samples), len(classes)))
    if resamples is None:
        work = sum(len(table.matches.scores) for table in tables) * 10
        resamples = int(np.clip(MOST_WORK // max(work, 1), FEWEST, RESAMPLES))
    base = [table.ap(np.ones(len(samples))) for table in tables]  # (C, T) each
    shown = _images_by_class(samples, len(classes))
    rng, draws = np.random.default_rng(seed), []
    for _ in range(resamples if samples else 0):
        chosen = rng.integers(0, len(samples), len(samples))
        weights = np.bincount(chosen, minlength=len(samples)).astype(float)
        draws.append([table.ap(weights) for table in tables])
    images = int(shown.any(axis=0).sum())
    return Comparison(
        {
            "AP": _difference(base, draws, images, mean_of),
            "AP50": _difference(base, draws, images, lambda values: mean_of(values[:, 0])),
        },
        {
            name: _difference(
                base,
                draws,
                int(shown[label].sum()),
                lambda values, label=label: float(values[label].mean()),
            )
            for label, name in enumerate(classes)
            if not np.isnan(base[0][label]).any()
        },
        len(samples),
        resamples,
        {
            "first": unknown_classes(first, classes),
            "second": unknown_classes(second, classes),
        },
    )


def _images_by_class(samples: Sequence[Sample], classes: int) -> np.ndarray:
    """Which pictures have an object to find of which class, bool (C, N)."""
    shown = np.zeros((classes, len(samples)), bool)
    for index, sample in enumerate(samples):
        shown[sample.labels[~cast(np.ndarray, sample.difficult)], index] = True
    return shown


def _difference(base, draws, images: int, figure) -> Difference:
    found = [figure(values) for values in base]
    apart = np.array([figure(second) - figure(first) for first, second in draws])
    apart = apart[~np.isnan(apart)]  # draws without an object
    share = (1 - LEVEL) / 2
    low, high = np.quantile(apart, [share, 1 - share]) if len(apart) else (np.nan, np.nan)
    return Difference(found[0], found[1], float(low), float(high), images)


class _Table:
    """One detector's matches, sorted once, so that AP with other weights is quick."""

    def __init__(self, matches: GreedyMatches, classes: int):
        self.matches = matches
        easy = ~matches.difficult
        self.truth = [
            matches.truth_images[easy & (matches.truth_labels == label)] for label in range(classes)
        ]
        self.rows = []
        for label in range(classes):
            mine = np.flatnonzero(matches.labels == label)
            mine = mine[np.argsort(-matches.scores[mine], kind="stable")]
            right, counted = matches.right[:, mine], ~matches.ignored[:, mine]
            self.rows.append((matches.images[mine], right, counted))

    def ap(self, weights: np.ndarray) -> np.ndarray:
        """AP (C, T) where each picture counts ``weights`` (N,) times."""
        result = np.full((len(self.rows), len(self.matches.thresholds)), np.nan)
        for label, (images, right, counted) in enumerate(self.rows):
            positives = weights[self.truth[label]].sum()
            if positives:
                result[label] = interpolated_ap(right, positives, counted * weights[images])
        return result
