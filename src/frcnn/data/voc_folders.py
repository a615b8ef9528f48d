"""Annotations in VOC's format in other folders than VOC's own.

labelImg writes the XML file of a picture beside it, and exports such as Roboflow's do so in a
folder for each split; other data sets have ``annotations`` beside ``images``, in a folder for each
split or with one in each of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from frcnn.data.entries import Entry, Reading, Report, Source
from frcnn.data.lookup import folders_in
from frcnn.data.voc_xml import MOST_XML, files_below, files_in, read_annotations, split_folders
from frcnn.files import open_file

_ANNOTATIONS, _IMAGES = "annotations", ("images", "jpegimages")  # in whatever case
_ROOT = re.compile(rb"<annotation[\s>]")
_LOOKED_AT = 8  # files, of which some may be damaged
_HEAD = 4096  # bytes of a file in which its root is

# A folder of annotations, and that of their pictures.
Place = tuple[Path, Path]


def voc_folders_source(path: Path) -> Source | None:
    """The data set at ``path`` whose XML files are beside the pictures; None if there is none."""
    if not path.is_dir():
        return None
    whole = _place(path)
    splits = _below(*whole) if whole else _each(folders_in(path))
    if not whole and not splits:
        return None

    def read(split: str | None, report: Report) -> Reading:
        chosen = [splits[split]] if split in splits else [whole] if whole else [*splits.values()]
        return Reading(entry for place in chosen for entry in _read(*place, report))

    return Source(tuple(splits), read)


def _each(folders: list[Path]) -> dict[str, Place]:
    """The splits that have folders of their own, which annotations and pictures are in."""
    places = {folder.name: _place(folder) for folder in folders}
    return {name: place for name, place in places.items() if place}


def _below(annotations: Path, images: Path) -> dict[str, Place]:
    """The splits that have folders of their own in ``annotations`` and in ``images``."""
    if annotations == images:
        return {}
    names = split_folders(annotations, images)
    return {name: (annotations / name, images / name) for name in names}


def _place(folder: Path) -> Place | None:
    """Where the annotations of a folder and their pictures are, if it has any."""
    try:
        inside = {part.name.lower(): part for part in folders_in(folder)}
        annotations = inside.get(_ANNOTATIONS)
        images = next((inside[name] for name in _IMAGES if name in inside), None)
        if annotations and images and _holds_any(annotations):
            return annotations, images
        return (folder, folder) if _holds_annotations(folder) else None
    except OSError:  # a folder that may not be looked into
        return None


def _holds_any(folder: Path) -> bool:
    """Whether there are annotations right in a folder or in one of those in it."""
    return _holds_annotations(folder) or any(map(_holds_annotations, folders_in(folder)))


def _holds_annotations(folder: Path) -> bool:
    """Whether one of the first XML files of a folder is an annotation of VOC's."""
    return any(_is_annotation(folder / name) for name in files_in(folder)[:_LOOKED_AT])


def _is_annotation(file: Path) -> bool:
    try:
        with open_file(file, MOST_XML) as opened:
            return bool(_ROOT.search(opened.read(_HEAD)))
    except OSError:  # what is wrong with it is said when it is read
        return False


def _read(annotations: Path, images: Path, report: Report) -> Iterator[Entry]:
    beside = annotations == images
    names = files_in(annotations) if beside else files_below(annotations, images)
    return read_annotations(annotations, images, names, report)
