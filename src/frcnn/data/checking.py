"""The checks that every format shares: of a picture's file, and of each box against it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from frcnn.data.entries import Box, Entry, Object, Report
from frcnn.data.faults import Fault, ImageError, Kind
from frcnn.data.images import MAX_PIXELS, image_size
from frcnn.data.resizing import Size
from frcnn.threads import map_ahead

Checked = tuple[Entry, Size, list[Object]]

# Annotation tools round and count from 0 or 1; a box this far past the border is no mistake.
_OVERHANG = 2.0
# Of one picture; training compares all of them with all anchors.
_MOST_OBJECTS = 10_000
# Pictures whose files are looked into together, and how many of these lots are read ahead.
_TOGETHER, _AHEAD, _THREADS = 32, 32, 16
# Seconds of waiting for a picture's file, on average of a lot, that make threads worth their while.
_WAIT = 0.0005


def checked_pictures(
    entries: Iterable[Entry],
    report: Report,
    progress: Callable[[], None] | None = None,
    most: int = MAX_PIXELS,
) -> tuple[list[Checked], tuple[Path, ...]]:
    """The usable pictures with their sizes and sound objects, each once; then the others.

    Args:
        entries: what a reader made; splits may overlap.
        report: called with one fault for each picture and each box that is left out.
        progress: called after each picture.
        most: pixels that a picture may have.
    """
    checked, unusable = [], []
    for entry, size in _sized(_each_once(entries), most):
        size = _sound_size(entry, size, report)
        if size is None:
            unusable.append(entry.image)
        else:
            checked.append((entry, size, _sound_objects(entry, size, report)))
        if progress:
            progress()
    return checked, tuple(unusable)


def _each_once(entries: Iterable[Entry]) -> Iterator[Entry]:
    seen = set()
    for entry in entries:
        if entry.image not in seen:
            seen.add(entry.image)
            yield entry


def _sized(entries: Iterator[Entry], most: int) -> Iterator[tuple[Entry, Size | ImageError]]:
    """Entries with the sizes of their pictures, or why they have none.

    From a disk that keeps one waiting, as one of a network does, many are read at once. From
    others, threads would only wait for each other.
    """
    while lot := list(islice(entries, _TOGETHER)):
        began, computing = time.perf_counter(), time.thread_time()
        sizes = _sizes(lot, most)
        waited = time.perf_counter() - began - (time.thread_time() - computing)
        yield from zip(lot, sizes, strict=True)
        if waited > _WAIT * len(lot):
            yield from _sized_ahead(entries, most)


def _sized_ahead(entries: Iterator[Entry], most: int) -> Iterator[tuple[Entry, Size | ImageError]]:
    def sized(lot: list[Entry]) -> Iterable[tuple[Entry, Size | ImageError]]:
        return zip(lot, _sizes(lot, most), strict=True)

    lots = iter(lambda: list(islice(entries, _TOGETHER)), [])
    with ThreadPoolExecutor(_THREADS, "frcnn-check") as pool:
        for found in map_ahead(pool, sized, lots, _AHEAD):
            yield from found


def _sizes(entries: list[Entry], most: int) -> list[Size | ImageError]:
    return [_size_or_error(entry.image, most) for entry in entries]


def _size_or_error(path: Path, most: int) -> Size | ImageError:
    try:
        return image_size(path, most)
    except ImageError as error:
        return error


def _sound_size(entry: Entry, found: Size | ImageError, report: Report) -> Size | None:
    """The size of a usable picture; None, after a fault, of another."""
    count = len(entry.objects)
    if count > _MOST_OBJECTS:
        problem = f"has {count:,} boxes in {entry.image.name}, more than {_MOST_OBJECTS:,}"
        report(Fault(entry.source, problem, images=1, kind=Kind.CROWDED))
        return None
    if isinstance(found, ImageError):
        report(Fault(found.file, found.problem, images=1, kind=found.kind))
        return None
    if entry.size not in (None, found):
        stated_height, stated_width = entry.size
        problem = (
            f"states {stated_width}x{stated_height} pixels, but {entry.image.name} has "
            f"{found[1]}x{found[0]}"
        )
        kind = Kind.TURNED if entry.size == found[::-1] else Kind.SIZE
        report(Fault(entry.source, problem, images=1, kind=kind))
        return None
    return found


def _sound_objects(entry: Entry, size: Size, report: Report) -> list[Object]:
    """The objects whose boxes are sound, clipped to the picture; the others are reported."""
    sound = []
    for item in entry.objects:
        if entry.shares:
            item = replace(item, box=_scale(item.box, size), stated=_scale(item.stated, size))
        found = _box_problem(item, size)
        if found is None:
            box = _clip(item.box, size)
            sound.append(item if box == item.box else replace(item, box=box))
        else:
            kind, problem = found
            shown = ", ".join(f"{value:g}" for value in item.stated)
            problem = f"{item.place} ({item.name}) {problem}: ({shown})"
            report(Fault(entry.source, problem, boxes=1, kind=kind))
    return sound


def _box_problem(item: Object, size: Size) -> tuple[Kind, str] | None:
    if not all(map(math.isfinite, item.stated)):
        return Kind.NOT_FINITE, "has a coordinate that is not a finite number"
    x1, y1, x2, y2 = item.stated
    if x2 < x1 or y2 < y1:
        return Kind.REVERSED, "has its corners the wrong way round"
    if x2 == x1 or y2 == y1:
        return Kind.NO_AREA, "has a box without area"
    x1, y1, x2, y2 = item.box
    height, width = size
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        return Kind.OUTSIDE, f"lies outside its picture of {width}x{height} pixels"
    if max(-x1, -y1, x2 - width, y2 - height) > _OVERHANG:
        return Kind.BEYOND, f"reaches beyond its picture of {width}x{height} pixels"
    x1, y1, x2, y2 = np.asarray(_clip(item.box, size), np.float32)
    if x2 <= x1 or y2 <= y1:  # too thin for single precision
        return Kind.NO_AREA, "has a box without area"
    return None


def _scale(box: Box, size: Size) -> Box:
    height, width = size
    x1, y1, x2, y2 = box
    return x1 * width, y1 * height, x2 * width, y2 * height


def _clip(box: Box, size: Size) -> Box:
    height, width = size
    x1, y1, x2, y2 = box
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
