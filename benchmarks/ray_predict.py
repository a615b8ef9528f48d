"""Ray Data's detections against the plain command's, also when a worker dies midway.

    pip install "frcnn[ray]"
    python benchmarks/ray_predict.py RUN FOLDER

Prints the seconds of each and whether its file is byte for byte the plain command's; the exit
status is 1 if one is not.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

from frcnn.apps import ray_prediction
from frcnn.cli import main as frcnn

DIES_BEFORE = 3  # the chunk of pictures, counted from 1, that a worker does not live to see


class MortalOnce(ray_prediction.Detecting):
    """Kills its own process at its third chunk, unless the file of its name says that one did."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.calls, self.grave = 0, Path(os.environ["FRCNN_GRAVE"])

    def __call__(self, chunk):
        self.calls += 1
        if self.calls == DIES_BEFORE and not self.grave.exists():
            self.grave.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(chunk)


def timed(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main(run: str, folder: str) -> int:
    with tempfile.TemporaryDirectory() as place:
        plain, spread, killed = (Path(place) / f"{name}.json" for name in ("plain", "ray", "dead"))
        command = ["predict", run, folder, "--score", "0"]
        seconds = [timed(lambda: frcnn([*command, "--json", str(plain)]))]
        seconds.append(timed(lambda: frcnn([*command, "--ray", "--json", str(spread)])))
        os.environ["FRCNN_GRAVE"] = str(Path(place) / "grave")
        ray_prediction.TOLD += ("FRCNN_GRAVE",)
        ray_prediction.Detecting = MortalOnce
        seconds.append(timed(lambda: frcnn([*command, "--ray", "--json", str(killed)])))
        assert Path(os.environ["FRCNN_GRAVE"]).exists(), "no worker died: too few pictures"
        expected = plain.read_bytes()
        same = [file.read_bytes() == expected for file in (plain, spread, killed)]
    for name, time_taken, equal in zip(
        ("plain", "Ray", "Ray, a worker killed"), seconds, same, strict=True
    ):
        print(f"{name:<24}{time_taken:8.1f} s  {'same' if equal else 'DIFFERENT'}")
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
