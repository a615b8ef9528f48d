"""The training itself: ``fit`` with its callbacks, from any step to the end."""

from __future__ import annotations

import gc

from rich.console import Console

from frcnn.data.batching import DetectionBatches, FollowEpochs
from frcnn.data.dataset import Dataset
from frcnn.inference.predict import Detector
from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.training.callbacks import History, StopOnInterrupt, WatchLosses
from frcnn.training.checkpoint import Checkpoint, Rest
from frcnn.training.config import Config
from frcnn.training.display import Display
from frcnn.training.memory import is_out_of_memory
from frcnn.training.run import Run
from frcnn.training.validation import Validate


class Fitting:
    """Trains a network, saving as it goes.

    Args:
        config: of the run.
        run: where it saves.
        network: compiled, its optimizer built.
        detector: wraps the network.
        batches: the training data.
        validation: the validation images, or None.
        console: where it reports.
    """

    def __init__(
        self,
        config: Config,
        run: Run,
        network: FasterRCNN,
        detector: Detector,
        batches: DetectionBatches,
        validation: Dataset | None,
        console: Console,
    ):
        self._config, self._run, self._network = config, run, network
        self._batches, self._console = batches, console
        self._stop = StopOnInterrupt()
        self._history = History(run, batches, validated=validation is not None)
        self._validate = Validate(
            run,
            detector,
            validation,
            config.epochs,
            config.samples_every,
            lambda: self._stop.within_epoch,
        )
        self._checkpoint = Checkpoint(
            run,
            network,
            batches,
            self._history,
            self._validate,
            self._stop,
            config.save_every,
            self.say,
        )

        self._watch = WatchLosses(batches, config.on_nan == "skip", self._validate.keep_last)

    def say(self, text: str) -> None:
        """Report a sentence."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def save(self) -> None:
        """Save the state before the first step."""
        self._checkpoint.save(0, 0)

    def restore(self) -> tuple[int, int]:
        """Put the saved state back; the epochs finished, and the steps of the next one."""
        return self._checkpoint.restore()

    def fit(self, epoch: int, step: int) -> None:
        """Train to the end after so many epochs, and so many steps of the next one.

        Raises:
            TrainingError: a loss that is not finite.
            KeyboardInterrupt: after Ctrl-C, once everything is saved.
            SystemExit: after SIGTERM, likewise; of status 0.
        """
        self._stop.take()
        try:
            while not self._fitted(epoch, step):
                epoch, step = self.restore()
        finally:
            self._stop.restore()
        for fault in self._batches.faults:
            self.say(f"Left out while training: {fault}")
        if self._watch.skipped:
            self.say(f"Steps that were left out, as a loss was not finite: {self._watch.skipped}.")
        if self._stop.interrupted:
            self.say(f"Stopped. To go on: frcnn train --resume {self._run.folder}")
            raise SystemExit(0) if self._stop.terminated else KeyboardInterrupt

    def _fitted(self, epoch: int, step: int) -> bool:
        """Train to the end; False if memory ran out and smaller parts may do."""
        if epoch or step:
            self.say(f"Going on in epoch {epoch + 1} after step {step} of {len(self._batches)}.")
        try:
            self._fit(epoch, step)
            return True
        except Exception as error:
            parts = self._more_parts()
            if parts is None or not is_out_of_memory(error):
                raise
            self.say(
                f"Memory ran out: {error}. From now on each step takes its {self._config.batch} "
                f"images in {parts} parts, whose gradients are averaged. Nothing is lost: the "
                "training goes on from the last state that was saved."
            )
        gc.collect()  # what the error's frames held
        self._network.parts = parts
        return False

    def _more_parts(self) -> int | None:
        """The next number of equal parts that halves them or more; None for single images."""
        batch, parts = self._config.batch, self._network.parts
        return next((n for n in range(2 * parts, batch + 1) if batch % n == 0), None)

    def _fit(self, epoch: int, step: int) -> None:
        config, steps = self._config, len(self._batches)
        done = epoch * steps + step
        self._watch.begin_after(step)
        display = Display(self._console, self._history, config.batch, config.epochs, steps, done)
        callbacks = [
            FollowEpochs(self._batches),
            self._stop,
            self._validate,
            self._history,
            self._checkpoint,
            self._watch,
            display,
        ]

        def fit(data, first: int, end: int) -> None:
            self._network.fit(
                data,
                initial_epoch=first,
                epochs=end,
                shuffle=False,  # the batches come shuffled, in an order that repeats
                callbacks=callbacks,
                verbose=0,  # type: ignore[arg-type]
            )

        display.open()
        try:
            if step:
                fit(Rest(self._batches, step), epoch, epoch + 1)
                epoch += 1
            if epoch < config.epochs and not self._stop.interrupted:
                fit(self._batches, epoch, config.epochs)
        finally:
            display.close()
