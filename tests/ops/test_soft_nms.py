import numpy as np
import pytest
from keras import ops

from frcnn.ops.soft_nms import soft_nms

pytestmark = pytest.mark.backend

RULES = [{"sigma": 0.5}, {"sigma": 0.1}, {"iou_threshold": 0.3}, {"iou_threshold": 0.0}]


def brute_force(boxes, scores, groups, valid, sigma=0.5, iou_threshold=None, score_threshold=1e-3):
    """The paper's figure 2, one box at a time: (indices, lowered scores)."""
    left = [i for i in range(len(boxes)) if valid[i] and scores[i] > score_threshold]
    scores, kept = scores.astype(np.float64), []
    while left:
        best = max(left, key=lambda i: (scores[i], -i))
        left.remove(best)
        kept.append((best, scores[best]))
        for other in left:
            if groups[other] != groups[best]:
                continue
            x1, y1 = np.maximum(boxes[best, :2], boxes[other, :2])
            x2, y2 = np.minimum(boxes[best, 2:], boxes[other, 2:])
            overlap = max(x2 - x1, 0) * max(y2 - y1, 0)
            union = sum(np.prod(boxes[i, 2:] - boxes[i, :2]) for i in (best, other)) - overlap
            iou = np.float64(overlap / union if union > 0 else 0)
            if iou_threshold is None:
                scores[other] *= np.exp(-(iou**2) / sigma)
            elif iou >= iou_threshold:
                scores[other] *= 1 - iou
        left = [i for i in left if scores[i] > score_threshold]
    return [i for i, _ in kept], [score for _, score in kept]


def assert_keeps(result, expected, slots):
    """``result`` of one image is ``expected`` and then padding."""
    (index, scores, kept), (wanted, lowered) = result, expected
    count = min(len(wanted), slots)
    assert (index.dtype, scores.dtype, kept.dtype) == (np.int32, np.float32, bool)
    assert kept.tolist() == [True] * count + [False] * (slots - count)
    assert index.tolist() == wanted[:count] + [0] * (slots - count)
    np.testing.assert_allclose(scores, lowered[:count] + [0] * (slots - count), rtol=1e-4)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("slots", [4, 20])
def test_random_cases_equal_brute_force(run, random_boxes, rule, slots):
    rng = np.random.default_rng(0)
    boxes = random_boxes((150, 12), 1, size=30)
    scores = rng.random((150, 12), np.float32)
    groups = rng.integers(0, 2, (150, 12)).astype(np.int32)
    valid = rng.random((150, 12)) < 0.9
    valid[0] = False
    result = run(
        lambda *args: soft_nms(*args[:2], slots, groups=args[2], valid=args[3], **rule),
        *(boxes, scores, groups, valid),
    )
    assert not result[2][0].any() and result[2][1:].any(axis=1).all()
    for image in range(150):
        expected = brute_force(boxes[image], scores[image], groups[image], valid[image], **rule)
        assert_keeps([part[image] for part in result], expected, slots)


def test_hundreds_of_boxes_without_groups(run, random_boxes):
    boxes = random_boxes((2, 400), 2, size=100)
    scores = np.random.default_rng(3).random((2, 400), np.float32)
    result = run(lambda *args: soft_nms(*args, 100, score_threshold=0.3), boxes, scores)
    everything = np.zeros(400), np.ones(400, bool)
    for image in range(2):
        expected = brute_force(boxes[image], scores[image], *everything, score_threshold=0.3)
        assert len(expected[0]) > 20
        assert_keeps([part[image] for part in result], expected, 100)


def test_equal_scores_go_by_index_and_equal_boxes_to_nothing_under_the_linear_rule(run):
    boxes = np.float32([[[0, 0, 4, 4], [50, 0, 60, 9], [0, 0, 4, 4], [20, 0, 24, 4]]])
    scores = np.float32([[0.5, 0.5, 0.5, 0.5]])
    result = run(lambda *args: soft_nms(*args, 5, iou_threshold=0.5), boxes, scores)
    assert_keeps([part[0] for part in result], ([0, 1, 3], [0.5, 0.5, 0.5]), 5)
    result = run(lambda *args: soft_nms(*args, 5, sigma=0.5), boxes, scores)
    lowered = 0.5 * np.exp(-2)
    assert_keeps([part[0] for part in result], ([0, 1, 3, 2], [0.5, 0.5, 0.5, lowered]), 5)


def test_an_iou_equal_to_the_threshold_costs(run):
    boxes = np.float32([[[0, 0, 10, 10], [0, 0, 10, 5]]])
    scores = np.float32([[0.8, 0.6]])
    result = run(lambda *args: soft_nms(*args, 2, iou_threshold=0.5), boxes, scores)
    assert_keeps([part[0] for part in result], ([0, 1], [0.8, 0.3]), 2)


def test_nothing_that_is_not_finite_is_kept(run):
    left = 100 * np.arange(6, dtype=np.float32)
    boxes = np.stack([left, 0 * left, left + 9, 0 * left + 9], axis=1)[None]
    scores = np.float32([[0.1, np.nan, 0.9, 0.8, np.inf, -np.inf]])
    boxes[0, 2, 3], boxes[0, 3, 0] = np.nan, np.inf
    result = run(lambda *args: soft_nms(*args, 4), boxes, scores)
    assert_keeps([part[0] for part in result], ([0], [0.1]), 4)


def test_scores_at_the_threshold_or_below_are_dropped(run):
    left = 100 * np.arange(4, dtype=np.float32)
    boxes = np.stack([left, 0 * left, left + 9, 0 * left + 9], axis=1)[None]
    scores = np.float32([[0.25, 0.5, -0.5, 0.0]])
    result = run(lambda *args: soft_nms(*args, 4, score_threshold=0.25), boxes, scores)
    assert_keeps([part[0] for part in result], ([1], [0.5]), 4)
    result = run(lambda *args: soft_nms(*args, 4, score_threshold=0.0), boxes, scores)
    assert_keeps([part[0] for part in result], ([1, 0], [0.5, 0.25]), 4)


@pytest.mark.parametrize("length", [0, 5])
def test_no_boxes_at_all(run, length):
    boxes, scores = np.zeros((2, length, 4), "f4"), np.ones((2, length), "f4")
    valid = np.zeros((2, length), bool)
    index, lowered, kept = run(
        lambda *args: soft_nms(*args[:2], 3, valid=args[2]), boxes, scores, valid
    )
    assert index.shape == lowered.shape == kept.shape == (2, 3)
    assert not index.any() and not lowered.any() and not kept.any()


def test_no_gradient_flows(gradient):
    boxes = ops.convert_to_tensor(np.float32([[[0, 0, 4, 4], [0, 0, 4, 3], [8, 8, 9, 9]]]))

    def total(scores):
        return scores + ops.sum(soft_nms(boxes, scores, 3)[1])

    slope = gradient(total, np.float32([[0.5, 0.7, 0.6]]), np.float32([[1, 10, 100]]))
    np.testing.assert_array_equal(slope, [[1, 10, 100]])


@pytest.mark.parametrize(
    ("name", "value"),
    [("sigma", 0), ("sigma", float("nan")), ("iou_threshold", 50), ("score_threshold", -0.1)],
)
def test_arguments_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}.*{value}"):
        soft_nms(np.zeros((1, 1, 4), "f4"), np.zeros((1, 1), "f4"), 1, **{name: value})
