"""Trains the tiny network in a process of its own, or as one of several; run by the tests.

Usage: devices_run.py VOC OUT DEVICES, with what introduces the processes in the environment. The
process that ``FRCNN_STOPPED`` names gets SIGTERM after its third step.
"""

import os
import signal
import sys

import keras
import pytest
from rich.console import Console

from frcnn.cli import leave_tensorflow_out
from frcnn.training import train as module
from frcnn.training.callbacks import StopOnInterrupt
from frcnn.training.config import Config
from tiny import tiny_network

STEPS = 3  # before the signal


def use_the_tiny_network(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "_network", lambda config, *_: tiny_network(seed=config.seed))
    patch.setattr(module, "load_weights", lambda *_: None)


def settings(data, out, devices) -> Config:
    return Config(
        str(data),
        out=str(out),
        batch=4,
        parts=1,
        ema=0.9,
        size=64,
        epochs=2,
        freeze_epochs=1,
        lr=0.01,
        warmup=2,
        samples_every=1,
        devices=devices,
    )


def stop_soon(patch: pytest.MonkeyPatch) -> None:
    begin, seen = StopOnInterrupt.on_train_batch_end, []

    def on_train_batch_end(self, batch, logs=None):
        seen.append(batch)
        if len(seen) == STEPS:
            os.kill(os.getpid(), signal.SIGTERM)
        begin(self, batch, logs)

    patch.setattr(StopOnInterrupt, "on_train_batch_end", on_train_batch_end)


def two_cpus() -> None:
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    configuration = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [configuration] * 2)


def main(data: str, out: str, devices: str, process: str) -> None:
    if keras.config.backend() == "tensorflow":
        two_cpus()
    leave_tensorflow_out()  # as the command does
    with pytest.MonkeyPatch.context() as patch:
        use_the_tiny_network(patch)
        if os.environ.get("FRCNN_STOPPED") == process:
            stop_soon(patch)
        wanted = int(devices) if devices.isdigit() else "auto"
        module.train(settings(data, out, wanted), Console(width=200))


if __name__ == "__main__":
    rank = os.environ.get("RANK") or os.environ.get("KERAS_DISTRIBUTION_PROCESS_ID") or "0"
    main(*sys.argv[1:], rank)
