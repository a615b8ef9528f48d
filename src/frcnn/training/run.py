"""The run folder: what a training leaves behind, and where."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from dataclasses import replace
from pathlib import Path

from frcnn.errors import UserError
from frcnn.training.config import Config
from frcnn.zoo.references import BEST, LAST, is_published


class Run:
    """A folder with ``config.toml``, ``history.csv``, ``metrics.json``, models and pictures.

    Args:
        folder: where it is.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    @property
    def config_file(self) -> Path:
        """What the run was asked to do."""
        return self.folder / "config.toml"

    @property
    def best(self) -> Path:
        """The detector of the epoch with the highest validation mAP (COCO AP)."""
        return self.folder / BEST

    @property
    def last(self) -> Path:
        """The detector of the last epoch."""
        return self.folder / LAST

    @property
    def history(self) -> Path:
        """One row an epoch: losses, rate, speed, validation figures."""
        return self.folder / "history.csv"

    @property
    def metrics(self) -> Path:
        """The figures of the best epoch."""
        return self.folder / "metrics.json"

    @property
    def report(self) -> Path:
        """One page on all of it."""
        return self.folder / "report.html"

    @property
    def state(self) -> Path:
        """What the training needs to go on; no detector."""
        return self.folder / "training.state"

    @property
    def tracked(self) -> Path:
        """What a tracking library calls the run, so that it goes on there on resuming."""
        return self.folder / "tracked"

    @property
    def samples(self) -> Path:
        """Pictures of training batches and of validation detections."""
        return self.folder / "samples"

    @classmethod
    def create(cls, config: Config) -> tuple[Run, Config]:
        """Make the folder and write the configuration into it.

        Paths in it are made absolute, so that they hold wherever it is read again. Without
        ``config.out`` the folder is new, below ``runs/``. A folder that is named must
        not hold an earlier run's models, unless ``config.overwrite`` gives them up.

        Raises:
            UserError: the folder holds a run already or cannot be written.
        """
        cls.refuse_earlier(config)
        folder = Path(config.out) if config.out else _unused(Path("runs") / config.run_name)
        run = cls(folder)
        try:
            config = replace(with_absolute_paths(config), out=str(folder))
            folder.mkdir(parents=True, exist_ok=True)
            for old in (
                *folder.glob("tensorboard/events.*"),
                run.state,
                run.best,
                run.last,
                run.history,
                run.metrics,
                run.report,
                run.tracked,
            ):
                old.unlink(missing_ok=True)
            run.config_file.write_text(config.to_toml(), "utf-8")
        except (OSError, UnicodeEncodeError) as error:  # a path with bytes that are no text
            raise UserError(f"The run folder {folder} cannot be written: {error}.") from error
        return run, config

    @classmethod
    def refuse_earlier(cls, config: Config) -> None:
        """Raise a ``UserError`` if the folder that is named is a file, or holds earlier models."""
        if config.out and Path(config.out).is_file():
            raise UserError(f"{config.out} is a file; --out names a folder.")
        if config.out is None or config.overwrite:
            return
        run = cls(config.out)
        if any(each.exists() for each in (run.state, run.last, run.best)):
            raise UserError(
                f"The folder {run.folder} holds an earlier run. Name another with --out, or "
                "replace that run with --overwrite. "
                f"One that ended early goes on with: frcnn train --resume {run.folder}"
            )

    def refuse_lost_state(self) -> None:
        """Raise a ``UserError`` if there are models though there is no state to go on from."""
        if self.last.exists() or self.best.exists():
            raise UserError(
                f"{self.folder} holds a trained model but no {self.state.name}, without which its "
                f"training cannot go on. Start a new run from it: frcnn train DATA --weights "
                f"{self.folder}."
            )

    def read_config(self) -> Config:
        """What the run was asked to do, with this folder, wherever it was made.

        Raises:
            UserError: there is no run in the folder; its configuration cannot be read.
        """
        if not self.config_file.is_file():
            raise UserError(f"{self.folder} is no run folder: it has no {self.config_file.name}.")
        return replace(Config.from_toml(self.config_file), out=str(self.folder))

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Write all epochs so far; the columns are those of the first row."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.history, text.getvalue())

    def write_metrics(self, metrics: dict) -> None:
        """Write the figures of the best epoch."""
        write_whole(self.metrics, json.dumps(_finite(metrics), indent=2) + "\n")


def with_absolute_paths(config: Config) -> Config:
    """The same, to be read from another working folder; ``out`` stays as it is."""
    weights = config.weights
    named = weights in ("imagenet", "none") or is_published(weights)
    if not named and os.path.exists(weights):
        weights = str(Path(weights).absolute())
    return replace(config, data=str(Path(config.data).absolute()), weights=weights)


def write_whole(path: Path, text: str) -> None:
    """Write a file that is never seen in part, whenever the process ends."""
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        partial.write_text(text, "utf-8", newline="")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _unused(folder: Path) -> Path:
    """This folder, or the first of folder-2, folder-3, ... that does not exist."""
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def _finite(value):
    """JSON has no NaN: null stands for a figure that is not defined."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
