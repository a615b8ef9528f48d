import keras
import numpy as np
import pytest
from keras import ops

from frcnn.training.config import Config
from frcnn.training.optimizer import WarmupDecay, build_optimizer
from tiny import tiny_batch, tiny_network

pytestmark = pytest.mark.backend


def rates(schedule, steps):
    return np.array([float(ops.convert_to_numpy(schedule(step))) for step in range(steps)])


def test_cosine_rises_to_the_peak_and_falls_to_zero():
    found = rates(WarmupDecay(0.1, 110, 10), 111)
    assert found.argmax() == 10 and found[10] == pytest.approx(0.1)
    assert (np.diff(found[:11]) > 0).all() and (np.diff(found[10:]) < 0).all()
    assert found[60] == pytest.approx(0.05, rel=1e-3) and found[110] == pytest.approx(0, abs=1e-7)


def test_steps_divide_by_ten_twice():
    found = rates(WarmupDecay(0.1, 90, 0, "step"), 90)
    np.testing.assert_allclose(found[[0, 59, 60, 79, 80, 89]], [0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3])


def test_schedule_is_serialisable():
    schedule = WarmupDecay(0.1, 90, 7, "step")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert copy.get_config() == schedule.get_config()


def test_weight_decay_spares_biases_and_norms():
    network = tiny_network()
    optimizer = build_optimizer(Config("x", weight_decay=0.01), peak=0.1, steps=1000)
    optimizer.build(network.trainable_variables)
    spared = {v.name for v in network.trainable_variables if not optimizer._use_weight_decay(v)}
    assert spared == {"bias"}


def test_weight_decay_acts_as_a_gradient_under_momentum():
    """After many steps at rest, decay has moved a weight about as L2 in the gradient would."""
    decay, momentum, rate, steps = 0.01, 0.9, 0.01, 2000
    variable = keras.Variable(np.ones(1, np.float32), name="kernel")
    config = Config("x", weight_decay=decay, momentum=momentum, warmup=0, schedule="step")
    optimizer = build_optimizer(config, rate, 10**6)
    expected, velocity = 1.0, 0.0
    for _ in range(steps):
        optimizer.apply([ops.zeros(1)], [variable])
        velocity = momentum * velocity - rate * decay * expected
        expected += velocity
    found = float(ops.convert_to_numpy(variable)[0])
    assert found == pytest.approx(expected, rel=0.02)
    assert found < 0.2


def test_gradients_are_clipped_to_the_norm():
    variable = keras.Variable(np.zeros(4, np.float32), name="kernel")
    config = Config("x", clip=2.0, weight_decay=0.0, momentum=0.0, warmup=0)
    optimizer = build_optimizer(config, 1.0, 10**6)
    optimizer.apply([ops.convert_to_tensor(np.full(4, 100.0, np.float32))], [variable])
    assert np.linalg.norm(ops.convert_to_numpy(variable)) == pytest.approx(2.0, rel=1e-3)


def test_a_network_trains_with_it():
    network = tiny_network()
    network.compile(build_optimizer(Config("x"), 0.02, 10))
    losses = [network.train_on_batch(*tiny_batch(), return_dict=True)["loss"] for _ in range(3)]
    assert np.isfinite(np.array(losses, float)).all()
