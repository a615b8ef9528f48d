"""Where the pictures are that an annotation names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from frcnn.data.entries import leaves_folder
from frcnn.data.faults import DataError, Kind
from frcnn.data.images import SUFFIXES

_MOST_FILES = 10_000_000


def find_picture(name: str, folders: Sequence[Path]) -> Path:
    """The first file of this name in ``folders``.

    Args:
        name: relative to one of the folders, with slashes or backslashes.
        folders: where to look, in this order; at least one.

    Raises:
        DataError: there is none, or the name leads out of the folders; without the file at fault.
    """
    shown = ascii(name if len(name) <= 100 else name[:100] + "...")
    if leaves_folder(name):
        raise DataError(f"has {shown}, a path that leaves the data set", Kind.OUTER_PATH)
    path = first_file(name.replace("\\", "/"), folders)
    if path is None:
        problem = f"names {shown}, which is not in {listing(folders)}"
        raise DataError(problem, Kind.MISSING_PICTURE)
    return path


def first_file(name: str, folders: Sequence[Path], suffixes: Sequence[str] = ("",)) -> Path | None:
    """The first file in ``folders`` of this name with one of the suffixes behind it, if any."""
    for folder in folders:
        for suffix in suffixes:
            path = folder / (name + suffix)
            if os.path.isfile(path):
                return path
    return None


def pictures_below(folder: Path) -> Iterator[Path]:
    """The picture files in ``folder`` and below it, sorted; hidden files are passed over.

    Raises:
        DataError: it is the whole file system, or as large as one.
    """
    place = os.path.realpath(folder)
    if os.path.dirname(place) == place:
        raise DataError(f"{folder}: is the whole file system, not a folder of pictures")
    seen = 0
    for path, folders, files in os.walk(folder):
        seen += 1 + len(files)
        if seen > _MOST_FILES:
            raise DataError(f"{folder}: has more than {_MOST_FILES:,} files below it")
        folders.sort()
        yield from (Path(path, name) for name in sorted(files) if is_picture(name))


def holds_pictures(folder: Path) -> bool:
    """Whether there are picture files right in ``folder``."""
    return any(is_picture(name) for name in os.listdir(folder))


def is_picture(name: str) -> bool:
    """Whether a file of this name in a folder is a picture; a hidden one is not."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def folders_in(folder: Path) -> list[Path]:
    """The folders in ``folder``, sorted, hidden ones left out; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))


def existing_folders(candidates: Iterable[Path]) -> tuple[Path, ...]:
    """Those that are folders, each once, in the order given."""
    return tuple(folder for folder in dict.fromkeys(candidates) if folder.is_dir())


def listing(paths: Iterable[Path]) -> str:
    """``"a, b or c"``, for messages."""
    *others, last = (str(path) for path in paths)
    return f"{', '.join(others)} or {last}" if others else last
