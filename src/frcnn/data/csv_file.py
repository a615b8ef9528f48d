"""CSV files of boxes, a row a box: keras-frcnn's ``path,x1,y1,x2,y2,class``, or with a header.

Corners are continuous pixels counted from 0, or shares of the picture's width and height where
all of a file's lie round 0 to 1. A header names the columns, in any order and beside
others; ``_WORDS`` has the names that exports use (TensorFlow, RetinaNet, Open Images, ...). A
picture may have many rows; the class ``bg`` or empty cells mark a picture without objects.
``width`` and ``height`` of a header state the picture's size, which its file must then have.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path, PureWindowsPath
from typing import TextIO

from frcnn.data.entries import Entry, Object, Reading, Report, Source, leaves_folder
from frcnn.data.faults import DataError, Fault, Kind
from frcnn.data.images import SUFFIXES as PICTURES
from frcnn.data.joining import joined
from frcnn.data.lookup import existing_folders, first_file
from frcnn.data.names import common_name
from frcnn.data.resizing import Size
from frcnn.files import open_file

SUFFIXES = (".csv", ".txt")
HEADER = ("path", "x1", "y1", "x2", "y2", "class")
DIFFICULT = "difficult"
BACKGROUND = "bg"
ROBOFLOW = "_annotations.csv"
_SIDES = ("height", "width")
_OVERHANG = 0.5  # of the picture; a share may lie outside of 0..1 by that much

# What columns are called, in small letters without spaces, dots, hyphens and underscores. Where
# a header has several for one meaning, the first here counts.
_WORDS = {
    "path": (
        *("path", "filename", "filepath", "file", "imagepath", "imagename", "imagefile"),
        *("imgpath", "image", "img", "imageid"),
    ),
    "x1": ("x1", "xmin", "left", "bboxxmin"),
    "y1": ("y1", "ymin", "top", "bboxymin"),
    "x2": ("x2", "xmax", "right", "bboxxmax"),
    "y2": ("y2", "ymax", "bottom", "bboxymax"),
    "class": ("class", "classname", "label", "labelname", "category", "categoryname", "name"),
    DIFFICULT: ("difficult", "isdifficult", "iscrowd", "isgroupof"),
    "height": ("height", "imageheight", "imgheight"),
    "width": ("width", "imagewidth", "imgwidth"),
}
_MOST_BYTES = 1 << 31  # the largest of Open Images has as many
_MOST_ROW = 1_000_000  # characters; a row has about a hundred

_CORNERS = HEADER[1:5]
_NEEDED = "a picture (path, filename), corners (x1 or xmin, ...) and a class (class, label)"


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
    and may not leave it through ``..``; an absolute path is taken as it is.

    Args:
        path: the file; UTF-8, with or without a byte order mark or a header line.
        report: called with one fault for each row that cannot be used.

    Raises:
        DataError: the file is no UTF-8 text, no CSV, or has a header that lacks a column.
    """
    folders = _folders(path)
    gathered: dict[str, list[Object]] = {}
    stated: dict[str, Size] = {}
    columns = None
    for number, row in _rows(path):
        if columns is None:
            columns, is_header = _columns(path, row)
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
    pictures: dict[Path, list[Object]] = {}
    sizes: dict[Path, Size | None] = {}
    for name, objects in gathered.items():  # a picture may be spelled in two ways
        image = first_file(name, folders, suffixes) or path.parent / name
        pictures.setdefault(image, []).extend(objects)
        sizes[image] = sizes.get(image) or stated.get(name)
    shares = columns is not None and columns.is_share
    if not shares and _are_shares(pictures.values()):
        shares, problem = True, "has corners from 0 to 1: read as shares of the picture, not pixels"
        report(Fault(path, problem, kind=Kind.READING))
    for image, objects in pictures.items():
        # Shares are right whatever the picture was resized to.
        yield Entry(image, path, tuple(objects), None if shares else sizes[image], shares)


@dataclass(frozen=True)
class Columns:
    """Where in a row is what.

    Args:
        places: index by meaning, as in ``_WORDS``; those of ``HEADER`` are all there.
        names: all columns, for messages.
        is_stem: pictures may be named without their suffix.
        is_share: corners are shares of the picture's width and height, not pixels.
    """

    places: dict[str, int]
    names: tuple[str, ...] = HEADER
    is_stem: bool = False
    is_share: bool = False


_PLAIN = Columns({name: index for index, name in enumerate(HEADER)})


def _columns(file: Path, row: list[str]) -> tuple[Columns, bool]:
    """The columns as the first row tells them, and whether it is a header.

    Raises:
        DataError: it is a header, but a column is missing.
    """
    words = [re.sub(r"[\s._-]+", "", cell).casefold() for cell in row]
    found = {
        meaning: words.index(next(word for word in known if word in words))
        for meaning, known in _WORDS.items()
        if not set(known).isdisjoint(words)
    }
    if found.keys().isdisjoint(_CORNERS) and not _is_unknown_header(row):
        return _PLAIN, False
    missing = [name for name in HEADER if name not in found]
    if missing:
        shown = ",".join(row) if len(",".join(row)) <= 200 else f"of {len(row)} columns"
        raise DataError(
            f"{file}: its header {shown} has no column that is known for {', '.join(missing)}; "
            f"needed are {_NEEDED}"
        )
    # Open Images' files are those with a LabelName; Kaggle's with an image_id are in pixels.
    is_stem = words[found["path"]] == "imageid"
    is_share = is_stem and words[found["class"]] == "labelname"
    return Columns(found, tuple(row), is_stem, is_share), True


def _is_unknown_header(row: list[str]) -> bool:
    """Whether a row without a known corner is still a header: several words and no number."""
    texts = [cell for cell in row if cell]
    is_row = len(row) == len(HEADER) and not any(row[1:5])
    return len(texts) > 1 and not is_row and not any(map(_is_number, texts))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


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
        _, row = next(_rows(file), (0, []))
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


def _folders(file: Path) -> tuple[Path, ...]:
    """Where a file's relative paths may start; ``train_labels.csv`` also at ``images/train``."""
    split = re.sub(r"_(labels|annotations)$", "", file.stem)
    places = ("", "images", split, f"images/{split}", f"images/{common_name(split)}")
    return existing_folders(file.parent / place for place in places)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    size = 0

    def lines(file: TextIO) -> Iterator[str]:
        nonlocal size
        while line := file.readline(_MOST_ROW):
            size += len(line)
            if size >= _MOST_ROW:  # quoted cells may go on over many lines
                raise DataError(f"{path}: has a row of more than {_MOST_ROW:,} characters")
            yield line

    try:
        with TextIOWrapper(open_file(path, _MOST_BYTES), encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(lines(file))
            for row in reader:
                size = 0
                cells = [cell.strip() for cell in row]
                if any(cells):
                    yield reader.line_num, cells
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except csv.Error as error:
        raise DataError(f"{path}: is not a CSV file ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _read_row(row: list[str], columns: Columns, place: str) -> tuple[str, Object | None]:
    """A row's picture and its object, None for a row that says there is none."""
    if len(row) != len(columns.names):
        raise DataError(
            f"has {len(row)} cells instead of {len(columns.names)} ({','.join(columns.names)})"
        )
    name, *corners, label = (row[columns.places[meaning]] for meaning in HEADER)
    if not name:
        raise DataError("names no picture")
    if leaves_folder(name) and not _is_absolute(name):
        raise DataError(f"has {name!r:.100}, a path that leaves the data set", Kind.OUTER_PATH)
    if label == BACKGROUND or not any((*corners, label)):
        return name, None
    if not label:
        raise DataError("names no class")
    try:
        x1, y1, x2, y2 = (float(corner) for corner in corners)
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


def _is_absolute(name: str) -> bool:
    return Path(name).is_absolute() and ".." not in PureWindowsPath(name).parts
