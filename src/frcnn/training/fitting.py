"""The training itself: ``fit`` with its callbacks, from any step to the end."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from frcnn.console import say
from frcnn.data.batching import DetectionBatches, FollowEpochs
from frcnn.data.dataset import Dataset
from frcnn.errors import disk_reason
from frcnn.inference.predict import Detector
from frcnn.inference.seen import Seen
from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.training.callbacks import (
    History,
    StopEarly,
    StopOnInterrupt,
    TrainingError,
    WatchLosses,
)
from frcnn.training.checkpoint import Checkpoint, Rest
from frcnn.training.config import Config
from frcnn.training.devices import ByTheFirst, Devices
from frcnn.training.display import Display
from frcnn.training.freezing import Freezing
from frcnn.training.memory import is_out_of_memory, out_of_memory_reason
from frcnn.training.run import Run
from frcnn.training.tracking import Track, open_tracking
from frcnn.training.validation import Validate, picture_batch

VALIDATED = 8  # images at once, at most


class Fitting:
    """Trains a network, saving as it goes.

    Args:
        config: of the run.
        run: where it saves.
        network: compiled, its optimizer built.
        detector: wraps the network, or one that is given its weights.
        batches: the training data.
        validation: the validation images, or None.
        devices: what trains together.
        console: where it reports.
        refresh: gives the detector its weights.
    """

    def __init__(
        self,
        config: Config,
        run: Run,
        network: FasterRCNN,
        detector: Detector,
        batches: DetectionBatches,
        validation: Dataset | None,
        devices: Devices,
        console: Console,
        refresh: Callable[[], None],
    ):
        self._config, self._run, self._network = config, run, network
        self._batches, self._devices, self._console = batches, devices, console
        self._stop = StopOnInterrupt(devices.highest)
        self._history = History(
            run, batches, validation is not None, lambda: self._stop.within_epoch
        )
        self._validate = Validate(
            run,
            detector,
            validation,
            config.epochs,
            config.samples_every,
            lambda: self._stop.within_epoch,
            refresh,
            # No more than a step takes at once, whose memory was planned for.
            lambda: min(VALIDATED, config.batch // network.parts),
            config.strict,
        )
        self._early = StopEarly(self._history, config.patience, devices.highest)
        self._freezing = Freezing(network, config.freeze_epochs, lambda: devices.join(network))
        self._checkpoint = Checkpoint(
            run,
            network,
            batches,
            validation,
            self._history,
            self._validate,
            self._stop,
            config.save_every,
            self.say,
            writes=devices.first,
        )
        self._watch = WatchLosses(batches, config.on_nan == "skip", self._keep_last)
        self._tracking: list[Track] = []

    def _keep_last(self) -> Path:
        return Path(self._devices.by_the_first(lambda: str(self._validate.keep_last())))

    def say(self, text: str) -> None:
        """Report a sentence."""
        say(self._console, text)

    def begin(self, classes: Sequence[str]) -> None:
        """Save the first training batch as a picture, and the state before the first step."""
        if self._devices.first:
            self._track()
            picture_batch(self._run, self._batches, classes)
        self._checkpoint.save(0, 0)

    def restore(self) -> tuple[int, int]:
        """Put the saved state back; the epochs finished, and the steps of the next one."""
        return self._checkpoint.restore()

    @property
    def stopped_early(self) -> bool:
        """Whether the history says that waiting for a better epoch has gone on for too long."""
        return self._early.due

    @property
    def best_seen(self) -> Seen | None:
        """What the best epoch's validation saw; None where it was another process's."""
        return self._validate.best_seen

    def fit(self, epoch: int, step: int) -> None:
        """Train to the end after so many epochs, and so many steps of the next one.

        Raises:
            TrainingError: a loss that is not finite; memory that does not suffice for one image;
                a disk that is full, or not to be written to.
            KeyboardInterrupt: after Ctrl-C, once everything is saved.
            SystemExit: after SIGTERM, likewise; of status 0.
        """
        if self._devices.first:
            self._track()
        self._stop.take()
        try:
            while not self._fitted(epoch, step):
                epoch, step = self.restore()
        finally:
            self._stop.restore()
            for each in self._tracking:
                each.close()
        if self.stopped_early:
            self.say(f"Stopped: no better validation AP for {self._config.patience} epochs.")
        for fault in self._batches.faults:
            self.say(f"Left out while training: {fault}")
        for fault in self._validate.faults:
            self.say(f"Left out of validation: {fault}")
        if self._watch.skipped:
            self.say(f"Steps that were left out, as a loss was not finite: {self._watch.skipped}.")
        if self._stop.interrupted:
            self.say(f"Stopped. To go on: frcnn train --resume {self._run.folder}")
            raise SystemExit(0) if self._stop.terminated else KeyboardInterrupt

    def _track(self) -> None:
        """Open what tracks the run, before there is a picture to send."""
        self._tracking = self._tracking or open_tracking(self._config, self._run, self._history)

    def _fitted(self, epoch: int, step: int) -> bool:
        """Train to the end; False if memory ran out and smaller parts may do."""
        if epoch or step:
            self.say(f"Going on in epoch {epoch + 1} after step {step} of {len(self._batches)}.")
        try:
            self._fit(epoch, step)
            return True
        except Exception as error:
            if isinstance(error, OSError) and (reason := disk_reason(error)):
                raise TrainingError(
                    f"The training cannot go on: {reason}. Once that is mended, go on from the "
                    f"last state that was saved: frcnn train --resume {self._run.folder}."
                ) from error
            if not is_out_of_memory(error) or self._devices.processes > 1:
                raise  # of several processes the others wait for this one within a step
            reason, parts = out_of_memory_reason(error), self._more_parts()
            if parts is None:
                raise TrainingError(
                    f"Memory ran out with single images: {reason}. Make room, and go on from the "
                    f"last state that was saved: frcnn train --resume {self._run.folder}. Or train "
                    "with a smaller --size, a smaller --preset, or --remat."
                ) from error
            self.say(
                f"Memory ran out: {reason}. From now on each step takes its {self._config.batch} "
                f"images in {parts} parts, whose gradients are averaged. Nothing is lost: the "
                "training goes on from the last state that was saved."
            )
        gc.collect()  # what the error's frames held
        self._network.parts = parts
        return False

    def _more_parts(self) -> int | None:
        """The next number of equal parts that halves them or more; None for single images."""
        share, parts = self._devices.share_of(self._config.batch), self._network.parts
        return next((n for n in range(2 * parts, share + 1) if share % n == 0), None)

    def _fit(self, epoch: int, step: int) -> None:
        config, steps = self._config, len(self._batches)
        done = epoch * steps + step
        self._watch.begin_after(step)
        display = Display(self._console, self._history, config.batch, config.epochs, steps, done)
        callbacks = [
            FollowEpochs(self._batches),
            self._stop,
            ByTheFirst(self._devices, [self._validate, self._history, *self._tracking]),
            self._early,
            self._checkpoint,
            self._watch,
            *([display] if self._devices.first else []),
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
            self._stop.agree()

        display.open()
        try:
            for first, end in self._freezing.spans(epoch, config.epochs):
                if step:
                    fit(Rest(self._batches, step), first, first + 1)
                    first, step = first + 1, 0
                if first < end and not (self._stop.interrupted or self.stopped_early):
                    fit(self._batches, first, end)
                if self._stop.interrupted or self.stopped_early:
                    break
        finally:
            display.close()
