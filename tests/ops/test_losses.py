import numpy as np
import pytest
import torch
from torch.nn import functional

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
