"""The best anchor of each box, against all anchors of the grid; and what would fit better."""

import numpy as np
import pytest

from frcnn.data.anchor_fit import (
    Anchors,
    best_ious,
    measure_fit,
    square_sides,
    suggest_anchors,
)
from frcnn.ops.anchors import grid_anchors

GRIDS = [
    Anchors((8, 16, 32), ((12.0, 20.0), (24.0, 40.0), (48.0, 80.0)), (0.5, 1.0, 2.0)),
    Anchors((16,), ((40.0, 90.0, 200.0),), (0.5, 1.0, 2.0), 0.0, True),
    Anchors((4, 64), ((10.0,), (100.0,)), (0.2, 3.0)),
]


def random_boxes(rng, count, width, height):
    sides = np.exp(rng.uniform(np.log(3), np.log(200), (count, 2)))
    low = rng.uniform(0, (width, height), (count, 2)) - sides / 2
    boxes = np.concatenate([low, low + sides], axis=1)
    return boxes.clip(0, (width, height) * 2)


@pytest.mark.parametrize("anchors", GRIDS)
def test_the_best_anchor_is_that_of_the_whole_grid(anchors):
    width, height = 250, 190
    boxes = random_boxes(np.random.default_rng(0), 400, width, height)
    shapes = [(-(-height // stride), -(-width // stride)) for stride in anchors.strides]
    levels = len(anchors.strides)
    grid = grid_anchors(
        shapes,
        anchors.strides,
        anchors.sizes,
        (anchors.ratios,) * levels,
        anchors.offset,
        anchors.rounded,
    )
    common = np.minimum(boxes[:, None, 2:], grid[:, 2:]) - np.maximum(
        boxes[:, None, :2], grid[:, :2]
    )
    common = common.clip(0).prod(axis=2)
    areas = [(each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, grid)]
    expected = (common / (areas[0][:, None] + areas[1] - common)).max(axis=1)
    extents = np.tile((width, height), (400, 1))
    np.testing.assert_allclose(best_ious(boxes, extents, anchors), expected, atol=1e-5)


def test_shares_are_told_by_size():
    anchors = Anchors((8,), ((20.0,),), (1.0,))
    # An anchor itself; twice as wide; four times as large; far too large.
    boxes = np.array([[-6, -6, 14, 14], [-6, -6, 34, 14], [-6, -6, 34, 34], [0, 0, 400, 400]])
    fit = measure_fit(boxes + 96, np.full((4, 2), 1000), anchors)
    assert (fit.boxes, fit.high, fit.low) == (4, 0.25, 0.5)
    assert fit.bins == (
        {"from": 16, "boxes": 2, "high": 0.5, "low": 1.0},
        {"from": 32, "boxes": 1, "high": 0.0, "low": 0.0},
        {"from": 256, "boxes": 1, "high": 0.0, "low": 0.0},
    )
    assert fit.to_dict()["bins"][0]["boxes"] == 2


def test_suggested_anchors_are_of_the_boxes_sizes():
    rng = np.random.default_rng(3)
    sides = np.where(rng.random((500, 1)) < 0.5, 12.0, 300.0) * np.array([[1.0, 1.5]])
    low = rng.uniform(0, 400, (500, 2))
    boxes = np.concatenate([low, low + sides], axis=1)
    extents = np.full((500, 2), 800)
    anchors = Anchors((8, 16), ((40.0,), (80.0,)), (1.0,))
    suggested, fit = suggest_anchors(boxes, extents, anchors)
    assert suggested == Anchors((8, 16), ((15.0,), (367.0,)), (1.5,))
    assert fit.low > 0.9 > 0.1 > measure_fit(boxes, extents, anchors).low
    assert suggest_anchors(boxes, extents, suggested) is None
    assert suggest_anchors(boxes[:20], extents[:20], anchors) is None


def test_boxes_all_alike_get_anchors_too():
    boxes = np.tile([[10.0, 10.0, 20.0, 200.0]], (60, 1))
    suggested, fit = suggest_anchors(boxes, np.full((60, 2), 300), GRIDS[0])
    assert square_sides(boxes)[0] == pytest.approx(43.59, abs=0.01)
    assert {side for level in suggested.sizes for side in level} == {44.0}
    assert suggested.ratios == (19.0,) * 3 and 0 < fit.low <= 1
