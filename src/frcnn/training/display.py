"""The live display of a training."""

from __future__ import annotations

import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from frcnn.models.faster_rcnn import LOSSES
from frcnn.training.callbacks import History

EVERY = 60.0  # seconds between lines where there is no terminal
WIDE = 150  # columns in which the live line has room for each of the losses


class Display(keras.callbacks.Callback):
    """A live line with the loss, images a second and the time left; a lasting line an epoch.

    Each of the four losses is in the lasting line, and where there is room in the live one.
    Where the output is no terminal, a line a minute takes the place of the live one.

    Args:
        console: where it is shown.
        history: has the finished epoch's row.
        batch_size: images a step.
        epochs: of the whole training.
        steps: of an epoch.
        done: steps that an earlier process did, the last of them in the first epoch shown.
    """

    def __init__(
        self,
        console: Console,
        history: History,
        batch_size: int,
        epochs: int,
        steps: int,
        done: int = 0,
    ):
        super().__init__()
        self._console, self._history, self._batch_size = console, history, batch_size
        self._epochs, self._steps, self._skipped = epochs, steps, done % steps
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20 if console.width >= WIDE else 10),
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task(
            "", total=epochs * steps, completed=done, losses="", start=True
        )

    def open(self):
        """Show the line."""
        self._progress.start()

    def on_epoch_begin(self, epoch, logs: Any = None):
        """Name the epoch."""
        self._began = self._said = time.perf_counter()
        self._epoch = epoch
        self._progress.update(self._task, description=f"epoch {epoch + 1}/{self._epochs}")

    def on_train_batch_end(self, batch, logs: Any = None):
        """Move on."""
        speed = (batch + 1) * self._batch_size / (time.perf_counter() - self._began)
        each = {name: float(logs[name]) for name in LOSSES}
        losses = "  ".join(f"{name} {loss:.3f}" for name, loss in each.items())
        live = losses if self._console.width >= WIDE else f"loss {sum(each.values()):.3f}"
        self._progress.update(self._task, advance=1, losses=f"{live}  {speed:.1f} images/s")
        if not self._console.is_terminal and time.perf_counter() - self._said > EVERY:
            step = self._skipped + batch + 1
            done = f"epoch {self._epoch + 1}, step {step}/{self._steps}"
            self._say(f"{done}  {losses}  {speed:.1f} images/s")

    def on_epoch_end(self, epoch, logs: Any = None):
        """Leave a line, unless the training was stopped within the epoch."""
        self._skipped = 0
        row = self._history.row(epoch)
        if row is None:
            return
        figures = "  ".join(
            f"{name[4:]} {value:.3f}" for name, value in row.items() if name.startswith("val_")
        )
        losses = "  ".join(f"{name} {row[name]:.3f}" for name in LOSSES)
        self._say(
            f"epoch {row['epoch']}/{self._epochs}  loss {row['loss']:.3f} ({losses})  "
            f"{row['images_per_second']:.1f} images/s  {row['seconds']:.0f} s"
            + (f"  [bold]{figures}[/bold]" if figures else "")
        )

    def _say(self, text: str):
        self._said = time.perf_counter()
        self._console.print(text, highlight=False, soft_wrap=True)

    def close(self):
        """Remove the live line."""
        self._progress.stop()
