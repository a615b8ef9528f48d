"""The export of a run: which file, which pictures to compare and calibrate on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from frcnn.data.dataset import Dataset, available_splits, open_dataset
from frcnn.data.demo import generate_demo
from frcnn.data.faults import ImageError, describe_faults
from frcnn.data.images import read_image
from frcnn.data.names import match_split
from frcnn.errors import UserError
from frcnn.export.checked import export_checked
from frcnn.export.describe import describe
from frcnn.export.formats import Format
from frcnn.export.verdict import Report
from frcnn.export.wishes import Wishes
from frcnn.inference.artefact import Artefact
from frcnn.inference.preparation import Preparation, lay_all
from frcnn.inference.seen import readable
from frcnn.training.config import Config
from frcnn.training.run import Run
from frcnn.training.splits import open_splits
from frcnn.zoo.references import model_file, open_model

COMPARED = 32  # pictures
CALIBRATED = 64
# What TensorFlow and the export write into a SavedModel's folder.
_SAVED_MODEL = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"}


def export_run(
    reference: str, wishes: Wishes, out: str | None = None, data: str | None = None
) -> tuple[Path, Report]:
    """Export a trained detector and compare it with the model.

    Args:
        reference: the model, as of ``open_model``.
        wishes: format and settings.
        out: the file, or SavedModel's folder; None: beside the model, or in the current folder,
            named for the model and for what ``wishes`` ask for.
        data: labelled pictures to compare on; None: those of ``wishes.int8``, else those the run
            validated on, if they are still there, else generated ones.

    Returns:
        What was written, and the comparison.

    Raises:
        UserError: there is no model or no data, the format cannot hold what is wanted, or the
            export differs from the model by more than is allowed.
    """
    path = _target(reference, wishes, out)
    _check_free(path, wishes.format)
    model = open_model(reference)
    artefact = describe(
        model, wishes.canvas, wishes.count, wishes.images, wishes.precision, reference
    )
    options: dict[str, Any] = {"winograd": wishes.winograd} if wishes.format.winograd else {}
    if wishes.int8 is not None:
        chosen = _some(_open(wishes.int8, "train"), CALIBRATED)
        options["calibration"] = _batches(chosen, artefact)
    with _pictures(reference, data or wishes.int8) as (dataset, words):
        chosen = _some(dataset, COMPARED)
        report = export_checked(
            model,
            artefact,
            path,
            wishes.kind,
            chosen.samples,
            chosen.classes,
            f"{len(chosen)} of {words}",
            **options,
        )
    return path, report


def _target(reference: str, wishes: Wishes, out: str | None) -> Path:
    """Where the export goes."""
    chosen = wishes.format
    if out is not None:
        if not out.endswith(chosen.suffix) and chosen.suffix.startswith("."):
            raise UserError(
                f"--out must end in {chosen.suffix}, as a file of {chosen.title} does. "
                f"Received: {out}."
            )
        return Path(out)
    if Path(reference).exists():
        model = model_file(reference)
        return model.with_name(model.stem + wishes.ending)
    return Path(reference.replace(":", "/").rstrip("/").rpartition("/")[2] + wishes.ending)


def _check_free(path: Path, chosen: Format) -> None:
    """Refuse a folder in the export's place, unless it is an earlier one."""
    if not path.is_dir():
        return
    if chosen.suffix.startswith("."):
        raise UserError(f"{path} is a folder, and the export is a file. Name another with --out.")
    others = sorted({each.name for each in path.iterdir()} - _SAVED_MODEL)
    if others:
        raise UserError(
            f"{path} is a folder that holds {others[0]}, which would be deleted for the export. "
            "Name another with --out."
        )


@contextmanager
def _pictures(reference: str, data: str | None) -> Iterator[tuple[Dataset, str]]:
    """Labelled pictures to compare on, and which these are in words."""
    if data is not None:
        dataset = _open(data, "val")
        yield dataset, f"the {len(dataset)} images of {data}"
        return
    dataset = _validated_on(reference)
    if dataset is not None:
        yield dataset, f"the {len(dataset)} images that the run was validated on"
        return
    with tempfile.TemporaryDirectory() as folder:
        dataset = open_dataset(generate_demo(Path(folder, "scenes"), images=COMPARED))
        yield dataset, f"{len(dataset)} generated images, as no others are at hand (see --data)"


def _validated_on(reference: str) -> Dataset | None:
    """The validation images of the run that a model is from, if it and they are still there."""
    folder = Path(reference)
    run = Run(folder.parent if folder.suffix == ".keras" else folder)
    if not run.config_file.is_file():
        return None
    try:
        splits = open_splits(Config.from_toml(run.config_file))
    except (UserError, OSError):  # moved or changed since; no reason not to export
        return None
    return splits.validation or splits.train


def _open(data: str, wanted: str) -> Dataset:
    """The split of this name, everything if there is none."""
    return open_dataset(data, match_split(wanted, available_splits(data)))


def _some(dataset: Dataset, count: int) -> Dataset:
    """At most so many of the pictures, from all over, without those that cannot be read."""
    if len(dataset) > count:
        dataset = dataset.subset(np.linspace(0, len(dataset) - 1, count).round().astype(int))
    errors: dict[int, ImageError] = {}
    for index, sample in enumerate(dataset):
        try:
            read_image(sample.image)
        except ImageError as error:
            errors[index] = error
    chosen, faults = readable(dataset, errors)
    if faults:
        print(describe_faults(faults))
    return chosen


def _batches(dataset: Dataset, artefact: Artefact) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures as the artefact takes them; the last batch is filled up from the front."""
    preparation = Preparation(artefact.short, artefact.long, (artefact.canvas,), artefact.resizing)
    batch = artefact.batch or 1
    for start in range(0, len(dataset), batch):
        rows = [index % len(dataset) for index in range(start, start + batch)]
        images = np.empty((batch, *artefact.canvas, 3), artefact.images)
        pictures = [preparation.prepare(read_image(dataset[row].image)) for row in rows]
        yield images, lay_all(pictures, images)
