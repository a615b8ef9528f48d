"""CSV files of boxes: rows ``path,x1,y1,x2,y2,class``, the "simple" format of keras-frcnn.

Corners are continuous pixels counted from 0. A picture may have many rows; the class ``bg`` or
five empty cells mark a picture without objects.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from frcnn.data.entries import Entry, Object, Report, leaves_folder
from frcnn.data.faults import DataError, Fault

SUFFIXES = (".csv", ".txt")
HEADER = ["path", "x1", "y1", "x2", "y2", "class"]
BACKGROUND = "bg"


def csv_splits(path: Path) -> tuple[str, ...]:
    """The names of the files beside ``path`` with its suffix, itself included, sorted."""
    return tuple(sorted(file.stem for file in path.parent.glob(f"*{path.suffix}")))


def csv_split(path: Path, split: str) -> Path:
    """The file beside ``path`` that ``split`` names, with its suffix or without."""
    return path.parent / (split if split.endswith(path.suffix) else split + path.suffix)


def read_csv(path: Path, report: Report) -> Iterator[Entry]:
    """Read the rows of a CSV file, gathered by picture, in the order of its first row.

    A relative path starts at the file's own folder and may not leave it through ``..``; an
    absolute path is taken as it is.

    Args:
        path: the file; UTF-8, with or without a byte order mark or the header line.
        report: called with one fault for each row that cannot be used.

    Raises:
        DataError: the file is no UTF-8 text, or no CSV.
    """
    gathered: dict[Path, list[Object]] = {}
    for number, row in _rows(path):
        try:
            name, item = _read_row(row, f"line {number}")
        except DataError as error:
            report(Fault(path, f"line {number} {error}", boxes=1))
        else:
            gathered.setdefault(path.parent / name, []).extend([item] if item else [])
    for image, objects in gathered.items():
        yield Entry(image, path, tuple(objects))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for row in reader:
                cells = [cell.strip() for cell in row]
                if any(cells) and not (reader.line_num == 1 and cells == HEADER):
                    yield reader.line_num, cells
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except csv.Error as error:
        raise DataError(f"{path}: is not a CSV file ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _read_row(row: list[str], place: str) -> tuple[str, Object | None]:
    """A row's picture and its object, None for a row that says there is none."""
    if len(row) != len(HEADER):
        raise DataError(f"has {len(row)} cells instead of {len(HEADER)} ({','.join(HEADER)})")
    name, *corners, label = row
    if not name:
        raise DataError("names no picture")
    if leaves_folder(name) and not _is_absolute(name):
        raise DataError(f"has {name!r}, a path that leaves the data set")
    if label == BACKGROUND or not any(row[1:]):
        return name, None
    if not label:
        raise DataError("names no class")
    try:
        x1, y1, x2, y2 = (float(corner) for corner in corners)
    except ValueError:
        raise DataError(f"has corners {','.join(corners)!r}, which are not four numbers") from None
    return name, Object(label, (x1, y1, x2, y2), (x1, y1, x2, y2), place)


def _is_absolute(name: str) -> bool:
    return Path(name).is_absolute() and ".." not in PureWindowsPath(name).parts
