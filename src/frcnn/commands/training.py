"""The commands that train, and the report on it: ``train``, ``report``, ``plan``, ``demo``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from frcnn.commands.output import speaks
from frcnn.commands.parsing import parse
from frcnn.errors import UserError, printable
from frcnn.training.config import Config


@dataclass(frozen=True)
class Train(Config):
    """Train a detector: from labelled images to a run folder.

    A training that ended early goes on with `frcnn train --resume RUN`, to what it would have
    become: on the same machine and backend the same weights, bit for bit, if that computes
    reproducibly.

    Args:
        resume: go on with the training in this run folder; given without DATA and other settings,
            which its config.toml holds.
    """

    resume: Annotated[str | None, arg(metavar="RUN")] = None

    def __post_init__(self):
        """Nothing: the ``Config`` that is made of it is checked."""


@dataclass(frozen=True)
class Resume:
    """Go on with a training that ended early, to what it would have become.

    Args:
        resume: the run folder; its config.toml says what to do.
    """

    resume: Annotated[str, arg(metavar="RUN")]


@dataclass(frozen=True)
class Report:
    """Write the report on a run, one HTML file: curves, diagnosis, pictures, data, settings.

    Args:
        run: the run folder.
        data: labelled images to measure it on, as for training. Left out: those it validated on.
        split: the images: test, val or another split of the data.
        out: the file. Left out: report.html in the run folder.
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    data: Annotated[Positional[str | None], arg(metavar="[DATA]")] = None
    split: Annotated[str | None, arg(metavar="NAME")] = None
    out: Annotated[str | None, arg(metavar="FILE")] = None


@dataclass(frozen=True)
class Plan:
    """Say how much memory training steps take, without training.

    Args:
        preset: the architecture; `frcnn presets` lists them.
        size: pixels of the short side; the long side is taken as 4/3 of it. Left out: the preset's.
        batch: images a step, at most.
        classes: how many.
        remat: make the feature extractor's maps again for the gradients, as `frcnn train --remat`.
    """

    preset: Annotated[Positional[str], arg(metavar="PRESET")]
    size: Annotated[int | None, arg(metavar="PIXELS")] = None
    batch: int = 16
    classes: int = 20
    remat: bool = False


@dataclass(frozen=True)
class Demo:
    """Make a small data set, train on it, evaluate and predict: the first run.

    Args:
        out: the folder for all of it.
    """

    out: Annotated[str, arg(metavar="FOLDER")] = "demo"


def parse_train(words: Sequence[str]) -> Config | Resume:
    """What the words after `frcnn train` ask for: a training, or that one goes on.

    Raises:
        UserError: settings that cannot be used, or any beside ``--resume``.
    """
    if not any(word.split("=")[0] == "--resume" for word in words):
        asked = parse(Train, "train", words)
        return Config(**{each.name: getattr(asked, each.name) for each in fields(Config)})
    if {"-h", "--help"} & set(words):
        return parse(Resume, "train", ["--help"])
    if len(words) != (1 if "=" in words[0] else 2) or not words[0].startswith("--resume"):
        raise UserError(
            "--resume takes nothing but the run folder; its config.toml says the rest. "
            "To train a finished run further: frcnn train DATA --weights RUN --epochs N"
        )
    return parse(Resume, "train", words)


def train(config: Config) -> None:
    """Train, and say where the result is."""
    from frcnn.apps.training import train

    if config.ray:
        from frcnn.apps.ray_training import train_with_ray as train
    _report_run(train(config))


def resume(arguments: Resume) -> None:
    """Train to the end, and say where the result is."""
    from frcnn.apps.training import resume

    if _run_config(arguments).ray:
        from frcnn.apps.ray_training import resume_with_ray as resume
    _report_run(resume(arguments.resume))


def start_processes(chosen: Config | Resume, arguments: Sequence[str]) -> None:
    """Train in several processes if the training is to have them; they end this one."""
    from frcnn.apps.launching import train_in_processes

    config = _run_config(chosen) if isinstance(chosen, Resume) else chosen
    if not config.ray:  # it starts them itself
        status = train_in_processes(config.devices, arguments)
        if status is not None:
            sys.exit(status)


def _run_config(chosen: Resume) -> Config:
    """What the run that goes on was asked to do."""
    from frcnn.training.run import Run

    return Run(chosen.resume).read_config()


def _report_run(run) -> None:
    if not speaks():
        return
    model = run.best if run.best.exists() else run.last
    figures = f" Figures: {run.metrics}." if run.metrics.exists() else ""
    print(f"Done. Best model: {model}.{figures} Every epoch: {run.history}.")


def report(arguments: Report) -> None:
    """Write the page, say where."""
    from frcnn.apps.report.write import report_run

    path, seconds = report_run(arguments.run, arguments.data, arguments.split, arguments.out)
    print(printable(f"Wrote {path} in {seconds:.0f} s."))


def plan(arguments: Plan) -> None:
    """Measure a step, print the table."""
    from frcnn.apps.planning import print_plan

    chosen = arguments
    for name, low in (("size", 32), ("batch", 1), ("classes", 1)):
        value = getattr(chosen, name)
        if value is not None and value < low:
            raise UserError(f"--{name} must be at least {low}. Received: {value}.")
    print_plan(chosen.preset, chosen.size, chosen.batch, chosen.classes, chosen.remat)


def demo(arguments: Demo) -> None:
    """Run the first run."""
    from frcnn.apps.demo import run_demo

    run_demo(Path(arguments.out))
