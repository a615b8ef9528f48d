"""Saves a training's state as it goes, and restores it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from frcnn.data.batching import DetectionBatches
from frcnn.data.dataset import Dataset
from frcnn.errors import UserError
from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.training.callbacks import History, StopOnInterrupt
from frcnn.training.run import Run
from frcnn.training.state import Notes, read_state, write_state
from frcnn.training.validation import Validate

LABELS = "files or labels"  # what a digest stands for
METRICS = "metrics"  # the part of the state that Keras clears at the start of an epoch


class Checkpoint(keras.callbacks.Callback):
    """Keeps ``run.state``: after each epoch, every few minutes and when the training is stopped.

    Weights, optimizer, random draws, sums of the losses, the place in the data, the history and
    the best figure: a training that goes on from it makes the steps that it would have made. A
    state that cannot be written is reported, and the training goes on.

    Must come after the callbacks it is given in Keras's list.

    Args:
        run: where it goes.
        network: what trains, compiled, its optimizer built.
        batches: the training data.
        validation: the images that the best epoch is chosen by, or None.
        history: its rows are kept.
        validate: its best figure is kept.
        stop: whether the training is being stopped.
        minutes: between states within an epoch.
        say: called with a sentence.
        writes: whether this process is the one that writes; all of them restore.
    """

    def __init__(
        self,
        run: Run,
        network: FasterRCNN,
        batches: DetectionBatches,
        validation: Dataset | None,
        history: History,
        validate: Validate,
        stop: StopOnInterrupt,
        minutes: float,
        say: Callable[[str], None],
        writes: bool = True,
    ):
        super().__init__()
        self._run, self._network, self._batches = run, network, batches
        self._history, self._validate, self._stop = history, validate, stop
        self._minutes, self._say, self._writes = minutes, say, writes
        self._metrics: dict[str, np.ndarray] = {}
        self._data = _described(batches, validation)
        self._epoch = self._skipped = 0
        self._saved = time.monotonic()

    def restore(self) -> tuple[int, int]:
        """Put back what the state holds.

        Returns:
            Epochs finished, and steps of the next one.

        Raises:
            UserError: the state is damaged, or of another network or data set.
        """
        arrays, notes = read_state(self._run.state)
        for what, now in self._data.items():
            before = notes.data.get(what, now)
            if before != now:
                change = "" if what == LABELS else f" ({before}; now {now})"
                raise UserError(
                    f"{self._run.folder} was trained on other data: its {what} have changed since"
                    f"{change}. Put the data back as it was, or start a new run."
                )
        if notes.step >= len(self._batches):
            raise UserError(
                f"{self._run.state} is damaged: it was saved after step {notes.step} of an epoch "
                f"of {len(self._batches)}. Start a new run."
            )
        for name, variable in self._variables():
            if name.startswith(METRICS) and not notes.step:
                continue
            value = arrays.get(name)
            if value is None or value.shape != tuple(variable.shape):
                raise UserError(f"{self._run.state} is of another network, by its {name}.")
            if name.startswith(METRICS):
                self._metrics[name] = value
            else:
                variable.assign(value)
        self._history.rows[:] = notes.rows
        self._validate.best = notes.best
        self._skipped = notes.step
        self._network.parts = max(self._network.parts, notes.parts)
        return notes.epoch, notes.step

    def save(self, epoch: int, step: int) -> None:
        """Write the state after ``step`` steps of the epoch after ``epoch`` finished ones."""
        if not self._writes:
            return
        if keras.config.backend() == "jax":
            self._network.jax_state_sync()  # it trains on copies
        arrays = (
            (name, keras.ops.convert_to_numpy(variable)) for name, variable in self._variables()
        )
        parts, rows = self._network.parts, self._history.rows
        notes = Notes(epoch, step, parts, self._validate.best, rows, self._data)
        try:
            write_state(self._run.state, arrays, notes)
        except OSError as error:
            self._say(
                f"The state of the training could not be saved: {error.strerror or error} "
                f"({self._run.state}). The training goes on; --resume would go on from the last "
                "state that was saved."
            )
        self._saved = time.monotonic()

    def on_epoch_begin(self, epoch, logs: Any = None):
        """Put the sums of the losses back, which Keras has just cleared."""
        self._epoch = epoch
        for name, variable in self._variables():
            if name in self._metrics:
                variable.assign(self._metrics[name])
        self._metrics = {}

    def on_train_batch_end(self, batch, logs: Any = None):
        """Save, if it is time to."""
        step = self._skipped + batch + 1
        due = time.monotonic() - self._saved >= 60 * self._minutes
        if (due or self._stop.interrupted) and step < len(self._batches):
            self.save(self._epoch, step)

    def on_epoch_end(self, epoch, logs: Any = None):
        """Save, unless the training was stopped within the epoch."""
        if not self._stop.within_epoch:
            self._skipped = 0
            self.save(epoch + 1, 0)

    def _variables(self) -> Iterator[tuple[str, Any]]:
        network = self._network
        parts: dict[str, Sequence[Any]] = {
            "network": network.variables,
            "optimizer": network.optimizer.variables,
            METRICS: network.metrics_variables,
        }
        for part, variables in parts.items():
            for place, variable in enumerate(variables):
                yield f"{part} {place}", variable


def _described(batches: DetectionBatches, validation: Dataset | None) -> dict[str, Any]:
    """What tells these data from others, as JSON keeps it."""
    return {
        "images": len(batches.dataset),
        "steps": len(batches),
        "canvases": [list(canvas) for canvas in batches.canvases],
        "classes": list(batches.dataset.classes),
        LABELS: [part and part.fingerprint() for part in (batches.dataset, validation)],
    }


class Rest(keras.utils.PyDataset):
    """The batches of an epoch after the first few.

    Args:
        batches: all of them.
        skipped: how many.
    """

    def __init__(self, batches: DetectionBatches, skipped: int):
        super().__init__(workers=1)
        self._batches, self._skipped = batches, skipped

    def __len__(self) -> int:
        return len(self._batches) - self._skipped

    def __getitem__(self, index: int):
        return self._batches[self._skipped + index]
