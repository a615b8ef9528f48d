import keras
import numpy as np
import pytest
import torch
import torchvision
from keras import ops

from frcnn.ops import nms as nms_module
from frcnn.ops.nms import nms

pytestmark = pytest.mark.backend


def brute_force(boxes, scores, threshold, groups, valid):
    """Greedy suppression one box at a time, in float32."""
    order = [i for i in np.argsort(-scores, kind="stable") if valid[i]]
    kept = []
    for i in order:
        x1, y1 = np.maximum(boxes[i, :2], boxes[kept, :2]).T
        x2, y2 = np.minimum(boxes[i, 2:], boxes[kept, 2:]).T
        overlap = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        union = areas[i] + areas[kept] - overlap
        iou = overlap / np.where(union > 0, union, 1)
        if not np.any((iou > np.float64(threshold)) & (groups[kept] == groups[i])):
            kept.append(i)
    return kept


def assert_keeps(result, expected, max_outputs):
    """``result`` of one image is ``expected`` [K] indices and then padding."""
    indices, kept = result
    expected = list(expected)[:max_outputs]
    assert indices.shape == kept.shape == (max_outputs,)
    assert indices.dtype == np.int32 and kept.dtype == bool
    assert kept.tolist() == [True] * len(expected) + [False] * (max_outputs - len(expected))
    assert indices.tolist() == expected + [0] * (max_outputs - len(expected))


@pytest.fixture(params=["default", "tiled"] if keras.config.backend() == "torch" else ["default"])
def implementation(request, monkeypatch):
    """The portable suppression, and on PyTorch the kernel of torchvision before it."""
    if request.param == "tiled":
        monkeypatch.setattr(nms_module, "installed", lambda package: False)
    return request.param


@pytest.mark.parametrize(("length", "max_outputs"), [(1, 3), (7, 7), (60, 20), (700, 400)])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_nms_equals_torchvisions(
    run_eager, implementation, random_boxes, length, max_outputs, threshold
):
    boxes = random_boxes((8, length), length, size=100)
    scores = np.random.default_rng(0).integers(0, 30, (8, length)).astype(np.float32)
    indices, kept = run_eager(lambda *args: nms(*args, threshold, max_outputs), boxes, scores)
    for image in range(8):
        expected = torchvision.ops.nms(
            torch.from_numpy(boxes[image]), torch.from_numpy(scores[image]), threshold
        )
        assert_keeps((indices[image], kept[image]), expected.tolist(), max_outputs)


def test_groups_and_validity_equal_brute_force(run, random_boxes):
    rng = np.random.default_rng(1)
    boxes = random_boxes((6, 500), 2, size=60)
    scores = rng.integers(0, 100, (6, 500)).astype(np.float32)
    groups = rng.integers(0, 4, (6, 500)).astype(np.int32)
    valid = rng.random((6, 500)) < 0.7
    valid[0] = False
    indices, kept = run(
        lambda *args: nms(*args[:2], 0.4, 300, *args[2:]), boxes, scores, groups, valid
    )
    assert not kept[0].any() and kept[1:].any(axis=1).all()
    for image in range(6):
        rows = [values[image] for values in (boxes, scores, groups, valid)]
        expected = brute_force(rows[0], rows[1], 0.4, *rows[2:])
        assert_keeps((indices[image], kept[image]), expected, 300)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_thousands_of_small_cases_equal_brute_force(run, implementation, threshold):
    """Whole coordinates: many IoUs lie exactly on the threshold, many boxes have no area."""
    rng = np.random.default_rng(3)
    corners = rng.integers(0, 11, (1000, 12, 2, 2)) // [1, 3]
    boxes = np.sort(corners, axis=2).reshape(1000, 12, 4).astype(np.float32)
    scores = rng.integers(0, 5, (1000, 12)).astype(np.float32)
    indices, kept = run(lambda *args: nms(*args, threshold, 12), boxes, scores)
    everything = np.zeros(12, np.int32), np.ones(12, bool)
    for image in range(1000):
        expected = brute_force(boxes[image], scores[image], threshold, *everything)
        assert indices[image][kept[image]].tolist() == expected


def test_equal_iou_is_not_enough(run, implementation):
    boxes = np.float32([[[0, 0, 10, 10], [0, 0, 10, 3], [0, 0, 10, 7]]])  # IoU .3, .7, .43
    scores = np.float32([[0.9, 0.8, 0.7]])
    for threshold in (np.float32(0.3), np.float32(0.7)):
        _, kept = run(lambda *args, t=float(threshold): nms(*args, t, 3), boxes, scores)
        assert kept.sum() == (2 if threshold < 0.5 else 3)


def test_nothing_invalid_or_nan_is_kept(run, implementation, random_boxes):
    boxes = np.tile(random_boxes((1, 6), 4) / 100, (1, 1, 1)) + 300 * np.arange(6)[None, :, None]
    boxes = boxes.astype(np.float32)
    scores = np.float32([[0.1, np.nan, 0.9, 0.8, -np.inf, 0.5]])
    boxes[0, 2, 3], boxes[0, 3, 0] = np.nan, np.inf
    valid = np.array([[True, True, True, True, True, False]])
    indices, kept = run(lambda *args: nms(*args[:2], 0.5, 4, valid=args[2]), boxes, scores, valid)
    assert_keeps((indices[0], kept[0]), [0, 4], 4)


@pytest.mark.parametrize("length", [0, 5])
def test_no_boxes_at_all(run, implementation, length):
    boxes, scores = np.zeros((2, length, 4), "f4"), np.ones((2, length), "f4")
    valid = np.zeros((2, length), bool)
    indices, kept = run(lambda *args: nms(*args[:2], 0.5, 3, valid=args[2]), boxes, scores, valid)
    assert indices.shape == (2, 3) and not indices.any() and not kept.any()


def test_more_boxes_than_a_tile_and_a_chain_within_one(run):
    """Each box excludes the next only, so every second one is kept: the longest fixed point."""
    left = np.arange(600, dtype=np.float32)
    boxes = np.stack([left, 0 * left, left + 1.8, 0 * left + 1], axis=1)[None]
    scores = -left[None]
    indices, kept = run(lambda *args: nms(*args, 0.1, 400), boxes, scores)
    assert_keeps((indices[0], kept[0]), range(0, 600, 2), 400)


def test_groups_of_several_stretches(run_eager, random_boxes):
    boxes = random_boxes((1, 3000), 9, size=150)
    rng = np.random.default_rng(10)
    scores = rng.random((1, 3000), np.float32)
    groups = rng.integers(0, 5, (1, 3000)).astype(np.int32)
    indices, kept = run_eager(
        lambda *args: nms(*args[:2], 0.3, 500, args[2]), boxes, scores, groups
    )
    expected = brute_force(boxes[0], scores[0], 0.3, groups[0], np.ones(3000, bool))
    assert len(expected) > 200
    assert_keeps((indices[0], kept[0]), expected, 500)


def test_twelve_thousand_boxes(run_compiled, random_boxes):
    boxes = random_boxes((1, 12000), 5, size=800)
    scores = np.random.default_rng(6).random((1, 12000), np.float32)
    indices, kept = run_compiled(lambda *args: nms(*args, 0.7, 2000), boxes, scores)
    expected = torchvision.ops.nms(torch.from_numpy(boxes[0]), torch.from_numpy(scores[0]), 0.7)
    assert_keeps((indices[0], kept[0]), expected.tolist(), 2000)


def test_no_gradient_flows(gradient):
    """The loss may contain what NMS picked, and JAX cannot differentiate its loop."""
    boxes = ops.convert_to_tensor(np.float32([[[0, 0, 4, 4], [0, 0, 4, 3], [8, 8, 9, 9]]]))

    def picked(scores):
        indices, kept = nms(boxes, scores, 0.5, 3)
        return ops.take_along_axis(scores, indices, axis=1) * ops.cast(kept, "float32")

    slope = gradient(picked, np.float32([[0.5, 0.7, 0.6]]), np.float32([[1, 10, 100]]))
    np.testing.assert_allclose(slope, [[0, 1, 10]])


def test_threshold_out_of_range_is_refused():
    with pytest.raises(ValueError, match="iou_threshold.*70"):
        nms(np.zeros((1, 1, 4), "f4"), np.zeros((1, 1), "f4"), 70, 1)
