"""Where the pictures are that an annotation names."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PureWindowsPath

from frcnn.data.entries import leaves_folder
from frcnn.data.faults import DataError, Kind, plural
from frcnn.data.images import SUFFIXES

_MOST_FILES = 10_000_000
_MOST_PARTS = 8  # of a path's end; data sets are not nested deeper
_MOST_STATED = 10_000  # folders that are looked for by their ends
_CLIMBS = re.compile(r"^(\.\.[/\\])+")
# Folders of pictures that systems make: thumbnails, what was deleted, what else an archive held.
_NO_DATA = ("@eadir", "#recycle", "@recycle", "$recycle.bin", "__macosx")


def find_picture(name: str, folders: Sequence[Path]) -> Path:
    """The first file of this name in ``folders``.

    Args:
        name: relative to one of the folders, with slashes or backslashes.
        folders: where to look, in this order; at least one.

    Raises:
        DataError: there is none, or the name leads out of the folders; without the file at fault.
    """
    shown = shown_name(name)
    if leaves_folder(name):
        raise DataError(f"has {shown}, a path that leaves the data set", Kind.OUTER_PATH)
    path = first_file(name.replace("\\", "/"), folders)
    if path is None:
        problem = f"names {shown}, which is not in {listing(folders)}"
        raise DataError(problem, Kind.MISSING_PICTURE)
    return path


def find_pictures(
    names: Iterable[str], folders: Sequence[Path]
) -> tuple[dict[str, Path | DataError], dict[str, Path]]:
    """The picture of each name, by the end of its path where it is not found as written.

    Args:
        names: as of ``find_picture``, or written elsewhere.
        folders: where to look.

    Returns:
        The picture of each name, or what is wrong with the name; those found by their ends.
    """
    found: dict[str, Path] = {}
    wrong: dict[str, DataError] = {}
    for name in dict.fromkeys(names):
        try:
            found[name] = find_picture(name, folders)
        except DataError as error:
            wrong[name] = error
    ends = {_CLIMBS.sub("", name): name for name in wrong}
    moved = {ends[end]: path for end, path in by_trailing_parts(ends, folders, found).items()}
    return {**wrong, **found, **moved}, moved


def shown_name(name: str) -> str:
    """A picture's name as an annotation has it, of any length, for messages."""
    return ascii(name if len(name) <= 100 else name[:100] + "...")


def first_file(name: str, folders: Sequence[Path], suffixes: Sequence[str] = ("",)) -> Path | None:
    """The first file in ``folders`` of this name with one of the suffixes behind it, if any."""
    for folder in folders:
        for suffix in suffixes:
            path = folder / (name + suffix)
            if os.path.isfile(path):
                return path
    return None


def by_trailing_parts(
    names: Collection[str], folders: Sequence[Path], found: Mapping[str, Path]
) -> dict[str, Path]:
    """Pictures by the ends of their paths, which were written elsewhere.

    Of ``/content/data/images/a.jpg``, with backslashes or not, first ``content/data/images/a.jpg``
    is looked for, then ``data/images/a.jpg``, ``images/a.jpg`` and ``a.jpg``; never out of the
    folders. A name leads to no picture if

    - the longest end that is there is so in two of the folders;
    - other names are found as they are written in the folder that it states, so that this one is
      merely missing;
    - the picture is another name's.

    Args:
        names: those that are not found as they are written.
        folders: where to look.
        found: pictures by their names, of those that are.

    Returns:
        Pictures by name, in the order of the names; only those that are found.
    """
    if not names:
        return {}
    right = {_folder_and_file(name)[0] for name in found}
    places: dict[str, list[list[Path]]] = {}
    moved = {}
    for name in names:
        above, file = _folder_and_file(name)
        if above in right or leaves_folder(file):
            continue
        if above not in places and len(places) < _MOST_STATED:
            places[above] = _places(above, folders)
        path = _only_file(file, places.get(above, ()))
        if path:
            moved[name] = path
    named = Counter([*found.values(), *moved.values()])
    return {name: path for name, path in moved.items() if named[path] == 1}


def moved_remark(moved: Mapping[str, Path]) -> str:
    """What is to be said of pictures found ``by_trailing_parts``; at least one."""
    name, path = next(iter(moved.items()))
    return (
        f"names {plural(len(moved), 'picture')} by paths that are not there: found by the ends of "
        f"these paths, {shown_name(name)} as {path}"
    )


def _folder_and_file(name: str) -> tuple[str, str]:
    above, _, file = name.replace("\\", "/").rpartition("/")
    return above, file


def _places(above: str, folders: Sequence[Path]) -> list[list[Path]]:
    """The existing folders that a stated one may be: of each of its ends, the longest first."""
    path = PureWindowsPath(above)
    parts = path.parts[1:] if path.anchor else path.parts
    if ".." in parts:
        return []
    parts = parts[-_MOST_PARTS:]
    ends = ("/".join(parts[start:]) for start in range(len(parts) + 1))
    return [
        [place for folder in folders if os.path.isdir(place := folder / end)]
        for end in ends
        if not leaves_folder(end)
    ]


def _only_file(name: str, places: Iterable[Sequence[Path]]) -> Path | None:
    """The file of this name in the first of the places that have one; None for two files."""
    for alike in places:
        files = [path for folder in alike if os.path.isfile(path := folder / name)]
        if files:
            one = len(files) == 1 or len(set(map(os.path.realpath, files))) == 1
            return files[0] if one else None
    return None


def pictures_below(folder: Path) -> Iterator[Path]:
    """The picture files in ``folder`` and below it, sorted, hidden ones left out.

    Raises:
        DataError: it is the whole file system, or as large as one.
    """
    place = os.path.realpath(folder)
    if os.path.dirname(place) == place:
        raise DataError(f"{folder}: is the whole file system, not a folder of pictures")
    seen = 0
    for path, files in folders_below(folder):
        seen += 1 + len(files)
        if seen > _MOST_FILES:
            raise DataError(f"{folder}: has more than {_MOST_FILES:,} files below it")
        yield from (Path(path, name) for name in sorted(files) if is_picture(name))


def folders_below(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """This folder and each below it, sorted, hidden ones left out, with the names of its files."""
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        yield path, files


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
    return sorted(f for f in folder.iterdir() if f.is_dir() and not _is_hidden(f.name))


def _is_hidden(folder: str) -> bool:
    """Whether a folder of this name is hidden, or one that systems fill with copies."""
    return folder.startswith(".") or folder.lower() in _NO_DATA


def existing_folders(candidates: Iterable[Path]) -> tuple[Path, ...]:
    """Those that are folders, each once, in the order given."""
    return tuple(folder for folder in dict.fromkeys(candidates) if folder.is_dir())


def listing(paths: Iterable[Path]) -> str:
    """``"a, b or c"``, for messages."""
    *others, last = (str(path) for path in paths)
    return f"{', '.join(others)} or {last}" if others else last
