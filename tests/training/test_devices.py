"""Several devices and processes against one, at the same batch."""

import io
import os
import signal
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
from rich.console import Console

import devices_run
from devices_run import settings, use_the_tiny_network
from frcnn.errors import UserError
from frcnn.training import train as module
from frcnn.training.callbacks import SAME_SIGNAL, StopOnInterrupt
from frcnn.training.devices import Devices
from frcnn.training.run import Run
from frcnn.training.state import read_state
from tiny import history_of, write_voc

TOLERANCE = 1e-5
# Keras's own mean of the whole loss: it counts the images of a share, and nothing reads it.
UNREAD = {"metrics 0", "metrics 1"}
BACKEND = keras.config.backend()

WAYS = {"torch": ["processes"], "jax": ["processes", "devices"], "tensorflow": ["devices"]}[BACKEND]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    splits = {"train": range(8), "val": range(8, 12)}
    return write_voc(tmp_path_factory.mktemp("data") / "voc", 12, splits)


@pytest.fixture(scope="module")
def one_device(data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        use_the_tiny_network(patch)
        wanted = settings(data, tmp_path_factory.mktemp("runs") / "one", 1)
        return module.train(wanted, Console(file=io.StringIO()))


def train_together(way: str, data, out, **environment) -> Run:
    """Train as two, in processes of their own."""
    environment = {"KERAS_BACKEND": BACKEND, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, devices_run.__file__, str(data), str(out)]
    if way == "devices":
        environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
        started = [start([*command, "2"], environment)]
    elif BACKEND == "torch":
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        started = [start([sys.executable, *torchrun, *command[1:], "2"], environment)]
    else:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            environment["KERAS_DISTRIBUTION_JOB_ADDRESSES"] = f"localhost:{free.getsockname()[1]}"
        environment["KERAS_DISTRIBUTION_NUM_PROCESSES"] = "2"
        started = [
            start([*command, "auto"], {**environment, "KERAS_DISTRIBUTION_PROCESS_ID": process})
            for process in "01"
        ]
    for process in started:
        said = process.communicate()[0]
        assert process.returncode == 0, said[-4000:]
        assert said.count("Run folder") <= 1, "more than one process speaks"
    return Run(out)


def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def assert_same(run: Run, other: Run) -> None:
    """The same history, weights, optimizer, draws and figures, save for rounding."""
    rows, others = history_of(run), history_of(other)
    assert len(rows) == len(others) == 2
    for row, expected in zip(rows, others, strict=True):
        values, figures = ([float(each) for each in one.values()] for one in (row, expected))
        np.testing.assert_allclose(values, figures, atol=TOLERANCE)
    arrays, notes = read_state(run.state)
    expected, expected_notes = read_state(other.state)
    assert (notes.epoch, notes.step) == (expected_notes.epoch, expected_notes.step) == (2, 0)
    assert arrays.keys() == expected.keys()
    for name in expected.keys() - UNREAD:
        np.testing.assert_allclose(
            arrays[name], expected[name], rtol=TOLERANCE, atol=TOLERANCE, err_msg=name
        )
    models = [Run(each.folder).best.exists() for each in (run, other)]
    assert models == [True, True]


@pytest.mark.backend
@pytest.mark.parametrize("way", WAYS)
def test_two_train_as_one_does(way, data, one_device, tmp_path):
    assert_same(train_together(way, data, tmp_path / "two"), one_device)


@pytest.mark.backend
def test_a_signal_to_one_stops_all_and_one_device_goes_on(data, one_device, tmp_path, monkeypatch):
    """The second of the processes, where there are several, gets it in the second epoch."""
    stopped = str(int(WAYS[0] == "processes"))
    run = train_together(WAYS[0], data, tmp_path / "two", FRCNN_STOPPED=stopped)
    notes = read_state(run.state)[1]
    assert (notes.epoch, notes.step) == (1, devices_run.STEPS - 2)
    toml = run.config_file.read_text("utf-8")
    run.config_file.write_text(toml.replace("devices = 2", "devices = 1"), "utf-8")
    use_the_tiny_network(monkeypatch)
    module.resume(run.folder, Console(file=io.StringIO()))
    assert_same(run, one_device)


class Second(Devices):
    """The second of two processes, of which the first says something."""

    process, processes, count = 1, 2, 2

    def __init__(self, said: str = ""):
        self.said = said

    def share(self, text):
        return self.said


def test_the_rows_of_the_processes():
    devices = Second()
    assert devices.rows(8) == [4, 5, 6, 7] and devices.share_of(8) == 4
    assert Devices().rows(3) == [0, 1, 2]
    with pytest.raises(UserError, match="--batch 3 has no equal shares for 2 devices.*multiple"):
        devices.share_of(3)


def test_processes_of_pytorch_take_their_share_of_each_part():
    from frcnn.training.torch_parallel import TorchProcesses

    devices = TorchProcesses.__new__(TorchProcesses)  # without any other process
    devices.process, devices.processes = 1, 2
    assert devices.rows(8) == [4, 5, 6, 7]
    assert devices.rows(8, parts=2) == [2, 3, 6, 7]


def test_the_first_process_acts_and_the_others_hear_what_came_of_it():
    def never():
        raise AssertionError

    assert Second('{"value": "runs/a"}').by_the_first(never) == "runs/a"
    with pytest.raises(UserError, match="a full disk"):
        Second('{"problem": "a full disk"}').by_the_first(never)
    assert Devices().by_the_first(lambda: 3) == 3


def test_more_devices_than_there_are_are_refused(data, tmp_path):
    sentence = "torchrun --nproc-per-node 7" if BACKEND == "torch" else "--devices 7"
    with pytest.raises(UserError, match=sentence):
        module.train(settings(data, tmp_path / "run", 7))
    assert not (tmp_path / "run").exists()


def test_a_signal_that_a_launcher_passes_on_is_the_same():
    stop = StopOnInterrupt()
    stop._interrupt(signal.SIGINT, None)
    stop._interrupt(signal.SIGTERM, None)  # by the launcher, at once
    stop.agree()
    assert stop.interrupted and not stop.terminated
    stop._moment -= 2 * SAME_SIGNAL
    with pytest.raises(KeyboardInterrupt):
        stop._interrupt(signal.SIGINT, None)


SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "a,b",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({**SLURM, "SLURM_NTASKS": "2"}, True),
        ({**SLURM, "SLURM_NTASKS": "1"}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}, False),  # a batch script outside of a step
        ({"OMPI_MCA_orte_hnp_uri": "1.0;tcp://a:1", "OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"OMPI_MCA_orte_hnp_uri": "1.0;tcp://a:1", "OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"KUBERNETES_SERVICE_HOST": "a", "JOB_COMPLETION_INDEX": "0"}, True),
        ({"KUBERNETES_SERVICE_HOST": "a"}, False),
    ],
)
def test_where_jax_finds_other_processes(environment, expected):
    from frcnn.training.jax_parallel import in_a_cluster

    assert in_a_cluster(environment) == expected
