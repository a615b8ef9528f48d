"""The three backends train alike and read each other's models."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tiny import write_voc

BACKENDS = ("torch", "jax", "tensorflow")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backends")
    data = write_voc(folder / "voc", images=6)
    script = Path(__file__).with_name("backend_run.py")

    def start(name):
        with (folder / f"{name}.log").open("w") as log:
            command = [sys.executable, str(script), str(folder), str(data), name]
            environment = {**os.environ, "KERAS_BACKEND": name}
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    for together in (BACKENDS[:1], BACKENDS[1:]):  # the first leaves a model for the others
        started = {name: start(name) for name in together}
        for name, process in started.items():
            assert process.wait() == 0, (folder / f"{name}.log").read_text()[-3000:]
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in BACKENDS}


@pytest.mark.parametrize("name", BACKENDS[1:])
def test_three_training_steps_give_the_same_four_losses(runs, name):
    np.testing.assert_allclose(runs[name]["losses"], runs["torch"]["losses"], rtol=1e-3, atol=1e-6)
    assert np.ptp(runs["torch"]["losses"], axis=0).min() > 0  # the steps differ, so it trained


@pytest.mark.parametrize("name", BACKENDS[1:])
def test_a_saved_detector_finds_the_same_on_another_backend(runs, name):
    assert sum(len(scores) for _, scores, _ in runs["torch"]["found"]) > 50
    for mine, theirs in zip(runs[name]["found"], runs["torch"]["found"], strict=True):
        boxes, scores, labels = map(np.array, mine)
        assert labels.tolist() == theirs[2]
        np.testing.assert_allclose(boxes, theirs[0], atol=0.05)
        np.testing.assert_allclose(scores, theirs[1], atol=1e-4)
