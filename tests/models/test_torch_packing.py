"""Recorded graphs on a CPU with oneDNN's operations: the same results, fewer operations."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frcnn.inference import predict
from frcnn.inference.predict import Detector
from frcnn.models.detector import DetectionModel, DetectionRule
from frcnn.zoo.presets import build_network

if keras.config.backend() != "torch":
    pytest.skip("graphs are recorded on PyTorch alone", allow_module_level=True)

import torch
import torch.nn.functional as F

from blocks import map_of_several_uses, residual_block
from frcnn.models import torch_packing
from frcnn.models.torch_graph import RecordedGraph
from frcnn.models.torch_packing import packs

if not packs():
    pytest.skip("oneDNN is not used on this processor", allow_module_level=True)

GENERATOR = torch.Generator().manual_seed(0)
RELU6 = {"min_val": 0.0, "max_val": 6.0, "inplace": True}


def noise(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=GENERATOR, dtype=dtype)


def operations(graph):
    return [str(node.target).removesuffix(".default") for node in graph._run.graph.nodes]


def recorded(function, *inputs):
    graph = RecordedGraph(function, inputs)
    torch.testing.assert_close(graph(*inputs), graph.first, rtol=1e-5, atol=1e-5)
    others = [each.flip(0) + 0.5 for each in inputs]
    torch.testing.assert_close(graph(*others), function(*others), rtol=1e-5, atol=1e-5)
    return operations(graph)


def a_convolution(channels=4, dtype=torch.float32):
    kernel, bias = noise(channels, 4, 3, 3, dtype=dtype), noise(channels, dtype=dtype)
    return lambda x: F.conv2d(x, kernel, bias, padding=1)


@pytest.fixture
def pixels():
    return noise(2, 4, 6, 5)


@pytest.mark.parametrize(
    "activate", [F.relu, lambda x: F.hardtanh(x, **RELU6), F.hardswish, lambda x: x]
)
def test_a_convolution_and_its_activation_are_one_operation(pixels, activate):
    convolve = a_convolution()
    found = recorded(lambda x: activate(convolve(x)), pixels)
    assert [each for each in found if "." in each] == ["mkldnn._convolution_pointwise"]


@pytest.mark.parametrize(
    ("activate", "clipped"),
    [
        (F.relu, True),
        (lambda x: F.hardtanh(x, **RELU6), True),
        (F.hardswish, False),
        (lambda x: x, True),
    ],
)
def test_a_convolution_with_many_channels_goes_by_tiles(activate, clipped):
    kernel, bias = noise(128, 128, 3, 3) / 34, noise(128)
    x = noise(2, 9, 10, 128)  # of 18 tiles

    def function(x):
        y = F.conv2d(x.permute(0, 3, 1, 2), kernel, bias, padding=1)
        return activate(y).permute(0, 2, 3, 1)

    found = [each for each in recorded(function, x) if "." in each and "permute" not in each]
    assert found == ["frcnn.winograd"] + ["aten.hardswish"] * (not clipped)
    for options in ({"padding": 0}, {"padding": 1, "stride": 2}, {"padding": 2, "dilation": 2}):
        found = recorded(lambda x, o=options: F.conv2d(x, kernel, **o), x.permute(0, 3, 1, 2))
        assert "mkldnn._convolution_pointwise" in found


def test_a_shortcut_is_added_in_passing(pixels):
    found = recorded(residual_block(a_convolution()), pixels)
    assert "mkldnn._convolution_pointwise.binary" in found
    assert not any("add" in each or "relu" in each for each in found)


def test_what_somebody_else_needs_stays(pixels):
    found = recorded(map_of_several_uses(a_convolution()), pixels)
    assert "aten.relu" in found and "aten.add.Tensor" in found
    assert found.count("mkldnn._convolution_pointwise") == 2


def test_a_map_is_read_before_it_is_changed(pixels):
    convolve = a_convolution()

    def function(x):
        y = x * 2
        grown = convolve(y).permute(0, 2, 3, 1)
        F.relu(y, inplace=True)
        return grown + y.permute(0, 2, 3, 1)

    assert "aten.add.Tensor" in recorded(function, pixels)
    kernel, bias = noise(6, 6), noise(6)

    def dense(x):
        y = x * 2
        grown = y @ kernel
        F.relu(y, inplace=True)
        return F.relu(grown + bias) + y

    assert recorded(dense, noise(3, 6)).count("aten.add.Tensor") == 2


def test_another_type_and_a_kernel_that_is_computed_are_left_alone(pixels):
    double = a_convolution(dtype=torch.float64)
    assert "aten.convolution" in recorded(double, pixels.double())
    found = recorded(lambda x, kernel: F.conv2d(x, kernel), pixels, noise(3, 4, 3, 3))
    assert "aten.convolution" in found
    kernel = noise(4, 3, 3, 3)
    assert "aten.convolution" in recorded(lambda x: F.conv_transpose2d(x, kernel), pixels)
    assert "aten.mm" in recorded(lambda x: x @ x.T, noise(5, 5))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_convolutions_of_any_kind_give_the_same(data):
    groups, size = data.draw(st.sampled_from([1, 2, 8])), data.draw(st.sampled_from([1, 3, 5]))
    inputs, outputs = 8, data.draw(st.sampled_from([8, 16]))
    stride, padding = data.draw(st.integers(1, 2)), data.draw(st.integers(0, 2))
    x = noise(data.draw(st.integers(1, 2)), 7, data.draw(st.integers(5, 9)), inputs)
    kernel = noise(outputs, inputs // groups, size, size)
    bias = noise(outputs) if data.draw(st.booleans()) else None

    def function(x):
        y = F.conv2d(x.permute(0, 3, 1, 2), kernel, bias, stride, padding, 1, groups)
        return F.relu(y, inplace=True).permute(0, 2, 3, 1)

    assert "aten.convolution" not in recorded(function, x)


def test_a_dense_layer_is_one_operation():
    kernel, bias, scale = noise(6, 5), noise(5), noise(3, 1)
    found = recorded(lambda x: F.relu(x @ kernel + bias), noise(3, 6))
    assert [each for each in found if "." in each] == ["mkldnn._linear_pointwise"]
    found = recorded(lambda x: F.relu(x @ kernel + bias, inplace=True), noise(3, 6))
    assert [each for each in found if "." in each] == ["mkldnn._linear_pointwise"]
    found = recorded(lambda x: F.relu(x @ kernel), noise(3, 6))
    assert [each for each in found if "." in each] == ["mkldnn._linear_pointwise"]
    found = recorded(lambda x: F.relu(x @ kernel + scale), noise(3, 6))
    assert "aten.add.Tensor" in found and "aten.relu" in found
    found = recorded(lambda x: (x @ kernel) * 2 + bias, noise(3, 6))
    assert "mkldnn._linear_pointwise" in found and "aten.add.Tensor" in found


def test_large_weights_have_no_copy(monkeypatch):
    kernel = noise(6, 5)
    assert "mkldnn._linear_pointwise" in recorded(lambda x: x @ kernel, noise(3, 6))
    monkeypatch.setattr(torch_packing, "MOST_COPIED", 4 * 6 * 5 - 1)
    assert "aten.mm" in recorded(lambda x: x @ kernel, noise(3, 6))


def test_weights_that_changed_are_arranged_again(pixels):
    kernel, weights = noise(4, 4, 3, 3), noise(4, 2)

    def function(x):
        return F.relu(F.conv2d(x, kernel)).mean((2, 3)) @ weights

    graph = RecordedGraph(function, [pixels])
    for _ in range(3):
        torch.testing.assert_close(graph(pixels), function(pixels))
        kernel.mul_(-1)
        weights.add_(1)


def test_where_weights_change_at_each_call_nothing_is_arranged(pixels):
    kernel = noise(4, 4, 3, 3)
    graph = RecordedGraph(lambda x: F.conv2d(x, kernel), [pixels], [kernel])
    assert "aten.convolution" in operations(graph)


@pytest.mark.parametrize(
    "preset", ["resnet50_fpn", "efficientnet_lite0_fpn", "mobilenet_v3_large_320_fpn", "vgg16"]
)
def test_a_detector_finds_the_same(monkeypatch, preset):
    monkeypatch.setattr(predict, "RECORD_AFTER", 2)
    keras.utils.set_random_seed(0)
    network = build_network(preset, 3)
    model = DetectionModel(network, ("a", "b", "c"), 64, 96, (), DetectionRule(score=0.0))
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 96, 3)).astype(np.uint8)
    detector = Detector(model)
    for image in images:
        found = detector.detect(image)
    (graph,) = detector._recorded.values()
    found_in = operations(graph)
    assert "aten.convolution" not in found_in
    assert ("aten.mm" in found_in) == (preset == "vgg16")  # its first dense layer
    assert found_in.count("mkldnn._convolution_pointwise") > 10
    assert "mkldnn._linear_pointwise" in found_in
    expected = Detector(model).detect(images[-1])
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)  # pixels
