"""COCO's instance annotations: one JSON file a split, boxes as (x, y, width, height).

Corners count from 0 and are continuous. A crowd region (``iscrowd``) becomes a difficult object;
the area an annotation states is kept, since COCO's figures sort objects by it; masks are passed
over. Categories become classes by name, in the order of their ids, which may have gaps.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from frcnn.data.entries import Entry, Object, Reading, Report
from frcnn.data.faults import DataError, Fault, Kind, plural
from frcnn.data.lookup import find_pictures, moved_remark
from frcnn.files import read_file

Id = int | str
Picture = tuple[Path | None, tuple[int, int] | None]

_MOST_BYTES = 1 << 31  # LVIS's largest file has half of that
_MOST_ID = 1 << 64  # Python takes long over many longer ones, whose hashes can be the same

_WHOLE = re.compile("-?[1-9][0-9]{0,15}|0")  # as a number would be written

_LISTS = {"images": "image", "annotations": "annotation", "categories": "category"}


def read_coco(file: Path, folders: Sequence[Path], report: Report) -> Reading:
    """Read one file.

    Args:
        file: the JSON file.
        folders: where its pictures may be; the first that has one counts.
        report: called with one fault for each picture and each box that cannot be used.

    Raises:
        DataError: the file cannot be read, is not JSON, or lacks one of COCO's three lists.
    """
    data = _load(file)
    names = _categories(file, data, report)
    pictures = _pictures(file, data, folders, report)
    objects = _objects(file, data, names, pictures, report)
    entries = [
        Entry(image, file, tuple(objects.get(id_, ())), size)
        for id_, (image, size) in pictures.items()
        if image is not None
    ]
    return Reading(entries, tuple(dict.fromkeys(names.values())))


def _load(file: Path) -> dict[str, list]:
    try:
        data = json.loads(read_file(file, _MOST_BYTES))
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from None
    except RecursionError:
        raise DataError(f"{file}: is not COCO JSON: it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not JSON: no UTF-8 text (byte {error.start})") from None
    except ValueError as error:  # a syntax error, or a number of thousands of digits
        raise DataError(f"{file}: is not JSON ({error})") from None
    if not isinstance(data, dict):
        raise DataError(
            f"{file}: is not COCO instance JSON: it holds {_shown(data)} in place of an object "
            f"with the lists {', '.join(_LISTS)}"
        )
    for key in _LISTS:
        if not isinstance(data.get(key), list):
            state = f"{key} is {_shown(data[key])}" if key in data else f"it has no {key}"
            raise DataError(f"{file}: is not COCO instance JSON: {state}; expected a list")
    return data


def _records(
    file: Path, data: dict[str, list], key: str, report: Callable[[str], None]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of a list with the words for each; those that are no objects are reported."""
    for number, record in enumerate(data[key], 1):
        if not isinstance(record, dict):
            report(f"has {_shown(record)} as record {number} of {key}, not an object")
        else:
            id_ = _id(record)
            place = f"record {number} of {key}" if id_ is None else f"{_LISTS[key]} {_shown(id_)}"
            yield place, record


def _categories(file: Path, data: dict[str, list], report: Report) -> dict[Id, str]:
    """Class names by category id, in the order of the ids."""
    names: dict[Id, str] = {}
    used: set[str] = set()

    def fail(problem: str) -> NoReturn:
        raise DataError(f"{file}: {problem}")

    for place, record in _records(file, data, "categories", fail):
        id_, name = _id(record), record.get("name")
        if id_ is None:
            fail(f"{place} {_no_id(record)}")
        if not isinstance(name, str) or not name.strip() or not _is_text(name):
            fail(f"{place} has {_shown(name)} as its name")
        written, name = name, name.strip()
        if written != name:
            problem = f"{place} is called {written!r:.100}; the blanks round it are left out"
            report(Fault(file, problem, kind=Kind.BLANKS))
        if id_ in names:
            fail(f"{place} is there twice, as {names[id_]!r} and as {name!r}")
        if name in used:
            problem = f"has two categories {name!r}: read as one class"
            report(Fault(file, problem, kind=Kind.READING))
        used.add(name)
        names[id_] = name
    for id_ in _placeholders(data, names):
        place = f"category {_shown(id_)} ({names.pop(id_)})"
        problem = f"{place} only groups the others and is not read as a class"
        report(Fault(file, problem, kind=Kind.READING))
    return dict(sorted(names.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _placeholders(data: dict[str, list], names: dict[Id, str]) -> list[Id]:
    """The unused first category of Roboflow's exports, which all the others are under."""
    if len(names) < 2:
        return []
    records = [record for record in data["categories"] if isinstance(record, dict)]
    parents = {_id(record): record.get("supercategory") for record in records}
    below = Counter(parent for parent in parents.values() if isinstance(parent, str))
    used = {_id(r, "category_id") for r in data["annotations"] if isinstance(r, dict)}
    return [
        id_
        for id_, name in names.items()
        if below[name] == len(names) - 1 and parents[id_] != name and id_ not in used
    ]


def _pictures(
    file: Path, data: dict[str, list], folders: Sequence[Path], report: Report
) -> dict[Id, Picture]:
    """Path and stated (height, width) by image id; no path where the picture was left out."""
    found: dict[Id, Picture] = {}
    listed: dict[Id, tuple[str, str, tuple[int, int] | None]] = {}

    def leave_out(problem: str, kind: Kind | None = None) -> None:
        report(Fault(file, problem, images=1, kind=kind or Kind.ANNOTATION))

    for place, record in _records(file, data, "images", leave_out):
        id_, name = _id(record), record.get("file_name", _end_of(record.get("coco_url")))
        if id_ is None:
            leave_out(f"{place} {_no_id(record)}")
        elif id_ in found:
            leave_out(f"{place} is there twice, again as {_shown(name)}", Kind.LISTED_TWICE)
        else:
            found[id_] = None, None
            if isinstance(name, str) and name:
                listed[id_] = place, name, _size(record)
            else:
                leave_out(f"{place} has {_shown(name)} as its file_name")
    pictures, moved = find_pictures([name for _, name, _ in listed.values()], folders)
    if moved:
        report(Fault(file, moved_remark(moved), kind=Kind.READING))
    seen: set[Path] = set()
    for id_, (place, name, size) in listed.items():
        picture = pictures[name]
        if isinstance(picture, DataError):
            leave_out(f"{place} {picture}", picture.kind)
        elif picture in seen:
            problem = f"{place} has the file_name of another image, {_shown(name)}"
            leave_out(problem, Kind.LISTED_TWICE)
        else:
            seen.add(picture)
            found[id_] = picture, size
    return found


def _end_of(address: Any) -> str | None:
    """``train2017/000000000009.jpg`` of a picture's address, all that LVIS has of its name."""
    return "/".join(address.split("/")[-2:]) if isinstance(address, str) else None


def _objects(
    file: Path,
    data: dict[str, list],
    names: dict[Id, str],
    pictures: dict[Id, Picture],
    report: Report,
) -> dict[Id, list[Object]]:
    """The objects by image id. Those of pictures left out are not counted again."""
    objects: dict[Id, list[Object]] = {}
    ids: set[Id] = set()
    repeated: list[Id] = []
    outlined = 0

    def leave_out(problem: str, kind: Kind | None = None) -> None:
        report(Fault(file, problem, boxes=1, kind=kind or Kind.OBJECT))

    for place, record in _records(file, data, "annotations", leave_out):
        image, id_ = _id(record, "image_id"), _id(record)
        if image is None or image not in pictures:
            shown = _shown(record.get("image_id"))
            leave_out(f"{place} is of image {shown}, which the file does not list")
        elif pictures[image][0] is not None:
            try:
                item = _object(record, place, names)
            except DataError as error:
                leave_out(f"{place} {error}", error.kind)
                continue
            objects.setdefault(image, []).append(item)
            outlined += record.get("bbox") is None
            if id_ is not None:
                repeated += [id_] if id_ in ids else []
                ids.add(id_)
    if outlined:
        problem = (
            f"has {plural(outlined, 'annotation')} without bbox: read as their polygons' extents"
        )
        report(Fault(file, problem, kind=Kind.READING))
    if repeated:
        problem = f"repeats ids of annotations ({len(repeated)} times, first {_shown(repeated[0])})"
        problem = f"{problem}: all of these boxes are read"
        report(Fault(file, problem, kind=Kind.READING))
    return objects


def _object(record: dict[str, Any], place: str, names: dict[Id, str]) -> Object:
    category, bbox = _id(record, "category_id"), record.get("bbox")
    if category is None or category not in names:
        shown = _shown(record.get("category_id"))
        raise DataError(f"is of category {shown}, which the file does not list")
    if bbox is None:
        bbox = _extent(record.get("segmentation"))
    if bbox is None:
        raise DataError(f"({names[category]}) has no bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        raise DataError(f"({names[category]}) has {_shown(bbox)} as its bbox, not four numbers")
    x, y, width, height = map(float, bbox)
    if width <= 0 or height <= 0:
        problem = f"({names[category]}) has a bbox without area: {_shown(bbox)}"
        raise DataError(problem, Kind.NO_AREA)
    box = (x, y, x + width, y + height)
    crowd = record.get("iscrowd") in (1, "1")
    return Object(names[category], box, box, place, crowd, _area(record))


def _extent(polygons: Any) -> list[float] | None:
    """The bbox of a mask of polygons; None where it is none, or another kind of mask."""
    if not isinstance(polygons, list) or not polygons:
        return None
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or not all(map(_is_number, polygon)):
            return None
    x = [float(value) for polygon in polygons for value in polygon[::2]]
    y = [float(value) for polygon in polygons for value in polygon[1::2]]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _area(record: dict[str, Any]) -> float | None:
    area = record.get("area")
    if not _is_number(area) or not 0 < area < math.inf:
        return None
    return float(area)


def _size(record: dict[str, Any]) -> tuple[int, int] | None:
    """(height, width) as stated; None where it is missing, zero or not a number."""
    height, width = record.get("height"), record.get("width")
    if not _is_number(height) or not _is_number(width):
        return None
    if not (1 <= height < math.inf and 1 <= width < math.inf):
        return None
    return int(height), int(width)


def _id(record: dict[str, Any], key: str = "id") -> Id | None:
    """An id as ids are compared; None for anything else.

    Tools write the same one as 7 in one list, and as 7.0 or "7" in another.
    """
    value = record.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        return int(value) if _WHOLE.fullmatch(value) else value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MOST_ID:
        return value
    return None


def _no_id(record: dict[str, Any]) -> str:
    return f"has {_shown(record.get('id'))} as its id, neither a whole number nor text"


def _is_number(value: Any) -> TypeGuard[int | float]:
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 1 << 53  # a longer one may not fit a float
    return isinstance(value, float)


def _is_text(name: str) -> bool:
    """Whether the name can be written; JSON can hold halves of characters."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _shown(value: Any) -> str:
    """A few words for a value of any kind and length."""
    if type(value) is int:  # each id is shown
        return f"{value}"[:60]
    if isinstance(value, str):
        return ascii(value if len(value) <= 60 else value[:60] + "...")
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        if len(value) <= 8 and not any(isinstance(part, (list, dict)) for part in value):
            return "[" + ", ".join(map(_shown, value)) + "]"
        return f"a list of {len(value)}"
    return f"{json.dumps(value):.60}"
