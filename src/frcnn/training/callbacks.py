"""Callbacks that end a training and that write its history."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from frcnn.data.batching import DetectionBatches
from frcnn.errors import UserError
from frcnn.models.faster_rcnn import LOSSES, NOT_FINITE
from frcnn.training.run import Run
from frcnn.training.validation import FIGURES

SAME_SIGNAL = 1.0  # seconds within which another signal is the same one, passed on


class TrainingError(UserError):
    """A training that cannot go on; the message says where, why and what to try."""


class StopOnInterrupt(keras.callbacks.Callback):
    """Ctrl-C and SIGTERM end the training after the step they come in.

    A second signal ends it at once; but launchers of processes pass on what a terminal has sent to
    all of them already, so that soon after the first it counts as the same.

    Args:
        highest: gives the highest of the numbers that the processes call it with: all of them end
            after the same step, whichever of them the signal came to.

    Attributes:
        interrupted: whether one came.
        terminated: whether it was SIGTERM, by which machines are taken back.
        within_epoch: whether the training ended before the last step of an epoch.
    """

    def __init__(self, highest: Callable[[int], int] = lambda number: number):
        super().__init__()
        self.interrupted = self.terminated = self.within_epoch = False
        self._highest = highest
        self._came, self._moment = 0, 0.0  # 1 for SIGINT, 2 for SIGTERM, and when
        self._previous: dict[int, Any] = {}

    def take(self):
        """Take over the signals, where this thread may."""
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._interrupt)
        except ValueError:  # not the main thread: whoever runs it handles them
            self._previous = {}

    def on_train_batch_end(self, batch, logs: Any = None):
        """Stop if asked to."""
        self.agree()
        if self.interrupted:
            self.model.stop_training = True
            self.within_epoch = batch + 1 < self.params["steps"]

    def agree(self):
        """Find out whether a signal came to any process; all call this together."""
        came = self._highest(self._came)
        self.interrupted, self.terminated = came > 0, came == 2

    def restore(self):
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _interrupt(self, number, frame):
        if not self._came:
            self._came, self._moment = 1 + (number == signal.SIGTERM), time.monotonic()
        elif time.monotonic() - self._moment > SAME_SIGNAL:
            raise KeyboardInterrupt


class WatchLosses(keras.callbacks.Callback):
    """Ends the training at the first loss that is NaN or infinite, or counts such steps.

    In such a step the optimizer takes the gradients for zeros, so that its momentum alone acts.

    Must come after ``Checkpoint`` in Keras's list, which restores the count of an epoch.

    Args:
        batches: the training data, asked for the images' names.
        skip: count and go on.
        keep: saves the network as it is and says where.

    Attributes:
        skipped: steps so far.
    """

    def __init__(self, batches: DetectionBatches, skip: bool, keep: Callable[[], Path]):
        super().__init__()
        self._batches, self._skip, self._keep = batches, skip, keep
        self.skipped = 0
        self._first = 0  # steps of the epoch that an earlier process did

    def begin_after(self, step: int):
        """Steps of the first epoch were done before."""
        self._first = step

    def on_epoch_begin(self, epoch, logs: Any = None):
        """Remember the epoch, for the message."""
        self._epoch = epoch
        counts = (metric.result() for metric in self.model.not_finite)
        self._seen = [float(keras.ops.convert_to_numpy(count)) for count in counts]

    def on_train_batch_end(self, batch, logs: Any = None):
        """Look at the losses."""
        before, self._seen = self._seen, [float(logs[name]) for name in NOT_FINITE]
        if self._seen == before:
            return
        if self._skip:
            self.skipped += 1
            return
        step = self._first + batch
        changes = zip(LOSSES, before, self._seen, strict=True)
        bad = [name for name, was, now in changes if now != was]
        pictures = self._batches.samples_of(step, self._epoch)
        names = ", ".join(self._batches.dataset[index].image.name for index in pictures)
        raise TrainingError(
            f"The loss is not finite in epoch {self._epoch + 1}, step {step + 1}: "
            f"{', '.join(bad)}. Its images: {names}. Its gradients were not used. The weights are "
            f"in {self._keep()}. A lower --lr or a longer --warmup usually mends this; --on-nan "
            "skip goes on without such steps."
        )

    def on_epoch_end(self, epoch, logs: Any = None):
        """The next one begins with its first step."""
        self._first = 0


class StopEarly(keras.callbacks.Callback):
    """Ends the training after some epochs without a better validation AP.

    Must come after the history in Keras's list.

    Args:
        history: its rows say how long ago the best was; so do those of a training that goes on.
        patience: how many epochs; 0 never ends it.
        agree: a number of each process -> the highest; only the first one's history goes on.
    """

    def __init__(self, history: History, patience: int, agree: Callable[[int], int]):
        super().__init__()
        self._history, self._patience, self._agree = history, patience, agree

    @property
    def due(self) -> bool:
        """Whether it is time to stop. An epoch as good as the best is a better one."""
        return bool(self._patience and self._agree(self._overdue()))

    def _overdue(self) -> bool:
        scores = [row["val_AP"] for row in self._history.rows]
        ranked = [(-1.0 if math.isnan(s) else s, epoch) for epoch, s in enumerate(scores, start=1)]
        return bool(ranked) and len(scores) - max(ranked)[1] >= self._patience

    def on_epoch_end(self, epoch, logs: Any = None):
        """Stop if it is time to."""
        if self.due:
            self.model.stop_training = True


class History(keras.callbacks.Callback):
    """Keeps ``history.csv``: a row an epoch.

    Args:
        run: where it goes.
        batches: the training data, asked how long the steps waited for it.
        validated: whether there are validation figures.
        stopped: whether the training was stopped within an epoch, which then has no row.
    """

    def __init__(
        self,
        run: Run,
        batches: DetectionBatches,
        validated: bool,
        stopped: Callable[[], bool] = lambda: False,
    ):
        super().__init__()
        self._run, self._batches, self._stopped = run, batches, stopped
        self._figures = [f"val_{name}" for name in FIGURES] if validated else []
        self.rows: list[dict[str, float]] = []

    def row(self, epoch: int) -> dict[str, float] | None:
        """The row of an epoch, counted from 0; None where it has not come to its end."""
        return self.rows[epoch] if epoch < len(self.rows) else None

    def on_epoch_begin(self, epoch, logs: Any = None):
        """Start the clock."""
        self._began = time.perf_counter()
        self._trained = self._began
        self._waited = self._batches.waited
        self._images = 0

    def on_train_batch_end(self, batch, logs: Any = None):
        """Count the images: the clock stops at the last step, before validation."""
        self._images += self._batches.batch_size
        self._trained = time.perf_counter()

    def on_epoch_end(self, epoch, logs: Any = None):
        """Add a row."""
        if self._stopped():
            return
        seconds = self._trained - self._began
        row = {"epoch": epoch + 1, "loss": sum(logs[name] for name in LOSSES)}
        row |= {name: logs[name] for name in LOSSES}
        row["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row["images_per_second"] = self._images / seconds
        row["waited_for_data"] = (self._batches.waited - self._waited) / seconds
        row["seconds"] = time.perf_counter() - self._began
        row |= {name: logs.get(name, float("nan")) for name in self._figures}
        row = {name: round(float(v), 6) if name != "epoch" else v for name, v in row.items()}
        self.rows.append(row)
        self._run.write_history(self.rows)
