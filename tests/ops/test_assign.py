import numpy as np
import pytest
import torch
from torchvision.models.detection._utils import Matcher

from frcnn.ops.anchors import grid_anchors
from frcnn.ops.assign import match, sample
from frcnn.ops.boxes import pairwise_iou

pytestmark = pytest.mark.backend


def random_ious(batch, anchors, boxes, seed):
    """Multiples of 1/32, so that ties and values on the thresholds are common; many zeros."""
    steps = np.random.default_rng(seed).integers(-16, 33, (batch, anchors, boxes))
    return np.maximum(steps, 0).astype(np.float32) / 32


@pytest.mark.parametrize("best_anchor", [False, True])
def test_match_equals_torchvisions(run, best_anchor):
    iou = random_ious(300, 30, 6, 0)
    counts = np.random.default_rng(1).integers(1, 7, 300)
    valid = np.arange(6) < counts[:, None]
    matched, labels = run(lambda *args: match(*args, 0.75, 0.375, best_anchor), iou, valid)
    matcher = Matcher(0.75, 0.375, allow_low_quality_matches=best_anchor)
    for image, count in enumerate(counts):
        quality = torch.from_numpy(iou[image, :, :count].T)
        if best_anchor:  # torchvision lets an IoU of 0 be a best match
            quality = quality[quality.max(dim=1).values > 0]
        expected = matcher(quality).numpy() if len(quality) else np.full(30, -1)
        np.testing.assert_array_equal(labels[image] == 1, expected >= 0)
        np.testing.assert_array_equal(labels[image] == 0, expected == -1)
        np.testing.assert_array_equal(labels[image] == -1, expected == -2)
        rows = iou[image, :, :count]
        np.testing.assert_array_equal(rows[np.arange(30), matched[image]], rows.max(axis=1))


def test_an_image_without_boxes_is_all_background(run):
    iou, valid = random_ious(2, 20, 3, 2), np.zeros((2, 3), bool)
    matched, labels = run(lambda *args: match(*args, 0.7, 0.3, True), iou, valid)
    assert np.all(labels == 0) and np.all(matched == 0)
    assert labels.dtype == matched.dtype == np.int32


def test_anchors_outside_are_ignored_and_do_not_compete_for_the_best(run):
    iou = np.float32([[[0.9], [0.4], [0.1], [0.6]]])
    inside = np.array([False, True, True, False])
    for mask in (inside, inside[None]):
        _, labels = run(
            lambda *args: match(args[0], args[1], 0.7, 0.3, True, args[2]),
            iou,
            np.ones((1, 1), bool),
            mask,
        )
        np.testing.assert_array_equal(labels, [[-1, 1, 0, -1]])


def test_every_box_gets_an_anchor_when_compiled_with_the_iou(run, random_boxes):
    """The highest IoU and the IoUs compared with it may be computed by different machine code."""
    anchors = grid_anchors([(12, 12)], [16], [(32, 64, 128)], [(0.5, 1.0, 2.0)])
    boxes = np.clip(random_boxes((8, 20), 3), 0, 192)

    def label(boxes):
        iou = pairwise_iou(anchors[None], boxes)
        return iou, *match(iou, boxes[..., 0] >= 0, 0.7, 0.3, best_anchor=True)

    iou, _, labels = run(label, boxes)
    best = np.argmax(iou, axis=1)  # [B, G]
    overlaps = np.max(iou, axis=1) > 0
    assert overlaps.mean() > 0.9
    assert np.all(np.take_along_axis(labels, best, axis=1)[overlaps] == 1)


def reference_sample(labels, keys, count, max_foreground):
    """Indices drawn of one row, by sorting."""
    order = np.argsort(-keys, kind="stable")
    foreground = [i for i in order if labels[i] == 1][: min(max_foreground, count)]
    background = [i for i in order if labels[i] == 0][: count - len(foreground)]
    return sorted(foreground), sorted(background)


@pytest.mark.parametrize(("length", "count", "most"), [(40, 16, 8), (40, 64, 8), (9, 4, 9)])
def test_sample_draws_the_highest_keys(run, length, count, most):
    rng = np.random.default_rng(4)
    labels = rng.integers(-1, 2, (300, length)).astype(np.int32)
    labels[0], labels[1], labels[2] = 1, 0, -1
    keys = rng.integers(0, 8, (300, length)).astype(np.float32) / 8  # many ties
    indices, foreground, valid = run(
        lambda *args: sample(args[0], count, most, args[1]), labels, keys
    )
    assert indices.shape == (300, count) and indices.dtype == np.int32
    for row in range(300):
        expected = reference_sample(labels[row], keys[row], count, most)
        drawn = indices[row][valid[row]]
        split = foreground[row].sum()
        assert (drawn[:split].tolist(), drawn[split:].tolist()) == expected
        assert not indices[row][~valid[row]].any() and not foreground[row][~valid[row]].any()


def test_sample_may_draw_no_foreground_at_all(run):
    labels = np.int32([[1, 0, 1, 0]])
    indices, foreground, valid = run(
        lambda *args: sample(args[0], 3, 0, args[1]), labels, np.zeros((1, 4), "f4")
    )
    np.testing.assert_array_equal(indices[valid], [1, 3])
    assert not foreground.any()


def test_uniform_keys_draw_uniformly(run_eager):
    rows = 4000
    labels = np.tile(np.int32([1, 1, 1, 1, 1] + [0] * 15), (rows, 1))
    keys = np.random.default_rng(5).random((rows, 20), np.float32)
    indices, foreground, valid = run_eager(
        lambda *args: sample(args[0], 8, 2, args[1]), labels, keys
    )
    assert valid.all() and np.all(foreground.sum(axis=1) == 2)
    drawn = np.bincount(indices.reshape(-1), minlength=20) / rows
    # Standard deviations of these shares are below 0.008.
    np.testing.assert_allclose(drawn[:5], 2 / 5, atol=0.04)
    np.testing.assert_allclose(drawn[5:], 6 / 15, atol=0.04)
