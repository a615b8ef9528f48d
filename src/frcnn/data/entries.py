"""What the readers hand over, one picture at a time, and the checks every format shares."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from frcnn.data.faults import Fault, ImageError
from frcnn.data.images import image_size

Box = tuple[float, float, float, float]
Report = Callable[[Fault], None]

# Annotation tools round and count from 0 or 1; a box this far past the border is no mistake.
_OVERHANG = 2.0


@dataclass(frozen=True)
class Object:
    """One annotated object, unchecked.

    Args:
        name: class name.
        box: xyxy in pixels, continuous, counted from 0.
        stated: the same numbers as the file has them, for messages and for the test of area.
        place: where in the file it stands, e.g. ``"object 3"`` or ``"line 12"``.
        difficult: neither trained on nor scored.
    """

    name: str
    box: Box
    stated: Box
    place: str
    difficult: bool = False


@dataclass(frozen=True)
class Entry:
    """One annotated picture, unchecked.

    Args:
        image: path of the picture.
        source: the annotation file.
        objects: what it shows; none for a negative.
        size: (height, width) the annotation states, else None.
    """

    image: Path
    source: Path
    objects: tuple[Object, ...] = ()
    size: tuple[int, int] | None = None


def leaves_folder(path: str) -> bool:
    """Whether a relative path written in an annotation is absolute or climbs with ``..``."""
    windows = PureWindowsPath(path)
    rooted = bool(windows.drive or windows.root) or PurePosixPath(path).is_absolute()
    return rooted or ".." in windows.parts


def checked_size(entry: Entry, report: Report) -> tuple[int, int] | None:
    """Read the size of the entry's picture; report a fault and give None if it is unusable."""
    try:
        size = image_size(entry.image)
    except ImageError as error:
        report(Fault(error.file, error.problem, images=1))
        return None
    if entry.size not in (None, size):
        stated_height, stated_width = entry.size
        report(
            Fault(
                entry.source,
                f"states {stated_width}x{stated_height} pixels, but {entry.image.name} has "
                f"{size[1]}x{size[0]}",
                images=1,
            )
        )
        return None
    return size


def checked_objects(entry: Entry, size: tuple[int, int], report: Report) -> list[Object]:
    """The objects whose boxes are sound, clipped to the picture; the others are reported.

    Args:
        entry: the annotation.
        size: (height, width) of its picture.
        report: called with one fault for each box left out.
    """
    sound = []
    for item in entry.objects:
        problem = _box_problem(item, size)
        if problem is None:
            sound.append(
                Object(item.name, _clip(item.box, size), item.stated, item.place, item.difficult)
            )
        else:
            report(Fault(entry.source, f"{item.place} ({item.name}) {problem}", boxes=1))
    return sound


def _box_problem(item: Object, size: tuple[int, int]) -> str | None:
    shown = "(" + ", ".join(f"{value:g}" for value in item.stated) + ")"
    if not all(math.isfinite(value) for value in item.stated):
        return f"has a coordinate that is not a finite number: {shown}"
    x1, y1, x2, y2 = item.stated
    if x2 < x1 or y2 < y1:
        return f"has its corners the wrong way round: {shown}"
    if x2 == x1 or y2 == y1:
        return f"has a box without area: {shown}"
    x1, y1, x2, y2 = item.box
    height, width = size
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        return f"lies outside its picture of {width}x{height} pixels: {shown}"
    if max(-x1, -y1, x2 - width, y2 - height) > _OVERHANG:
        return f"reaches beyond its picture of {width}x{height} pixels: {shown}"
    x1, y1, x2, y2 = np.asarray(_clip(item.box, size), np.float32)
    if x2 <= x1 or y2 <= y1:  # too thin for single precision
        return f"has a box without area: {shown}"
    return None


def _clip(box: Box, size: tuple[int, int]) -> Box:
    height, width = size
    x1, y1, x2, y2 = box
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
