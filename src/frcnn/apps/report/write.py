"""The report on a run, from what the run left and what its best model finds."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from frcnn.apps.diagnosing import diagnose_found, training_images
from frcnn.apps.report import sections
from frcnn.apps.report.environment import environment
from frcnn.apps.report.gallery import Gallery, make_gallery
from frcnn.apps.report.markup import embedded, figure
from frcnn.apps.report.page import assemble
from frcnn.apps.scoring import detect_dataset
from frcnn.console import counting
from frcnn.data.audit import audit, open_for_audit
from frcnn.data.dataset import Dataset, open_dataset
from frcnn.data.duplicates import Looks, look_at
from frcnn.errors import UserError
from frcnn.evaluation.diagnosis import Diagnosis
from frcnn.files import read_file
from frcnn.inference.load import load
from frcnn.structures import Detections
from frcnn.threads import available_cores
from frcnn.training.auditing import working_of
from frcnn.training.config import Config
from frcnn.training.run import Run, write_whole
from frcnn.training.splits import open_splits
from frcnn.training.train import Finished

PROPOSED = 32  # pictures whose proposals are looked at
SWAPPED = 16  # pictures tried with red and blue exchanged
AUDITED = 1000  # pictures that are decoded to look for copies among them; of more, none
_MOST_HISTORY = 1 << 24  # bytes


def report_training(finished: Finished) -> tuple[Path, float]:
    """Write the report that a training ends with.

    Returns:
        the page, and how many seconds it took.

    Raises:
        UserError: something in the run folder cannot be read.
        OSError: the page cannot be written.
    """
    began = time.perf_counter()
    run, splits, seen = finished.run, finished.splits, finished.seen
    trained_on = [sample.image for sample in splits.train]
    dataset, found = (seen.dataset, seen.found) if seen else (splits.validation, None)
    _write(run, dataset, found, trained_on, run.report, began)
    return run.report, time.perf_counter() - began


def report_run(
    folder: str | Path,
    data: str | None = None,
    split: str | None = None,
    out: str | Path | None = None,
) -> tuple[Path, float]:
    """Write the report on a run again, or on other images.

    Args:
        folder: the run.
        data: labelled images; left out: those the run validated on.
        split: of ``data``, or of the run's data where that is left out.
        out: the page; left out: ``report.html`` in the run.

    Returns:
        the page, and how many seconds it took.

    Raises:
        UserError: there is no run, or its data or the images cannot be opened.
        OSError: the page cannot be written.
    """
    began = time.perf_counter()
    run = Run(folder)
    config = run.read_config()
    with counting("checking pictures", None) as advance:
        if data is None and split is None:
            splits = open_splits(config, advance)
            dataset, trained_on = splits.validation, [sample.image for sample in splits.train]
        else:
            dataset = open_dataset(data or config.data, split, progress=advance)
            trained_on = training_images(folder)
    path = Path(out) if out else run.report
    _write(run, dataset, None, trained_on, path, began)
    return path, time.perf_counter() - began


def _write(
    run: Run,
    dataset: Dataset | None,
    found: Sequence[Detections] | None,
    trained_on: Sequence[Path] | None,
    path: Path,
    began: float,
) -> None:
    config, history = run.read_config(), read_history(run.history)
    timing = _training_time(history)
    diagnosis, gallery = None, Gallery([], (), 0.5)
    if dataset is not None and len(dataset):
        detector = load(run.folder)
        if found is None:
            (dataset, found, _), seconds = detect_dataset(detector, dataset)
            timing["detecting"] = f"{1000 * (seconds or 0):.0f} ms an image, for this report"
        diagnosis = diagnose_found(detector, dataset, found, trained_on, PROPOSED, SWAPPED)
        gallery = make_gallery(diagnosis, found, dataset.samples, dataset.classes)
    audited = _audit(config)
    timing["this report"] = f"{time.perf_counter() - began:.1f} s"
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    panels = {
        "summary": ("Summary", sections.summary(_figures(diagnosis, dataset), diagnosis)),
        "training": ("Training", sections.training_curves(history)),
        "diagnosis": ("Diagnosis", sections.diagnosis_tables(diagnosis) if diagnosis else ""),
        "pictures": ("Pictures", sections.gallery_section(gallery)),
        "data": ("Data", sections.data_section(audited)),
        "details": ("Details", sections.settings_section(asdict(config), environment(), timing)),
    }
    page = assemble(
        f"Report on {run.folder.resolve().name}",
        _described(config, dataset),
        panels,
        embedded(gallery.to_dict()),
        f"Made {made} in {timing['this report']}.",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page)


def _figures(diagnosis: Diagnosis | None, dataset: Dataset | None) -> dict[str, str]:
    if diagnosis is None or dataset is None:
        return {}
    scores = diagnosis.evaluation
    return {
        "AP": figure(scores.coco["AP"]),
        "AP50": figure(scores.coco["AP50"]),
        "VOC07 mAP": figure(scores.voc07["mAP"]),
        "images": f"{scores.images:,}",
        "objects": f"{scores.boxes:,}",
        "best F1": f"{figure(diagnosis.f1, 2)} at score {diagnosis.score:.2f}",
    }


def _described(config: Config, dataset: Dataset | None) -> str:
    trained = f"{config.preset}, trained on {config.data}"
    if dataset is None:
        return f"{trained}; no validation images."
    split = f" [{dataset.split}]" if dataset.split else ""
    return f"{trained}; measured on {len(dataset):,} images of {dataset.root}{split}."


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows of ``history.csv``; none where there is no such file.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    if not path.is_file():
        return []
    try:
        text = read_file(path, _MOST_HISTORY).decode("utf-8")
        rows = [
            {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(io.StringIO(text, newline=""))
        ]
        return [row for row in rows if "epoch" in row]
    except (OSError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise UserError(f"{path} is no history of a training: {error}.") from error


def _training_time(history: Sequence[Mapping[str, float]]) -> dict[str, str]:
    if not history:
        return {}
    seconds = sum(row.get("seconds", 0.0) for row in history)
    waited = np.mean([row.get("waited_for_data", 0.0) for row in history])
    return {
        "epochs": f"{len(history):,}",
        "training": f"{seconds:,.0f} s",
        "waited for data": f"{waited:.1%} of the time",
    }


def _audit(config: Config) -> dict[str, Any] | None:
    """What is wrong with the data of the run; None if they are gone."""
    try:
        with counting("checking pictures", None) as advance:
            opened = open_for_audit(config.data, progress=advance)
    except UserError:
        return None
    pictures = opened.pictures()
    if len(pictures) <= AUDITED:
        looks = look_at(pictures, available_cores())
    else:
        count = len(pictures)
        hashes, shown = np.zeros(count, np.uint64), np.zeros((count, 32, 32), np.uint8)
        looks = Looks(hashes, shown, np.zeros(count, bool))
    return audit(opened, working_of(config.preset, config.size), looks).to_dict()
