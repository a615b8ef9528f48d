import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.ops import generalized_box_iou_loss

from frcnn.ops import losses

pytestmark = pytest.mark.backend

LOGITS = np.concatenate(
    [np.random.default_rng(0).normal(0, 5, 500), [0, 30, -30, 100, -100, 1e4, -1e4]]
).astype(np.float32)


@pytest.mark.parametrize("target", [0.0, 1.0, 0.3])
def test_sigmoid_cross_entropy(run, gradient, target):
    targets = np.full_like(LOGITS, target)
    logits = torch.from_numpy(LOGITS).requires_grad_()
    expected = functional.binary_cross_entropy_with_logits(
        logits, torch.from_numpy(targets), reduction="none"
    )
    loss = run(losses.sigmoid_cross_entropy, LOGITS, targets)
    np.testing.assert_allclose(loss, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
    slope = gradient(
        lambda value: losses.sigmoid_cross_entropy(value, target), LOGITS, np.ones_like(LOGITS)
    )
    np.testing.assert_allclose(slope, torch.sigmoid(logits).detach() - target, atol=1e-5)


def test_softmax_cross_entropy(run):
    rng = np.random.default_rng(1)
    logits = (rng.normal(size=(4, 60, 7)) * 10 ** rng.uniform(-1, 3, (4, 60, 1))).astype("f4")
    labels = rng.integers(0, 7, (4, 60)).astype(np.int32)
    expected = functional.cross_entropy(
        torch.from_numpy(logits).reshape(-1, 7),
        torch.from_numpy(labels).long().reshape(-1),
        reduction="none",
    )
    loss = run(losses.softmax_cross_entropy, logits, labels)
    np.testing.assert_allclose(loss.reshape(-1), expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.1, 0.9])
def test_label_smoothing(run, gradient, smoothing):
    rng = np.random.default_rng(1)
    values = rng.normal(0, 3, (60, 7)).astype("f4")
    labels = rng.integers(0, 7, 60).astype(np.int32)
    logits = torch.from_numpy(values).requires_grad_()
    expected = functional.cross_entropy(
        logits, torch.from_numpy(labels).long(), reduction="none", label_smoothing=smoothing
    )
    loss = run(lambda *given: losses.softmax_cross_entropy(*given, smoothing), values, labels)
    np.testing.assert_allclose(loss, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
    expected.sum().backward()
    slope = gradient(
        lambda each: losses.softmax_cross_entropy(each, labels, smoothing),
        values,
        np.ones(60, "f4"),
    )
    np.testing.assert_allclose(slope, logits.grad.numpy(), atol=1e-5)
    padding = np.full(60, -1, np.int32)
    loss = run(lambda *given: losses.softmax_cross_entropy(*given, smoothing), values, padding)
    np.testing.assert_array_equal(loss, np.zeros(60))


def test_padding_labels_cost_nothing(run):
    loss = run(losses.softmax_cross_entropy, np.zeros((3, 2), "f4"), np.int32([-1, 0, 1]))
    np.testing.assert_allclose(loss, [0, np.log(2), np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0])
def test_smooth_l1(run, gradient, beta):
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(size=500), [0, beta, -beta]]).astype(np.float32)
    targets = np.zeros_like(values)
    predictions = torch.from_numpy(values).requires_grad_()
    expected = functional.smooth_l1_loss(
        predictions, torch.from_numpy(targets), beta=beta, reduction="none"
    )
    loss = run(lambda *args: losses.smooth_l1(*args, beta), values, targets)
    np.testing.assert_allclose(loss, expected.detach().numpy(), atol=1e-6)
    slope = gradient(lambda value: losses.smooth_l1(value, 0.0, beta), values, np.ones_like(values))
    expected.sum().backward()
    np.testing.assert_allclose(slope, predictions.grad.numpy(), atol=1e-6)


def test_giou_loss_is_torchvisions(run, gradient, random_boxes):
    boxes, targets = random_boxes((40, 25), 5), random_boxes((40, 25), 6)
    predictions = torch.from_numpy(boxes).requires_grad_()
    expected = generalized_box_iou_loss(predictions, torch.from_numpy(targets))
    loss = run(losses.giou_loss, boxes, targets)
    assert loss.min() < 0.7 and loss.max() > 1.9  # boxes that overlap and boxes far apart
    np.testing.assert_allclose(loss, expected.detach().numpy(), atol=1e-5)
    slope = gradient(
        lambda value: losses.giou_loss(value, targets), boxes, np.ones(loss.shape, "f4")
    )
    expected.sum().backward()
    theirs = predictions.grad.numpy()
    np.testing.assert_allclose(slope, theirs, rtol=1e-3, atol=1e-5 * np.abs(theirs).max())


DEGENERATE = np.float32(
    [
        [[3, 3, 3, 3], [3, 3, 3, 3]],  # two equal points
        [[-1, -1, -1, -1], [2, 2, 8, 9]],  # padding
        [[2, 2, 8, 9], [-1, -1, -1, -1]],
        [[4, 1, 4, 5], [4, 1, 4, 5]],  # a line
        [[8, 8, 2, 2], [0, 0, 9, 9]],  # corners the wrong way round
        [[0, 0, 1e-7, 1e-7], [0, 0, 1e-7, 1e-7]],
    ]
)


def test_giou_loss_of_boxes_without_area_is_finite(run, gradient):
    boxes, targets = DEGENERATE[:, 0], DEGENERATE[:, 1]
    loss = run(losses.giou_loss, boxes, targets)
    assert np.isfinite(loss).all() and loss[0] == loss[3] == 1 and loss[1] == loss[2] > 1
    slope = gradient(lambda value: losses.giou_loss(value, targets), boxes, np.ones(6, "f4"))
    assert np.isfinite(slope).all() and np.abs(slope).max() < 100


def test_giou_loss_of_equal_boxes_is_a_flat_zero(run, gradient, random_boxes):
    boxes = random_boxes((50,), 7)
    loss = run(losses.giou_loss, boxes, boxes)
    np.testing.assert_allclose(loss, 0, atol=1e-6)
    slope = gradient(lambda value: losses.giou_loss(value, boxes), boxes, np.ones(50, "f4"))
    np.testing.assert_allclose(slope, 0, atol=1e-5)
