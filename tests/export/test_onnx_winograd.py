"""Convolutions by tiles in ONNX: the same results, and only where it pays."""

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from frcnn.export import onnx_winograd
from frcnn.export.onnx_winograd import by_tiles, suits

PLAIN = {"pads": [1] * 4, "strides": [1, 1], "dilations": [1, 1], "group": 1}


def convolution(maps, channels=8, kernel=3, bias=True, pooled=False, symbol=None, **settings):
    """(graph, its kernel): one convolution of maps (B, C, H, W), whose results are pooled too."""
    rng = np.random.default_rng(sum(maps))
    settings = PLAIN | settings
    inputs = maps[1] // settings["group"]
    weights = {"kernel": rng.normal(size=(channels, inputs, kernel, kernel)).astype(np.float32)}
    if bias:
        weights["bias"] = rng.normal(size=channels).astype(np.float32)
    nodes = [helper.make_node("Conv", ["maps", *weights], ["made"], **settings)]
    outputs = [helper.make_tensor_value_info("made", TensorProto.FLOAT, [None] * 4)]
    if pooled:
        weights["rois"] = np.array([[1, 2, 9, 8], [0, 0, 5, 5]], np.float32)
        weights["images"] = np.zeros(2, np.int64)
        names = ["made", "rois", "images"]
        nodes.append(helper.make_node("RoiAlign", names, ["bins"], output_height=3, output_width=3))
        outputs.append(helper.make_tensor_value_info("bins", TensorProto.FLOAT, [None] * 4))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, symbol or maps)],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def rewritten(model):
    return ir.to_proto(by_tiles(ir.from_proto(model)))


def operators(model):
    return Counter(node.op_type for node in model.graph.node)


def run(model, maps):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"maps": maps})


@pytest.fixture
def everywhere(monkeypatch):
    monkeypatch.setattr(onnx_winograd, "CHANNELS", 1)
    monkeypatch.setattr(onnx_winograd, "CELLS", 1)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "maps", [(1, 4, 8, 12), (2, 3, 7, 5), (1, 2, 1, 1), (3, 1, 4, 9), (1, 6, 10, 3)]
)
def test_the_results_are_the_convolution_s(maps, bias):
    model = convolution(maps, bias=bias)
    tiles = rewritten(model)
    assert "Conv" not in operators(tiles) and operators(tiles)["MatMul"] == 3
    given = np.random.default_rng(0).normal(size=maps).astype(np.float32)
    (expected,), (found,) = run(model, given), run(tiles, given)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * expected.std())


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize(
    ("maps", "strips"),
    [((2, 3, 23, 10), 3), ((1, 2, 24, 12), 3), ((1, 2, 5, 40), 2), ((1, 2, 4, 40), 1)],
)
def test_large_maps_go_by_strips(monkeypatch, maps, strips):
    monkeypatch.setattr(onnx_winograd, "TILES", 8)
    model = convolution(maps)
    tiles = rewritten(model)
    assert operators(tiles)["MatMul"] == 3 * strips and "Conv" not in operators(tiles)
    given = np.random.default_rng(0).normal(size=maps).astype(np.float32)
    (expected,), (found,) = run(model, given), run(tiles, given)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * expected.std())


@pytest.mark.usefixtures("everywhere")
def test_any_batch():
    model = convolution((1, 4, 8, 12), symbol=("batch", 4, 8, 12))
    tiles = rewritten(model)
    assert "Conv" not in operators(tiles)
    for batch in (1, 5):
        given = np.random.default_rng(batch).normal(size=(batch, 4, 8, 12)).astype(np.float32)
        (expected,), (found,) = run(model, given), run(tiles, given)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("everywhere")
def test_what_is_pooled_comes_from_a_convolution():
    model = convolution((1, 4, 12, 8), pooled=True)
    tiles = rewritten(model)
    (last,) = [node for node in tiles.graph.node if node.op_type == "Conv"]
    assert last.output[0] in next(n for n in tiles.graph.node if n.op_type == "RoiAlign").input
    given = np.random.default_rng(0).normal(size=(1, 4, 12, 8)).astype(np.float32)
    for found, expected in zip(run(tiles, given), run(model, given), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize(
    "settings",
    [
        {"strides": [2, 2]},
        {"dilations": [2, 2]},
        {"pads": [0] * 4},
        {"pads": [1, 1, 0, 0]},
        {"group": 2},
        {"kernel": 1},
        {"kernel": 5},
        {"symbol": (1, 4, "height", 12)},
        {"symbol": (1, 4, 8, "width")},
    ],
)
def test_other_convolutions_stay(settings):
    model = convolution((1, 4, 8, 12), **settings)
    assert operators(rewritten(model)) == {"Conv": 1}


def test_it_must_pay():
    assert suits((25, 40), (128, 128, 3, 3))
    assert not suits((25, 39), (128, 128, 3, 3))
    assert not suits((25, 40), (127, 128, 3, 3)) and not suits((25, 40), (128, 127, 3, 3))
    assert operators(rewritten(convolution((1, 4, 8, 12)))) == {"Conv": 1}
