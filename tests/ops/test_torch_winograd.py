"""Convolutions in tiles beside PyTorch's own, in float64 and with the rounding of float32."""

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if keras.config.backend() != "torch":
    pytest.skip("PyTorch alone convolves so", allow_module_level=True)

import torch
import torch.nn.functional as F

from frcnn.ops import torch_winograd
from frcnn.ops.torch_winograd import Convolution, convolve, kernel_gradient, suits, transform_kernel

GENERATOR = torch.Generator().manual_seed(0)


def noise(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=GENERATOR, dtype=dtype)


def plain(maps, kernel, bias=None):
    return F.conv2d(maps.contiguous(), kernel.permute(3, 2, 0, 1).contiguous(), bias, padding=1)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_results_and_gradients_are_those_of_the_plain_convolution(data):
    sizes = st.integers(1, 13)
    images, height, width = data.draw(st.integers(1, 5)), data.draw(sizes), data.draw(sizes)
    inputs, outputs = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    maps = noise(images, inputs, height, width)
    if data.draw(st.booleans()):
        maps = maps.contiguous(memory_format=torch.channels_last)
    kernel, bias = noise(3, 3, inputs, outputs), noise(outputs)
    target = noise(images, outputs, height, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_winograd, "_TILES", data.draw(st.sampled_from([1, 2, 3, 5, 8, 256])))
        got = convolve(maps, transform_kernel(kernel), bias)
        of_maps = convolve(target, transform_kernel(kernel, turned=True))
        of_kernel = kernel_gradient(maps, target)
    assert got.is_contiguous(memory_format=torch.channels_last)
    expected = plain(maps.requires_grad_(), kernel.requires_grad_(), bias)
    torch.testing.assert_close(got, expected)
    gradients = torch.autograd.grad((expected * target).sum(), [maps, kernel])
    torch.testing.assert_close(of_maps, gradients[0])
    torch.testing.assert_close(of_kernel, gradients[1])


def test_gradients_are_derivatives():
    maps, kernel, bias = noise(2, 3, 5, 6), noise(2, 3, 3, 3), noise(2)
    for wanted in ((True,) * 3, (False, True, False), (True, False, False), (False, False, True)):
        given = [
            each.requires_grad_(want)
            for each, want in zip((maps, kernel, bias), wanted, strict=True)
        ]
        assert torch.autograd.gradcheck(Convolution.apply, given)
    maps.requires_grad_()
    assert torch.autograd.gradcheck(lambda maps: Convolution.apply(maps, kernel, None), [maps])


def test_results_are_clipped():
    maps, kernel, bias = noise(1, 3, 6, 7), noise(3, 3, 3, 4), noise(4)
    got = convolve(maps, transform_kernel(kernel), bias, 0.0, 2.0)
    expected = plain(maps, kernel, bias)
    assert (expected < 0).any() and (expected > 2).any()
    torch.testing.assert_close(got, expected.clamp(0, 2))


@pytest.mark.parametrize("channels", [128, 512])
def test_rounding_goes_as_far_as_in_float32_at_most(channels):
    """Of results with variance 1, a hundred-thousandth at most; ReLU's maps are not centred."""
    maps = noise(1, channels, 21, 30).relu()
    kernel = noise(3, 3, channels, 128) / (4.5 * channels) ** 0.5
    target = noise(1, 128, 21, 30)
    near = [each.float() for each in (maps, kernel, target)]
    got = convolve(near[0], transform_kernel(near[1]))
    expected = plain(maps, kernel)
    assert (got - expected).abs().max() < 1e-5 < expected.std()
    assert (got - expected).square().mean().sqrt() < 1e-6
    gradient = kernel_gradient(near[0], near[2])
    exact = kernel_gradient(maps, target)
    assert (gradient - exact).abs().max() < 2e-5 * exact.std()


def test_only_what_is_faster_is_done_so():
    assert suits((1, 128, 64, 48), (128, 128, 3, 3))
    assert not suits((1, 128, 64, 28), (128, 128, 3, 3))  # few tiles
    assert suits((1, 128, 13, 13), (128, 128, 3, 3), ready=True)
    assert not suits((1, 64, 64, 48), (128, 64, 3, 3))
    assert not suits((1, 128, 64, 48), (64, 128, 3, 3))
    assert not suits((1, 256, 64, 48), (256, 128, 3, 3))  # two groups
    assert not suits((1, 128, 64, 48), (128, 128, 1, 1))
    assert not suits((1, 128, 64, 48), (128, 128, 3, 1))
