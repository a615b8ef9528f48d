"""Extractors run so that maps are dropped: the same outputs, fewer maps at a time."""

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers, ops

from frcnn.models.thrift import run_extractor

pytestmark = pytest.mark.backend


def branching_model():
    """Two outputs, one of them used again; a layer called twice; a skip over several layers."""
    inputs = keras.Input((None, None, 3))
    first = layers.Conv2D(4, 3, padding="same", name="first")(inputs)
    twice = layers.Conv2D(4, 1, name="twice")
    x = twice(twice(first))
    x = layers.Dropout(0.5, seed=0)(x)
    joined = layers.Add()([x, first])
    return keras.Model(inputs, [joined, layers.ReLU()(joined), first])


def test_outputs_are_the_models_own():
    model = branching_model()
    pixels = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    for mine, theirs in zip(run_extractor(model, pixels, False), model(pixels), strict=True):
        np.testing.assert_allclose(*map(ops.convert_to_numpy, (mine, theirs)), atol=1e-6)


def test_training_reaches_the_layers():
    model = branching_model()
    pixels = np.ones((2, 5, 6, 3), np.float32)
    dropped = ops.convert_to_numpy(run_extractor(model, pixels, True)[0])
    kept = ops.convert_to_numpy(run_extractor(model, pixels, False)[0])
    assert not np.allclose(dropped, kept)


def test_a_single_map_comes_in_a_list():
    (found,) = run_extractor(layers.Conv2D(4, 1), np.ones((1, 2, 2, 3), np.float32), False)
    assert tuple(found.shape) == (1, 2, 2, 4)


def test_maps_are_dropped_after_their_last_use_on_pytorch():
    """The others run by Keras, which keeps all: compilers drop them by themselves."""
    alive, most = [], []

    class Watch(layers.Layer):
        def call(self, x):
            gc.collect()
            most.append(sum(each() is not None for each in alive))
            result = x + 1.0
            alive.append(weakref.ref(result))
            return result

    inputs = keras.Input((2, 2, 1))
    x = inputs
    for _ in range(6):
        x = Watch()(x)
    model = keras.Model(inputs, x)
    alive.clear()
    most.clear()
    run_extractor(model, ops.zeros((1, 2, 2, 1)), False)
    assert max(most) == (1 if keras.config.backend() == "torch" else 5)
