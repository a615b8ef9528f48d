"""RoIAlign's sum by a GPU's kernel, there or in Triton's interpreter."""

import importlib.util
import os

import keras
import numpy as np
import pytest
import torch

if keras.config.backend() != "torch":
    pytest.skip("a kernel of PyTorch's", allow_module_level=True)
if importlib.util.find_spec("triton") is None and os.name == "nt":
    pytest.skip("there is no Triton for Windows", allow_module_level=True)

from frcnn.ops import roi

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def aligned(features, boxes, kernel, monkeypatch):
    """Pooled RoIs, and the gradient of the first map."""
    monkeypatch.setattr(roi, "runs_triton", lambda tensor: kernel)
    features = [each.clone().requires_grad_() for each in features]
    pooled = roi.pyramid_roi_align(features, boxes, [4, 8], 3, canonical_size=20)
    pooled.float().square().sum().backward()
    return pooled.detach(), features[0].grad


@pytest.mark.parametrize("channels", [6, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_sums_as_the_embedding_bag(monkeypatch, random_boxes, channels, dtype):
    rng = np.random.default_rng(0)
    shapes = (2, 16, 20, channels), (2, 8, 10, channels)
    features = [torch.from_numpy(rng.normal(size=shape)).to(DEVICE, dtype) for shape in shapes]
    boxes = torch.from_numpy(random_boxes((2, 3), 1, size=70)).to(DEVICE)
    kernel, bag = (aligned(features, boxes, each, monkeypatch) for each in (True, False))
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    for one, other in zip(kernel, bag, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_no_regions_at_all(monkeypatch):
    monkeypatch.setattr(roi, "runs_triton", lambda tensor: True)
    pooled = roi.roi_align(torch.zeros((1, 4, 4, 2), device=DEVICE), np.zeros((1, 0, 4)), 3, 1.0)
    assert pooled.shape == (1, 0, 3, 3, 2)
