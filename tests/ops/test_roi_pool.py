import numpy as np
import pytest
import torch
import torchvision
from keras import ops

from frcnn.ops.roi import roi_pool

pytestmark = pytest.mark.backend


@pytest.fixture
def cases(random_boxes):
    """Features ``[2, 9, 13, 4]``, no two values equal, and boxes ``[2, 300, 4]``."""
    features = np.random.default_rng(0).permutation(2 * 9 * 13 * 4).astype(np.float32) / 100 - 4
    special = np.float32(
        [[-1, -1, -1, -1], [-900, -900, -800, -800], [-500, -500, 900, 900], [90, 20, 30, 10]]
        + [[8, 8, 24, 24], [24, 40, 56, 72], [0, 0, 208, 144], [300, 300, 400, 400]]
    )
    boxes = random_boxes((2, 300), 1)
    boxes[:, : len(special)] = special
    return features.reshape(2, 9, 13, 4), boxes


def torchvisions(features, boxes, size):
    inputs = torch.from_numpy(features).permute(0, 3, 1, 2).contiguous().requires_grad_()
    boxes = [torch.from_numpy(rows) for rows in boxes]
    return inputs, torchvision.ops.roi_pool(inputs, boxes, size, 1 / 16)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_roi_pool_equals_torchvisions(run, cases, size):
    pooled = run(lambda *args: roi_pool(*args, size, 1 / 16), *cases)
    expected = torchvisions(*cases, size)[1].detach().permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(pooled.reshape(expected.shape), expected)


def test_gradient_equals_torchvisions(gradient, cases):
    features, boxes = cases
    upstream = np.random.default_rng(2).normal(size=(2, 300, 7, 7, 4)).astype(np.float32)
    inputs, pooled = torchvisions(features, boxes, 7)
    pooled.backward(torch.from_numpy(upstream.reshape(600, 7, 7, 4)).permute(0, 3, 1, 2))
    expected = inputs.grad.permute(0, 2, 3, 1).numpy()
    tensor = ops.convert_to_tensor(boxes)
    slope = gradient(lambda value: roi_pool(value, tensor, 7, 1 / 16), features, upstream)
    np.testing.assert_allclose(slope, expected, atol=1e-5 * np.abs(expected).max())
