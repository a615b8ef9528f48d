import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from frcnn.models.layers import Conv2D, DepthwiseConv2D, Normalize
from frcnn.models.normalization import ConvNorm, FrozenBatchNorm

pytestmark = pytest.mark.backend


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def randomise(layer, seed=0):
    """Give a built layer weights that none of its initialisers would; variances positive."""
    rng = np.random.default_rng(seed)
    for variable in layer.weights:
        value = rng.normal(size=variable.shape)
        variable.assign(np.abs(value) + 0.5 if "variance" in variable.path else value)


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@settings(max_examples=25 if keras.config.backend() == "torch" else 5, deadline=None)
@given(
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.integers(1, 3),
    padding=st.sampled_from(["same", "valid"]),
    groups=st.sampled_from([1, 2]),
    bias=st.booleans(),
    activation=st.sampled_from([None, "relu", "relu6", "tanh"]),
)
def test_convolution_is_keras_own(size, kernel, strides, padding, groups, bias, activation):
    arguments = dict(
        filters=6,
        kernel_size=kernel,
        strides=strides,
        padding=padding,
        groups=groups,
        use_bias=bias,
        activation=activation,
    )
    ours, theirs = Conv2D(**arguments), keras.layers.Conv2D(**arguments)
    x = images(2, *size, 4)
    theirs.build(x.shape)
    ours.build(x.shape)
    randomise(theirs)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(numpy(ours(x)), numpy(theirs(x)), atol=1e-4)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize(("strides", "padding"), [(1, "same"), (2, "same"), (2, "valid")])
def test_depthwise_convolution_is_keras_own(strides, padding, multiplier, dilation):
    if strides > 1 and dilation > 1:
        dilation, strides = 1, 3  # Keras knows no convolution with both; ask for another stride
    arguments = dict(
        kernel_size=3,
        strides=strides,
        padding=padding,
        depth_multiplier=multiplier,
        dilation_rate=dilation,
        activation="relu6",
    )
    ours, theirs = DepthwiseConv2D(**arguments), keras.layers.DepthwiseConv2D(**arguments)
    x = images(2, 8, 9, 5)
    theirs.build(x.shape)
    ours.build(x.shape)
    randomise(theirs)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(numpy(ours(x)), numpy(theirs(x)), atol=1e-4)


def test_dilated_convolution_is_keras_own():
    ours = Conv2D(3, 4, dilation_rate=2, padding="same")
    theirs = keras.layers.Conv2D(3, 4, dilation_rate=2, padding="same")
    x = images(1, 9, 8, 2)
    theirs.build(x.shape)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(numpy(ours(x)), numpy(theirs(x)), atol=1e-5)


def test_frozen_batch_norm_is_keras_in_inference():
    ours = FrozenBatchNorm(epsilon=1e-2)
    theirs = keras.layers.BatchNormalization(epsilon=1e-2, trainable=False)
    x = images(2, 3, 4, 5)
    theirs.build(x.shape)
    ours.build(x.shape)
    randomise(theirs)
    ours.set_weights(theirs.get_weights())
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    assert ours.trainable_weights == []
    for training in (False, True):
        np.testing.assert_allclose(
            numpy(ours(x, training=training)), numpy(theirs(x, training=False)), atol=1e-5
        )


def chain(folded, depthwise):
    """Convolution, frozen normalisation, ReLU6 and a convolution: folded or as Keras's layers."""
    inputs = keras.Input((7, 8, 4))
    arguments = dict(strides=2, padding="same", use_bias=False)
    first = (DepthwiseConv2D if folded else keras.layers.DepthwiseConv2D)(3, **arguments)
    if not depthwise:
        first = (Conv2D if folded else keras.layers.Conv2D)(4, 3, **arguments)
    if folded:
        x = ConvNorm(first, 1e-3, "relu6")(inputs)
    else:
        x = keras.layers.BatchNormalization(epsilon=1e-3, trainable=False)(first(inputs))
        x = keras.layers.ReLU(6.0)(x)
    x = (Conv2D if folded else keras.layers.Conv2D)(2, 1)(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("depthwise", [False, True])
def test_folded_normalisation_trains_as_separate_layers_do(depthwise):
    ours, theirs = chain(True, depthwise), chain(False, depthwise)
    randomise(theirs)
    ours.set_weights(theirs.get_weights())
    before = theirs.get_weights()
    x, y = images(2, 7, 8, 4, seed=1), images(2, 4, 4, 2, seed=2)
    np.testing.assert_allclose(numpy(ours(x)), numpy(theirs(x)), atol=1e-4)
    for model in (ours, theirs):
        model.compile(keras.optimizers.SGD(0.01), "mse")
        model.train_on_batch(x, y)
    after = theirs.get_weights()
    assert sum(not np.allclose(a, b) for a, b in zip(before, after, strict=True)) == 3
    for got, expected in zip(ours.get_weights(), after, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_folded_normalisation_in_half_precision_is_near_the_full_one():
    def layer(dtype):
        convolution = Conv2D(8, 3, padding="same", use_bias=False, dtype=dtype)
        return ConvNorm(convolution, activation="relu6", dtype=dtype)

    half, full = layer("mixed_bfloat16"), layer("float32")
    x = images(1, 6, 6, 8)
    full.build(x.shape)
    half.build(x.shape)
    randomise(full)
    half.set_weights(full.get_weights())
    got = half(x)
    assert keras.backend.standardize_dtype(got.dtype) == "bfloat16"
    difference = np.abs(numpy(ops.cast(got, "float32")) - numpy(full(x)))
    assert difference.mean() < 0.05 < np.abs(numpy(full(x))).mean()


@pytest.mark.parametrize("extra", [{"use_bias": True}, {"use_bias": False, "activation": "relu"}])
def test_conv_norm_refuses_what_the_normalisation_would_have_to_follow(extra):
    with pytest.raises(ValueError, match="without bias and activation"):
        ConvNorm(Conv2D(2, 1, **extra))


def test_frozen_conv_norm_has_nothing_to_train():
    layer = ConvNorm(Conv2D(2, 1, use_bias=False), trainable=False)
    layer.build((None, 4, 4, 3))
    assert layer.trainable_variables == []
    layer.trainable = True
    assert [variable.name for variable in layer.trainable_variables] == ["kernel"]


def test_layers_survive_saving(tmp_path):
    inputs = keras.Input((None, None, 3))
    x = Conv2D(4, 3, activation="relu")(inputs)
    x = ConvNorm(DepthwiseConv2D(3, use_bias=False), 1e-2, "relu6")(x)
    x = ConvNorm(Conv2D(2, 1, use_bias=False), trainable=False)(x)
    model = keras.Model(inputs, FrozenBatchNorm(1e-4)(x))
    randomise(model)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = images(1, 9, 9, 3)
    np.testing.assert_array_equal(numpy(again(x)), numpy(model(x)))
    assert len(again.trainable_variables) == len(model.trainable_variables) == 3
    # As JSON, where the tuples of a new layer and the lists of a restored one are the same.
    configs = [[json.dumps(layer.get_config()) for layer in m.layers] for m in (again, model)]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_normalize_scales_each_channel_and_blanks_the_padding(dtype):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(dtype)
    sizes = np.array([[4, 5], [2, 3]], "int32")
    mean, std = (10.0, 20.0, 30.0), (1.0, 2.0, 4.0)
    got = numpy(Normalize(mean, std)(pixels, sizes))
    expected = (pixels.astype("float32") - mean) / std
    expected[1, 2:] = expected[1, :, 3:] = 0
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-6)

    reversed_ = numpy(Normalize(mean[::-1], std[::-1], order="bgr")(pixels, sizes))
    np.testing.assert_array_equal(reversed_, got[..., ::-1])


def test_normalize_is_rebuilt_from_its_configuration():
    exact = Normalize((200,) * 3, (1,) * 3, dtype="mixed_bfloat16")
    got = exact(np.full((1, 2, 2, 3), 200.4, np.float32), np.array([[2, 2]]))
    np.testing.assert_allclose(numpy(ops.cast(got, "float32")), 0.4, rtol=1e-2)  # rounded once
    layer = Normalize((1, 2, 3), (4, 5, 6), "bgr", dtype="float16")
    again = Normalize.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert layer(keras.Input((None, None, 3)), keras.Input((2,))).dtype == "float16"
    with pytest.raises(ValueError, match="'gbr'"):
        Normalize((1, 2, 3), (4, 5, 6), "gbr")
