import subprocess
import sys

import keras
import numpy as np
import pytest

from frcnn.errors import UserError
from frcnn.export import saved_model
from frcnn.inference.artefact import OUTPUTS, Artefact
from frcnn.models.detector import DetectionRule
from tiny import CANVAS, CLASSES, tiny_batch, tiny_detector

pytestmark = pytest.mark.backend

TENSORFLOW = keras.config.backend() == "tensorflow"
writes = pytest.mark.skipif(
    not TENSORFLOW, reason="Only the TensorFlow backend writes SavedModels."
)


def artefact(**changed):
    values = {"batch": None, "images": "uint8", "short": 64, "long": 96, "resizing": "smooth"}
    return Artefact(**{"classes": CLASSES, "canvas": CANVAS, "rule": {}, **values, **changed})


@pytest.fixture(scope="module")
def model():
    model = tiny_detector()
    model.rule = DetectionRule(score=0.3, count=60)
    return model


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "detector"
    assert saved_model.write(model, artefact(), path) == path
    return path


def assert_equal(found, expected):
    assert list(found) == list(OUTPUTS)
    for name in ("labels", "count"):
        assert found[name].dtype == np.int32
        np.testing.assert_array_equal(found[name], expected[name])
    for name in ("boxes", "scores"):
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], expected[name], atol=1e-3)


@writes
@pytest.mark.parametrize("batch", [1, 3])
def test_finds_what_the_model_finds_in_any_number_of_images(model, exported, batch):
    pictures = tiny_batch(batch, seed=batch)[0]
    expected = model.predict_on_batch(pictures)
    assert expected["count"].min() > 0 and expected["count"].min() < expected["scores"].shape[1]
    assert_equal(saved_model.open_artefact(exported)(**pictures), expected)


@writes
def test_a_fixed_batch_of_float_images(model, tmp_path):
    path = saved_model.write(model, artefact(batch=2, images="float32"), tmp_path / "detector")
    pictures = tiny_batch(2)[0]
    pictures["images"] = pictures["images"].astype(np.float32)
    assert_equal(saved_model.open_artefact(path)(**pictures), model.predict_on_batch(pictures))


@writes
def test_says_what_it_is(exported):
    assert saved_model.read_artefact(exported) == artefact()
    assert (exported / "assets.extra/frcnn.json").is_file()


@writes
def test_runs_without_this_package(exported):
    program = f"""
import sys
import numpy as np
import tensorflow as tf
signature = tf.saved_model.load({str(exported)!r}).signatures["serving_default"]
images = tf.zeros((1, 64, 96, 3), tf.uint8)
found = signature(images=images, sizes=tf.constant([[64, 96]]))
assert sorted(found) == {sorted(OUTPUTS)}, found
assert "frcnn" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(TENSORFLOW, reason="The TensorFlow backend writes SavedModels.")
def test_other_backends_are_refused(model, tmp_path):
    with pytest.raises(UserError, match="SavedModels.*not on.*KERAS_BACKEND to tensorflow"):
        saved_model.write(model, artefact(), tmp_path / "detector")
    assert not (tmp_path / "detector").exists()


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path.name} is no folder of `frcnn export`"):
        saved_model.read_artefact(tmp_path)
