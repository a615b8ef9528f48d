"""A training's figures and pictures, sent to a library that keeps and shows them.

``history.csv`` and the pictures in the run folder are written in any case; this sends the same once
more. Each library is imported only when it is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import keras

from frcnn.data.images import read_image
from frcnn.errors import UserError
from frcnn.training.callbacks import History
from frcnn.training.config import Config
from frcnn.training.run import Run

PROJECT = "frcnn"  # under which the libraries that group runs show them


class Tracker(Protocol):
    """A run in a library."""

    def figures(self, values: Mapping[str, float], epoch: int) -> None:
        """Send finite numbers by name."""

    def picture(self, path: Path, epoch: int) -> None:
        """Send a picture file; its name without the ending names it."""

    def close(self) -> None:
        """End the run."""


class Track(keras.callbacks.Callback):
    """After each epoch, sends the history's new row and the pictures that are new.

    Must come after the history in Keras's list.

    Args:
        tracker: where to.
        run: whose pictures.
        history: whose rows.
    """

    def __init__(self, tracker: Tracker, run: Run, history: History):
        super().__init__()
        self._tracker, self._run, self._history = tracker, run, history
        self._sent = self._pictures()

    def on_epoch_end(self, epoch, logs: Any = None):
        """Send what is new, unless the training was stopped within the epoch."""
        row = self._history.row(epoch)
        if row is None:
            return
        values = {name: float(value) for name, value in row.items() if name != "epoch"}
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._tracker.figures(finite, epoch + 1)
        pictures = self._pictures()
        for path in sorted(pictures):
            if pictures[path] != self._sent.get(path):
                self._tracker.picture(path, epoch + 1)
        self._sent = pictures

    def close(self):
        """End the run."""
        self._tracker.close()

    def _pictures(self) -> dict[Path, int]:
        """The pictures of the run and when they were written."""
        return {path: path.stat().st_mtime_ns for path in self._run.samples.glob("*.jpg")}


class TensorBoard:
    """Event files in the folder ``tensorboard`` of the run, without TensorFlow."""

    def __init__(self, config: Config, run: Run):
        writer = importlib.import_module("tensorboard.summary.writer.event_file_writer")
        self._events = importlib.import_module("tensorboard.compat.proto.event_pb2")
        self._summaries = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        self._writer = writer.EventFileWriter(str(run.folder / "tensorboard"))

    def figures(self, values: Mapping[str, float], epoch: int) -> None:
        """Write scalars."""
        value = self._summaries.Summary.Value
        self._write([value(tag=name, simple_value=each) for name, each in values.items()], epoch)

    def picture(self, path: Path, epoch: int) -> None:
        """Write the file's bytes."""
        height, width, _ = read_image(path).shape
        image = self._summaries.Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes()
        )
        self._write([self._summaries.Summary.Value(tag=path.stem, image=image)], epoch)

    def _write(self, values, epoch: int) -> None:
        summary = self._summaries.Summary(value=values)
        event = self._events.Event(wall_time=time.time(), step=epoch, summary=summary)
        self._writer.add_event(event)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class _LoggedRun:
    """A run of Weights & Biases, or of a library with the same functions."""

    _library: Any

    def figures(self, values: Mapping[str, float], epoch: int) -> None:
        """Log them at the epoch."""
        self._library.log(dict(values), step=epoch)

    def picture(self, path: Path, epoch: int) -> None:
        """Log it at the epoch."""
        self._library.log({path.stem: self._library.Image(str(path))}, step=epoch)

    def close(self) -> None:
        """Finish the run."""
        self._library.finish()


class WandB(_LoggedRun):
    """A run of Weights & Biases; ``WANDB_MODE=offline`` keeps it in the run folder."""

    def __init__(self, config: Config, run: Run):
        self._library = importlib.import_module("wandb")
        self._library.init(
            project=PROJECT,
            name=run.folder.name,
            dir=str(run.folder),
            id=_remembered(run) or _remember(run, uuid.uuid4().hex),
            resume="allow",
            config=asdict(config),
        )


class MLflow:
    """A run of MLflow, where ``MLFLOW_TRACKING_URI`` says."""

    def __init__(self, config: Config, run: Run):
        self._mlflow: Any = importlib.import_module("mlflow")
        known = _remembered(run)
        if known is None:
            self._mlflow.set_experiment(PROJECT)
            started = self._mlflow.start_run(run_name=run.folder.name)
            _remember(run, started.info.run_id)
            self._mlflow.log_params(asdict(config))
        else:
            self._mlflow.start_run(run_id=known)

    def figures(self, values: Mapping[str, float], epoch: int) -> None:
        """Log them at the epoch."""
        self._mlflow.log_metrics(dict(values), step=epoch)

    def picture(self, path: Path, epoch: int) -> None:
        """Log it among the run's artefacts, in the folder ``samples``."""
        self._mlflow.log_artifact(str(path), "samples")

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


class Trackio(_LoggedRun):
    """A run of Trackio, on this machine or where ``TRACKIO_SPACE_ID`` says."""

    def __init__(self, config: Config, run: Run):
        self._library = importlib.import_module("trackio")
        known = _remembered(run) or _remember(run, f"{run.folder.name}-{uuid.uuid4().hex[:8]}")
        self._library.init(project=PROJECT, name=known, resume="allow", config=asdict(config))


TRACKERS = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow, "trackio": Trackio}


def check_tracker(name: str | None) -> None:
    """Find out before a training whether its tracker is installed.

    Raises:
        UserError: it is not.
    """
    if name is not None and importlib.util.find_spec(name) is None:
        raise UserError(
            f"--track {name} needs the library {name}, which is not installed. Install it with "
            f'`pip install "frcnn[{name}]"`.'
        )


def open_tracking(config: Config, run: Run, history: History) -> list[Track]:
    """The callback that the configuration asks for, if it does."""
    if config.track is None:
        return []
    return [Track(TRACKERS[config.track](config, run), run, history)]


def _remembered(run: Run) -> str | None:
    """What the library calls a run that goes on."""
    return run.tracked.read_text("utf-8") if run.tracked.is_file() else None


def _remember(run: Run, name: str) -> str:
    run.tracked.write_text(name, "utf-8")
    return name
