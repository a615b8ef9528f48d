"""An export that takes its place only once it has been compared with the model."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras

from frcnn.console import counting
from frcnn.errors import UserError, printable
from frcnn.export.export import write, writer
from frcnn.export.formats import FORMATS, Kind
from frcnn.export.parity import compare
from frcnn.export.verdict import MARGIN, Report
from frcnn.inference.artefact import Artefact
from frcnn.inference.load import load
from frcnn.inference.pictures import PictureDetector
from frcnn.inference.runtime import RuntimeDetector
from frcnn.models.detector import DetectionModel
from frcnn.structures import Sample


def export_checked(
    model: DetectionModel,
    artefact: Artefact,
    path: Path,
    kind: Kind,
    samples: Sequence[Sample],
    classes: Sequence[str],
    pictures: str,
    **options,
) -> Report:
    """Write a detector, compare it with the model, and put it in its place if it is the same.

    Standard error says which of the two goes on, and how far the comparison is.

    It is made in a folder of its own beside ``path``, so an export that fails leaves nothing
    there that could be used, and what was there before as it was. The report of the comparison
    is ``parity_file(path)``; one that failed is ``parity_file(path, failed=True)``.

    Args:
        model: the detector.
        artefact: what is exported.
        path: of the file or folder.
        kind: the format.
        samples: labelled pictures to compare on.
        classes: names of their labels.
        pictures: which these are, in words.
        options: of the format's ``write``.

    Raises:
        UserError: the export differs from the model by more than is allowed, or cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        print(printable(f"writing {path}"), file=sys.stderr)
        made = write(model, artefact, Path(folder, path.name), kind, **options)
        opened = _opened(made, artefact, kind)
        # Not before: what is left is reckoned from its beginning.
        with counting("comparing", len(samples)) as advance:
            result = compare(model, opened, artefact.canvas, samples, classes, MARGIN, advance)
        report = Report(artefact, FORMATS[kind].title, keras.config.backend(), pictures, result)
        if report.faults:
            failed = parity_file(path, failed=True)
            report.write(failed)
            raise UserError(
                f"{path} was not written, as it would not find what the model finds: "
                f"{'; '.join(report.faults)}. All figures are in {failed}."
            )
        for each in Path(folder).iterdir():
            _replace(each, path.parent / each.name)
    parity_file(path, failed=True).unlink(missing_ok=True)
    report.write(parity_file(path))
    return report


def parity_file(path: Path, failed: bool = False) -> Path:
    """Where the comparison of an export is written, beside it."""
    return path.with_name(f"{path.name}.parity{'-failed' if failed else ''}.json")


def _opened(path: Path, artefact: Artefact, kind: Kind) -> PictureDetector:
    """The export in use; by ``frcnn.load`` where that opens it."""
    if FORMATS[kind].loads:
        return load(path)
    run = writer(kind).open_artefact(path)
    return RuntimeDetector(artefact, lambda given: run(**given))


def _replace(source: Path, target: Path) -> None:
    if source.is_dir() and target.is_dir():
        shutil.rmtree(target)
    source.replace(target)
