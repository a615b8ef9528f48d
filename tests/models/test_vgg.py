import keras
import numpy as np
import pytest
from keras import ops

from frcnn.models.vgg import VGG_PREPROCESSING, vgg16


@pytest.mark.backend
def test_features_are_those_of_keras_applications(tmp_path):
    theirs = keras.applications.VGG16(weights=None, include_top=False, input_shape=(37, 50, 3))
    ours = vgg16()
    for layer in ours.layers:
        if layer.weights:
            layer.set_weights(theirs.get_layer(layer.name).get_weights())
    x = np.random.default_rng(0).normal(0, 60, (1, 37, 50, 3)).astype("float32")
    tap = keras.Model(theirs.input, theirs.get_layer("block5_conv3").output)
    expected = ops.convert_to_numpy(tap(x))
    got = ops.convert_to_numpy(ours(x))
    assert got.shape == expected.shape == (1, 37 // 16, 50 // 16, 512)
    np.testing.assert_allclose(got, expected, atol=1e-4 * expected.max())

    ours.save(tmp_path / "vgg16.keras")
    again = keras.models.load_model(tmp_path / "vgg16.keras")
    np.testing.assert_array_equal(ops.convert_to_numpy(again(x)), got)
    assert len(again.trainable_variables) == len(ours.trainable_variables)


def test_preprocessing_is_that_of_keras_applications():
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 2, 2, 3)).astype("float32")
    expected = keras.applications.vgg16.preprocess_input(pixels.copy())
    assert VGG_PREPROCESSING["order"] == "bgr"
    got = (pixels[..., ::-1] - VGG_PREPROCESSING["mean"]) / VGG_PREPROCESSING["std"]
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize(("frozen", "trained"), [(0, 13), (2, 9), (5, 0)])
def test_first_blocks_are_frozen(frozen, trained):
    kernels = [v for v in vgg16(frozen).trainable_variables if v.name == "kernel"]
    assert len(kernels) == trained
    assert all(int(v.path[len("block")]) > frozen for v in kernels)


@pytest.mark.parametrize("frozen", [-1, 6])
def test_unknown_number_of_blocks_is_an_error(frozen):
    with pytest.raises(ValueError, match=f"0..5. Received: {frozen}"):
        vgg16(frozen)
