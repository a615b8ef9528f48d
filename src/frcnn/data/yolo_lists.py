"""Text files that list the pictures of a YOLO data set, one a line, absolute or relative."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PureWindowsPath

from frcnn.data.entries import Report, leaves_folder
from frcnn.data.faults import DataError, Fault, Kind
from frcnn.data.lookup import by_trailing_parts, find_picture, first_file, moved_remark
from frcnn.data.yolo_settings import read_text

_MOST_LIST = 1 << 28  # bytes


def read_list(file: Path, folders: Sequence[Path], report: Report) -> Iterator[Path]:
    """The pictures that a list names; an absolute path may name none.

    Paths that are not there are found by their ends, if they are.

    Args:
        file: the list.
        folders: where relative paths may start, besides at the list's own folder.
        report: called with one fault for each line that leads to no picture.

    Raises:
        DataError: the list is no text.
    """
    places = (file.parent, *folders)
    lines = [line.strip() for line in read_text(file, _MOST_LIST).splitlines()]
    names = dict.fromkeys(filter(None, lines))
    is_folder = lru_cache(os.path.isdir)
    pictures = ((name, _as_written(name, places, is_folder)) for name in names)
    found = {name: picture for name, picture in pictures if picture}
    moved = by_trailing_parts([name for name in names if name not in found], places, found)
    if moved:
        report(Fault(file, moved_remark(moved), kind=Kind.READING))
    found |= moved
    for number, name in enumerate(lines, 1):
        if name:
            try:
                yield found.get(name) or _missing(name, places)
            except DataError as error:
                kind = error.kind or Kind.ANNOTATION
                report(Fault(file, f"line {number} {error}", images=1, kind=kind))


def _as_written(name: str, places: Sequence[Path], is_folder: Callable[[str], bool]) -> Path | None:
    """The picture; of an absolute path, only its folder is looked for, as that takes no time."""
    if _is_absolute(name):
        return Path(name) if is_folder(os.path.dirname(name)) else None
    return None if leaves_folder(name) else first_file(name.replace("\\", "/"), places)


def _missing(name: str, places: Sequence[Path]) -> Path:
    return Path(name) if _is_absolute(name) else find_picture(name, places)


def _is_absolute(name: str) -> bool:
    return leaves_folder(name) and ".." not in PureWindowsPath(name).parts
