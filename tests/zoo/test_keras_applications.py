import inspect
import itertools

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.utils import file_utils

from frcnn.errors import UserError
from frcnn.models.keras_extractor import strides_of, tapped, taps_for
from frcnn.models.layers import Normalize
from frcnn.zoo.keras_applications import PREPROCESSING, build_extractor, extractor_names

PICTURES = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3)).astype("float32")
SIZES = np.int32([[64, 96]])

# Families whose networks begin with their preprocessing as layers.
WITHIN = {"convnext", "efficientnet", "efficientnet_v2", "mobilenet_v3"}


def extractor_maps(extractor, x):
    return [ops.convert_to_numpy(map) for map in extractor(x)]


def maps_of(preprocessing, extractor):
    return extractor_maps(extractor, preprocessing(PICTURES, SIZES))


def expected_maps(model, x):
    """Maps of the model at its default taps, by Keras's own layers."""
    taps = {operation.name: operation for operation in model.operations}
    outputs = [taps[name].output for name in taps_for(model)]
    return [ops.convert_to_numpy(map) for map in keras.Model(model.inputs[0], outputs)(x)]


def assert_maps_equal(got, expected):
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("family", sorted(set(PREPROCESSING) - WITHIN))
def test_preprocessing_is_the_familys_own(family):
    expected = getattr(keras.applications, family).preprocess_input(PICTURES.copy())
    got = ops.convert_to_numpy(Normalize(**PREPROCESSING[family])(PICTURES, SIZES))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def preprocessed_within(model, x):
    """What the layers that a network begins with make of pictures."""
    kinds = (keras.layers.InputLayer, keras.layers.Rescaling, keras.layers.Normalization)
    first = [*itertools.takewhile(lambda layer: isinstance(layer, kinds), model.layers)]
    assert len(first) > 1
    return ops.convert_to_numpy(keras.Model(model.inputs[0], first[-1].output)(x))


@pytest.mark.parametrize(
    "name", ["ConvNeXtTiny", "EfficientNetV2B0", "EfficientNetV2S", "MobileNetV3Small"]
)
def test_preprocessing_is_what_the_network_begins_with(name):
    expected = preprocessed_within(
        getattr(keras.applications, name)(include_top=False, weights=None), PICTURES
    )
    preprocessing, extractor, _ = build_extractor(name)
    got = ops.convert_to_numpy(preprocessing(PICTURES, SIZES))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    kinds = {type(layer) for layer in extractor.layers}
    assert not kinds & {keras.layers.Rescaling, keras.layers.Normalization}


def test_all_networks_have_names_but_nasnet():
    functions = dict(inspect.getmembers(keras.applications, inspect.isfunction))
    assert set(functions) - set(extractor_names()) == {"NASNetLarge", "NASNetMobile"}
    assert {"ResNet101V2", "ConvNeXtTiny", "MobileNetV3Large"} <= set(extractor_names())


def randomise(model):
    """Give batch normalisation statistics and affine maps as if it had been trained."""
    rng = np.random.default_rng(0)
    centres = {"gamma": 1, "beta": 0, "moving_mean": 0, "moving_variance": 1}
    for variable in model.weights:
        if variable.name in centres:
            variable.assign(centres[variable.name] + rng.normal(0, 0.1, variable.shape))
    return model


TAPS = {
    "MobileNetV2": ("block_6_expand_relu", "block_13_expand_relu", "out_relu"),
    "ResNet50V2": ("conv3_block3_out", "conv4_block5_out", "post_relu"),
    "DenseNet121": ("pool3_conv", "pool4_conv", "relu"),
}


@pytest.mark.parametrize("name", [*TAPS, "MobileNetV3Small"])
def test_maps_are_those_of_the_network(name, tmp_path):
    keras.utils.set_random_seed(0)
    function = getattr(keras.applications, name)
    model = randomise(function(include_top=False, weights=None, input_shape=(None, None, 3)))
    assert taps_for(model) == TAPS.get(name, taps_for(model))
    model.save_weights(tmp_path / "own.weights.h5")
    built = build_extractor(name, tmp_path / "own.weights.h5", frozen_stages=1)
    preprocessing, extractor, strides = built
    assert strides == (8, 16, 32)
    family = getattr(keras.applications, function.__module__.rpartition(".")[2])
    x = family.preprocess_input(PICTURES.copy())
    assert_maps_equal(maps_of(preprocessing, extractor), expected_maps(model, x))
    kernels = [variable for variable in extractor.weights if variable.name == "kernel"]
    assert not kernels[0].trainable and kernels[-1].trainable


def test_a_model_for_one_size_gives_an_extractor_for_all():
    keras.utils.set_random_seed(0)
    model = randomise(keras.applications.ResNet50(weights=None, input_shape=(64, 96, 3)))
    assert taps_for(model) == ("conv3_block4_out", "conv4_block6_out", "conv5_block3_out")
    extractor = tapped(model, taps_for(model))
    assert strides_of(extractor) == (8, 16, 32)
    assert_maps_equal(extractor_maps(extractor, PICTURES), expected_maps(model, PICTURES))
    sizes = [map.shape[1:3] for map in extractor_maps(extractor, PICTURES[:, :40])]
    assert sizes == [(5, 12), (3, 6), (2, 3)]


def test_convnext_with_its_nested_models_survives_saving(tmp_path):
    keras.utils.set_random_seed(0)
    _, extractor, strides = build_extractor("ConvNeXtTiny", frozen_stages=2)
    assert strides == (8, 16, 32)
    assert [map.shape[-1] for map in extractor.outputs] == [192, 384, 768]
    extractor.save(tmp_path / "convnext.keras")
    again = keras.saving.load_model(tmp_path / "convnext.keras")
    for got, expected in zip(again(PICTURES), extractor(PICTURES), strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(got), ops.convert_to_numpy(expected))


@pytest.fixture
def efficientnet_file(tmp_path):
    """A file as published: what it calls the variance is the deviation."""
    keras.utils.set_random_seed(0)
    model = keras.applications.EfficientNetB0(include_top=False, weights=None)
    norm = next(x for x in model.layers if isinstance(x, keras.layers.Normalization))
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    norm.set_weights([mean, deviation, np.int32(1)])
    path = tmp_path / "efficientnetb0_notop.weights.h5"
    model.save_weights(path)
    return path


def test_a_fetched_file_gives_the_network_that_a_download_gives(efficientnet_file, monkeypatch):
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: str(efficientnet_file))
    peer = keras.applications.EfficientNetB0(
        include_top=False, weights="imagenet", input_shape=(None, None, 3)
    )
    expected = expected_maps(peer, PICTURES)
    within = preprocessed_within(peer, PICTURES)
    for weights in ("imagenet", efficientnet_file):
        preprocessing, extractor, _ = build_extractor("EfficientNetB0", weights)
        got = ops.convert_to_numpy(preprocessing(PICTURES, SIZES))
        np.testing.assert_allclose(got, within, rtol=1e-5, atol=1e-5)
        assert_maps_equal(maps_of(preprocessing, extractor), expected)


def test_a_failed_download_names_the_file_to_fetch(monkeypatch):
    def fail(fname, origin, **_):
        raise Exception(f"URL fetch failure on {origin}: None -- no network")

    monkeypatch.setattr(file_utils, "get_file", fail)
    with pytest.raises(UserError, match=r"MobileNetV3Small.*https://.*\.h5.*--weights FILE"):
        build_extractor("MobileNetV3Small", "imagenet")


def test_files_that_are_no_weights_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no file of weights .*missing\.h5"):
        build_extractor("MobileNetV3Small", tmp_path / "missing.h5")
    for name in ("broken.weights.h5", "broken.h5", "broken.txt"):
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(UserError, match=f"{name} holds no weights for MobileNetV3Small"):
            build_extractor("MobileNetV3Small", tmp_path / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50", "'resnet50'. Did you mean ResNet50"),
        ("ConvNextTiny", "Did you mean ConvNeXtTiny"),
        ("NASNetMobile", "NASNetMobile takes pictures of one size only"),
        ("preprocess", "'preprocess'. Choose of: ConvNeXtBase, "),
    ],
)
def test_an_unknown_name_is_an_error_with_the_nearest(name, message):
    with pytest.raises(UserError, match=message):
        build_extractor(name)
