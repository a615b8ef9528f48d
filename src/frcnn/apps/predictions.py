"""Detections of many pictures: drawn into a folder, and as plain rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from frcnn.console import counting
from frcnn.data.faults import ImageError, plural
from frcnn.data.images import read_image
from frcnn.draw import can_write, draw_detections, save_image
from frcnn.errors import UserError, printable
from frcnn.inference.pictures import PictureDetector
from frcnn.structures import Detections

CHUNK = 64  # pictures detected before they are drawn, so that few are held in memory


def write_predictions(
    detector: PictureDetector,
    images: Sequence[Path],
    score: float,
    folder: str | Path | None,
) -> list[dict]:
    """Detect on pictures, with a counter, and draw each into a folder under its own name.

    Args:
        detector: what detects.
        images: the picture files.
        score: detections scored lower are left out.
        folder: where the drawn pictures go; None draws nothing. Of pictures from several folders
            with one name, the later ones get a number.

    Returns:
        For each picture ``{"image": path, "detections": [...]}``; rows of
        ``Detections.to_dict``. Of one that cannot be read ``{"image": path, "error": reason}``;
        it has no drawing, and ``check_all_read`` complains of it.

    Raises:
        UserError: a picture would be overwritten by a drawing.
        OSError: a drawing cannot be written.
    """
    rows: list[dict] = []
    drawings = None if folder is None else plan_drawings(images, folder)
    with counting("detecting", len(images)) as advance:
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            errors: dict[int, ImageError] = {}
            found = detector.detect(chunk, score, progress=advance, errors=errors)
            for place, (path, each) in enumerate(zip(chunk, found, strict=True)):
                error = errors.get(place)
                if error is None and drawings is not None:
                    error = _draw(path, each, drawings[start + place], detector.most_pixels)
                rows.append(_row(path, each, error))
    objects = sum(len(row.get("detections", ())) for row in rows)
    read = sum("detections" in row for row in rows)
    where = f"; drawn in {folder}" if folder is not None else ""
    print(
        printable(
            f"{plural(read, 'picture')}, {plural(objects, 'object')} scored {score} or more{where}."
        )
    )
    return rows


def _draw(path: Path, found: Detections, drawing: Path, most: int) -> ImageError | None:
    """Draw a picture, or say what is wrong with it."""
    try:
        picture = read_image(path, most)
    except ImageError as error:  # one that was read smaller than it is
        return error
    save_image(drawing, draw_detections(picture, found))
    return None


def _row(path: Path, found: Detections, error: ImageError | None) -> dict:
    if error is not None:
        return {"image": str(path), "error": error.problem}
    return {"image": str(path), "detections": found.to_dict()}


def check_all_read(rows: Sequence[Mapping[str, Any]], total: int | None = None) -> None:
    """Complain of pictures that could not be read, after all else is done.

    Args:
        rows: as ``write_predictions`` gives; those of pictures that could be read may be missing.
        total: how many pictures there are; left out: as many as rows.

    Raises:
        UserError: there is such a picture. It counts them; standard error names each.
    """
    unread = [row for row in rows if "error" in row]
    for row in unread:
        print(printable(f"Warning: {row['image']}: {row['error']}"), file=sys.stderr)
    if unread:
        total = len(rows) if total is None else total
        raise UserError(
            f"{len(unread):,} of {plural(total, 'picture')} could not be read; the others are "
            "done. Mend those named above, or leave them out."
        )


def plan_drawings(images: Iterable[Path], folder: str | Path) -> list[Path]:
    """The files that pictures are drawn into, none of which is one of the pictures.

    Args:
        images: the picture files.
        folder: where the drawings go.

    Raises:
        UserError: a drawing would overwrite a picture.
    """
    images = list(images)
    used: set[str] = set()
    numbers: dict[str, int] = {}
    drawings = [Path(folder) / _unused_name(path, used, numbers) for path in images]
    originals = {_identity(path) for path in images}
    for drawing in drawings:
        if drawing.exists() and _identity(drawing) in originals:
            raise UserError(
                f"The drawing {drawing} would overwrite the picture itself. "
                "Name another folder with --out."
            )
    return drawings


def _identity(path: Path) -> tuple[int, int] | str:
    """What a file is, whatever links lead to it and whatever the case of its name."""
    try:
        status = os.stat(path)
    except OSError:  # it is gone: its reader says so
        return os.path.realpath(path)
    return status.st_dev, status.st_ino


def _unused_name(path: Path, used: set[str], numbers: dict[str, int]) -> str:
    """The picture's name, with a number where another of that name came before.

    A suffix that names no format to write, as ``.jfif``, or none, becomes ``.jpg``. Names that
    differ in case alone are one file on some disks, and one name here; ``used`` holds those given,
    ``numbers`` the last number of each name.
    """
    suffix = path.suffix if can_write(path) else ".jpg"
    name = first = path.stem + suffix
    number = numbers.get(first.casefold(), 1)
    while name.casefold() in used:
        number += 1
        name = f"{path.stem}-{number}{suffix}"
    numbers[first.casefold()] = number
    used.add(name.casefold())
    return name
