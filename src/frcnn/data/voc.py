"""PASCAL VOC folders: one XML file a picture, splits as lists of names.

A VOC root has ``Annotations/``, ``JPEGImages/`` and ``ImageSets/Main/``. VOC boxes count pixels
from 1 and include the last one, so (xmin, ymin, xmax, ymax) becomes (xmin-1, ymin-1, xmax, ymax)
(Everingham et al., VOC2007 development kit, section 4).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from frcnn.data.entries import Box, Entry, Object, Reading, Report, Source, leaves_folder
from frcnn.data.faults import DataError, Fault, Kind, plural
from frcnn.data.images import SUFFIXES
from frcnn.files import read_file

YEARS = ("VOC2007", "VOC2012")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")

# Bytes. A hundred objects take 30 thousand; in memory XML takes up to fifty times its size.
MOST_XML = 1 << 23
_MOST_LIST = 1 << 28
_LINE = 10_000  # characters; no name is as long
_SHOWN = 5  # names in a message


def voc_source(path: Path) -> Source | None:
    """The VOC data set at ``path``, None if there is none."""
    roots = voc_roots(path)
    if not roots:
        return None

    def read(split: str | None, report: Report) -> Reading:
        return Reading(read_voc(roots, split, report))

    return Source(voc_splits(roots), read, unlisted=tuple(file.stem for file in _lists(roots)))


def voc_roots(path: Path) -> tuple[Path, ...]:
    """The VOC roots at ``path``: itself, or ``VOC2007`` and ``VOC2012`` below it, or none."""
    candidates = (path, *(path / year for year in YEARS))
    return tuple(root for root in candidates if root.is_dir() and _has_annotations(root))


def _has_annotations(root: Path) -> bool:
    # Where a file system ignores case, COCO's "annotations" would answer to VOC's name.
    return (root / "Annotations").is_dir() and "Annotations" in os.listdir(root)


def voc_splits(roots: Iterable[Path]) -> tuple[str, ...]:
    """The names of the splits that any of ``roots`` lists, sorted.

    The lists of one class (``cat_train.txt``, whose lines end in -1, 0 or 1) are left out.
    """
    names = set()
    for file in _lists(roots):
        if not re.search(r"\s(-1|0|1)\s*$", _first_line(file)):
            names.add(file.stem)
    return tuple(sorted(names))


def _lists(roots: Iterable[Path]) -> list[Path]:
    found = (file for root in roots for file in (root / "ImageSets" / "Main").glob("*.txt"))
    return [file for file in found if file.is_file()]


def _first_line(file: Path) -> str:
    with file.open(encoding="utf-8", errors="replace") as lines:
        return lines.readline(_LINE)


def unlisted_annotations(roots: Iterable[Path]) -> list[Path]:
    """The annotation files that no list in ``ImageSets/Main`` has, sorted.

    Roots without any list are passed over: what they hold is one split.
    """
    unlisted: list[Path] = []
    for root in roots:
        lists = [file.stem for file in _lists([root])]
        if lists:
            listed = {name for each in lists for name in _names(root, each, lambda _: None)}
            files = sorted((root / "Annotations").glob("*.xml"))
            unlisted += [file for file in files if file.stem not in listed]
    return unlisted


def read_voc(roots: Iterable[Path], split: str | None, report: Report) -> Iterator[Entry]:
    """Read the annotations of one split, or all of them.

    Args:
        roots: as ``voc_roots`` gives them; those without the split are passed over.
        split: name of a list in ``ImageSets/Main``; None reads every annotation.
        report: called with one fault for each annotation that cannot be used.
    """
    for root in roots:
        images = _images_of(root)
        pictures = pictures_in(images)
        for name in _names(root, split, report):
            file = root / "Annotations" / f"{name}.xml"
            entry = read_annotation(file, images, pictures.get(name, []), report)
            if entry is not None:
                yield entry


def _images_of(root: Path) -> Path:
    """``JPEGImages``, or ``images`` where only that is there."""
    named, other = root / "JPEGImages", root / "images"
    return other if other.is_dir() and not named.is_dir() else named


def _names(root: Path, split: str | None, report: Report) -> list[str]:
    """The names of a split's pictures, each once, in the order of the list."""
    if split is None:
        return sorted(file.stem for file in (root / "Annotations").glob("*.xml"))
    listing = root / "ImageSets" / "Main" / f"{split}.txt"
    if not listing.is_file():
        return []
    try:
        lines = read_file(listing, _MOST_LIST).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{listing}: is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise DataError(f"{listing}: cannot be read ({error.strerror or error})") from None
    names = []
    for line in filter(None, (line.strip() for line in lines)):
        if leaves_folder(line):
            problem = f"lists {line!r}, a path that leaves the data set"
            report(Fault(listing, problem, images=1, kind=Kind.OUTER_PATH))
        else:
            names.append(_listed_name(root, line))
    _report_twice(listing, names, report)
    return list(dict.fromkeys(names))


def _report_twice(listing: Path, names: list[str], report: Report) -> None:
    more = [name for name, count in Counter(names).items() if count > 1]
    if more:
        shown = ", ".join(repr(name) for name in more[:_SHOWN]) + ", ..." * (len(more) > _SHOWN)
        problem = f"lists {plural(len(more), 'picture')} more than once: {shown}; each is read once"
        report(Fault(listing, problem, kind=Kind.LISTED_TWICE))


def _listed_name(root: Path, line: str) -> str:
    """Drop the second column of a class list, unless the whole line names a picture."""
    if os.path.isfile(root / "Annotations" / f"{line}.xml"):  # which takes any name
        return line
    return re.sub(r"\s+(-1|0|1)$", "", line)


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
