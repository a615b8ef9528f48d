"""Detections of many pictures: drawn into a folder, and as plain rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from frcnn.console import counting
from frcnn.data.images import read_image
from frcnn.draw import draw_detections, save_image
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
        UserError: a picture cannot be read, or written.
    """
    rows: list[dict] = []
    used: set[str] = set()
    with counting("detecting", len(images)) as advance:
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            for path, found in zip(
                chunk, detector.detect(chunk, score, progress=advance), strict=True
            ):
                rows.append({"image": str(path), "detections": found.to_dict()})
                if folder is not None:
                    drawn = draw_detections(read_image(path), found)
                    save_image(Path(folder) / _unused_name(path, used), drawn)
    objects = sum(len(row["detections"]) for row in rows)
    where = f"; drawn in {folder}" if folder is not None else ""
    print(f"{len(rows)} pictures, {objects} objects scored {score} or more{where}.")
    return rows


def _unused_name(path: Path, used: set[str]) -> str:
    """The picture's name, with a number where another of that name came before."""
    name, number = path.name, 1
    while name in used:
        number += 1
        name = f"{path.stem}-{number}{path.suffix}"
    used.add(name)
    return name
