import zipfile

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import OpResolverType

from frcnn.errors import UserError
from frcnn.export import litert
from frcnn.inference.artefact import OUTPUTS, Artefact
from frcnn.models.detector import DetectionModel, DetectionRule
from frcnn.models.targets import RoITargetRule
from tiny import CANVAS, CLASSES, tiny_batch, tiny_head, tiny_network

pytestmark = pytest.mark.backend

TENSORFLOW = keras.config.backend() == "tensorflow"
writes = pytest.mark.skipif(not TENSORFLOW, reason="Only Keras's TensorFlow backend writes LiteRT.")


def artefact(**changed):
    values = {"batch": 1, "images": "uint8", "short": 64, "long": 96, "resizing": "smooth"}
    return Artefact(**{"classes": CLASSES, "canvas": CANVAS, "rule": {}, **values, **changed})


def plain():
    return detector(tiny_network())


def cascade():
    network = tiny_network(
        head={"class_agnostic": True},
        cascade=[tiny_head(class_agnostic=True)],
        cascade_targets=[RoITargetRule(count=16)],
    )
    return detector(network)


def soft():
    return detector(tiny_network(), soft_sigma=0.5)


def detector(network, **rule):
    """A detector whose answers differ clearly from box to box."""
    layers = [layer for head in network.roi_heads for layer in (head.classify, head.regress)]
    for layer in (*layers, network.rpn.deltas):
        layer.kernel.assign(30 * keras.ops.convert_to_numpy(layer.kernel))
    rule = DetectionRule(score=0.3, count=60, **rule)
    return DetectionModel(network, CLASSES, 64, 96, (CANVAS,), rule)


def operators(path):
    """Kind of each operator with the types of what it takes."""
    interpreter = litert._interpreter(
        model_path=str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    types = {each["index"]: each["dtype"] for each in interpreter.get_tensor_details()}
    return [
        (each["op_name"], {types[index] for index in each["inputs"] if index in types})
        for each in interpreter._get_ops_details()
    ]


@pytest.fixture(scope="module")
def model():
    return plain()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("lite") / "detector.tflite"
    assert litert.write(model, artefact(), path) == path
    return path


def assert_equal(found, expected):
    assert list(found) == list(OUTPUTS)
    assert expected["count"].min() > 0 and expected["count"].min() < expected["scores"].shape[1]
    for name in ("labels", "count"):
        assert found[name].dtype == np.int32
        np.testing.assert_array_equal(found[name], expected[name])
    for name in ("boxes", "scores"):
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], expected[name], atol=1e-3)


@writes
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_finds_what_the_model_finds(model, exported, seed):
    pictures = tiny_batch(1, seed=seed)[0]
    assert_equal(litert.open_artefact(exported)(**pictures), model.predict_on_batch(pictures))


@writes
@pytest.mark.parametrize("kind", [plain, cascade, soft])
def test_batches_of_float_images_and_other_networks(kind, tmp_path, capfd):
    model = kind()
    path = litert.write(model, artefact(batch=2, images="float32"), tmp_path / "detector.tflite")
    pictures = tiny_batch(2)[0]
    pictures["images"] = pictures["images"].astype(np.float32)
    found = litert.open_artefact(path)(**pictures)
    assert capfd.readouterr() == ("", "")
    assert_equal(found, model.predict_on_batch(pictures))


@writes
def test_says_what_it_is(exported):
    assert litert.read_artefact(exported) == artefact()


@writes
def test_needs_no_operators_of_tensorflow(exported):
    kinds = {kind for kind, _ in operators(exported)}
    assert {"CONV_2D", "TOPK_V2", "WHILE"} <= kinds
    assert not {kind for kind in kinds if kind.startswith(("Flex", "CUSTOM"))}


@writes
def test_eight_bits_for_layers_and_floats_for_boxes(model, exported, tmp_path):
    pictures = [tiny_batch(1, seed=seed)[0] for seed in range(4)]
    path = litert.write(
        model,
        artefact(precision="int8"),
        tmp_path / "small.tflite",
        calibration=[(each["images"], each["sizes"]) for each in pictures],
    )
    assert litert.read_artefact(path).precision == "int8"
    kinds = operators(path)
    layers = ("CONV_2D", "FULLY_CONNECTED")
    quantised = [kind for kind, given in kinds if np.int8 in given and kind in layers]
    # 3 of the extractor, 4 of the pyramid, the RPN's on 3 maps; 2 of the head. Outputs stay float.
    assert (quantised.count("CONV_2D"), quantised.count("FULLY_CONNECTED")) == (10, 2)
    assert [kind for kind, given in kinds if kind in layers and np.int8 not in given] == [
        *["CONV_2D"] * 6,
        *["FULLY_CONNECTED"] * 2,
    ]
    arithmetic = ("SUB", "EXP", "TOPK_V2", "SOFTMAX", "WHILE", "MINIMUM")
    assert not [kind for kind, given in kinds if np.int8 in given and kind in arithmetic]
    found = litert.open_artefact(path)(**pictures[0])
    expected = litert.open_artefact(exported)(**pictures[0])
    np.testing.assert_allclose(found["scores"][:, :5], expected["scores"][:, :5], atol=0.01)
    np.testing.assert_allclose(found["boxes"][:, 0], expected["boxes"][:, 0], atol=0.5)


@writes
def test_no_calibration_pictures(exported):
    with pytest.raises(UserError, match="No picture was given for calibration"):
        litert._ranges(exported.read_bytes(), [])


@writes
def test_an_open_batch_is_refused(model, tmp_path):
    with pytest.raises(UserError, match="fixed number of images.*batch of 1"):
        litert.write(model, artefact(batch=None), tmp_path / "detector.tflite")


@pytest.mark.skipif(TENSORFLOW, reason="Keras's TensorFlow backend writes LiteRT.")
def test_other_backends_are_refused(model, tmp_path):
    with pytest.raises(UserError, match="LiteRT files.*not on.*KERAS_BACKEND to tensorflow"):
        litert.write(model, artefact(), tmp_path / "detector.tflite")


@pytest.mark.parametrize("archive", [True, False])
def test_a_file_of_something_else(tmp_path, archive):
    path = tmp_path / "other.tflite"
    path.write_bytes(b"TFL3")
    if archive:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("labels.txt", "dog")
    with pytest.raises(UserError, match="other.tflite is no file of `frcnn export`"):
        litert.read_artefact(path)
