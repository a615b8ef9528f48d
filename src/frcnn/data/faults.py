"""What is wrong with a data set: the faults that are counted and the error that stops."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from frcnn.errors import UserError, printable

_MOST_SHOWN = 1000  # characters of a fault
_MOST_KEPT = 100_000


class Kind(StrEnum):
    """What is wrong, in words that programs may rely on, as sentences change."""

    ANNOTATION = "broken annotation"  # a file or a record that cannot be read
    MISSING_ANNOTATION = "missing annotation"
    OBJECT = "broken object"  # without a name, or with other than four numbers
    PICTURE = "broken picture"
    MISSING_PICTURE = "missing picture"
    OUTER_PATH = "path out of the data set"
    CROWDED = "too many boxes"
    SIZE = "other size stated"
    TURNED = "turned size stated"  # height and width swapped: a picture turned by its EXIF tag
    NOT_FINITE = "coordinate no number"
    REVERSED = "reversed corners"
    NO_AREA = "box without area"
    OUTSIDE = "box outside"
    BEYOND = "box beyond the border"
    LISTED_TWICE = "listed twice"
    SPELLING = "class spelled in two ways"
    BLANKS = "blanks round a class name"
    UNKNOWN_CLASS = "unknown class"
    READING = "remark"  # on how the data set is read
    # Those below are for an audit to find; nothing is left out for them.
    SPLIT = "unusable split"
    BOX_TWICE = "box twice"
    BOX_OF_TWO = "box of two classes"
    TINY = "tiny box"
    WHOLE = "box of the whole picture"
    DARK = "picture nearly black"  # of 16 bits, few of which are used
    NOTHING = "nothing to train on"
    NO_OBJECTS = "picture without objects"
    TWICE = "picture twice in a split"
    SHARED = "picture in two splits"
    DIFFERING = "picture with other boxes in another split"
    ALIKE = "picture alike in two splits"
    CLASS_OF_ONE = "class in one split alone"
    NO_ANNOTATION = "picture without annotation"
    NO_SPLIT = "annotation in no split"
    SMALL = "objects small at the training size"
    ANCHORS = "anchors that fit badly"


class DataError(UserError):
    """A data set, or a file of it, that cannot be used; the message is one sentence.

    Args:
        message: the sentence.
        kind: what is wrong, where that is more than that something cannot be read.
    """

    def __init__(self, message: str, kind: Kind | None = None):
        super().__init__(message)
        self.kind = kind


class ImageError(DataError):
    """A picture that cannot be used.

    Args:
        file: the picture's path.
        problem: what is wrong with it, without the path.
        kind: ``Kind.PICTURE``, or that it is missing.
    """

    kind: Kind

    def __init__(self, file: Path, problem: str, kind: Kind = Kind.PICTURE):
        super().__init__(f"{file}: {problem}", kind)
        self.file = file
        self.problem = problem


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a data set, and what was left out because of it.

    One for which nothing was left out is a remark on how the data set is read.

    Args:
        file: the file at fault.
        problem: what is wrong, with the offending value, without the path.
        images: how many pictures were left out for it.
        boxes: how many boxes were left out for it, those of left-out pictures not counted.
        kind: what is wrong.
    """

    file: Path
    problem: str
    images: int = 0
    boxes: int = 0
    kind: Kind = Kind.ANNOTATION

    @property
    def is_remark(self) -> bool:
        """Whether nothing was left out."""
        return not self.images and not self.boxes

    def __str__(self) -> str:
        text = printable(f"{self.file}: {self.problem}")
        return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


class Faults:
    """Gathers faults; from the first hundred thousand on, they are only counted.

    A file of two bytes a line would otherwise fill the memory with what is wrong with it.

    Args:
        root: the data set.
    """

    def __init__(self, root: Path):
        self._root = root
        self._found: list[Fault] = []
        self._more = self._images = self._boxes = 0

    def add(self, fault: Fault) -> None:
        """Take one more."""
        if len(self._found) < _MOST_KEPT:
            self._found.append(fault)
        else:
            self._more += 1
            self._images += fault.images
            self._boxes += fault.boxes

    def all(self) -> tuple[Fault, ...]:
        """Those found so far; the last of them stands for the ones that were only counted."""
        if not self._more:
            return tuple(self._found)
        problem = f"has {plural(self._more, 'more fault')}, which are only counted"
        return (*self._found, Fault(self._root, problem, self._images, self._boxes))

    def first(self) -> str:
        """The end of a sentence that names the first one, or the first remark if that is all."""
        found = sorted(self._found, key=lambda fault: fault.is_remark)
        return f"; the first fault is {found[0]}" if found else ""


def plural(count: int, noun: str) -> str:
    """``"1 box"``, ``"2 boxes"``, ``"3 images"``."""
    ending = "es" if noun.endswith(("x", "s")) else "s"
    return f"{count:,} {noun if count == 1 else noun + ending}"


def describe_faults(faults: tuple[Fault, ...], named: int = 10) -> str:
    """Say in a few lines what was left out and why.

    Args:
        faults: what was found.
        named: how many faults, and how many remarks, are shown in full; the rest are only counted.

    Returns:
        Lines without a final newline; an empty string if there are no faults.
    """
    losses = [fault for fault in faults if not fault.is_remark]
    remarks = [fault for fault in faults if fault.is_remark]
    lines = []
    if losses:
        images, boxes = sum(f.images for f in losses), sum(f.boxes for f in losses)
        lines.append(f"Left out: {plural(images, 'image')} and {plural(boxes, 'box')}.")
        lines += [f"  {fault}" for fault in losses[:named]]
        if len(losses) > named:
            lines.append(f"  and {plural(len(losses) - named, 'more fault')}")
    lines += [f"Note: {fault}" for fault in remarks[:named]]
    if len(remarks) > named:
        lines.append(f"  and {plural(len(remarks) - named, 'more note')}")
    return "\n".join(lines)
