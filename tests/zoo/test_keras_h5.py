import re
from unittest import mock

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from keras.src.applications.resnet import ResNet, stack_residual_blocks_v1
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

from frcnn.models.vgg import vgg16
from frcnn.zoo.keras_h5 import load_vgg16, read_keras_h5, resnet_layer_names
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


def legacy_weights(model, path):
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, model)


# How Keras writes files today.
WRITERS = {
    "legacy.h5": legacy_weights,
    "new.weights.h5": lambda model, path: model.save_weights(path),
    "whole.h5": lambda model, path: model.save(path),
}


def every_kind_of_layer():
    """Layers of every kind whose weights have names, and some that share a kind."""
    x = inputs = keras.Input((4, 4, 3))
    for index, bias in enumerate((True, False)):
        x = keras.layers.Conv2D(2, 3, padding="same", use_bias=bias, name=f"conv_{index}")(x)
        x = keras.layers.DepthwiseConv2D(1, use_bias=bias, name=f"depthwise_{index}")(x)
        x = keras.layers.BatchNormalization(name=f"norm_{index}")(x)
        x = keras.layers.Dense(3, use_bias=bias, name=f"dense_{index}")(x)
    model = keras.Model(inputs, x)
    shuffle(model)
    return model


def shuffle(model):
    """Give every weight other numbers."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))


@pytest.mark.backend
@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("compiled", [False, True])
def test_files_that_keras_writes_today_are_read(tmp_path, form, compiled):
    model = every_kind_of_layer()
    if compiled:
        model.compile("adam", "mse")
        model.optimizer.build(model.trainable_variables)
    WRITERS[form](model, tmp_path / form)
    saved = [ops.convert_to_numpy(weight) for weight in model.weights]
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape))
    report = load_by_name(model, read_keras_h5(tmp_path / form), "the file")
    assert len(report.matched) == 8
    assert not report.missing and not report.left_over and not report.mismatched
    for weight, expected in zip(model.weights, saved, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), expected)


def test_models_inside_models_are_searched_in_new_files(tmp_path):
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="a")])
    inputs = keras.Input((2,))
    outer = keras.Model(inputs, keras.layers.Dense(4, name="b")(inner(inputs)))
    outer.save_weights(tmp_path / "x.weights.h5")
    layers = read_keras_h5(tmp_path / "x.weights.h5")
    assert {name: weights["kernel"].shape for name, weights in layers.items()} == {
        "a": (2, 3),
        "b": (3, 4),
    }


def test_weights_of_other_kinds_of_layer_are_numbered(tmp_path):
    norm = keras.layers.BatchNormalization(scale=False, name="norm")  # which of four is missing?
    keras.Sequential([keras.Input((2,)), norm]).save_weights(tmp_path / "x.weights.h5")
    assert sorted(read_keras_h5(tmp_path / "x.weights.h5")["norm"]) == ["0", "1", "2"]


def test_bfloat16_is_widened(tmp_path):
    layer = keras.layers.Dense(3, dtype="bfloat16", name="dense")
    model = keras.Sequential([keras.Input((2,)), layer])
    model.save_weights(tmp_path / "x.weights.h5")
    kernel = read_keras_h5(tmp_path / "x.weights.h5")["dense"]["kernel"]
    assert kernel.dtype == np.float32
    expected = ops.convert_to_numpy(ops.cast(layer.kernel, "float32"))
    np.testing.assert_array_equal(kernel, expected)


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
    with h5py.File(tmp_path / "nested.h5", "w") as file:
        file["extractor/layers/conv2d/vars/0"] = np.zeros(2)
    with pytest.raises(ValueError, match="nested.h5 .*its arrays are numbered"):
        read_keras_h5(tmp_path / "nested.h5")
    with h5py.File(tmp_path / "nothing.h5", "w") as file:
        file["loose"] = np.zeros(2)
    with pytest.raises(ValueError, match="nothing.h5 is HDF5 but holds no layers.*level: loose"):
        read_keras_h5(tmp_path / "nothing.h5")


# What a file can hold that is no plain array of numbers: name -> (writes it, what is said).
HOSTILE = {
    "external link": (
        lambda file, other: file.update(b=h5py.ExternalLink(other, "/secret")),
        "b is a link to another place",
    ),
    "soft link": (
        lambda file, _: file.update({"b/kernel": h5py.SoftLink("/a/a/kernel:0")}),
        "b/kernel is a link to another place",
    ),
    "loop": (
        lambda file, _: file.update({"a/a/again": file["a"]}),
        "a/a/again is the same as another entry",
    ),
    "root in itself": (
        lambda file, _: file.update({"a/root": file["/"]}),
        "a/root is the same as another entry",
    ),
    "array in another file": (
        lambda file, other: file.create_dataset("b/kernel", (3,), "f8", external=[(other, 0, 24)]),
        "b/kernel lies in another file",
    ),
    "array made of another file's": (
        lambda file, other: file.create_virtual_dataset("b", virtual(other)),
        "b/kernel lies in another file",
    ),
    "huge": (
        lambda file, _: file.create_dataset("b/kernel", (1 << 31, 1 << 31), chunks=(8, 8)),
        "it declares arrays of 18,446,744,073,709,551,640 bytes in a file of",
    ),
    "packed zeros": (
        lambda file, _: file.create_dataset("b/kernel", data=np.zeros(1 << 20), compression=9),
        "it declares arrays of 8,388,6.. bytes in a file of",
    ),
    "text": (lambda file, _: file.update({"b/kernel": ["a", "bb"]}), "of type object instead of"),
    "nothing": (lambda file, _: file.update({"b/kernel": h5py.Empty("f4")}), "instead of numbers"),
    "records": (
        lambda file, _: file.update({"b/kernel": np.zeros(2, [("x", "f4")])}),
        "instead of numbers",
    ),
    "no name": (
        lambda file, _: file.update({"layers/conv2d/vars/0": np.zeros(2)}),
        "layers/conv2d/vars has no name",
    ),
}


def virtual(other):
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(other, "secret/kernel", (3,))
    return layout


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_plain_array_is_refused(tmp_path, kind):
    other, path = tmp_path / "other.h5", tmp_path / "weights.h5"
    with h5py.File(other, "w") as file:
        file["secret/kernel"] = np.ones(3)
    add, message = HOSTILE[kind]
    with h5py.File(path, "w") as file:
        file["a/a/kernel:0"] = np.ones(3)
        if "made of" in kind:
            add(file.create_group("b"), str(other))
            file.move("b/b", "b/kernel")
        else:
            add(file, str(other))
    with pytest.raises(ValueError, match=f"Cannot read .*weights.h5 as HDF5.*{message}") as error:
        read_keras_h5(path)
    assert "\n" not in str(error.value)


def test_numbers_of_the_other_byte_order_are_turned(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a/kernel"] = np.arange(3).astype(">f4")
    kernel = read_keras_h5(tmp_path / "x.h5")["a"]["kernel"]
    assert kernel.dtype.isnative
    np.testing.assert_array_equal(kernel, [0, 1, 2])


@pytest.mark.parametrize("scheme", ["keras 1", "keras 3, numbered"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_file_cut_anywhere_is_an_error_of_one_kind(tmp_path_factory, scheme, data):
    path = tmp_path_factory.mktemp("cut") / "weights.h5"
    if scheme == "keras 1":
        write(path, scheme)
    else:
        with h5py.File(path, "w") as file:
            group = file.create_group("layers/dense/vars")
            group.attrs["name"] = "fc1"
            group["0"], group["1"] = KERNEL, BIAS
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    message = "Cannot read .*weights.h5 as HDF5"
    with mock.patch("frcnn.zoo.keras_h5.try_first"), pytest.raises(ValueError, match=message) as e:
        read_keras_h5(path)  # here alone: a process for each would take minutes
    assert "\n" not in str(e.value)


OLD_BRANCHES = ("1", "2a", "2b", "2c")


def old_name(name: str) -> str:
    """What the first years of Keras called a layer of today's ResNet."""
    form = re.fullmatch(r"conv(\d)(_block(\d)_(\d))?_(conv|bn)", name)
    if form is None:
        return name
    kind = {"conv": "res", "bn": "bn"}[form[5]]
    if form[2] is None:
        return {"res": "conv1", "bn": "bn_conv1"}[kind]
    return f"{kind}{form[1]}{'abcdef'[int(form[3]) - 1]}_branch{OLD_BRANCHES[int(form[4])]}"


def write_first_years(model, path):
    """Save a ResNet as Keras 1 did, under the names of then."""
    suffixes = {
        "kernel": "W",
        "bias": "b",
        "moving_mean": "running_mean",
        "moving_variance": "running_std",
    }
    with h5py.File(path, "w") as file:
        for layer in model.layers:
            for weight in layer.weights:
                name = old_name(layer.name)
                suffix = suffixes.get(weight.name, weight.name)
                file[f"{name}/{name}_{suffix}_1:0"] = ops.convert_to_numpy(weight)


RESNET_WRITERS = WRITERS | {"first-years.h5": write_first_years}


def tiny_resnet():
    """Keras's ResNet with few layers and channels."""

    def stages(x):
        x = stack_residual_blocks_v1(x, 4, 2, stride1=1, name="conv2")
        return stack_residual_blocks_v1(x, 8, 2, name="conv3")

    return ResNet(
        stages, False, True, include_top=False, weights=None, input_shape=(32, 32, 3), name="tiny"
    )


def without_bias(layer):
    config = layer.get_config()
    if isinstance(layer, keras.layers.Conv2D):
        config["use_bias"] = False
    return layer.__class__.from_config(config)


@pytest.mark.backend
@pytest.mark.parametrize("form", RESNET_WRITERS)
def test_resnets_of_every_scheme_do_the_same_without_biases(tmp_path, form):
    model = tiny_resnet()
    shuffle(model)
    RESNET_WRITERS[form](model, tmp_path / form)
    plain = keras.models.clone_model(model, clone_function=without_bias)
    layers = resnet_layer_names(read_keras_h5(tmp_path / form))
    report = load_by_name(plain, layers, "the file")
    assert len(report.matched) == 2 * 15
    assert not report.missing and not report.left_over and not report.mismatched
    images = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")
    expected = model.predict_on_batch(images)
    assert expected.std() > 0
    np.testing.assert_allclose(plain.predict_on_batch(images), expected, rtol=1e-4)


@pytest.mark.parametrize("form", RESNET_WRITERS)
def test_resnet50_has_the_same_layers_in_every_scheme(tmp_path, form):
    model = keras.applications.ResNet50(weights=None, include_top=False)
    RESNET_WRITERS[form](model, tmp_path / form)
    layers = resnet_layer_names(read_keras_h5(tmp_path / form))
    (tmp_path / form).unlink()  # a hundred megabytes
    expected = {layer.name: layer for layer in model.layers if layer.weights}
    assert layers.keys() == expected.keys() and len(layers) == 2 * 53
    for name, weights in layers.items():
        conv = name.endswith("_conv")
        assert set(weights) == (
            {"kernel"} if conv else {"gamma", "beta", "moving_mean", "moving_variance"}
        )
        shape = expected[name].kernel.shape if conv else expected[name].gamma.shape
        assert all(array.shape == tuple(shape) for array in weights.values())


@pytest.mark.parametrize("form", WRITERS)
def test_vgg16_of_every_form_fills_ours(tmp_path, form):
    model = keras.applications.VGG16(weights=None, include_top=False)
    WRITERS[form](model, tmp_path / form)
    report = load_vgg16(vgg16(), tmp_path / form)
    (tmp_path / form).unlink()
    assert len(report.matched) == 13
    assert not report.missing and not report.left_over and not report.mismatched


def test_a_classifier_and_a_bias_without_a_norm_are_left_as_they_are():
    layers = {
        "fc1000": {"kernel": KERNEL, "bias": BIAS},
        "extra_conv": {"kernel": KERNEL, "bias": BIAS},
        "res9z_branch2a": {"kernel": KERNEL},
        "res2a_branch2a": {"kernel": KERNEL, "bias": BIAS},
        "bn2a_branch2a": {"moving_mean": BIAS + 1},
    }
    named = resnet_layer_names(layers)
    assert set(named) == {
        "fc1000",
        "extra_conv",
        "res9z_branch2a",
        "conv2_block1_1_conv",
        "conv2_block1_1_bn",
    }
    assert set(named["fc1000"]) == set(named["extra_conv"]) == {"kernel", "bias"}
    np.testing.assert_array_equal(named["conv2_block1_1_bn"]["moving_mean"], [1, 1, 1])
    assert set(layers["res2a_branch2a"]) == {"kernel", "bias"}  # what was given is not changed
    np.testing.assert_array_equal(layers["bn2a_branch2a"]["moving_mean"], BIAS + 1)
