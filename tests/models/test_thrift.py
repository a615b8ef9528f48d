"""Extractors run so that maps are dropped: the same outputs, fewer maps at a time."""

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers, ops

from frcnn.models.rematerialisation import check_repeatable, run_in_segments
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


def gradients_of(model, loss_of, pixels):
    """The loss, and its gradients by the weights, on any backend."""
    backend = keras.config.backend()
    weights = model.trainable_weights
    if backend == "torch":
        loss = loss_of(ops.convert_to_tensor(pixels))
        model.zero_grad()
        loss.backward()
        found = [weight.value.grad for weight in weights]
    elif backend == "tensorflow":
        import tensorflow as tf

        @tf.function
        def both(pixels):
            with tf.GradientTape() as tape:
                loss = loss_of(pixels)
            return loss, tape.gradient(loss, [weight.value for weight in weights])

        loss, found = both(ops.convert_to_tensor(pixels))
    else:
        import jax

        def stateless(values):
            with keras.StatelessScope(zip(weights, values, strict=True)):
                return loss_of(pixels)

        loss, found = jax.jit(jax.value_and_grad(stateless))([each.value for each in weights])
    return [ops.convert_to_numpy(each) for each in (loss, *found)]


def deep_model(depth=24):
    inputs = x = keras.Input((None, None, 3))
    maps = []
    for _ in range(depth):
        step = layers.Conv2D(4, 3, padding="same", activation="tanh")(x)
        x = step if x is inputs else layers.Add()([step, x])
        maps.append(x)
    return keras.Model(inputs, [maps[4], maps[-1]])


def test_maps_made_twice_give_the_same_gradients():
    model = deep_model()
    pixels = np.random.default_rng(0).normal(size=(2, 8, 9, 3)).astype(np.float32)

    def loss_by(run):
        return lambda pixels: sum(ops.mean(ops.square(x)) for x in run(model, pixels, True))

    plain = gradients_of(model, loss_by(run_extractor), pixels)
    again = gradients_of(model, loss_by(run_in_segments), pixels)
    exact = keras.config.backend() == "torch"  # compilers fuse, and round, in other ways
    for one, two in zip(plain, again, strict=True):
        np.testing.assert_allclose(one, two, rtol=0 if exact else 1e-4, atol=0 if exact else 1e-6)


def test_what_changes_from_run_to_run_is_refused():
    with pytest.raises(ValueError, match="cannot be rematerialised: dropout"):
        check_repeatable(branching_model())
    with pytest.raises(ValueError, match="is no functional model"):
        check_repeatable(layers.Conv2D(4, 1, name="alone"))
    check_repeatable(deep_model())


@pytest.mark.skipif(keras.config.backend() != "torch", reason="PyTorch says what it keeps")
def test_less_is_kept_for_the_backward_pass():
    import torch

    model, kept = deep_model(), {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    def bytes_by(run):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            maps = run(model, ops.ones((1, 64, 64, 3)), True)
        total = sum(kept.values())
        del maps
        return total

    assert bytes_by(run_in_segments) < 0.5 * bytes_by(run_extractor)
