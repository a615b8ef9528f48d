import keras
import numpy as np
import pytest
from keras import ops

from frcnn.training.config import Config
from frcnn.training.optimizer import SGD, WarmupDecay, build_optimizer
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
    spared = {v.name for v in network.trainable_variables if not optimizer.decays(v)}
    assert spared == {"bias"}


def reference_steps(weights, gradients, rate, momentum, decay, clip):
    """SGD of the papers in NumPy; the second weight does not decay."""
    weights = [weight.astype(np.float64) for weight in weights]
    velocities = [np.zeros_like(weight) for weight in weights]
    for step in gradients:
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in step))
        for i, gradient in enumerate(step):
            gradient = gradient * min(1, clip / norm) + (decay, 0)[i] * weights[i]
            velocities[i] = momentum * velocities[i] - rate * gradient
            weights[i] = weights[i] + velocities[i]
    return weights


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_steps_equal_the_papers(momentum):
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape).astype(np.float32) for shape in ((3, 5), (5,))]
    gradients = [[3 * rng.normal(size=w.shape).astype(np.float32) for w in start] for _ in range(6)]
    gradients[2] = [0.01 * gradient for gradient in gradients[2]]  # not clipped
    settings = {"rate": 0.05, "momentum": momentum, "decay": 0.1, "clip": 2.0}
    expected = reference_steps(start, gradients, **settings)
    variables = [
        keras.Variable(value, name=name)
        for value, name in zip(start, ("kernel", "bias"), strict=True)
    ]
    config = Config("x", momentum=momentum, weight_decay=0.1, clip=2.0, warmup=0, schedule="step")
    optimizer = build_optimizer(config, 0.05, 10**6)
    for step in gradients:
        optimizer.apply([ops.convert_to_tensor(g) for g in step], variables)
    assert int(optimizer.iterations) == 6
    for variable, wanted in zip(variables, expected, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(variable), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", [0.1, 0.0])
def test_the_step_of_a_gpu_is_the_one_of_a_cpu(decay):
    torch = pytest.importorskip("torch")
    from frcnn.training.torch_sgd import Group, _many_passes, _one_pass

    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 4, 5)).astype(np.float32)
    results = []
    for step in (_one_pass, _many_passes):
        group = Group(*([torch.from_numpy(each.copy())] for each in values), decay)
        step(group, torch.tensor(0.05), torch.tensor(0.5), 0.9)
        results.append((group.weights[0].numpy(), group.velocities[0].numpy()))
    np.testing.assert_allclose(*results, rtol=1e-6)


def test_a_recorded_network_follows_the_steps():
    """What was computed of weights alone, such as kernels with normalisations, is made anew."""
    torch = pytest.importorskip("torch")
    from frcnn.models.torch_graph import RecordedGraph
    from frcnn.training.torch_sgd import Group, sgd_step

    weight = torch.nn.Parameter(torch.arange(1.0, 5.0))
    recorded = RecordedGraph(lambda x: x * (2 * weight).exp(), [torch.ones(4)])
    before = recorded(torch.ones(4)).clone()
    group = Group([weight], [torch.ones(4)], [torch.zeros(4)], 0.0, 1.0)
    sgd_step([group], torch.tensor(0.1), 0.9, None)
    after = recorded(torch.ones(4))
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, (2 * weight.detach()).exp())


def test_what_is_not_in_one_pass_is_keras_own():
    """The moving average of the weights, asked for, is kept."""
    variable = keras.Variable(np.ones(3, np.float32), name="kernel")
    optimizer = SGD(0.5, 0.9, use_ema=True, ema_momentum=0.5)
    optimizer.apply([ops.ones(3)], [variable])
    np.testing.assert_allclose(ops.convert_to_numpy(variable), 0.5)
    optimizer.finalize_variable_values([variable])
    np.testing.assert_allclose(ops.convert_to_numpy(variable), 0.5, atol=0.3)


def test_averages_follow_the_weights():
    rng = np.random.default_rng(0)
    variable = keras.Variable(rng.normal(size=(3, 4)).astype(np.float32), name="kernel")
    frozen = keras.Variable(rng.normal(size=5).astype(np.float32), name="kernel")
    optimizer = SGD(0.1, 0.9, ema=0.6)
    optimizer.build([variable, frozen])
    average = None
    for step in range(20):
        optimizer.apply([ops.convert_to_tensor(rng.normal(size=(3, 4)), "float32")], [variable])
        weight = ops.convert_to_numpy(variable).astype(np.float64)
        share = min(0.6, step / (step + 9))  # 0, then 1/10, 2/11, ...
        average = weight if average is None else share * average + (1 - share) * weight
        (of_one, found), (of_other, untouched) = optimizer.averaged()
        assert of_one is variable and of_other is frozen
        np.testing.assert_allclose(ops.convert_to_numpy(found), average, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ops.convert_to_numpy(untouched), ops.convert_to_numpy(frozen))
    assert not SGD(0.1, 0.9).averaged()


def test_an_average_equal_to_its_weight_stays_so():
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    variable = keras.Variable(values, name="bias")
    optimizer = SGD(0.0, 0.9, ema=0.999)
    for _ in range(30):
        optimizer.apply([ops.zeros(1000)], [variable])
    np.testing.assert_array_equal(ops.convert_to_numpy(optimizer.averages[0]), values)


def test_the_averages_of_a_gpu_are_those_of_a_cpu():
    torch = pytest.importorskip("torch")
    from frcnn.training.torch_sgd import _move_in_many_passes, _move_in_one_pass

    values = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    for move in (_move_in_one_pass, _move_in_many_passes):
        average, weight = (torch.from_numpy(each.copy()) for each in values)
        move([average], [weight], torch.tensor(0.3))
        expected = values[0] + 0.3 * (values[1] - values[0])
        np.testing.assert_allclose(average.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_slow_variables_step_by_a_share():
    start = np.ones(3, np.float32)
    pair = [keras.Variable(start, name=name) for name in ("fast", "slow")]
    optimizer = SGD(0.5, 0.9, slow=[pair[1].path], slowness=0.1)
    for _ in range(2):
        optimizer.apply([ops.ones(3), ops.ones(3)], pair)
    fast, slow = (start - ops.convert_to_numpy(each) for each in pair)
    np.testing.assert_allclose(fast, 0.5 * (1 + 1.9), rtol=1e-6)
    np.testing.assert_allclose(slow, 0.1 * fast, rtol=1e-5)


def test_the_backbone_can_learn_slower():
    network = tiny_network()
    optimizer = build_optimizer(Config("x", backbone_lr=0.1), 0.1, 10, network)
    optimizer.build(network.trainable_variables)
    slow = {id(each) for each in network.trainable_variables if optimizer.pace(each) != 1}
    assert slow == {id(each) for each in network.extractor.trainable_variables}
    assert not build_optimizer(Config("x"), 0.1, 10, network).slow


def test_the_optimizer_is_serialisable():
    settings = Config("x", weight_decay=0.25, momentum=0.5, ema=0.9, backbone_lr=0.5)
    optimizer = build_optimizer(settings, 0.1, 10, tiny_network())
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert copy.get_config() == optimizer.get_config() and copy.decay == 0.25


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


@pytest.mark.backend
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gradients_that_are_not_finite_count_as_zeros(bad):
    first, second = (keras.Variable(np.ones(3, "float32")) for _ in range(2))
    optimizer = SGD(0.5, momentum=0.9, global_clipnorm=1.0)
    optimizer.build([first, second])
    sound = np.float32([0.1, 0.2, 0.3])
    optimizer.apply([ops.convert_to_tensor(sound), ops.convert_to_tensor(0 * sound)])
    np.testing.assert_allclose(ops.convert_to_numpy(first), 1 - 0.5 * sound, rtol=1e-6)
    broken = np.float32([0, bad, 0])
    optimizer.apply([ops.convert_to_tensor(sound), ops.convert_to_tensor(broken)])
    # Only the momentum of the first step moves the weights.
    np.testing.assert_allclose(ops.convert_to_numpy(first), 1 - 0.5 * 1.9 * sound, rtol=1e-6)
    np.testing.assert_array_equal(ops.convert_to_numpy(second), 1)


@pytest.mark.backend
def test_constraints_hold_after_a_step():
    constraint = keras.constraints.MaxNorm(0.1, axis=0)
    layer = keras.layers.Dense(4, kernel_constraint=constraint)
    layer.build((None, 3))
    optimizer = SGD(0.5, 0.9)
    gradients = [keras.ops.ones(variable.shape) for variable in layer.trainable_variables]
    optimizer.apply(gradients, layer.trainable_variables)
    norms = np.linalg.norm(keras.ops.convert_to_numpy(layer.kernel), axis=0)
    assert norms.max() <= 0.1 + 1e-6
