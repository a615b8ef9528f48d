"""Trains the tiny network in a process of its own, or as one of several; run by the tests.

Usage: devices_run.py VOC OUT DEVICES [RESUME], with the processes in the environment.
"""

import os
import signal
import sys

import keras
from rich.console import Console

from frcnn.training import train as module
from frcnn.training.callbacks import StopOnNonFinite
from frcnn.training.config import Config
from tiny import tiny_network


def main(data: str, out: str, devices: str, resumed: str = "") -> None:
    module._network = lambda config, splits: tiny_network(seed=config.seed)
    module.load_weights = lambda *_: None
    stop_at = os.environ.get("FRCNN_STOP_AT")
    if stop_at:
        _signal_after(int(stop_at))
    wanted = int(devices) if devices.isdigit() else "auto"
    config = Config(
        data,
        out=out,
        batch=4,
        size=64,
        epochs=2,
        lr=0.01,
        warmup=2,
        scale_jitter=0.0,
        samples_every=1,
        devices=wanted,
    )
    console = Console(width=200)
    run = module.resume(out, console) if resumed else module.train(config, console)
    print("finished", run.folder)


def _signal_after(steps: int) -> None:
    """Make this process get SIGTERM after so many steps."""
    look, seen = StopOnNonFinite.on_train_batch_end, []

    def on_train_batch_end(self, batch, logs=None):
        look(self, batch, logs)
        seen.append(batch)
        if len(seen) == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    StopOnNonFinite.on_train_batch_end = on_train_batch_end


if __name__ == "__main__":
    keras.utils.disable_interactive_logging()
    main(*sys.argv[1:])
