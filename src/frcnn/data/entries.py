"""What the readers hand over, one picture at a time, and the checks every format shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from frcnn.data.faults import Fault, ImageError, Kind
from frcnn.data.images import image_size
from frcnn.errors import printable

Box = tuple[float, float, float, float]
Report = Callable[[Fault], None]

# Annotation tools round and count from 0 or 1; a box this far past the border is no mistake.
_OVERHANG = 2.0
# Of one picture; training compares all of them with all anchors.
_MOST_OBJECTS = 10_000


@dataclass(frozen=True)
class Object:
    """One annotated object, unchecked.

    Args:
        name: class name; it is made ``printable``.
        box: xyxy in pixels, continuous, counted from 0.
        stated: the same numbers as the file has them, for messages and for the test of area.
        place: where in the file it stands, e.g. ``"object 3"`` or ``"line 12"``.
        difficult: neither trained on nor scored; COCO's crowds are read as such.
        area: square pixels that the annotation states (COCO: of the mask), else None.
    """

    name: str
    box: Box
    stated: Box
    place: str
    difficult: bool = False
    area: float | None = None

    def __post_init__(self):
        object.__setattr__(self, "name", printable(self.name))


@dataclass(frozen=True)
class Entry:
    """One annotated picture, unchecked.

    Args:
        image: path of the picture.
        source: the annotation file.
        objects: what it shows; none for a negative.
        size: (height, width) the annotation states, else None.
        shares: boxes are shares of the picture's width and height, not pixels.
    """

    image: Path
    source: Path
    objects: tuple[Object, ...] = ()
    size: tuple[int, int] | None = None
    shares: bool = False


@dataclass(frozen=True)
class Reading:
    """What a reader makes of a split.

    Args:
        entries: its pictures; a reader may go on reading while they are asked for.
        classes: the class names in the order the data set declares, None if it declares none;
            they are made ``printable``.
    """

    entries: Iterable[Entry]
    classes: tuple[str, ...] | None = None

    def __post_init__(self):
        if self.classes is not None:
            object.__setattr__(self, "classes", tuple(dict.fromkeys(map(printable, self.classes))))


@dataclass(frozen=True)
class Source:
    """A data set that a reader found at a path and has not read yet.

    Args:
        splits: names of its splits.
        read: takes one of them, or None for all there is at the path, and where to report.
        own: the split that the path itself is, if it is the file of one.
        unlisted: names that ``read`` also takes.
    """

    splits: tuple[str, ...]
    read: Callable[[str | None, Report], Reading]
    own: str | None = None
    unlisted: tuple[str, ...] = ()


def leaves_folder(path: str) -> bool:
    """Whether a relative path written in an annotation is absolute or climbs with ``..``."""
    windows = PureWindowsPath(path)
    rooted = bool(windows.drive or windows.root) or PurePosixPath(path).is_absolute()
    return rooted or ".." in windows.parts


def checked_size(entry: Entry, report: Report) -> tuple[int, int] | None:
    """Read the size of the entry's picture; report a fault and give None if it is unusable."""
    count = len(entry.objects)
    if count > _MOST_OBJECTS:
        problem = f"has {count:,} boxes in {entry.image.name}, more than {_MOST_OBJECTS:,}"
        report(Fault(entry.source, problem, images=1, kind=Kind.CROWDED))
        return None
    try:
        size = image_size(entry.image)
    except ImageError as error:
        report(Fault(error.file, error.problem, images=1, kind=error.kind))
        return None
    if entry.size not in (None, size):
        stated_height, stated_width = entry.size
        problem = (
            f"states {stated_width}x{stated_height} pixels, but {entry.image.name} has "
            f"{size[1]}x{size[0]}"
        )
        kind = Kind.TURNED if entry.size == size[::-1] else Kind.SIZE
        report(Fault(entry.source, problem, images=1, kind=kind))
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
        if entry.shares:
            item = replace(item, box=_scale(item.box, size), stated=_scale(item.stated, size))
        found = _box_problem(item, size)
        if found is None:
            sound.append(replace(item, box=_clip(item.box, size)))
        else:
            kind, problem = found
            problem = f"{item.place} ({item.name}) {problem}"
            report(Fault(entry.source, problem, boxes=1, kind=kind))
    return sound


def _box_problem(item: Object, size: tuple[int, int]) -> tuple[Kind, str] | None:
    shown = "(" + ", ".join(f"{value:g}" for value in item.stated) + ")"
    if not all(math.isfinite(value) for value in item.stated):
        return Kind.NOT_FINITE, f"has a coordinate that is not a finite number: {shown}"
    x1, y1, x2, y2 = item.stated
    if x2 < x1 or y2 < y1:
        return Kind.REVERSED, f"has its corners the wrong way round: {shown}"
    if x2 == x1 or y2 == y1:
        return Kind.NO_AREA, f"has a box without area: {shown}"
    x1, y1, x2, y2 = item.box
    height, width = size
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        return Kind.OUTSIDE, f"lies outside its picture of {width}x{height} pixels: {shown}"
    if max(-x1, -y1, x2 - width, y2 - height) > _OVERHANG:
        return Kind.BEYOND, f"reaches beyond its picture of {width}x{height} pixels: {shown}"
    x1, y1, x2, y2 = np.asarray(_clip(item.box, size), np.float32)
    if x2 <= x1 or y2 <= y1:  # too thin for single precision
        return Kind.NO_AREA, f"has a box without area: {shown}"
    return None


def _scale(box: Box, size: tuple[int, int]) -> Box:
    height, width = size
    x1, y1, x2, y2 = box
    return x1 * width, y1 * height, x2 * width, y2 * height


def _clip(box: Box, size: tuple[int, int]) -> Box:
    height, width = size
    x1, y1, x2, y2 = box
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
