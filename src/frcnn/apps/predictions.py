"""Detections of many pictures: drawn into a folder, and as plain rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from frcnn.console import counting
from frcnn.data.images import read_image
from frcnn.draw import draw_detections, save_image
from frcnn.errors import UserError
from frcnn.inference.pictures import PictureDetector

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
        ``Detections.to_dict``.

    Raises:
        UserError: a picture cannot be read, or written, or would be overwritten by a drawing.
    """
    rows: list[dict] = []
    drawings = None if folder is None else plan_drawings(images, folder)
    with counting("detecting", len(images)) as advance:
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            for path, found in zip(
                chunk, detector.detect(chunk, score, progress=advance), strict=True
            ):
                if drawings is not None:
                    save_image(drawings[len(rows)], draw_detections(read_image(path), found))
                rows.append({"image": str(path), "detections": found.to_dict()})
    objects = sum(len(row["detections"]) for row in rows)
    where = f"; drawn in {folder}" if folder is not None else ""
    print(f"{len(rows)} pictures, {objects} objects scored {score} or more{where}.")
    return rows


def plan_drawings(images: Iterable[Path], folder: str | Path) -> list[Path]:
    """The files that pictures are drawn into, none of which is one of the pictures.

    Args:
        images: the picture files.
        folder: where the drawings go.

    Raises:
        UserError: a drawing would overwrite a picture.
    """
    images, used = list(images), set()
    drawings = [Path(folder) / _unused_name(path, used) for path in images]
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


def _unused_name(path: Path, used: set[str]) -> str:
    """The picture's name, with a number where another of that name came before."""
    name, number = path.name, 1
    while name in used:
        number += 1
        name = f"{path.stem}-{number}{path.suffix}"
    used.add(name)
    return name
