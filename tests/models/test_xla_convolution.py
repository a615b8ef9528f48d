"""Convolutions made for XLA's CPU: equal to Keras's own, and used where they should be."""

import types

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from frcnn.models import layers, xla_convolution
from frcnn.models.layers import Conv2D, DepthwiseConv2D
from frcnn.models.xla_convolution import dense, depthwise, is_dense, is_pointwise, pointwise

pytestmark = pytest.mark.backend


@settings(max_examples=15, deadline=None)
@given(
    size=st.tuples(st.integers(7, 11), st.integers(7, 11)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.sampled_from(["same", "valid"]),
)
def test_shifted_sums_are_a_depthwise_convolution(size, kernel, strides, dilation, padding):
    dilation = 1 if strides > 1 else dilation  # Keras knows no convolution with both
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, 3)).astype("float32")
    weights = rng.normal(size=(*kernel, 3, 1)).astype("float32")
    rules = dict(strides=(strides, strides), padding=padding, dilation_rate=(dilation, dilation))
    layer = types.SimpleNamespace(kernel_size=kernel, **rules)
    expected = ops.depthwise_conv(x, weights, **{**rules, "strides": strides})
    got = depthwise(layer, ops.convert_to_tensor(x), ops.convert_to_tensor(weights))
    np.testing.assert_allclose(ops.convert_to_numpy(got), ops.convert_to_numpy(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "kernel", "strides", "dilation", "padding"),
    [
        ((9, 10), (3, 3), 1, 1, "same"),
        ((9, 10), (5, 5), 2, 1, "same"),
        ((8, 11), (4, 2), 2, 1, "valid"),
        ((10, 7), (3, 2), 3, 1, "same"),
        ((11, 8), (1, 2), 3, 1, "valid"),  # some cells are read by none
        ((9, 9), (3, 3), 1, 2, "same"),
        ((10, 9), (2, 3), 1, 2, "valid"),
    ],
)
def test_its_gradients_are_a_depthwise_convolutions(
    gradient, size, kernel, strides, dilation, padding
):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, 3)).astype("float32")
    weights = rng.normal(size=(*kernel, 3, 1)).astype("float32")
    rules = dict(strides=(strides, strides), padding=padding, dilation_rate=(dilation, dilation))
    layer = types.SimpleNamespace(kernel_size=kernel, **rules)

    def kerass(x, weights):
        return ops.depthwise_conv(x, weights, **{**rules, "strides": strides})

    def ours(x, weights):
        return depthwise(layer, ops.convert_to_tensor(x), ops.convert_to_tensor(weights))

    upstream = rng.normal(size=kerass(x, weights).shape).astype("float32")
    for got, expected in (
        (gradient(lambda a, f=f: f(a, weights), x, upstream) for f in (ours, kerass)),
        (gradient(lambda a, f=f: f(x, a), weights, upstream) for f in (ours, kerass)),
    ):
        np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "kernel", "dilation", "padding"),
    [
        ((6, 7), (3, 3), 1, "same"),
        ((6, 7), (4, 2), 1, "same"),
        ((7, 6), (1, 3), 1, "valid"),
        ((9, 8), (2, 3), 2, "same"),
        ((9, 8), (3, 2), 2, "valid"),
    ],
)
def test_a_dense_convolution_has_the_values_and_gradients_of_keras_own(
    gradient, size, kernel, dilation, padding
):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, 3)).astype("float32")
    weights = rng.normal(size=(*kernel, 3, 4)).astype("float32")
    rules = dict(strides=(1, 1), padding=padding, dilation_rate=(dilation, dilation))
    layer = types.SimpleNamespace(kernel_size=kernel, **rules)

    def kerass(x, weights):
        return ops.conv(x, weights, **{**rules, "strides": 1})

    def ours(x, weights):
        return dense(layer, ops.convert_to_tensor(x), ops.convert_to_tensor(weights))

    expected = ops.convert_to_numpy(kerass(x, weights))
    np.testing.assert_allclose(ops.convert_to_numpy(ours(x, weights)), expected, atol=1e-5)
    upstream = rng.normal(size=expected.shape).astype("float32")
    for got, expected in (
        (gradient(lambda a, f=f: f(a, weights), x, upstream) for f in (ours, kerass)),
        (gradient(lambda a, f=f: f(x, a), weights, upstream) for f in (ours, kerass)),
    ):
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_matrix_products_are_a_convolution_of_single_cells():
    rng = np.random.default_rng(0)
    x = ops.convert_to_tensor(rng.normal(size=(2, 5, 6, 3)).astype("float32"))
    kernel = ops.convert_to_tensor(rng.normal(size=(1, 1, 3, 4)).astype("float32"))
    got, expected = pointwise(x, kernel), ops.conv(x, kernel)
    np.testing.assert_allclose(ops.convert_to_numpy(got), ops.convert_to_numpy(expected), atol=1e-5)


def test_what_a_matrix_product_can_be():
    assert is_pointwise(Conv2D(4, 1))
    for other in (Conv2D(4, 3), Conv2D(4, (1, 2)), Conv2D(4, 1, 2), Conv2D(4, 1, groups=2)):
        assert not is_pointwise(other)


def test_which_convolutions_are_dense():
    assert is_dense(Conv2D(4, 3)) and is_dense(Conv2D(4, 3, dilation_rate=2))
    assert not is_dense(Conv2D(4, 3, 2)) and not is_dense(Conv2D(4, 3, groups=2))


def test_layers_use_them_on_the_cpu_of_jax_alone(monkeypatch):
    used = []
    for name in ("dense", "depthwise", "pointwise"):
        function = getattr(xla_convolution, name)
        monkeypatch.setattr(
            layers, name, lambda *args, f=function: used.append(f.__name__) or f(*args)
        )
    x = ops.ones((1, 6, 6, 4))
    DepthwiseConv2D(3, padding="same")(x)
    Conv2D(2, 1)(x)
    Conv2D(2, 3)(x)
    Conv2D(2, 3, 2)(x)
    on_jax = keras.config.backend() == "jax"  # the tests' JAX has no GPU
    assert used == (["depthwise", "pointwise", "dense"] if on_jax else [])
