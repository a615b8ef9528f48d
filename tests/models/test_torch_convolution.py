from types import SimpleNamespace

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from frcnn.models.torch_convolution import convolve_view, enlarge_view


def settings(strides=1, padding="same", dilation=1):
    return SimpleNamespace(
        strides=(strides, strides), padding=padding, dilation_rate=(dilation, dilation)
    )


def dense(inputs, kernel, strides):
    """TensorFlow's "same" convolution by its definition, on NumPy arrays; OIHW, one group."""
    (height, width), (k, _) = inputs.shape[1:3], kernel.shape[2:]
    out = [-(-size // strides) for size in (height, width)]
    total = [
        max((cells - 1) * strides + k - size, 0)
        for cells, size in zip(out, (height, width), strict=True)
    ]
    pads = [(0, 0), *((zeros // 2, zeros - zeros // 2) for zeros in total), (0, 0)]
    padded = np.pad(inputs, pads)
    result = np.zeros((len(inputs), *out, len(kernel)))
    for y, x in np.ndindex(*out):
        patch = padded[:, y * strides : y * strides + k, x * strides : x * strides + k]
        result[:, y, x] = np.einsum("bhwi,oihw->bo", patch, kernel)
    return result


@pytest.mark.parametrize("size", [(6, 9), (7, 8), (1, 2)])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("strides", [1, 2, 3])
def test_same_padding_is_tensorflows_for_dense_and_grouped_kernels(size, k, strides):
    rng = np.random.default_rng(0)
    inputs, kernel = rng.normal(size=(2, *size, 3)), rng.normal(size=(4, 3, k, k))
    layer = settings(strides)
    got = convolve_view(layer, torch.tensor(inputs), lambda: torch.tensor(kernel), None, None)
    np.testing.assert_allclose(got.numpy(), dense(inputs, kernel, strides), atol=1e-12)

    depthwise = torch.tensor(kernel[:3, :1])
    got = convolve_view(layer, torch.tensor(inputs), lambda: depthwise, None, None)
    for channel in range(3):
        one = slice(channel, channel + 1)
        alone = dense(inputs[..., one], kernel[one, :1], strides)
        np.testing.assert_allclose(got[..., channel].numpy(), alone[..., 0], atol=1e-12)


def test_map_is_not_copied_and_result_is_channels_last(monkeypatch):
    seen = []
    convolve = F.conv2d

    def record(view, *args):
        seen.append(view.data_ptr())
        return convolve(view, *args)

    monkeypatch.setattr(F, "conv2d", record)
    inputs, bias = torch.randn(2, 8, 6, 16), torch.randn(16)
    relu = keras.activations.relu
    for kernel, strides in ((torch.randn(16, 16, 3, 3), 1), (torch.randn(16, 1, 3, 3), 2)):
        outputs = convolve_view(settings(strides), inputs, lambda k=kernel: k, bias, relu)
        assert outputs.is_contiguous()
    assert seen == [inputs.data_ptr()] * 2


@pytest.mark.parametrize("name", ["relu", "relu6"])
def test_activation_in_place_has_the_gradient_of_the_plain_one(name):
    torch.manual_seed(0)
    inputs = torch.randn(2, 5, 6, 3, dtype=torch.double, requires_grad=True)
    kernel = (4 * torch.randn(4, 3, 3, 3, dtype=torch.double)).requires_grad_()
    target = torch.randn(2, 5, 6, 4, dtype=torch.double)

    def gradients(outputs):
        return torch.autograd.grad((outputs * target).sum(), [inputs, kernel])

    activation = getattr(keras.activations, name)
    got = convolve_view(settings(), inputs, lambda: kernel, None, activation)
    plain = F.conv2d(inputs.permute(0, 3, 1, 2), kernel, padding=1).permute(0, 2, 3, 1)
    expected = getattr(F, name)(plain)
    assert 0 < (expected == 0).float().mean() < 1
    torch.testing.assert_close(got, expected)
    for ours, theirs in zip(gradients(got), gradients(expected), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_compiled_gradient_is_the_eager_one():
    torch.manual_seed(0)
    inputs, kernel = torch.randn(1, 5, 6, 3), torch.randn(4, 3, 3, 3, requires_grad=True)
    layer = settings()

    def loss(inputs, kernel):
        return convolve_view(layer, inputs, lambda: kernel, None, keras.activations.relu6).sum()

    (eager,) = torch.autograd.grad(loss(inputs, kernel), kernel)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    (graph,) = torch.autograd.grad(compiled(inputs, kernel), kernel)
    torch.testing.assert_close(graph, eager)


@pytest.mark.parametrize(
    "activation", [None, keras.activations.relu, keras.activations.relu6, keras.activations.silu]
)
def test_many_channels_train_by_tiles(activation, monkeypatch):
    torch.manual_seed(0)
    inputs = torch.randn(2, 30, 37, 128, requires_grad=True)
    weight = (torch.randn(3, 3, 128, 136) / 34).requires_grad_()
    scale, bias = torch.rand(136), torch.randn(136, requires_grad=True)
    target = torch.randn(2, 30, 37, 136)
    convolved, kept = [], []
    conv2d = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda *given: convolved.append(1) or conv2d(*given))

    def convolve():
        def make_kernel():
            return (weight * scale).permute(3, 2, 0, 1)

        return convolve_view(settings(), inputs, make_kernel, bias, activation)

    def gradients(outputs):
        return torch.autograd.grad((outputs * target).sum(), [inputs, weight, bias])

    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.shape) or x, lambda x: x):
        tiles = convolve()
    with torch.no_grad():
        torch.testing.assert_close(convolve(), tiles, rtol=0, atol=1e-6)
    assert tiles.is_contiguous() and not convolved and (136, 128, 3, 3) not in kept
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    plain = convolve()
    assert convolved
    torch.testing.assert_close(tiles, plain, rtol=0, atol=2e-5)
    for ours, theirs in zip(gradients(tiles), gradients(plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=float(2e-5 * theirs.std()))


def test_a_kernel_made_of_others_is_not_kept_for_the_gradient():
    torch.manual_seed(0)
    inputs, weight = torch.randn(1, 5, 6, 3), torch.randn(3, 3, 3, 4, requires_grad=True)
    scale = torch.rand(4)
    made = []

    def make_kernel():
        made.append(torch.is_grad_enabled())
        return (weight * scale).permute(3, 2, 0, 1)

    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.shape) or x, lambda x: x):
        outputs = convolve_view(settings(), inputs, make_kernel, None, None)
    assert (4, 3, 3, 3) not in kept
    (got,) = torch.autograd.grad(outputs.square().sum(), weight)
    assert made == [True, False]
    plain = F.conv2d(inputs.permute(0, 3, 1, 2), (weight * scale).permute(3, 2, 0, 1), padding=1)
    (expected,) = torch.autograd.grad(plain.square().sum(), weight)
    torch.testing.assert_close(got, expected)


def test_gradients_of_a_map_that_several_layers_read_are_added_in_place():
    maps = torch.randn(2, 32, 32, 64)
    kernels = [torch.randn(8, 64, 1, 1) for _ in range(3)]

    def read(maps, kernel):
        if kernel is kernels[0]:
            return enlarge_view(maps, (40, 40))
        return convolve_view(settings(), maps, lambda: kernel, None, None)

    def backward(view):
        """The gradient, and how many sums took memory of their own."""
        torch.manual_seed(0)
        given = maps.clone().requires_grad_()
        shared = given * 1.0
        outputs = [view(shared, kernel) for kernel in kernels]
        loss = sum((x * torch.randn_like(x)).sum() for x in outputs)
        with torch.profiler.profile(profile_memory=True) as trace:
            loss.backward()
        added = [each for each in trace.events() if each.name == "aten::add"]
        return given.grad, sum(each.cpu_memory_usage > 0 for each in added)

    def plainly(maps, kernel):
        view = maps.permute(0, 3, 1, 2)
        found = F.interpolate(view, (40, 40)) if kernel is kernels[0] else F.conv2d(view, kernel)
        return found.permute(0, 2, 3, 1)

    slope, taken = backward(read)
    expected, taken_elsewhere = backward(plainly)
    assert taken == 0 and taken_elsewhere > 0
    torch.testing.assert_close(slope, expected)


def test_gradients_have_gradients():
    torch.manual_seed(0)
    maps = torch.randn(1, 4, 4, 2, dtype=torch.double, requires_grad=True)
    kernel = torch.randn(3, 2, 3, 3, dtype=torch.double)

    def layers(maps):
        outputs = convolve_view(settings(), maps, lambda: kernel, None, None)
        return enlarge_view(outputs**2, (6, 6))

    assert torch.autograd.gradgradcheck(layers, maps)
