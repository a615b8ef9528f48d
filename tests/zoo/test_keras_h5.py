import h5py
import keras
import numpy as np
import pytest
from keras import ops

from frcnn.models.vgg import vgg16
from frcnn.zoo.keras_h5 import load_vgg16, read_keras_h5
from frcnn.zoo.matching import load_by_name

KERNEL = np.arange(6, dtype="float32").reshape(2, 3)
BIAS = np.array([7, 8, 9], "float32")
NORM = {name: np.full(2, value) for value, name in enumerate(("gamma", "beta", "mean", "var"))}

# What the arrays of a layer were called, and where they lay, over the years.
SCHEMES = {
    "keras 1": ("{layer}/{layer}_W_1:0", "{layer}/{layer}_b_1:0"),
    "keras 1, first of a session": ("{layer}/{layer}_W:0", "{layer}/{layer}_b:0"),
    "keras 2": ("{layer}/{layer}/kernel:0", "{layer}/{layer}/bias:0"),
    "keras 2, second of a session": ("{layer}/{layer}_1/kernel:0", "{layer}/{layer}_1/bias:0"),
    "keras 2, whole model": (
        "model_weights/{layer}/{layer}/kernel:0",
        "model_weights/{layer}/{layer}/bias:0",
    ),
    "inside another model": (
        "vgg16/{layer}/kernel:0",
        "vgg16/{layer}/bias:0",
    ),
    "keras 3": ("{layer}/{layer}/kernel", "{layer}/{layer}/bias"),
}


def write(path, scheme, layers=("fc1", "fc2")):
    with h5py.File(path, "w") as file:
        for layer in layers:
            for name, value in zip(SCHEMES[scheme], (KERNEL, BIAS), strict=True):
                file[name.format(layer=layer)] = value
        if "whole" in scheme:
            file["optimizer_weights/fc1/kernel:0"] = np.zeros(1)
    return path


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_naming_scheme_gives_the_same_layers(tmp_path, scheme):
    layers = read_keras_h5(write(tmp_path / "weights.h5", scheme))
    assert list(layers) == ["fc1", "fc2"]
    for weights in layers.values():
        assert sorted(weights) == ["bias", "kernel"]
        np.testing.assert_array_equal(weights["kernel"], KERNEL)
        np.testing.assert_array_equal(weights["bias"], BIAS)


@pytest.mark.parametrize(
    "names",
    [
        ("bn_gamma_1:0", "bn_beta_1:0", "bn_running_mean_1:0", "bn_running_std_1:0"),
        ("bn/gamma:0", "bn/beta:0", "bn/moving_mean:0", "bn/moving_variance:0"),
    ],
)
def test_batch_norms_of_either_scheme_have_todays_names(tmp_path, names):
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        for name, value in zip(names, NORM.values(), strict=True):
            file[f"bn/{name}"] = value
    (weights,) = read_keras_h5(tmp_path / "weights.h5").values()
    expected = ("gamma", "beta", "moving_mean", "moving_variance")
    assert {name: value[0] for name, value in weights.items()} == {
        name: value for value, name in enumerate(expected)
    }


@pytest.mark.backend
def test_files_that_keras_writes_today_are_read(tmp_path):
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(2, 3, name="conv")(inputs)
    x = keras.layers.DepthwiseConv2D(1, name="depthwise")(x)
    model = keras.Model(inputs, keras.layers.BatchNormalization(name="norm")(x))
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        keras.src.legacy.saving.legacy_h5_format.save_weights_to_hdf5_group(file, model)
    report = load_by_name(model, read_keras_h5(tmp_path / "weights.h5"), "the file")
    assert list(report.matched) == ["conv", "depthwise", "norm"]
    assert not report.missing and not report.left_over and not report.mismatched


@pytest.mark.backend
def test_imagenet_file_fills_all_of_vgg16(vgg16_notop):
    model = vgg16()
    report = load_vgg16(model, vgg16_notop)
    assert len(report.matched) == 13
    assert not report.missing and not report.left_over and not report.mismatched
    with h5py.File(vgg16_notop) as file:
        kernel = np.asarray(file["block5_conv3/block5_conv3_W_1:0"])
    np.testing.assert_array_equal(model.get_layer("block5_conv3").get_weights()[0], kernel)
    maps = ops.convert_to_numpy(model(np.random.default_rng(0).normal(0, 50, (1, 32, 32, 3))))
    assert maps.shape == (1, 2, 2, 512) and 0 < (maps > 0).mean() < 0.9  # features, not noise


def test_dense_layers_of_the_top_land_in_a_detection_head(tmp_path):
    layers = [keras.layers.Dense(3, name=name) for name in ("fc1", "fc2", "box_deltas")]
    for layer in layers:
        layer.build((None, 2))
    path = write(tmp_path / "weights.h5", "keras 1", ("fc1", "fc2", "predictions"))
    report = load_vgg16(layers, path)
    assert list(report.matched) == ["fc1", "fc2"]
    assert report.missing == ("box_deltas",) and report.left_over == ("predictions",)
    np.testing.assert_array_equal(layers[1].get_weights()[0], KERNEL)


def test_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="No weight file .*nowhere.h5; check the path"):
        load_vgg16([], tmp_path / "nowhere.h5")


@pytest.mark.parametrize("damage", ["text", "truncated", "empty"])
def test_what_is_no_hdf5_is_one_sentence(tmp_path, damage):
    path = write(tmp_path / "weights.h5", "keras 2")
    content = {
        "text": b"<html>not found</html>",
        "truncated": path.read_bytes()[:700],
        "empty": b"",
    }
    path.write_bytes(content[damage])
    with pytest.raises(ValueError, match="Cannot read .*weights.h5 as HDF5.*Download it again"):
        read_keras_h5(path)


def test_other_layouts_are_named(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.save_weights(tmp_path / "new.weights.h5")
    with pytest.raises(ValueError, match=r"new.weights.h5 is HDF5 but not in Keras's legacy"):
        read_keras_h5(tmp_path / "new.weights.h5")
    with h5py.File(tmp_path / "nothing.h5", "w") as file:
        file["loose"] = np.zeros(2)
    with pytest.raises(ValueError, match="no arrays"):
        read_keras_h5(tmp_path / "nothing.h5")
