"""Annotations in VOC's format, an XML file a picture: where they are, and what one says.

VOC boxes count pixels from 1 and include the last one, so (xmin, ymin, xmax, ymax) becomes
(xmin-1, ymin-1, xmax, ymax) (Everingham et al., VOC2007 development kit, section 4).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from frcnn.data.entries import Box, Entry, Object, Report, leaves_folder
from frcnn.data.faults import DataError, Fault, Kind
from frcnn.data.images import SUFFIXES
from frcnn.data.lookup import folders_in
from frcnn.files import read_file

_CORNERS = ("xmin", "ymin", "xmax", "ymax")

# Bytes. A hundred objects take 30 thousand; in memory XML takes up to fifty times its size.
MOST_XML = 1 << 23


def files_in(folder: Path) -> list[str]:
    """The annotation files right in ``folder`` by their names, sorted; hidden ones left out."""
    return sorted(filter(_is_annotation_name, os.listdir(folder)))


def files_below(folder: Path, images: Path) -> list[str]:
    """The annotation files in ``folder`` and below it, as ``name.xml`` and ``sub/name.xml``.

    Where some are right in it, folders there may hold older copies of them: only those count
    whose name a folder of pictures in ``images`` has too.
    """
    found = []
    for place, parts, names in os.walk(folder):
        within = os.path.relpath(place, folder)
        above = "" if within == os.curdir else within + os.sep
        files = [above + name for name in names if _is_annotation_name(name)]
        parts[:] = [
            part
            for part in parts
            if not part.startswith(".") and (not files or os.path.isdir(images / within / part))
        ]
        found += files
    return sorted(found)


def split_folders(folder: Path, images: Path) -> list[str]:
    """The names of the folders that ``folder`` has in common with ``images``, sorted.

    There are none where annotations are right in ``folder``.
    """
    try:
        inside = [] if files_in(folder) else folders_in(folder)
    except OSError:  # a folder that may not be looked into
        inside = []
    return [part.name for part in inside if (images / part.name).is_dir()]


def _is_annotation_name(name: str) -> bool:
    return name.lower().endswith(".xml") and not name.startswith(".")


def read_annotations(
    folder: Path, images: Path, names: Iterable[str], report: Report
) -> Iterator[Entry]:
    """Read annotation files.

    Args:
        folder: where they are.
        images: where their pictures are; that of ``sub/name.xml`` is in ``sub`` there, where there
            is such a folder.
        names: of the files, relative to ``folder``.
        report: called with one fault for each that cannot be used.
    """
    right_there = pictures_in(images)
    places = {os.curdir: (images, right_there)}
    for name in names:
        within = os.path.normpath(os.path.dirname(name))
        if within not in places:
            place = images / within
            found = os.path.isdir(place)  # which takes any name
            places[within] = (place, pictures_in(place)) if found else (images, right_there)
        place, pictures = places[within]
        file = folder / name
        named = pictures.get(file.stem, [])
        entry = read_annotation(file, place if named else images, named, report)
        if entry is not None:
            yield entry


def pictures_in(folder: Path) -> dict[str, list[str]]:
    """File names of the pictures in ``folder``, by the name without its suffix."""
    found: dict[str, list[str]] = {}
    if folder.is_dir():
        for name in sorted(os.listdir(folder)):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in SUFFIXES:
                found.setdefault(stem, []).append(name)
    return found


def read_annotation(file: Path, images: Path, named: list[str], report: Report) -> Entry | None:
    """Read one annotation; None if it cannot be used.

    Args:
        file: the annotation.
        images: the folder of its picture.
        named: the pictures there that have the annotation's name.
        report: called with what is at fault.
    """
    try:
        tree = fromstring(read_file(file, MOST_XML))
    except FileNotFoundError:
        problem = "does not exist, but the split lists it"
        report(Fault(file, problem, images=1, kind=Kind.MISSING_ANNOTATION))
    except OSError as error:
        report(Fault(file, f"cannot be read ({error.strerror or error})", images=1))
    except DefusedXmlException as error:
        report(Fault(file, f"is refused: it declares entities ({type(error).__name__})", images=1))
    except (ParseError, ValueError, LookupError) as error:
        report(Fault(file, f"is not well-formed XML ({error})", images=1))
    else:
        try:
            image = _picture(file, images, tree, named)
        except DataError as error:
            report(Fault(file, str(error), images=1, kind=error.kind or Kind.MISSING_PICTURE))
        else:
            objects = tuple(_objects(file, tree, report))
            return Entry(image, file, objects, _stated_size(tree))
    return None


def _picture(file: Path, images: Path, tree: Element, named: list[str]) -> Path:
    """The picture of the annotation's own name, else the one its <filename> states."""
    stated = (tree.findtext("filename") or "").strip()
    if named:
        return images / (stated if stated in named else named[0])
    if not stated:
        raise DataError(f"has no picture {file.stem}.* in {images.name} and states no <filename>")
    if leaves_folder(stated):
        problem = f"states <filename> {stated!r}, a path that leaves the data set"
        raise DataError(problem, Kind.OUTER_PATH)
    return images / stated


def _stated_size(tree: Element) -> tuple[int, int] | None:
    """(height, width) of <size>; None where it is missing, zero or not a number."""
    try:
        height, width = (
            int(float(tree.findtext(f"size/{side}") or 0)) for side in ("height", "width")
        )
    except (ValueError, OverflowError):
        return None
    return (height, width) if height > 0 and width > 0 else None


def _objects(file: Path, tree: Element, report: Report) -> Iterator[Object]:
    for number, item in enumerate(tree.findall("object"), 1):
        place = f"object {number}"
        written = item.findtext("name") or ""
        name = written.strip()
        try:
            if not name:
                raise DataError("has no <name>")
            stated = _corners(item)
        except DataError as error:
            report(Fault(file, f"{place} {error}", boxes=1, kind=Kind.OBJECT))
            continue
        if written != name:
            problem = f"{place} is of class {written!r:.100}; the blanks round it are left out"
            report(Fault(file, problem, kind=Kind.BLANKS))
        x1, y1, x2, y2 = stated
        difficult = (item.findtext("difficult") or "0").strip().lower() in ("1", "true")
        yield Object(name, (x1 - 1, y1 - 1, x2, y2), stated, place, difficult)


def _corners(item: Element) -> Box:
    values = []
    for corner in _CORNERS:
        text = item.findtext(f"bndbox/{corner}")
        if text is None:
            raise DataError(f"has no <{corner}>")
        try:
            values.append(float(text))
        except ValueError:
            raise DataError(f"has <{corner}> {text.strip()!r}, which is not a number") from None
    return (values[0], values[1], values[2], values[3])
