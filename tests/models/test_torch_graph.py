"""Recorded graphs: the same results, weights that change, what is folded."""

import gc

import keras
import numpy as np
import pytest

from frcnn.inference import predict
from frcnn.inference.predict import RECORD_AFTER, Detector
from frcnn.models.detector import DetectionModel, DetectionRule
from tiny import tiny_network

if keras.config.backend() != "torch":
    pytest.skip("graphs are recorded on PyTorch alone", allow_module_level=True)

import torch
from torch.fx.experimental import proxy_tensor

from frcnn.models.torch_graph import RecordedGraph

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def lively_detector():
    """Untrained, but with scores that differ from box to box."""
    keras.utils.set_random_seed(0)
    network = tiny_network()
    for layer in (network.roi_head.classify, network.rpn.objectness):
        layer.kernel.assign(5 * np.random.default_rng(0).normal(size=layer.kernel.shape))
    classes = tuple(f"class {i}" for i in range(network.roi_head.num_classes))
    return Detector(DetectionModel(network, classes, 64, 96, (), DetectionRule(score=0.0)))


def pictures(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 96, 3)).astype(np.uint8)


def test_results_are_the_same_before_and_after_recording():
    detector = lively_detector()
    image = pictures(1)[0]
    first = detector.detect(image)
    assert len(first) and not detector._recorded
    for other in pictures(RECORD_AFTER, seed=1):
        detector.detect(other)
    assert len(detector._recorded) == 1
    again = detector.detect(image)
    # On a GPU kernels are chosen by their speed.
    np.testing.assert_allclose(first.boxes, again.boxes, atol=0 if DEVICE == "cpu" else 1e-3)
    np.testing.assert_array_equal(first.labels, again.labels)
    np.testing.assert_allclose(first.scores, again.scores, atol=1e-6)
    (graph,) = detector._recorded.values()
    assert graph.captured == (DEVICE == "cuda")


def test_a_recorded_detector_follows_its_weights_and_its_rule():
    detector = lively_detector()
    images = pictures(RECORD_AFTER + 1)
    for image in images:
        detector.detect(image)
    assert detector._recorded
    before = detector.detect(images[0])
    convolution = detector.model.network.rpn.hidden[0]
    convolution.kernel.assign(-1.5 * convolution.kernel)
    after, eager = detector.detect(images[0]), Detector(detector.model).detect(images[0])
    assert not np.array_equal(before.boxes, after.boxes)
    np.testing.assert_allclose(after.boxes, eager.boxes, atol=1e-4)
    detector.model.rule = DetectionRule(score=0.0, count=3)
    assert len(detector.detect(images[0])) == 3


def test_the_shape_not_used_for_longest_is_forgotten(monkeypatch):
    monkeypatch.setattr(predict, "RECORD_AFTER", 1)
    monkeypatch.setattr(predict, "MOST_RECORDED", 2)
    detector = lively_detector()
    sizes = (64, 64), (64, 96), (96, 64)
    shapes = [np.zeros((*size, 3), np.uint8) for size in sizes]

    def recorded():
        return [sizes.index(case[0][1:3]) for case in detector._recorded]

    for shape in shapes[:2]:
        detector.detect(shape), detector.detect(shape)
    assert recorded() == [0, 1]
    detector.detect(shapes[0])
    detector.detect(shapes[2]), detector.detect(shapes[2])
    assert recorded() == [0, 2]
    detector.detect(shapes[1])
    assert recorded() == [0, 2]  # once is not often enough, again
    detector.detect(shapes[1])
    assert recorded() == [2, 1]


def test_soft_nms_whose_turns_depend_on_the_data_is_not_recorded():
    detector = lively_detector()
    detector.model.rule = DetectionRule(score=0.01, soft_sigma=0.5)
    images = pictures(RECORD_AFTER + 2)
    found = [detector.detect(image) for image in images]
    assert list(detector._recorded.values()) == [None]
    np.testing.assert_allclose(found[-1].scores, detector.detect(images[-1]).scores, atol=1e-6)


def test_the_recorder_of_others_stays_as_it_is():
    def noted():
        graph = proxy_tensor.make_fx(lambda x: 2 * x)(torch.ones(3)).graph
        return [node.meta["val"].device.type for node in graph.nodes if "val" in node.meta]

    before = noted()
    RecordedGraph(lambda x: (x.split(1), x.sum()), [torch.ones(3)])
    with pytest.raises(RuntimeError, match="value of a tensor is read"):
        RecordedGraph(lambda x: x * float(x.sum()), [torch.ones(3)])
    assert noted() == before == ["cpu"] * len(before)


def test_what_depends_on_weights_alone_is_computed_once():
    weight = torch.ones(3)
    calls = []

    def function(x):
        calls.append(1)
        return {"y": x * weight.exp().mul(2.0) + torch.arange(3)}

    graph = RecordedGraph(function, [torch.zeros(3)])
    targets = [str(node.target) for node in graph._run.graph.nodes]
    assert "aten.exp.default" not in targets and "aten.arange.default" not in targets
    x = torch.tensor([1.0, 2.0, 3.0])
    expected = x * 2 * np.e + torch.arange(3)
    torch.testing.assert_close(graph(x)["y"], expected)
    weight.fill_(0.0)
    torch.testing.assert_close(graph(x)["y"], 2 * x + torch.arange(3))
    assert len(calls) == 1


def test_what_is_changed_is_changed_once():
    weight = torch.ones(3, device=DEVICE)

    def function(x):
        torch._foreach_mul_([weight], torch.tensor(0.25, device=DEVICE))
        return x + weight

    graph = RecordedGraph(function, [torch.zeros(3, device=DEVICE)])
    for power in (1, 2, 3):
        torch.testing.assert_close(weight, torch.full_like(weight, 0.25**power))
        graph(torch.zeros(3, device=DEVICE))


def test_what_depends_on_nothing_is_there_without_weights():
    x = torch.zeros(3, device=DEVICE)
    graph = RecordedGraph(lambda x: x + torch.ones(3, device=DEVICE), [x])
    torch.testing.assert_close(graph(x), x + 1)


def test_graphs_come_and_go():
    """On a GPU they share their memory; it goes with the last of them."""
    x = torch.ones(3, device=DEVICE)
    for _ in range(2):
        graphs = [RecordedGraph(lambda x, n=n: x * n, [x]) for n in (2, 3)]
        for _ in range(3):
            for n, graph in zip((2, 3), graphs, strict=True):
                torch.testing.assert_close(graph(x), x * n)
        assert all(graph.captured == (DEVICE == "cuda") for graph in graphs)
        del graph, graphs
        gc.collect()


def test_no_gradient_and_so_no_map_is_kept():
    weight = torch.ones(3, requires_grad=True)
    graph = RecordedGraph(lambda x: {"y": x * weight}, [torch.zeros(3)])
    assert graph.first["y"].grad_fn is None


def test_an_operation_in_place_on_a_copy_of_weights_is_not_folded_away():
    weight = torch.zeros(3)

    def function(x):
        return {"y": weight.exp().add_(1.0) + x}

    graph = RecordedGraph(function, [torch.zeros(3)])
    for _ in range(2):
        torch.testing.assert_close(graph(torch.zeros(3))["y"], torch.full((3,), 2.0))


def test_what_a_replay_changes_is_computed_anew_elsewhere():
    weight = torch.ones(3, device=DEVICE)

    def step(x):
        """A kernel that, as a CUDA graph, does not say what it changes."""
        torch._fused_sgd_(
            [weight],
            [x],
            [],
            lr=1.0,
            momentum=0.0,
            dampening=0.0,
            weight_decay=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )
        return x + 1

    x = torch.ones(3, device=DEVICE)
    detector = RecordedGraph(lambda x: x * weight.exp(), [x])
    steps = RecordedGraph(step, [x])
    for _ in range(3):  # on a GPU the second of them is captured
        steps(x)
        torch.testing.assert_close(detector(x), weight.exp())
    torch.testing.assert_close(weight, torch.full_like(weight, -3.0))


def test_a_view_that_is_written_to_leaves_nothing_folded_of_the_whole():
    weight = torch.zeros(4)

    def function(x):
        before = weight.exp()
        weight[:2].add_(1.0)
        return before + x, weight.exp()

    graph = RecordedGraph(function, [torch.zeros(4)])
    before, after = graph(torch.zeros(4))
    torch.testing.assert_close(before, torch.tensor([1.0, 1.0, 0.0, 0.0]).exp())
    torch.testing.assert_close(after, torch.tensor([2.0, 2.0, 0.0, 0.0]).exp())
