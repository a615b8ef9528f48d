"""PASCAL VOC folders: one XML file a picture, splits as lists of names.

A VOC root has ``Annotations/``, ``JPEGImages/`` and ``ImageSets/Main/``. Without lists, the folders
that ``Annotations`` and ``JPEGImages`` both have are the splits.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from frcnn.data.entries import Entry, Reading, Report, Source, leaves_folder
from frcnn.data.faults import DataError, Fault, Kind, plural
from frcnn.data.images import SUFFIXES
from frcnn.data.lookup import folders_in
from frcnn.data.voc_xml import files_below, read_annotations, split_folders
from frcnn.files import read_file

YEARS = ("VOC2007", "VOC2012")
_ANNOTATIONS = "Annotations"
_IMAGES = ("JPEGImages", "images")

_MOST_LIST = 1 << 28
_START = 10_000  # characters; no name is as long
_SHOWN = 5  # names in a message
_FLAG = re.compile(r"\s+(-1|0|1)$")  # of a class list: whether the picture shows the class


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
    return (root / _ANNOTATIONS).is_dir() and _ANNOTATIONS in os.listdir(root)


def voc_splits(roots: Iterable[Path]) -> tuple[str, ...]:
    """The names of the splits of any of ``roots``, sorted: its lists, or else folders.

    Left out are the lists of one class (``cat_train.txt``, whose lines end in -1, 0 or 1), and
    empty ones beside others.
    """
    return tuple(sorted({name for root in roots for name in _splits(root)}))


def _splits(root: Path) -> list[str]:
    lines = {file.stem: _first_line(file) for file in _lists([root])}
    if not lines:
        return split_folders(root / _ANNOTATIONS, _images_of(root))
    filled = {name: line for name, line in lines.items() if line}
    if not filled:
        return [*lines]
    return [name for name, line in filled.items() if not _is_class_line(root, line)]


def _lists(roots: Iterable[Path]) -> list[Path]:
    found = (file for root in roots for file in (root / "ImageSets" / "Main").glob("*.txt"))
    return [file for file in found if file.is_file()]


def _first_line(file: Path) -> str:
    """The first line with anything in it, if it is near the start."""
    with file.open(encoding="utf-8-sig", errors="replace") as opened:
        lines = opened.read(_START).splitlines()
    return next(filter(None, map(str.strip, lines)), "")


def _is_class_line(root: Path, line: str) -> bool:
    """Whether a line is of a class list; a picture may be called ``frame 1``."""
    return bool(_FLAG.search(line)) and not _is_annotated(root, line)


def _is_annotated(root: Path, name: str) -> bool:
    return os.path.isfile(root / _ANNOTATIONS / f"{name}.xml")  # which takes any name


def annotation_files(root: Path) -> list[Path]:
    """All annotation files of a root, sorted."""
    return [root / _ANNOTATIONS / name for name in _all(root)]


def _all(root: Path) -> list[str]:
    return files_below(root / _ANNOTATIONS, _images_of(root))


def unlisted_annotations(roots: Iterable[Path]) -> list[Path]:
    """The annotation files that no list in ``ImageSets/Main`` has, sorted.

    Roots without any list are passed over: all that they hold is one split, or in folders.
    """
    unlisted: list[Path] = []
    for root in roots:
        lists = [file.stem for file in _lists([root])]
        if lists:
            listed = {name for each in lists for name in _names(root, each, lambda _: None)}
            unlisted += [root / _ANNOTATIONS / name for name in _all(root) if name not in listed]
    return unlisted


def read_voc(roots: Iterable[Path], split: str | None, report: Report) -> Iterator[Entry]:
    """Read the annotations of one split, or all of them.

    Args:
        roots: as ``voc_roots`` gives them; those without the split are passed over.
        split: name of a list in ``ImageSets/Main``, or of a folder; None reads every annotation.
        report: called with one fault for each annotation that cannot be used.
    """
    for root in roots:
        names = _names(root, split, report)
        yield from read_annotations(root / _ANNOTATIONS, _images_of(root), names, report)


def _images_of(root: Path) -> Path:
    """``JPEGImages``, or ``images`` where only that is there, else either in another case."""
    exact = [root / name for name in _IMAGES if (root / name).is_dir()]
    if exact:
        return exact[0]
    found = {folder.name.lower(): folder for folder in folders_in(root)}
    other = [found[name.lower()] for name in _IMAGES if name.lower() in found]
    return other[0] if other else root / _IMAGES[0]


def _names(root: Path, split: str | None, report: Report) -> list[str]:
    """The annotation files of a split, each once, those of a list in its order."""
    if split is not None:
        listing = root / "ImageSets" / "Main" / f"{split}.txt"
        if listing.is_file():
            return [f"{name}.xml" for name in _listed(root, listing, report)]
    within = f"{split}{os.sep}" if split is not None else ""
    names = (name for name in _all(root) if name.startswith(within))
    return sorted(names, key=lambda name: os.path.splitext(name)[0])


def _listed(root: Path, listing: Path, report: Report) -> list[str]:
    """The names of the pictures in a list, each once."""
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
    """The picture that a line names: the whole line if there is such an annotation.

    Else without the second column of a class list, then also without quotes, or the picture's
    suffix.
    """
    if _is_annotated(root, line):
        return line
    name = _FLAG.sub("", line)
    stem, suffix = os.path.splitext(name)
    others = [name.strip('"')] * name.startswith('"') + [stem] * (suffix.lower() in SUFFIXES)
    inside = (other for other in others if not leaves_folder(other))
    return next((other for other in inside if _is_annotated(root, other)), name)
