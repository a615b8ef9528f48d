"""YOLO's labels: a text file a picture, a row an object, all numbers shares of the picture.

A row is ``class cx cy w h``, the centre and the sides of the box as shares of the picture's width
and height (0 to 1), or ``class x1 y1 x2 y2 x3 y3 ...``, the polygon of a segmentation, which is
read as the box around it. Detectors write a confidence behind each box. A picture without a file,
or with an empty one, shows no object.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from frcnn.data.entries import Box, Entry, Object, Reading, Report
from frcnn.data.faults import DataError, Fault, Kind, plural
from frcnn.data.images import SUFFIXES as PICTURES
from frcnn.data.lookup import folders_below, pictures_below
from frcnn.data.yolo_lists import read_list
from frcnn.data.yolo_settings import MOST_CLASSES, NAME_LISTS, read_text

_MOST_LABELS = 1 << 24  # bytes of a picture's labels; a thousand polygons take one million
_SUFFIXES = (".txt", ".TXT", ".Txt")  # file systems may tell them apart
_ROUNDING = 0.001  # of the picture; numbers are written with six digits or fewer
_MOST = 1.5  # of the picture; a box may overhang a little, but pixels are far more


def read_yolo(
    places: Sequence[Path],
    names: Mapping[int, str] | None,
    report: Report,
    folders: Sequence[Path] = (),
    keypoints: bool = False,
) -> Reading:
    """Read the pictures of a split and their labels.

    Args:
        places: folders of pictures, read with all below them, and text files that list pictures.
        names: class names by number; None calls each class by its number.
        report: called with one fault for each picture and each row that cannot be used.
        folders: where a list's relative paths may start, besides at the list's own folder.
        keypoints: the numbers behind a row's box are keypoints, not a polygon.

    Raises:
        DataError: a list that is no text, pictures none of which has labels, or classes counted
            from 1.
    """
    images = dict.fromkeys(_pictures(places, folders, report))
    files = {image: label_file(image) for image in images}
    confidences = not keypoints and _have_confidences(filter(None, files.values()))
    if confidences:
        problem = "has labels whose rows end in a confidence, which is passed over"
        report(Fault(places[0], problem, kind=Kind.READING))
    entries, labelled, numbers = [], 0, set()
    for image, file in files.items():
        if file is None:
            entries.append(Entry(image, image))
            continue
        labelled += 1
        rows = _rows(file, report)
        if rows is not None:
            objects = tuple(_objects(file, rows, names, keypoints or confidences, numbers, report))
            entries.append(Entry(image, file, objects, shares=True))
    if entries and not labelled:
        expected = next(_label_files(entries[0].image))
        raise DataError(
            f"{places[0]}: none of its {plural(len(entries), 'picture')} has labels; the first of "
            f"them would be in {expected}"
        )
    if names is None:
        used = {item.name for entry in entries for item in entry.objects}
        return Reading(entries, tuple(sorted(used, key=int)))
    _check_start(places[0], names, numbers)
    return Reading(entries, tuple(dict.fromkeys(name for _, name in sorted(names.items()))))


def _have_confidences(files: Iterable[Path]) -> bool:
    """Whether each row of all files is a box in its picture and a share, as detectors write them.

    A sixth number may else be anything: an angle, or whole numbers the names of tracks.
    """
    has_fractions = False
    try:
        for file in files:
            for row in filter(None, map(str.split, read_text(file, _MOST_LABELS).splitlines())):
                if len(row) != 6:
                    return False
                *box, confidence = map(_number, row[1:])
                x1, y1, x2, y2 = _corners(box)
                if min(x1, y1, confidence) < -_ROUNDING or max(x2, y2, confidence) > 1 + _ROUNDING:
                    return False
                has_fractions = has_fractions or bool(confidence % 1)
    except DataError:  # what is wrong is said when the file is read
        return False
    return has_fractions


def _check_start(place: Path, names: Mapping[int, str], numbers: set[int]) -> None:
    """Refuse classes counted from 1, as each name would stand for the class behind its own."""
    count = len(names)
    if set(names) == set(range(count)) and numbers == set(range(1, count + 1)):
        raise DataError(
            f"{place}: its labels use each class from 1 to {count} and never 0, where the first of "
            f"the {plural(count, 'name')} belongs, {names[0]!r:.100}: YOLO counts classes from 0. "
            "Take 1 from each number, or put a name for 0 in front of names"
        )


def label_file(image: Path) -> Path | None:
    """The file with a picture's labels: below ``labels`` in place of ``images``, or beside it."""
    return next((path for path in _label_files(image) if os.path.isfile(path)), None)


def labels_without_picture(images: Iterable[Path]) -> list[Path]:
    """Label files below the same folders ``labels`` as those of these pictures, but of no picture.

    Lists of pictures and of class names that lie there are none.
    """
    above = {
        around[0]
        for image in images
        if (around := _around_images(image.parent)) and label_file(image)
    }
    roots = [(Path(*parts, "images"), Path(*parts, "labels")) for parts in sorted(above)]
    return [
        Path(path, name)
        for pictures, labels in roots
        for path, files in folders_below(labels)
        for name in _without(files, {path, pictures / Path(path).relative_to(labels)})
        if name not in NAME_LISTS and _holds_labels(Path(path, name))
    ]


def _without(files: Iterable[str], folders: Iterable[str | Path]) -> list[str]:
    """The text files, sorted, with whose name there is no picture in these folders."""
    beside = (os.listdir(folder) for folder in folders if os.path.isdir(folder))
    pictures = (os.path.splitext(name) for names in beside for name in names)
    stems = {stem for stem, suffix in pictures if suffix.lower() in PICTURES}
    parts = ((name, *os.path.splitext(name)) for name in sorted(files))
    return [name for name, stem, suffix in parts if suffix in _SUFFIXES and stem not in stems]


def _holds_labels(file: Path) -> bool:
    """Whether a text file is empty or begins with a row of numbers."""
    try:
        rows = (row.split() for row in read_text(file, _MOST_LABELS).splitlines() if row.strip())
        return all(math.isfinite(_number(cell)) for cell in next(rows, []))
    except DataError:
        return False


def label_folders(folder: Path) -> list[Path]:
    """Where the labels of the pictures in a folder may be, in the order they are looked for."""
    around = _around_images(folder)
    return [folder] if around is None else [Path(*around[0], "labels", *around[1]), folder]


def _label_files(image: Path) -> Iterator[Path]:
    for place in label_folders(image.parent):
        for suffix in _SUFFIXES:
            yield place / f"{image.stem}{suffix}"  # with_suffix refuses "/"


def _around_images(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The parts of a path above and below the innermost ``images`` in it, if there is one."""
    parts = folder.parts
    if "images" not in parts:
        return None
    place = len(parts) - 1 - parts[::-1].index("images")
    return parts[:place], parts[place + 1 :]


def _pictures(places: Sequence[Path], folders: Sequence[Path], report: Report) -> Iterator[Path]:
    for place in places:
        yield from (pictures_below(place) if place.is_dir() else read_list(place, folders, report))


def _rows(file: Path, report: Report) -> list[str] | None:
    """The lines of a label file; None, and a fault for its picture, if it is no text."""
    try:
        return read_text(file, _MOST_LABELS).splitlines()
    except DataError as error:
        report(Fault(file, str(error).removeprefix(f"{file}: "), images=1))
        return None


def _objects(
    file: Path,
    rows: list[str],
    names: Mapping[int, str] | None,
    box_first: bool,
    numbers: set[int],
    report: Report,
) -> Iterator[Object]:
    """The objects of a label file, and the class number of each row into ``numbers``."""
    for line, row in enumerate(rows, 1):
        if not row.strip():
            continue
        try:
            number, box = _read_row(row.split(), names, box_first, numbers)
        except DataError as error:
            kind = error.kind or Kind.OBJECT
            report(Fault(file, f"line {line} {error}", boxes=1, kind=kind))
        else:
            name = str(number) if names is None else names[number]
            yield Object(name, box, box, f"line {line}")


def _read_row(
    cells: list[str], names: Mapping[int, str] | None, box_first: bool, numbers: set[int]
) -> tuple[int, Box]:
    """A row's class number, which goes into ``numbers`` too, and its box, xyxy in shares."""
    number, *values = (_number(cell) for cell in cells)
    if not (number.is_integer() and 0 <= number < MOST_CLASSES):
        raise DataError(f"has class {cells[0]!r}, not a whole number from 0")
    numbers.add(int(number))
    if names is not None and int(number) not in names:
        problem = (
            f"has class {int(number)}, but classes are named for {min(names)} to {max(names)} only"
        )
        raise DataError(problem, Kind.UNKNOWN_CLASS)
    if len(values) != 4 and not box_first and (len(values) < 6 or len(values) % 2):
        raise DataError(
            f"has {plural(len(cells), 'number')}; expected 5 (class, centre x and y, width, "
            "height), or a class and a polygon of 3 points or more"
        )
    if len(values) < 4:
        raise DataError(f"has {plural(len(cells), 'number')}; expected 5 and keypoints")
    values = values[:4] if box_first else values
    beyond = [value for value in values if abs(value) > _MOST]
    if beyond:
        problem = f"has {beyond[0]:g}, which is no share of the picture (0 to 1)"
        raise DataError(problem, Kind.BEYOND)
    return int(number), _around(values) if len(values) > 4 else _corners(values)


def _number(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        shown = cell if len(cell) <= 40 else cell[:40] + "..."
        raise DataError(f"has {shown!r}, which is not a number", Kind.NOT_FINITE)
    return value


def _corners(values: list[float]) -> Box:
    x, y, width, height = values
    if width <= 0 or height <= 0:
        problem = f"has a box without area, width {width:g} and height {height:g}"
        raise DataError(problem, Kind.NO_AREA)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _around(points: list[float]) -> Box:
    return min(points[0::2]), min(points[1::2]), max(points[0::2]), max(points[1::2])
