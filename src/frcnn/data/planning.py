"""Which samples go into which batch: pictures of one canvas together, batches always full."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frcnn.data.resizing import Size, fit_canvas, scale_for, scaled_size

Groups = dict[Size, np.ndarray]
# The canvas of a batch and the indices of its samples, int64 (B,).
Planned = tuple[Size, np.ndarray]

BLANK = -1  # in a plan: no sample, a blank picture


@dataclass(frozen=True)
class Variety:
    """What is shown how often and how large, beside the transforms of single pictures.

    Args:
        scales: a batch's short side, long side and canvas are multiplied by one of these, drawn
            evenly.
        rare: classes that fewer than this share of the pictures have are shown more often
            (``repeat_factors``); 0 shows every picture once an epoch.
        mosaics: the share of the pictures that three others are joined with.
        mosaic_epochs: the epochs, from the first, that have mosaics; None is all.
    """

    scales: tuple[float, ...] = (1.0,)
    rare: float = 0.0
    mosaics: float = 0.0
    mosaic_epochs: int | None = None

    def mosaics_in(self, epoch: int) -> float:
        """The share of mosaics in an epoch, counted from 0."""
        closed = self.mosaic_epochs is not None and epoch >= self.mosaic_epochs
        return 0.0 if closed else self.mosaics


def group_by_canvas(
    sizes: Sequence[Size], short: int, long: int, canvases: Sequence[Size], batch_size: int
) -> Groups:
    """Sort samples by the canvas that fits them best.

    A group too small for one batch joins the largest, shrunk to fit: filled up by itself it
    would show its few pictures far too often.

    Args:
        sizes: (height, width) of every picture in pixels.
        short: pixels of the short side after resizing.
        long: most pixels of the long side after resizing.
        canvases: (height, width) to choose from.
        batch_size: B.

    Returns:
        For each canvas in use, the smallest area first, the sorted indices of its samples.
    """
    groups: dict[Size, list[int]] = {}
    for index, size in enumerate(sizes):
        canvas = fit_canvas(scaled_size(size, scale_for(size, short, long)), canvases)
        groups.setdefault(canvas, []).append(index)
    largest = max(groups, key=lambda canvas: (len(groups[canvas]), canvas))
    for canvas in [each for each in groups if each != largest]:
        if len(groups[canvas]) < batch_size:
            groups[largest] += groups.pop(canvas)
    ordered = sorted(groups, key=lambda canvas: (canvas[0] * canvas[1], canvas))
    return {canvas: np.array(sorted(groups[canvas]), np.int64) for canvas in ordered}


def batch_count(groups: Groups, batch_size: int, repeats: np.ndarray | None = None) -> int:
    """How many batches one pass over all samples takes, each shown ``repeats`` times on average."""
    return sum(_batches_of(group, batch_size, repeats) for group in groups.values())


def _batches_of(group: np.ndarray, batch_size: int, repeats: np.ndarray | None) -> int:
    shown = len(group) if repeats is None else math.ceil(repeats[group].sum())
    return -(-shown // batch_size)


def plan_in_order(groups: Groups, batch_size: int, steps: int) -> list[Planned]:
    """Plan ``steps`` batches in the samples' own order, the last of a canvas ended by blanks."""
    one_pass = []
    for canvas, group in groups.items():
        blanks = np.full(-len(group) % batch_size, BLANK, np.int64)
        one_pass += _parts(canvas, np.concatenate([group, blanks]), batch_size)
    passes = -(-steps // len(one_pass))
    return (one_pass * passes)[:steps]


def plan_shuffled(
    groups: Groups,
    batch_size: int,
    steps: int,
    rng: np.random.Generator,
    repeats: np.ndarray | None = None,
) -> list[Planned]:
    """Plan ``steps`` batches at random, the last of a canvas filled up with others of its group.

    More steps than one pass takes begin another, in a new order.

    Args:
        groups: from ``group_by_canvas``.
        batch_size: B.
        steps: how many batches.
        rng: draws the order.
        repeats: float (N,), at least 1, how often a pass shows each sample on average: the whole
            part always, one time more with the fraction as probability. So that passes are of
            equal length, a few that were drawn too many are left out. None shows each once.
    """
    plan: list[Planned] = []
    while len(plan) < steps:
        one_pass = []
        for canvas, group in groups.items():
            whole = _batches_of(group, batch_size, repeats) * batch_size
            drawn = rng.permutation(_repeated(group, repeats, rng))
            one_pass += _parts(canvas, np.resize(drawn, whole), batch_size)
        plan += [one_pass[place] for place in rng.permutation(len(one_pass))]
    return plan[:steps]


def _repeated(
    group: np.ndarray, repeats: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    if repeats is None:
        return group
    whole, fraction = np.divmod(repeats[group], 1)
    return np.repeat(group, whole.astype(np.int64) + (rng.random(len(group)) < fraction))


def _parts(canvas: Size, samples: np.ndarray, batch_size: int) -> list[Planned]:
    return [(canvas, part) for part in samples.reshape(-1, batch_size)]
