import os
import sys

import pytest

from frcnn.apps.launching import become_processes


@pytest.fixture
def became(monkeypatch):
    """What this program would have become; ``RANK`` is not set, as by torchrun."""
    calls = []
    monkeypatch.setattr(os, "execv", lambda *command: calls.append(command))
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return calls


def test_pytorch_gets_a_process_a_device(became):
    become_processes(2, ["train", "data", "--devices", "2"])
    ((program, command),) = became
    assert program == command[0] == sys.executable
    assert command[1:3] == ["-m", "torch.distributed.run"] and "--nproc-per-node=2" in command
    assert command[-5:] == ["frcnn.cli", "train", "data", "--devices", "2"]


def test_one_device_goes_on_as_it_is(became):
    become_processes(1, [])
    assert not became


def test_processes_that_were_started_start_no_others(became, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    become_processes(2, [])
    assert not became


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_the_other_backends_need_one_process(became, monkeypatch, backend):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    become_processes(2, [])
    assert not became
