"""Recorded training steps: the same losses and weights, and what cannot be recorded."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tiny import tiny_batch, tiny_network

if keras.config.backend() != "torch":
    pytest.skip("steps are recorded on PyTorch alone", allow_module_level=True)

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from frcnn.models import torch_step
from frcnn.models.torch_graph import _ValuesUnread
from frcnn.training import torch_sgd
from frcnn.training.config import Config
from frcnn.training.optimizer import build_optimizer

STEPS = 8


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    """Record on this machine's device, whose values are then not to be looked at."""
    monkeypatch.setattr(torch_step, "DEVICES", ("cuda", "cpu"))
    monkeypatch.setattr(torch_step, "RECORD_AFTER", STEPS - 5)
    monkeypatch.setattr(torch_sgd, "_may_ask", lambda device: False)


def batches(count, **options):
    return [tiny_batch(seed=seed, **options) for seed in range(count)]


def trained(network, optimizer, data):
    network.compile(optimizer)
    return [network.train_on_batch(*batch, return_dict=True) for batch in data]


def weights_of(network):
    return [keras.ops.convert_to_numpy(each) for each in network.variables]


@pytest.mark.parametrize("recipe", [{}, {"ema": 0.9, "backbone_lr": 0.1}], ids=["plain", "ema"])
def test_losses_and_weights_are_those_of_keras_own_steps(monkeypatch, recipe):
    results = []
    for devices in (("cuda", "cpu"), ()):
        monkeypatch.setattr(torch_step, "DEVICES", devices)
        network = tiny_network()
        optimizer = build_optimizer(Config("-", **recipe), 0.02, 20, network)
        logs = trained(network, optimizer, batches(STEPS))
        results.append((network, [[float(each[name]) for name in sorted(each)] for each in logs]))
    (recorded, losses), (plain, expected) = results
    graphs = recorded._recorded_steps._graphs
    assert [each is not None for each in graphs.values()] == [True]
    assert not plain._recorded_steps._graphs
    (graph,) = graphs.values()
    assert graph.captured == torch.cuda.is_available()
    told = {id(each) for each in graph._written}  # what validation's own recordings go by
    changed = [*recorded.trainable_variables, *recorded.optimizer.variables]
    assert told.issuperset(id(each.value) for each in changed if each.trainable)
    tolerance = 0 if not torch.cuda.is_available() else 1e-4  # kernels are chosen by their speed
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
    for one, other in zip(weights_of(recorded), weights_of(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    for one, other in zip(*(weights_of(each.optimizer) for each in (recorded, plain)), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    assert int(recorded.optimizer.iterations) == STEPS


def test_adamw_decays_once(monkeypatch):
    results = []
    for devices in (("cuda", "cpu"), ()):
        monkeypatch.setattr(torch_step, "DEVICES", devices)
        network = tiny_network()
        trained(network, keras.optimizers.AdamW(1e-3, weight_decay=0.5), batches(STEPS))
        results.append(weights_of(network))
    tolerance = 1e-6 if not torch.cuda.is_available() else 1e-3
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_each_shape_is_recorded_by_itself():
    network = tiny_network()
    trained(network, build_optimizer(Config("-"), 0.02, 20), batches(STEPS))
    trained_before = weights_of(network)
    for batch in batches(STEPS, canvas=(96, 64)):
        logs = network.train_on_batch(*batch, return_dict=True)
    assert len(network._recorded_steps._graphs) == 2
    assert np.isfinite(float(logs["loss"]))
    changed = [
        not np.array_equal(*pair) for pair in zip(weights_of(network), trained_before, strict=True)
    ]
    assert any(changed)


def test_compiling_forgets_the_steps_and_freezing_then_holds():
    network = tiny_network()
    trained(network, build_optimizer(Config("-"), 0.02, 20), batches(STEPS))
    network.rpn.trainable = False
    before = keras.ops.convert_to_numpy(network.rpn.hidden[0].kernel)
    trained(network, build_optimizer(Config("-"), 0.02, 20), batches(STEPS))
    after = keras.ops.convert_to_numpy(network.rpn.hidden[0].kernel)
    np.testing.assert_array_equal(before, after)


class ReadsItsGradients(keras.optimizers.SGD):
    """An optimizer that decides on the host."""

    def apply(self, grads, trainable_variables=None):
        if float(grads[0].sum()) > -1e9:
            super().apply(grads, trainable_variables)


def test_a_step_that_depends_on_values_goes_on_as_before():
    """And the attempt leaves no trace: the steps are counted and the draws made once."""
    results = []
    for optimizer in (ReadsItsGradients(0.02), keras.optimizers.SGD(0.02)):
        network = tiny_network()
        logs = trained(network, optimizer, batches(STEPS))
        results.append(([float(each["loss"]) for each in logs], weights_of(network)))
        if isinstance(optimizer, ReadsItsGradients):
            assert list(network._recorded_steps._graphs.values()) == [None]
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    for one, other in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_schedule_that_is_decided_on_the_host_is_not_recorded():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([STEPS - 2], [1e-2, 0.0])
    network = tiny_network()
    trained(network, keras.optimizers.SGD(schedule, momentum=0.0), batches(STEPS - 1))
    assert list(network._recorded_steps._graphs.values()) == [None]
    before = weights_of(network)
    network.train_on_batch(*tiny_batch())
    for variable, value in zip(network.variables, before, strict=True):
        if variable.trainable:  # the rate is 0 by now
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


def test_what_leaves_the_gpu_is_not_recorded():
    with FakeTensorMode(), _ValuesUnread():
        there = torch.ones(3, device="cuda") * 2
        with pytest.raises(RuntimeError, match="value of a tensor is read"):
            there.cpu()


def test_a_replay_on_a_gpu_waits_for_nothing():
    """A CUDA graph cannot be captured of what reads values, or takes tensors from the host."""
    script = Path(__file__).parents[1] / "gpu_run.py"
    result = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert result.stdout == "step True\ndetection True\n", result.stdout + result.stderr
