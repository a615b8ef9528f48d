"""A training with the report that it ends with."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from frcnn.console import say
from frcnn.errors import UserError
from frcnn.training import train as training
from frcnn.training.config import Config
from frcnn.training.run import Run
from frcnn.training.train import Begin, Finished


def train(config: Config, console: Console | None = None, begin: Begin | None = None) -> Run:
    """Train a detector and leave a run folder, with a report in it.

    Ctrl-C ends the training after the step it comes in, with everything saved, and so does
    SIGTERM; ``resume`` goes on.

    Args:
        config: what to do.
        console: where to report; standard output if left out.
        begin: called with the run once data and weights are accepted and its folder is made.

    Returns:
        The run: ``run.best`` and ``run.last`` are model files for ``frcnn.load``, ``run.report``
        is a page on all of it.

    Raises:
        ValueError: data, weights or settings that cannot be used; the message says which.
        TrainingError: a loss that is not finite; memory that does not suffice for one image;
            a disk that is full, or not to be written to.
        KeyboardInterrupt: after Ctrl-C, once everything is saved.
        SystemExit: after SIGTERM, likewise; of status 0.
    """
    return training.train(config, console, _report, begin)


def resume(folder: str | Path, console: Console | None = None) -> Run:
    """Go on with a training that ended early, as ``frcnn.training.train.resume``; then report."""
    return training.resume(folder, console, _report)


def _report(finished: Finished, console: Console) -> None:
    """Write the report; a training is not lost because that fails."""
    from frcnn.apps.report.write import report_training

    try:
        path, seconds = report_training(finished)
        text = f"Report: {path} (written in {seconds:.0f} s)."
    except (UserError, OSError) as error:
        text = f"The report was not written: {error} Try again: frcnn report {finished.run.folder}"
    say(console, text)
