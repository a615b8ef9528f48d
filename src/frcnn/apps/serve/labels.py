"""Detections as labels of a data set, packed into one file."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from frcnn.apps.serve.bodies import Format, Given, LabelledPicture
from frcnn.data.dataset import Dataset
from frcnn.data.images import SUFFIXES
from frcnn.data.writing import plain_name, write_dataset
from frcnn.errors import UserError
from frcnn.structures import Sample

_LONGEST_STEM = 200  # bytes


def pack_labels(
    folder: Path,
    format: Format,
    rows: Sequence[LabelledPicture],
    files: Sequence[Given],
    classes: tuple[str, ...],
) -> tuple[Path, tuple[str, ...]]:
    """Write a data set that ``frcnn.open_dataset`` reads, as a zip.

    Args:
        folder: an empty one to write in.
        format: as of ``write_dataset``.
        rows: the pictures and what is in them.
        files: their files, in order; none: the labels alone are written, and the pictures belong
            where the format wants them.
        classes: names that the labels index.

    Returns:
        The zip, and what the format has no place for, a sentence each.

    Raises:
        UserError: a size that is missing, a label without a name, a file that is no picture.
    """
    if files and len(files) != len(rows):
        raise UserError(f"There are {len(files)} pictures for {len(rows)} rows: send one for each.")
    (folder / "given").mkdir()
    samples = [
        _sample(folder / "given" / str(number), row, files[number] if files else None, classes)
        for number, row in enumerate(rows)
    ]
    dataset = Dataset(tuple(samples), classes, folder)
    written = write_dataset(dataset, folder / "data", format, "link" if files else "none")
    return _zipped(written.folder, folder / "labels.zip"), written.lost


def _sample(
    place: Path, row: LabelledPicture, file: Given | None, classes: tuple[str, ...]
) -> Sample:
    """A row, its picture's file written into a folder of its own, under a name that is safe."""
    for each in row.detections:
        if each.label >= len(classes):
            raise UserError(f"{row.image}: label {each.label} is none of {len(classes)} classes.")
    path = place / _file_name(row.image)
    size = (row.height, row.width) if row.height and row.width else None
    if file is not None:
        place.mkdir()
        path.write_bytes(file.data)
        size = None  # the file's own
    elif size is None:
        raise UserError(f"{row.image}: send its file, or state its width and height.")
    boxes = np.array([each.box for each in row.detections], np.float32).reshape(-1, 4)
    if (boxes[:, :2] > boxes[:, 2:]).any():
        raise UserError(f"{row.image}: a box ends before it begins.")
    return Sample(path, boxes, np.array([each.label for each in row.detections]), size=size)


def _file_name(name: str) -> str:
    """A name from outside as one of a file in any folder."""
    path = Path(re.split(r"[/\\]", name)[-1])
    suffix = path.suffix.lower() if path.suffix.lower() in SUFFIXES else SUFFIXES[0]
    stem = plain_name(path.stem).encode()[:_LONGEST_STEM].decode(errors="ignore")
    return stem + suffix


def _zipped(folder: Path, file: Path) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return file
