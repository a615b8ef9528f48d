"""Convolutions of a recorded graph and what follows them: the same results, fewer operations."""

import keras
import numpy as np
import pytest

from frcnn.inference import predict
from frcnn.inference.predict import Detector
from frcnn.models.detector import DetectionModel, DetectionRule
from tiny import tiny_batch, tiny_network

if keras.config.backend() != "torch":
    pytest.skip("graphs are recorded on PyTorch alone", allow_module_level=True)

import torch
import torch.nn.functional as F

from blocks import map_of_several_uses, residual_block
from frcnn.models import torch_graph, torch_step
from frcnn.models.torch_graph import RecordedGraph
from frcnn.training import torch_sgd
from frcnn.training.config import Config
from frcnn.training.optimizer import build_optimizer
from frcnn.zoo.presets import build_network

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def finished(monkeypatch):
    """As on a GPU."""
    monkeypatch.setattr(torch_graph, "FINISHED", ("cuda", "cpu"))


def operations(graph):
    return [str(node.target) for node in graph._run.graph.nodes]


def recorded(function, *inputs):
    graph = RecordedGraph(function, inputs)
    torch.testing.assert_close(graph(*inputs), graph.first, rtol=1e-5, atol=1e-6)
    return operations(graph)


def a_convolution(channels=4):
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn((channels, 4, 3, 3), generator=generator).to(DEVICE)
    bias = torch.randn(channels, generator=generator).to(DEVICE)
    return lambda x: F.conv2d(x, kernel, bias, padding=1)


@pytest.fixture
def pixels():
    return torch.randn((2, 4, 6, 5), generator=torch.Generator().manual_seed(1)).to(DEVICE)


def test_relu_and_a_shortcut_are_one_operation(finished, pixels):
    found = recorded(residual_block(a_convolution()), pixels)
    assert found.count("frcnn.finish.default") == 2
    assert not any("add" in each or "relu" in each for each in found)


def test_relu6_is_one_too(finished, pixels):
    convolve = a_convolution()
    found = recorded(lambda x: F.hardtanh(convolve(3 * x), 0.0, 6.0, inplace=True), pixels)
    assert "frcnn.finish.default" in found and not any("tanh" in each for each in found)


def test_what_somebody_else_needs_stays(finished, pixels):
    found = recorded(map_of_several_uses(a_convolution()), pixels)
    assert any("relu" in each for each in found) and any("add" in each for each in found)


def test_a_sum_with_itself_or_with_a_smaller_map_stays(finished, pixels):
    convolve = a_convolution()
    twice = recorded(lambda x: (y := convolve(x).permute(0, 2, 3, 1)) + y, pixels)
    wide = recorded(lambda x: convolve(x).permute(0, 2, 3, 1) + x[0, :, 0, 0], pixels)
    assert all(any("add" in each for each in found) for found in (twice, wide))


def test_a_bias_alone_is_one_too(finished, pixels):
    found = recorded(a_convolution(), pixels)
    assert found.count("frcnn.finish.default") == 1
    kernel = torch.ones((3, 4, 1, 1), device=DEVICE)
    assert "frcnn.finish.default" not in recorded(lambda x: F.conv2d(x, kernel), pixels)


@pytest.mark.parametrize("factor", [2, 3])
def test_a_doubled_map_is_enlarged_in_passing(finished, pixels, factor):
    convolve = a_convolution()

    def function(x):
        small = x[:, :, ::factor, ::factor]
        large = F.interpolate(small, x.shape[2:]).permute(0, 2, 3, 1)
        return convolve(x).permute(0, 2, 3, 1) + large

    found = recorded(function, pixels)
    assert "frcnn.finish.default" in found
    assert ("aten.upsample_nearest2d.default" in found) == (factor == 3)


@pytest.mark.parametrize("preset", ["resnet50_fpn", "efficientnet_lite0_fpn"])
def test_a_detector_finds_the_same(finished, monkeypatch, preset):
    monkeypatch.setattr(predict, "RECORD_AFTER", 2)
    keras.utils.set_random_seed(0)
    network = build_network(preset, 3)
    model = DetectionModel(network, ("a", "b", "c"), 64, 96, (), DetectionRule(score=0.0))
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 96, 3))
    detector = Detector(model)
    for image in images.astype(np.uint8):
        found = detector.detect(image)
    (graph,) = detector._recorded.values()
    found_in = operations(graph)
    assert found_in.count("frcnn.finish.default") > 30
    assert "aten.upsample_nearest2d.default" not in found_in
    expected = Detector(model).detect(images[-1].astype(np.uint8))
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)


def test_steps_train_the_same(finished, monkeypatch):
    monkeypatch.setattr(torch_sgd, "_may_ask", lambda device: False)
    monkeypatch.setattr(torch_step, "RECORD_AFTER", 2)
    losses = []
    for devices in (("cuda", "cpu"), ()):
        monkeypatch.setattr(torch_step, "DEVICES", devices)
        network = tiny_network()
        network.compile(build_optimizer(Config("-"), 0.02, 20, network))
        losses.append([network.train_on_batch(*tiny_batch(seed=seed)) for seed in range(7)])
        if devices:
            (graph,) = network._recorded_steps._graphs.values()
            assert "frcnn.finish.default" in operations(graph)
    np.testing.assert_allclose(*losses, rtol=1e-4)
