import pytest

from frcnn.apps.launching import train_in_processes
from frcnn.training import torch_launch


@pytest.fixture
def run(monkeypatch):
    """What would have been run in processes; ``RANK`` is not set, as by torchrun."""
    calls = []
    monkeypatch.setattr(torch_launch.torchrun, "main", calls.append)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return calls


def test_pytorch_gets_a_process_a_device(run):
    assert train_in_processes(2, ["train", "data", "--devices", "2"]) == 0
    (command,) = run
    assert "--nproc-per-node=2" in command
    assert command[-6:] == ["-m", "frcnn", "train", "data", "--devices", "2"]


@pytest.mark.parametrize(("gpus", "processes"), [(0, None), (1, None), (3, 0)])
def test_auto_takes_all_gpus(run, monkeypatch, gpus, processes):
    monkeypatch.setattr(torch_launch, "count_accelerators", lambda: gpus)
    assert train_in_processes("auto", []) == processes
    assert len(run) == (gpus > 1)


def test_one_device_goes_on_as_it_is(run):
    assert train_in_processes(1, []) is None
    assert not run


def test_processes_that_were_started_start_no_others(run, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    assert train_in_processes(2, []) is None


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_the_other_backends_need_one_process(run, monkeypatch, backend):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    assert train_in_processes(2, []) is None
