import numpy as np
import pytest
from keras import ops

from frcnn.models.targets import (
    RoITargetRule,
    RPNTargetRule,
    roi_candidates,
    roi_targets,
    rpn_targets,
)
from frcnn.ops.anchors import grid_anchors
from frcnn.ops.boxes import decode

pytestmark = pytest.mark.backend

SIZES = np.array([[64, 96], [64, 96]], np.int32)


def truth():
    boxes = np.full((2, 8, 4), -1, np.float32)
    labels = np.full((2, 8), -1, np.int32)
    boxes[0, :2] = [[10, 10, 34, 30], [50, 20, 60, 60]]
    labels[0, :2] = [1, 0]
    return boxes, labels


def anchors():
    return grid_anchors([(8, 12), (4, 6)], (8, 16), ((16.0,), (32.0,)), ((0.5, 1.0, 2.0),) * 2)


def keys(*shape):
    return np.random.default_rng(0).random(shape).astype(np.float32)


def to_numpy(values):
    return [ops.convert_to_numpy(value) for value in values]


def run_rpn(rule=RPNTargetRule(count=32)):
    boxes, labels = truth()
    grid = anchors()
    found = rpn_targets(grid, boxes, labels, SIZES, keys(2, len(grid)), rule)
    return grid, to_numpy(found)


def test_every_box_has_an_anchor():
    grid, (index, foreground, _, deltas) = run_rpn()
    reached = ops.convert_to_numpy(decode(grid[index[0][foreground[0]]], deltas[0][foreground[0]]))
    boxes, _ = truth()
    for box in boxes[0, :2]:
        assert np.abs(reached - box).max(axis=1).min() < 1e-3


def test_foreground_targets_decode_to_a_box_exactly():
    grid, (index, foreground, _, deltas) = run_rpn()
    reached = ops.convert_to_numpy(decode(grid[index[0]], deltas[0]))[foreground[0]]
    boxes, _ = truth()
    distance = np.abs(reached[:, None] - boxes[0, None, :2]).max(axis=2).min(axis=1)
    assert distance.max() < 1e-3


def test_an_image_without_boxes_is_all_background():
    _, (_, foreground, valid, deltas) = run_rpn()
    assert not foreground[1].any() and valid[1].all()
    assert np.isfinite(deltas).all()


def test_at_most_half_of_the_sample_is_foreground_and_the_rest_fills_up():
    _, (_, foreground, valid, _) = run_rpn(RPNTargetRule(count=4, foreground=0.2))
    assert foreground[0].sum() == 2 and valid.all()


def test_anchors_across_the_border_are_left_out_where_asked():
    grid, (index, foreground, valid, _) = run_rpn(RPNTargetRule(count=256, ignore_border=True))
    sampled = grid[index[valid]]
    assert sampled.min() >= 0 and (sampled[:, 2] <= 96).all() and (sampled[:, 3] <= 64).all()
    assert foreground[0].any()
    assert not valid.all()  # there are fewer than 256 inside
    _, (index, _, valid, _) = run_rpn(RPNTargetRule(count=256))
    assert grid[index[valid]].min() < 0


def run_roi(proposals, valid, rule=RoITargetRule(count=8)):
    boxes, labels = truth()
    candidates, valid = roi_candidates(proposals, valid, boxes, labels)
    shape = tuple(ops.shape(valid))
    return to_numpy(roi_targets(candidates, valid, boxes, labels, keys(*shape), rule))


def test_ground_truth_is_among_the_rois():
    nothing = np.zeros((2, 5, 4), np.float32), np.zeros((2, 5), bool)
    rois, classes, sampled, deltas = run_roi(*nothing)
    assert sampled.tolist() == [[True] * 2 + [False] * 6, [False] * 8]
    assert sorted(classes[0].tolist()) == [-1] * 6 + [0, 1]
    np.testing.assert_array_equal(rois[1], 0)
    np.testing.assert_allclose(deltas[0], 0, atol=1e-5)  # the boxes themselves need no shift


def test_a_quarter_is_foreground_and_the_rest_background():
    rng = np.random.default_rng(1)
    near = truth()[0][0, 0] + rng.uniform(-2, 2, (2, 20, 4)).astype(np.float32)
    far = np.tile(np.array([70, 40, 90, 60], np.float32), (2, 20, 1))
    proposals = np.concatenate([near, far], axis=1)
    rois, classes, sampled, deltas = run_roi(proposals, np.ones((2, 40), bool))
    assert sampled.all()
    assert (classes[0] >= 0).sum() == 2 and (classes[1] == -1).all()
    reached = ops.convert_to_numpy(decode(rois[0], deltas[0], RoITargetRule().weights))
    for row, label in zip(reached, classes[0], strict=True):
        if label >= 0:
            expected = truth()[0][0, list(truth()[1][0]).index(label)]
            np.testing.assert_allclose(row, expected, atol=1e-2)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_of_few_rois_one_may_be_foreground(count):
    assert RoITargetRule(count=count).most_foreground == 1


def test_no_rois_are_refused():
    with pytest.raises(ValueError, match="`count` of at least 1. Received: 0"):
        RoITargetRule(count=0)


def test_small_objects_keep_their_exact_targets():
    """24-pixel objects: rounding to 16-pixel cells reached IoU 0.63 with perfect outputs."""
    rng = np.random.default_rng(2)
    corner = rng.uniform(0, 40, (2, 8, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + 24], axis=2)
    labels = np.zeros((2, 8), np.int32)
    shifted = boxes + rng.uniform(-4, 4, boxes.shape).astype(np.float32)
    candidates, valid = roi_candidates(shifted, np.ones((2, 8), bool), boxes, labels)
    found = roi_targets(
        candidates, valid, boxes, labels, keys(2, 16), RoITargetRule(count=16, fraction=1.0)
    )
    rois, classes, _, deltas = to_numpy(found)
    assert (classes >= 0).sum() >= 24
    reached = ops.convert_to_numpy(decode(rois, deltas, RoITargetRule().weights))
    side = reached[..., 2:] - reached[..., :2]
    np.testing.assert_allclose(side[classes >= 0], 24, atol=1e-2)
