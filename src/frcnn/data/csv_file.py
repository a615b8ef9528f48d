"""CSV files of boxes, a row a box: keras-frcnn's ``path,x1,y1,x2,y2,class``, or with a header.

Corners are continuous pixels counted from 0, or shares of the picture's width and height where
all of a file's lie round 0 to 1. A header names the columns, in any order and beside others, by
the names that exports use (TensorFlow, RetinaNet, Open Images, ...); makesense.ai's rows are known
without one. A picture may have many rows; the class ``bg`` or empty cells mark a picture without
objects. ``width`` and ``height`` of a header state the picture's size, which its file must then
have.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PureWindowsPath

from frcnn.data.csv_columns import DIFFICULT, HEADER, Columns, columns_of
from frcnn.data.csv_rows import read_rows
from frcnn.data.entries import Entry, Object, Reading, Report, Source, leaves_folder
from frcnn.data.faults import DataError, Fault, Kind
from frcnn.data.images import SUFFIXES as PICTURES
from frcnn.data.joining import joined
from frcnn.data.lookup import by_trailing_parts, existing_folders, first_file, moved_remark
from frcnn.data.names import common_name
from frcnn.data.resizing import Size

SUFFIXES = (".csv", ".txt")
BACKGROUND = "bg"
ROBOFLOW = "_annotations.csv"
_SIDES = ("height", "width")
_OF_FILES = ("data", "annotations", "labels")  # folders that hold no pictures themselves
_OVERHANG = 0.5  # of the picture; a share may lie outside of 0..1 by that much


def csv_source(path: Path) -> Source | None:
    """The CSV data set at ``path``, a file or a folder of them; None if there is none."""
    own = None
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        own = _split_name(path)
        files = _by_split(_beside(path)) | {own: path}
    else:
        files = _by_split(list(path.glob(f"*/{ROBOFLOW}")) or list(path.glob("*.csv")))
    if not files:
        return None

    def read(split: str | None, report: Report) -> Reading:
        name = split.removesuffix(path.suffix) if split else own
        chosen = [files[name]] if name else sorted(files.values())
        entries = (entry for file in chosen for entry in read_csv(file, report))
        return Reading(joined(path, entries, report))

    unlisted = tuple(name + path.suffix for name in files) if own else ()
    return Source(tuple(sorted(files)), read, own, unlisted)


def read_csv(path: Path, report: Report) -> Iterator[Entry]:
    """Read the rows of a CSV file, gathered by picture, in the order of its first row.

    A relative path starts at the file's own folder, or at ``images`` or the split's folder there,
    and may not leave it through ``..``; an absolute path is taken as it is. Paths that are not
    there are found by their ends, if they are.

    Args:
        path: the file; UTF-8, with or without a byte order mark or a header line.
        report: called with one fault for each row that cannot be used.

    Raises:
        DataError: the file is no UTF-8 text, no CSV, or has a header that lacks a column.
    """
    gathered: dict[str, list[Object]] = {}
    stated: dict[str, Size] = {}
    columns = None
    for number, row in read_rows(path):
        if columns is None:
            columns, is_header = columns_of(path, row)
            if is_header:
                continue
        try:
            name, item = _read_row(row, columns, f"line {number}")
        except DataError as error:
            kind = error.kind or Kind.OBJECT
            report(Fault(path, f"line {number} {error}", boxes=1, kind=kind))
        else:
            gathered.setdefault(name, []).extend([item] if item else [])
            size = _stated_size(row, columns, item)
            if size:
                stated.setdefault(name, size)
    suffixes = ("", *PICTURES) if columns and columns.is_stem else ("",)
    images = _images(path, gathered, suffixes, report)
    pictures: dict[Path, list[Object]] = {}
    sizes: dict[Path, Size | None] = {}
    for name, objects in gathered.items():  # a picture may be spelled in two ways
        image = images.get(name) or path.parent / name
        pictures.setdefault(image, []).extend(objects)
        sizes[image] = sizes.get(image) or stated.get(name)
    shares = columns is not None and columns.is_share
    if not shares and _are_shares(pictures.values()):
        shares, problem = True, "has corners from 0 to 1: read as shares of the picture, not pixels"
        report(Fault(path, problem, kind=Kind.READING))
    for image, objects in pictures.items():
        # Shares are right whatever the picture was resized to.
        yield Entry(image, path, tuple(objects), None if shares else sizes[image], shares)


def _by_split(files: list[Path]) -> dict[str, Path]:
    """The files by their splits' names; a list of classes beside them is none."""
    shown = [file for file in files if file.is_file() and not file.name.startswith(".")]
    if len(shown) > 1:
        shown = [file for file in shown if not _lists_classes(file)]
    return {_split_name(file): file for file in shown}


def _lists_classes(file: Path) -> bool:
    """Whether its first row has two cells, as keras-retinanet's classes.csv and Open Images' do."""
    if file.suffix.lower() != ".csv":  # there may be a label file of each picture
        return False
    try:
        _, row = next(read_rows(file), (0, []))
    except DataError:
        return False
    return len(row) == 2


def _split_name(file: Path) -> str:
    return file.absolute().parent.name if file.name == ROBOFLOW else file.stem


def _beside(file: Path) -> list[Path]:
    """The files of the data set that ``file`` is a split of."""
    if file.name == ROBOFLOW:
        return list(file.absolute().parent.parent.glob(f"*/{ROBOFLOW}"))
    return list(file.parent.glob(f"*{file.suffix}"))


def _images(
    file: Path, names: Iterable[str], suffixes: Sequence[str], report: Report
) -> dict[str, Path]:
    """The pictures by their names in the file; only those that are there."""
    folders = _folders(file)
    found, missing = {}, []
    for name in names:
        image = _as_written(name, folders, suffixes)
        if image:
            found[name] = image
        else:
            missing.append(name)
    moved = by_trailing_parts(missing, folders, found)
    if moved:
        report(Fault(file, moved_remark(moved), kind=Kind.READING))
    return found | moved


def _as_written(name: str, folders: Sequence[Path], suffixes: Sequence[str]) -> Path | None:
    if leaves_folder(name) and not Path(name).is_absolute():  # of another kind of system
        return None
    image = first_file(name, folders, suffixes)
    if image is None and "\\" in name:
        image = first_file(name.replace("\\", "/"), folders, suffixes)
    return image


def _folders(file: Path) -> tuple[Path, ...]:
    """Where a file's relative paths may start; ``train_labels.csv`` also at ``images/train``.

    Those of a file in a folder ``data``, ``annotations`` or ``labels`` also start beside it.
    """
    split = re.sub(r"_(labels|annotations)$", "", file.stem)
    places = ("", "images", split, f"images/{split}", f"images/{common_name(split)}")
    here = file.parent if file.parent.name else file.absolute().parent
    above = [here.parent] if here.name.lower() in _OF_FILES else []
    return existing_folders(start / place for start in (file.parent, *above) for place in places)


def _read_row(row: list[str], columns: Columns, place: str) -> tuple[str, Object | None]:
    """A row's picture and its object, None for a row that says there is none."""
    if len(row) != len(columns.names):
        raise DataError(
            f"has {len(row)} cells instead of {len(columns.names)} ({','.join(columns.names)})"
        )
    name, *corners, label = (row[columns.places[meaning]] for meaning in HEADER)
    if not name:
        raise DataError("names no picture")
    if ".." in PureWindowsPath(name).parts:
        raise DataError(f"has {name!r:.100}, a path that leaves the data set", Kind.OUTER_PATH)
    if label == BACKGROUND or not any((*corners, label)):
        return name, None
    if not label:
        raise DataError("names no class")
    try:
        x1, y1, x2, y2 = (float(corner) for corner in corners)
        if columns.has_sides:
            x2, y2 = x1 + x2, y1 + y2
    except ValueError:
        shown = f"{','.join(corners)!r:.100}"
        raise DataError(f"has corners {shown}, which are not four numbers") from None
    flag = row[columns.places[DIFFICULT]] if DIFFICULT in columns.places else ""
    difficult = flag.lower() in ("1", "true", "yes")
    return name, Object(label, (x1, y1, x2, y2), (x1, y1, x2, y2), place, difficult)


def _are_shares(pictures: Iterable[list[Object]]) -> bool:
    """Whether corners are shares of the picture: as pixels, no box would be two of them wide.

    Without a fraction, (0, 0, 1, 1) may as well be a pixel.
    """
    corners = [value for objects in pictures for item in objects for value in item.box]
    corners = [value for value in corners if math.isfinite(value)]
    least, most = -_OVERHANG, 1 + _OVERHANG
    within = all(least <= value <= most for value in corners)
    return within and any(value % 1 for value in corners)


def _stated_size(row: list[str], columns: Columns, item: Object | None) -> Size | None:
    """The picture's (height, width) as a row states it; None where that is no size."""
    if not all(side in columns.places for side in _SIDES):
        return None
    try:
        height, width = (float(row[columns.places[side]]) for side in _SIDES)
    except ValueError:
        return None
    if not (1 <= height < math.inf and 1 <= width < math.inf):
        return None
    if item is not None:
        x1, y1, x2, y2 = item.box
        if abs(x2 - x1 - width) <= 1 and abs(y2 - y1 - height) <= 1:  # some state the box's sides
            return None
    return int(height), int(width)
