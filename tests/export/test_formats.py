"""The formats that are written on PyTorch: what they find, what they are made of, what they say."""

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import frcnn
from frcnn.errors import UserError
from frcnn.export import export_detector, onnx_operators, onnx_winograd, torch_export
from frcnn.export.describe import describe
from frcnn.export.formats import FORMATS
from frcnn.export.onnx_int8 import inner_layers, quantise
from frcnn.inference.artefact import INPUTS, KEY, OUTPUTS
from frcnn.models.detector import DetectionModel, DetectionRule
from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.models.roi_head import RoIHead
from frcnn.models.targets import RoITargetRule
from frcnn.ops.torch_operators import operators
from tiny import CANVAS, CLASSES, tiny_batch, tiny_head, tiny_network


def detector(network, **rule):
    """A detector whose answers differ clearly from box to box; some slots stay free."""
    layers = [layer for head in network.roi_heads for layer in (head.classify, head.regress)]
    for layer in (*layers, network.rpn.deltas):
        layer.kernel.assign(30 * keras.ops.convert_to_numpy(layer.kernel))
    rule = DetectionRule(**{"score": 0.3, "count": 60, **rule})
    return DetectionModel(network, CLASSES, 64, 96, (CANVAS,), rule)


def cascade():
    return detector(
        tiny_network(
            head={"class_agnostic": True},
            cascade=[tiny_head(class_agnostic=True)],
            cascade_targets=[RoITargetRule(count=16)],
        )
    )


def single_map(pooling):
    parts = tiny_network()
    head = RoIHead(2, (8,), units=(16,), pool_size=3, layer_names=("fc",), pooling=pooling)
    return detector(FasterRCNN(parts.preprocessing, parts.extractor, parts.rpn, head, parts.neck))


@pytest.fixture(scope="module")
def model():
    return detector(tiny_network())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def any_batch(model, folder):
    return export_detector(model, folder / "any.onnx", "onnx", batch=None)


@pytest.fixture
def all_by_tiles(monkeypatch):
    monkeypatch.setattr(onnx_winograd, "CHANNELS", 8)
    monkeypatch.setattr(onnx_winograd, "CELLS", 1)


def assert_same(run, model, batch=1, kind=np.uint8):
    """``run`` finds what the model finds, on pictures of which some slots stay free."""
    pictures = tiny_batch(batch, seed=batch)[0]
    pictures["images"] = pictures["images"].astype(kind)
    expected = model.predict_on_batch(pictures)
    found = run(**pictures)
    assert expected["count"].min() > 0 and expected["count"].min() < expected["scores"].shape[1]
    for name in ("labels", "count"):
        assert found[name].dtype == np.int32
        np.testing.assert_array_equal(found[name], expected[name])
    for name, most in (("boxes", 1e-3), ("scores", 1e-5)):
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=most)


def open_graph(path):
    session = onnxruntime.InferenceSession(path)
    return lambda **given: dict(zip(OUTPUTS, session.run(OUTPUTS, given), strict=True))


def operators_of(path):
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_of_any_batch(model, any_batch, batch):
    assert_same(frcnn.load(any_batch).infer, model, batch)


def test_onnx_of_a_fixed_batch_of_float_images(folder, all_by_tiles):
    model = cascade()
    path = folder / "two.onnx"
    export_detector(model, path, "onnx", batch=2, images="float32", winograd=False)
    assert not any("pieces" in each.name for each in onnx.load(path).graph.initializer)
    loaded = frcnn.load(path)
    assert loaded.artefact.images == "float32" and loaded.fixed_batch == 2
    assert_same(loaded.infer, model, 2, np.float32)


@pytest.mark.parametrize(("kind", "batch"), [("onnx", None), ("openvino", 1)])
def test_convolutions_by_tiles(model, folder, any_batch, all_by_tiles, kind, batch):
    path = folder / f"tiles{FORMATS[kind].suffix}"
    export_detector(model, path, kind, batch=batch)
    assert_same(frcnn.load(path).infer, model, batch or 3)
    if kind == "onnx":
        assert operators_of(path)["MatMul"] > operators_of(any_batch)["MatMul"]


def test_weights_that_levels_share_are_written_once(any_batch):
    weights = onnx.load(any_batch).graph.initializer
    large = [each.raw_data for each in weights if len(each.raw_data) > 100]
    assert len(large) > 5 and len(large) == len(set(large))


@pytest.mark.parametrize("pooling", ["pool", "crop"])
def test_onnx_of_other_poolings(folder, pooling):
    model = single_map(pooling)
    path = export_detector(model, folder / f"{pooling}.onnx", "onnx")
    assert_same(frcnn.load(path).infer, model)
    assert "RoiAlign" not in operators_of(path)


@pytest.mark.parametrize("most", [0, onnx_operators.MOST_CELLS])
def test_onnx_of_a_single_map(folder, monkeypatch, most):
    monkeypatch.setattr(onnx_operators, "MOST_CELLS", most)
    model = single_map("align")
    path = export_detector(model, folder / f"align{most}.onnx", "onnx", batch=None)
    for batch in (1, 3):
        assert_same(frcnn.load(path).infer, model, batch)
    assert operators_of(path)["RoiAlign"] == (most == 0)
    graph = onnx.load(path).graph
    products = [node.name for node in graph.node if node.op_type in ("Gemm", "MatMul")]
    # The head's first layer is led to by convolutions, whichever way RoIs are pooled.
    assert len(set(inner_layers(graph)).intersection(products)) == 1


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("bins", "ratio"), [(7, 2), (3, 1), (2, 3)])
def test_products_with_all_cells_of_a_map_are_roi_align(tmp_path, aligned, bins, ratio):
    rng = np.random.default_rng(bins)
    feature = rng.normal(size=(2, 5, 9, 4)).astype(np.float32)
    corners = rng.uniform(-40, 110, (2, 50, 2, 2))
    corners[:, 10:] = np.sort(corners[:, 10:], axis=2)  # the others have no area
    boxes = corners.reshape(2, 50, 4).astype(np.float32)
    arguments = [1 / 8], bins, ratio, aligned

    class Pool(torch.nn.Module):
        def forward(self, feature, boxes):
            levels = torch.zeros_like(boxes[..., 0], dtype=torch.int32)
            return operators().roi_align([feature], boxes, levels, *arguments)

    given = torch.from_numpy(feature), torch.from_numpy(boxes)
    table = {operators().roi_align.default: onnx_operators.roi_align}
    program = torch.onnx.export(
        Pool().eval(), given, dynamo=True, verbose=False, custom_translation_table=table
    )
    path = tmp_path / "pool.onnx"
    program.save(path)
    assert "RoiAlign" not in operators_of(path)
    session = onnxruntime.InferenceSession(path)
    names = [each.name for each in session.get_inputs()]
    (found,) = session.run(None, dict(zip(names, (feature, boxes), strict=True)))
    np.testing.assert_allclose(found, Pool()(*given), atol=2e-5)


def test_onnx_of_soft_nms_has_a_loop(model, folder):
    rule = replace(model.rule, soft_sigma=0.5)
    soft = DetectionModel(model.network, CLASSES, 64, 96, (CANVAS,), rule)
    path = export_detector(soft, folder / "soft.onnx", "onnx")
    assert_same(frcnn.load(path).infer, soft)
    assert operators_of(path)["Loop"] == 1 and operators_of(path)["NonMaxSuppression"] == 1


def test_onnx_has_its_own_operators_and_few_transpositions(any_batch):
    content = onnx.load(any_batch)
    onnx.checker.check_model(content, full_check=True)
    assert {node.domain for node in content.graph.node} <= {"", "ai.onnx"}
    kinds = operators_of(any_batch)
    assert kinds["NonMaxSuppression"] == 2 and kinds["RoiAlign"] == 2 and kinds["TopK"] >= 3
    assert kinds["Loop"] == kinds["BatchNormalization"] == 0
    # One on the way in; of the RPN's logits and deltas on each of 3 maps; of the pooled maps.
    assert kinds["Transpose"] <= 1 + 6 + 1


def test_what_an_export_says_of_itself(model, any_batch):
    of = frcnn.load(any_batch).artefact
    assert (of.classes, of.canvas, of.batch, of.images) == (CLASSES, CANVAS, None, "uint8")
    assert of.rule["score"] == 0.3 and of.precision == "float32"
    assert {"model", "time", "frcnn", "keras", "torch"} == set(of.origin)
    assert KEY in {each.key for each in onnx.load(any_batch).metadata_props}


def test_an_onnx_file_says_in_words_what_it_takes_and_gives(any_batch):
    content = onnx.load(any_batch)
    for value in (*content.graph.input, *content.graph.output):
        assert value.doc_string and f"{value.name}: {value.doc_string}" in content.doc_string
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    metadata = json.loads({each.key: each.value for each in content.metadata_props}[KEY])
    assert set(metadata["description"]) == {*INPUTS, *OUTPUTS}
    assert "RGB, 0..255" in metadata["description"]["images"]
    names = {side.dim_param for value in content.graph.value_info for side in sides_of(value)}
    assert not [name for name in names if re.search(r"\bs\d+\b", name)]
    assert [entry.domain for entry in content.opset_import] == [""]


def sides_of(value):
    return value.type.tensor_type.shape.dim


@pytest.mark.parametrize("size", [(64, 96), (200, 300), (31, 17), (60, 500)])
def test_the_manuals_program_finds_what_the_runtime_finds(any_batch, tmp_path, size, capsys):
    """With ONNX Runtime and the file's own metadata alone."""
    page = Path(__file__).parents[2] / "docs" / "export.md"
    (program,) = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    assert "frcnn." not in program.replace('"frcnn"', "")
    path = str(tmp_path / "picture.png")
    image = np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
    cv2.imwrite(path, cv2.resize(image, size[::-1]))
    names = {"PICTURE": path}
    exec(program.replace("RUN/best.onnx", str(any_batch)), names)
    expected = frcnn.load(any_batch).detect(path, score=0.0)
    assert len(names["boxes"]) == len(expected) > 0
    np.testing.assert_allclose(names["boxes"], expected.boxes, atol=0.01)
    np.testing.assert_allclose(names["scores"][0, : len(expected)], expected.scores, atol=1e-6)
    assert capsys.readouterr().out.count("\n") == len(expected)


def test_eight_bits_for_the_inner_layers(model, any_batch, folder):
    pictures = [tiny_batch(1, seed=seed)[0] for seed in range(4)]
    batches = [(each["images"], each["sizes"]) for each in pictures]
    path = quantise(any_batch, folder / "small.onnx", batches)
    names = [node.name for node in onnx.load(path).graph.node if node.op_type == "Conv"]
    assert len(names) == 16 and operators_of(path)["DequantizeLinear"] > 11
    expected = model.predict_on_batch(pictures[0])
    found = open_graph(path)(**pictures[0])
    np.testing.assert_allclose(found["scores"][:, :3], expected["scores"][:, :3], atol=0.05)
    assert np.abs(found["scores"] - expected["scores"]).max() > 0  # it did round


def test_the_inner_layers(any_batch):
    graph = onnx.load(any_batch).graph
    layers = [node.name for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    inner = inner_layers(graph)
    # Of 3 + 4 + 3 * 3 convolutions and 4 matrix products: not the first, nor the RPN's 6 outputs,
    # nor the head's 2.
    assert len(layers) == 20 and len(inner) == 20 - 1 - 6 - 2
    assert set(inner) < set(layers) and layers[0] not in inner


def test_calibration_without_pictures(any_batch, folder):
    with pytest.raises(UserError, match="No picture was given for calibration"):
        quantise(any_batch, folder / "none.onnx", [])


def test_openvino(model, folder):
    path = export_detector(model, folder / "detector.xml", "openvino")
    loaded = frcnn.load(path)
    assert loaded.artefact.classes == CLASSES
    assert_same(loaded.infer, model)


def test_torch_export_needs_nothing_but_pytorch(model, folder):
    rule = replace(model.rule, soft_sigma=0.5)  # a loop of its own beside that of NMS
    soft = DetectionModel(model.network, CLASSES, 64, 96, (CANVAS,), rule)
    path = export_detector(soft, folder / "any.pt2", "torch_export", batch=None)
    assert torch_export.read_artefact(path).canvas == CANVAS
    run = torch_export.open_artefact(path)
    for batch in (1, 3):
        assert_same(run, soft, batch)
    code = (
        "import sys, torch\n"
        f"program = torch.export.load({str(path)!r})\n"
        f"images = torch.zeros((2, {CANVAS[0]}, {CANVAS[1]}, 3), dtype=torch.uint8)\n"
        "found = program.module()(images, torch.tensor([[64, 96]] * 2, dtype=torch.int32))\n"
        "assert [each.shape[0] for each in found] == [2] * 4\n"
        "assert not {'keras', 'frcnn', 'torchvision'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_settings_that_a_detector_cannot_have(model):
    with pytest.raises(UserError, match="--size must be multiples of 32.*100x96"):
        describe(model, size=(100, 96))
    for values in ({"size": (99_968, 99_968)}, {"size": (1024, 1344), "batch": 1024}):
        with pytest.raises(UserError, match="pixels that a graph may take. Give a smaller --size"):
            describe(model, **values)
    plain = DetectionModel(model.network, CLASSES, 64, 96, (CANVAS,), model.rule, "plain")
    with pytest.raises(UserError, match="uint8 would round them"):
        describe(plain, images="uint8")
    assert describe(plain).images == "float32"


@pytest.mark.parametrize(
    ("canvases", "expected"),
    [
        ((), (64, 96)),
        (((64, 96), (96, 64)), (64, 96)),
        (((96, 64), (64, 64)), (96, 64)),
    ],
)
def test_the_canvas_where_none_is_named(model, canvases, expected):
    short, long = (50, 90) if not canvases else (64, 96)
    of = DetectionModel(model.network, CLASSES, short, long, canvases, model.rule)
    assert describe(of).canvas == expected


def test_the_canvas_of_a_model_that_takes_pictures_of_any_length(model):
    of = DetectionModel(model.network, CLASSES, 64, 640, (), model.rule)
    assert describe(of).canvas == (64, 128)


def test_formats_that_cannot(model, folder):
    with pytest.raises(UserError, match="backend tensorflow, not on torch.*KERAS_BACKEND"):
        export_detector(model, folder / "model", "saved_model")
