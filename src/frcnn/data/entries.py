"""What the readers hand over, one picture at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from frcnn.data.faults import Fault
from frcnn.errors import printable

Box = tuple[float, float, float, float]
Report = Callable[[Fault], None]


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
