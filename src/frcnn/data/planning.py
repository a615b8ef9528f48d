"""Which samples go into which batch: pictures of one canvas together, batches always full."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from frcnn.data.resizing import Size, fit_canvas, scale_for, scaled_size

Groups = dict[Size, np.ndarray]
# The canvas of a batch and the indices of its samples, int64 (B,).
Planned = tuple[Size, np.ndarray]

BLANK = -1  # in a plan: no sample, a blank picture


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


def batch_count(groups: Groups, batch_size: int) -> int:
    """How many batches one pass over all samples takes."""
    return sum(-(-len(group) // batch_size) for group in groups.values())


def plan_in_order(groups: Groups, batch_size: int, steps: int) -> list[Planned]:
    """Plan ``steps`` batches in the samples' own order, the last of a canvas ended by blanks."""
    one_pass = []
    for canvas, group in groups.items():
        blanks = np.full(-len(group) % batch_size, BLANK, np.int64)
        one_pass += _parts(canvas, np.concatenate([group, blanks]), batch_size)
    passes = -(-steps // len(one_pass))
    return (one_pass * passes)[:steps]


def plan_shuffled(
    groups: Groups, batch_size: int, steps: int, rng: np.random.Generator
) -> list[Planned]:
    """Plan ``steps`` batches at random, the last of a canvas filled up with others of its group.

    More steps than one pass takes begin another, in a new order.
    """
    plan: list[Planned] = []
    while len(plan) < steps:
        one_pass = []
        for canvas, group in groups.items():
            whole = -(-len(group) // batch_size) * batch_size
            one_pass += _parts(canvas, np.resize(rng.permutation(group), whole), batch_size)
        plan += [one_pass[place] for place in rng.permutation(len(one_pass))]
    return plan[:steps]


def _parts(canvas: Size, samples: np.ndarray, batch_size: int) -> list[Planned]:
    return [(canvas, part) for part in samples.reshape(-1, batch_size)]
