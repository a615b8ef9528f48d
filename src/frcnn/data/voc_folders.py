"""Annotations in VOC's format in other folders than VOC's own.

labelImg writes the XML file of a picture beside it, and exports such as Roboflow's do so in a
folder for each split; other data sets have ``annotations`` beside ``images``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from frcnn.data.entries import Entry, Reading, Report, Source
from frcnn.data.lookup import folders_in
from frcnn.data.voc import MOST_XML, pictures_in, read_annotation
from frcnn.files import open_file

_ANNOTATIONS, _IMAGES = "annotations", "images"  # in whatever case
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
    parts = {} if whole else {part.name: _place(part) for part in folders_in(path)}
    splits = {name: place for name, place in parts.items() if place}
    if not whole and not splits:
        return None

    def read(split: str | None, report: Report) -> Reading:
        chosen = [splits[split]] if split in splits else [whole] if whole else [*splits.values()]
        return Reading(entry for place in chosen for entry in _read(*place, report))

    return Source(tuple(splits), read)


def _place(folder: Path) -> Place | None:
    """Where the annotations of a folder and their pictures are, if it has any."""
    try:
        inside = {part.name.lower(): part for part in folders_in(folder)}
        annotations, images = inside.get(_ANNOTATIONS), inside.get(_IMAGES)
        if annotations and images and _holds_annotations(annotations):
            return annotations, images
        return (folder, folder) if _holds_annotations(folder) else None
    except OSError:  # a folder that may not be looked into
        return None


def _holds_annotations(folder: Path) -> bool:
    """Whether one of the first XML files of a folder is an annotation of VOC's."""
    return any(_is_annotation(file) for file in _files(folder)[:_LOOKED_AT])


def _is_annotation(file: Path) -> bool:
    try:
        with open_file(file, MOST_XML) as opened:
            return bool(_ROOT.search(opened.read(_HEAD)))
    except OSError:  # what is wrong with it is said when it is read
        return False


def _files(folder: Path) -> list[Path]:
    names = sorted(os.listdir(folder))
    return [folder / n for n in names if n.lower().endswith(".xml") and not n.startswith(".")]


def _read(annotations: Path, images: Path, report: Report) -> Iterator[Entry]:
    pictures = pictures_in(images)
    for file in _files(annotations):
        entry = read_annotation(file, images, pictures.get(file.stem, []), report)
        if entry is not None:
            yield entry
