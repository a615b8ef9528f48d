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
from frcnn.data.voc import pictures_in, read_annotation

_ANNOTATIONS, _IMAGES = "annotations", "images"  # in whatever case
_ROOT = re.compile(rb"<annotation[\s>]")
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
    inside = {part.name.lower(): part for part in folders_in(folder)}
    apart = inside.get(_ANNOTATIONS), inside.get(_IMAGES)
    if apart[0] and apart[1] and _holds_annotations(apart[0]):
        return apart[0], apart[1]
    return (folder, folder) if _holds_annotations(folder) else None


def _holds_annotations(folder: Path) -> bool:
    """Whether the first XML file of a folder is an annotation of VOC's."""
    first = next(iter(_files(folder)), None)
    if first is None or not first.is_file():
        return False
    with first.open("rb") as file:
        return bool(_ROOT.search(file.read(_HEAD)))


def _files(folder: Path) -> list[Path]:
    names = sorted(os.listdir(folder))
    return [folder / n for n in names if n.lower().endswith(".xml") and not n.startswith(".")]


def _read(annotations: Path, images: Path, report: Report) -> Iterator[Entry]:
    pictures = pictures_in(images)
    for file in _files(annotations):
        entry = read_annotation(file, images, pictures.get(file.stem, []), report)
        if entry is not None:
            yield entry
