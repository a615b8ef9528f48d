"""The NMS of a GPU, run there, or elsewhere by Triton's interpreter."""

import importlib.util
import os

import numpy as np
import pytest
import torch
import torchvision  # noqa: F401  # before Keras

import keras  # isort: skip

if keras.config.backend() != "torch":
    pytest.skip("an NMS of PyTorch's", allow_module_level=True)
if importlib.util.find_spec("triton") is None and os.name == "nt":
    pytest.skip("there is no Triton for Windows", allow_module_level=True)

from frcnn.ops.nms import _torchvision_nms
from frcnn.ops.triton_nms import triton_nms

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize(
    ("batch", "length", "max_outputs", "groups"),
    [(2, 130, 50, None), (3, 64, 64, 3), (1, 63, 5, None), (2, 200, 300, 4), (2, 1, 3, 2)],
)
@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.7])
def test_it_keeps_what_torchvisions_keeps(
    random_boxes, batch, length, max_outputs, groups, threshold
):
    rng = np.random.default_rng(length)
    boxes = torch.from_numpy(random_boxes((batch, length), length, size=100))
    scores = torch.from_numpy(rng.integers(0, 30, (batch, length)).astype(np.float32))
    usable = torch.from_numpy(rng.random((batch, length)) < 0.8)
    if groups is not None:
        groups = torch.from_numpy(rng.integers(0, groups, (batch, length)).astype(np.int32))
    expected = _torchvision_nms(boxes, scores, usable, groups, threshold, max_outputs)
    given = [each if each is None else each.to(DEVICE) for each in (boxes, scores, usable, groups)]
    found = triton_nms(*given, threshold, max_outputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cpu(), other)


def test_ious_on_the_threshold_do_not_exclude(random_boxes):
    boxes = torch.tensor([[[0, 0, 10, 10], [0, 0, 10, 3], [0, 0, 10, 7]]], device=DEVICE).float()
    scores = torch.tensor([[0.9, 0.8, 0.7]], device=DEVICE)
    usable = torch.ones((1, 3), dtype=torch.bool, device=DEVICE)
    for threshold, count in ((float(np.float32(0.3)), 2), (float(np.float32(0.7)), 3)):
        _, used = triton_nms(boxes, scores, usable, None, threshold, 3)
        assert int(used.sum()) == count


@pytest.mark.parametrize("length", [0, 5])
def test_no_boxes_at_all(length):
    boxes = torch.full((2, length, 4), torch.nan, device=DEVICE)
    scores, usable = torch.full((2, length), torch.nan), torch.zeros((2, length), dtype=torch.bool)
    indices, used = triton_nms(boxes, scores.to(DEVICE), usable.to(DEVICE), None, 0.5, 3)
    assert indices.shape == used.shape == (2, 3)
    assert not indices.any() and not used.any()
    assert indices.dtype == torch.int32 and used.dtype == torch.bool
