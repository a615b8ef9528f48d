"""What follows a convolution, by a GPU's kernel, there or in Triton's interpreter."""

import importlib.util
import math
import os

import keras
import pytest
import torch

if keras.config.backend() != "torch":
    pytest.skip("an operation of PyTorch's", allow_module_level=True)
if importlib.util.find_spec("triton") is None and os.name == "nt":
    pytest.skip("there is no Triton for Windows", allow_module_level=True)

from frcnn.ops import torch_operators

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def a_map(dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn((2, 24, 11, 7), generator=generator).to(DEVICE, dtype)
    return values.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kernel", [True, False], ids=["kernel", "operations"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bounds", [(0.0, math.inf), (0.0, 1.5), (-math.inf, math.inf)])
@pytest.mark.parametrize(("biased", "added"), [(True, True), (True, False), (False, True)])
def test_a_map_is_finished_in_its_place(monkeypatch, kernel, dtype, bounds, biased, added):
    monkeypatch.setattr(torch_operators, "runs_triton", lambda tensor: kernel)
    x, other = a_map(dtype, 0), a_map(dtype, 1).contiguous()
    bias = torch.linspace(-1, 1, 24, device=DEVICE, dtype=dtype)
    expected = x.float() + (bias.float()[:, None, None] if biased else 0)
    expected = (expected + (other.float() if added else 0)).clamp(*bounds)
    found = torch_operators.operators().finish(
        x, bias if biased else None, other if added else None, *bounds
    )
    assert found is None
    tolerance = 1e-6 if dtype == torch.float32 else 0.03  # two roundings of values up to 4
    torch.testing.assert_close(x.float(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [(6, 4), (11, 4), (3, 7)])
@pytest.mark.parametrize("kernel", [True, False], ids=["kernel", "operations"])
def test_a_smaller_map_is_enlarged(monkeypatch, kernel, size):
    monkeypatch.setattr(torch_operators, "runs_triton", lambda tensor: kernel)
    x, other = a_map(torch.float32, 0), a_map(torch.float32, 1)[:, :, : size[0], : size[1]]
    expected = x + torch.nn.functional.interpolate(other, x.shape[2:])
    torch_operators.operators().finish(x, None, other, -math.inf, math.inf)
    torch.testing.assert_close(x, expected)


def test_it_is_said_once_what_keeps_a_gpu_from_running_kernels(caplog):
    torch_operators._compiles.cache_clear()
    works = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (7, 0)
    assert [torch_operators._compiles(0) for _ in range(2)] == [works, works]
    assert len(caplog.records) == (not works)
    assert works or "C compiler" in caplog.text


def test_what_is_not_a_number_stays_so(monkeypatch):
    monkeypatch.setattr(torch_operators, "runs_triton", lambda tensor: True)
    x = a_map(torch.float32, 0)
    x[0, 3, 2, 1] = torch.nan
    torch_operators.operators().finish(x, None, None, 0.0, 6.0)
    assert x.isnan().sum() == 1
