"""Detections of many pictures: drawn into a folder, and as plain rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from frcnn.apps.json_rows import open_rows
from frcnn.console import counting
from frcnn.data.faults import ImageError, plural
from frcnn.data.images import read_image
from frcnn.draw import can_write, draw_detections, save_image
from frcnn.errors import UserError, disk_reason, printable
from frcnn.inference.pictures import PictureDetector
from frcnn.structures import Detections

CHUNK = 64  # pictures detected before they are drawn, so that few are held in memory

# Of a row: what it has where something went wrong, how that is named, and what is said of all such.
_COMPLAINTS = (
    (
        "error",
        "",
        "could not be read; the others are done. Mend those named above, or leave them out.",
    ),
    (
        "not_drawn",
        " is not drawn",
        "could not be drawn. Make room, or name another folder with --out.",
    ),
)


def write_predictions(
    detector: PictureDetector,
    images: Sequence[Path],
    score: float,
    folder: str | Path | None,
    file: str | Path | None = None,
) -> list[dict]:
    """Detect on pictures, with a counter, and draw each into a folder under its own name.

    What is done when it is interrupted stays.

    Args:
        detector: what detects.
        images: the picture files.
        score: detections scored lower are left out.
        folder: where the drawn pictures go; None draws nothing. Of pictures from several folders
            with one name, the later ones get a number.
        file: the JSON file to write, a list of the rows that are returned; None: none.

    Returns:
        For each picture ``{"image": path, "detections": [...]}``; rows of
        ``Detections.to_dict``. Of one that cannot be read ``{"image": path, "error": reason}``;
        it has no drawing. Where a drawing cannot be written the row has ``"not_drawn": reason``
        too. ``check_all_done`` complains of both.

    Raises:
        UserError: a picture would be overwritten by a drawing, or the JSON cannot be written.
        OSError: the folder cannot be made.
    """
    rows: list[dict] = []
    drawings = None
    if folder is not None:
        drawings = plan_drawings(images, folder)
        Path(folder).mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        note = stack.enter_context(open_rows(file)) if file else None
        advance = stack.enter_context(counting("detecting", len(images)))
        for row in _detected(detector, images, score, drawings, advance):
            rows.append(row)
            if note:
                note(row)
    objects = sum(len(row.get("detections", ())) for row in rows)
    read = sum("detections" in row for row in rows)
    where = f"; drawn in {folder}" if folder is not None else ""
    print(
        printable(
            f"{plural(read, 'picture')}, {plural(objects, 'object')} scored {score} or more{where}."
        )
    )
    return rows


def _detected(
    detector: PictureDetector,
    images: Sequence[Path],
    score: float,
    drawings: Sequence[Path] | None,
    advance: Callable[[], None],
) -> Iterator[dict]:
    """Rows of pictures, each once it is drawn."""
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        errors: dict[int, ImageError] = {}
        found = detector.detect(chunk, score, progress=advance, errors=errors)
        for place, (path, each) in enumerate(zip(chunk, found, strict=True)):
            drawing = None if drawings is None else drawings[start + place]
            if place in errors:
                yield _unread(path, errors[place])
            else:
                yield _row(path, each, drawing, detector.most_pixels)


def _row(path: Path, found: Detections, drawing: Path | None, most: int) -> dict:
    """Draw a picture, where it is to be drawn, and say what was found or what went wrong."""
    row = {"image": str(path), "detections": found.to_dict()}
    if drawing is None:
        return row
    try:
        save_image(drawing, draw_detections(read_image(path, most), found))
    except ImageError as error:  # a picture that was read smaller than it is
        return _unread(path, error)
    except (OSError, UserError) as error:
        reason = disk_reason(error) if isinstance(error, OSError) else None
        row["not_drawn"] = printable(reason or str(error))
    return row


def _unread(path: Path, error: ImageError) -> dict:
    return {"image": str(path), "error": error.problem}


def check_all_done(rows: Sequence[Mapping[str, Any]], total: int | None = None) -> None:
    """Complain of pictures that could not be read or drawn, after all else is done.

    Args:
        rows: as ``write_predictions`` gives; those of pictures with which all went well may be
            missing.
        total: how many pictures there are; left out: as many as rows.

    Raises:
        UserError: there is such a picture. It counts them; standard error names each.
    """
    total = len(rows) if total is None else total
    sentences = []
    for key, words, sentence in _COMPLAINTS:
        wrong = [row for row in rows if key in row]
        for row in wrong:
            print(printable(f"Warning: {row['image']}{words}: {row[key]}"), file=sys.stderr)
        if wrong:
            sentences.append(f"{len(wrong):,} of {plural(total, 'picture')} {sentence}")
    if sentences:
        raise UserError(" ".join(sentences))


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
