"""Extractors run so that maps are dropped: the same outputs, fewer maps at a time."""

import gc
import weakref
from functools import partial

import keras
import numpy as np
import pytest
from keras import layers, ops

from frcnn.models.layers import AddReLU, Conv2D
from frcnn.models.normalization import ConvNorm
from frcnn.models.thrift import run_extractor
from frcnn.training.optimizer import SGD
from tiny import tiny_batch, tiny_network

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


def residual_network(norm):
    """Blocks that add to what they are given, with maps of stride 8 and 16."""

    def normed(x, stride, activation=None):
        convolution = Conv2D(8, 3, stride, padding="same", use_bias=False)
        return ConvNorm(convolution, activation=activation, norm=norm)(x)

    x = inputs = keras.Input((None, None, 3))
    maps = []
    for stride in (8, 2):
        x = normed(x, stride, "relu")
        for _ in range(4):
            x = AddReLU()([normed(normed(x, 1, "relu"), 1), x])
        maps.append(x)
    return keras.Model(inputs, maps)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_maps_that_are_made_again_give_the_same_training(norm):
    def trained(remat):
        network = tiny_network(extractor=partial(residual_network, norm))
        network.compile(SGD(0.02, momentum=0.9, global_clipnorm=1.0))
        network.remat = remat
        losses = [
            network.train_on_batch(*tiny_batch(2, seed=step), return_dict=True) for step in range(2)
        ]
        numbers = [float(value) for each in losses for value in each.values()]
        return numbers, [ops.convert_to_numpy(weight) for weight in network.weights]

    (losses, weights), (same, also) = trained(False), trained(True)
    assert same == pytest.approx(losses, rel=1e-5)
    for one, other in zip(weights, also, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(keras.config.backend() != "torch", reason="PyTorch tells what it keeps")
def test_fewer_maps_are_kept_where_they_are_made_again(monkeypatch):
    made, convolve = [], Conv2D.convolve

    def watched(self, *args):
        result = convolve(self, *args)
        made.append(weakref.ref(result.untyped_storage()))
        return result

    monkeypatch.setattr(Conv2D, "convolve", watched)
    network = residual_network("frozen")
    pixels = ops.ones((1, 64, 64, 3))

    def kept(remat):
        """Convolved maps that are there after a run, for its gradients or as outputs."""
        made.clear()
        outputs = run_extractor(network, pixels, True, remat)
        gc.collect()
        assert len(made) == 18 and all(each.requires_grad for each in outputs)
        return sum(each() is not None for each in made)

    assert kept(False) >= 10
    assert kept(True) <= 4


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
