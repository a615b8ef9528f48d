"""Trainings on real pictures killed at random moments, and resumed until they are done.

``FRCNN_KILLED_RUNS`` says how many runs (1 by default): each has its own random moments.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from frcnn.training.run import Run
from frcnn.training.state import read_state
from tiny import history_of

RUNS = int(os.environ.get("FRCNN_KILLED_RUNS", "1"))
BCCD = Path(os.environ.get("FRCNN_DATA", "../shared/data")) / "bccd"
SETTINGS = [
    "--size",
    "64",
    "--batch",
    "2",
    "--epochs",
    "2",
    "--epoch-images",
    "12",
    "--train-split",
    "val",
    "--val-split",
    "none",
    "--save-every",
    "0",
]

needs_pictures = pytest.mark.skipif(
    not BCCD.is_dir(), reason=f"needs BCCD's pictures in {BCCD}; FRCNN_DATA says where data are"
)


def start(*arguments):
    command = [sys.executable, "-m", "frcnn", "train", *map(str, arguments)]
    backend = {"KERAS_BACKEND": keras.config.backend()}
    return subprocess.Popen(command, env={**os.environ, **backend}, stdout=subprocess.DEVNULL)


def train_and_kill(run: Run, whole: float, moments: random.Random) -> int:
    """Train to the end, killed up to three times and resumed; how many times it was killed."""
    kills, arguments = 0, [BCCD.resolve(), *SETTINGS, "--out", run.folder]
    while True:
        process = start(*(["--resume", run.folder] if run.config_file.exists() else arguments))
        try:
            # From when the program is loaded to the end: the steps lie in the last part.
            status = process.wait(moments.uniform(0.4, 1) * whole if kills < 3 else 20 * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            assert status == 0
            return kills


@needs_pictures
@pytest.mark.timeout(300 * (RUNS + 1))
def test_killed_runs_become_what_they_would_have(tmp_path):
    began = time.monotonic()
    assert start(BCCD.resolve(), *SETTINGS, "--out", tmp_path / "whole").wait() == 0
    whole = time.monotonic() - began
    expected, _ = read_state(Run(tmp_path / "whole").state)
    moments, killed = random.Random(0), 0
    while killed < RUNS:
        run = Run(tmp_path / "run")
        began = time.monotonic()
        if not (kills := train_and_kill(run, whole, moments)):
            whole = min(whole, time.monotonic() - began)  # JAX has compiled it before
        arrays, notes = read_state(run.state)
        assert (notes.epoch, notes.step) == (2, 0)
        for name, value in expected.items():
            np.testing.assert_array_equal(arrays[name], value, err_msg=f"{killed}: {name}")
        assert history_of(run) == history_of(Run(tmp_path / "whole"))
        shutil.rmtree(run.folder)
        killed += kills > 0
        print(f"killed {kills} times, then as if never: {killed} of {RUNS} runs", flush=True)
