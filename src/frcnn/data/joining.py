"""Several annotation files of one data set, read as one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from frcnn.data.entries import Box, Entry, Object, Report
from frcnn.data.faults import Fault, Kind, plural


def joined(root: Path, entries: Iterable[Entry], report: Report) -> list[Entry]:
    """Each picture once, with the objects that any of the files has on it.

    A file for each class, or for each annotator, has the same pictures with other objects.

    Args:
        root: of the data set.
        entries: those of all files, one after the other.
        report: called with a remark where files differ.
    """
    pictures: dict[Path, Entry] = {}
    known: dict[Path, set[tuple[str, Box]]] = {}
    differing: dict[Path, Entry] = {}
    for entry in entries:
        first = pictures.setdefault(entry.image, entry)
        if first is entry:
            continue
        boxes = known.setdefault(entry.image, {_key(item) for item in first.objects})
        added = tuple(item for item in entry.objects if _key(item) not in boxes)
        if added and first.shares == entry.shares:
            boxes.update(map(_key, added))
            pictures[entry.image] = replace(first, objects=(*first.objects, *added))
            differing.setdefault(entry.image, entry)
    if differing:
        image, other = next(iter(differing.items()))
        files = f"{pictures[image].source.name} and {other.source.name}"
        problem = (
            f"has {plural(len(differing), 'picture')} in several files with other boxes: read with "
            f"those of all, as {image.name} of {files}"
        )
        report(Fault(root, problem, kind=Kind.READING))
    return list(pictures.values())


def _key(item: Object) -> tuple[str, Box]:
    return item.name, item.box
