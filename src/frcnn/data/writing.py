"""Writing a data set: its splits into one new folder, in any of the formats that are read.

What is written is first complete in a folder beside the one asked for, which then takes its name:
an interrupted writing leaves nothing that looks like a data set.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from frcnn.data.csv_file import BACKGROUND
from frcnn.data.dataset import Dataset, trained_on
from frcnn.data.faults import DataError, plural
from frcnn.data.images import SUFFIXES, image_size
from frcnn.data.names import common_name
from frcnn.data.writers import (
    Picture,
    Plan,
    voc_holds,
    write_coco,
    write_csv,
    write_voc,
    write_yolo,
)
from frcnn.data.yolo_settings import NO_SPLIT
from frcnn.structures import Sample, box_areas

Format = Literal["voc", "coco", "yolo", "csv"]
Images = Literal["copy", "link", "none"]

# Characters that XML, YAML or a line of a list cannot hold.
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

FORMATS: tuple[Format, ...] = ("voc", "coco", "yolo", "csv")


@dataclass(frozen=True)
class Written:
    """What was written.

    Args:
        folder: where.
        images: pictures by split.
        lost: what the format has no place for, a sentence each.
    """

    folder: Path
    images: dict[str, int]
    lost: tuple[str, ...]


def write_dataset(
    splits: Mapping[str, Dataset] | Dataset,
    folder: str | os.PathLike,
    format: Format,
    images: Images = "copy",
) -> Written:
    """Write a data set.

    ``open_dataset(folder)`` reads it again: the boxes to 0.01 pixel, the pictures' files byte for
    byte. A picture keeps its name, save for spaces, and unless another has it already. One that
    is in several splits is written once.

    Args:
        splits: data sets by the names of their splits, with the same classes; one alone is
            written as the split ``train``.
        folder: where to; it may exist if it is empty.
        format: ``voc``, ``coco``, ``yolo`` or ``csv``.
        images: ``copy`` the pictures' files, or ``link`` to them (hard links: no space is taken,
            but a change of one is a change of both); ``none`` writes the annotations alone, of
            pictures that need not exist where the samples state their sizes.

    Raises:
        ValueError: classes that differ, or an unknown ``format`` or ``images``.
        DataError: the folder is not empty, a name that cannot be written, a picture that is in
            two splits with different boxes, or one that cannot be linked.
        OSError: the disk's complaint.
    """
    if isinstance(splits, Dataset):
        splits = {"train": splits}
    if format not in FORMATS or images not in get_args(Images):
        raise ValueError(
            f"Expected a format of {', '.join(FORMATS)} and images to be copy, link or none. "
            f"Received: format={format!r}, images={images!r}."
        )
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not an empty folder; name a new one for the data set")
    plan = _plan(splits)
    _check_names(plan, format)
    lost = _without_place(plan, format)
    write = {"voc": write_voc, "coco": write_coco, "yolo": write_yolo, "csv": write_csv}[format]
    with _new_folder(folder) as partial:
        for picture, place in write(plan, partial):
            if images == "none":
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            _put(picture.sample.image, place, images)
    return Written(folder, {split: len(found) for split, found in plan.splits.items()}, lost)


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``folder`` at the end, or is removed after an error."""
    folder = Path(os.path.abspath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as above:
        partial = Path(above, folder.name)
        partial.mkdir()
        yield partial
        if folder.exists():
            folder.rmdir()  # empty, or this fails
        partial.rename(folder)


def _put(image: Path, place: Path, images: Images) -> None:
    if images == "copy":
        shutil.copyfile(image, place)
        return
    try:
        os.link(image.resolve(), place)
    except OSError as error:
        raise DataError(
            f"{image}: cannot be linked from {place.parent} ({error.strerror}); copy the images"
        ) from None


def _plan(splits: Mapping[str, Dataset]) -> Plan:
    """Which picture goes under which name; small splits first, so that unions come last."""
    datasets = sorted(splits.items(), key=lambda item: len(item[1]))
    classes = {dataset.classes for _, dataset in datasets}
    if len(classes) != 1:
        raise ValueError(f"Expected data sets with the same classes. Received: {classes}.")
    names = split_names(splits)
    pictures: dict[str, Picture] = {}
    taken: set[str] = set()
    members: dict[str, list[Picture]] = {}
    for split, dataset in datasets:
        members[names[split]] = []
        for sample in dataset:
            key = os.path.abspath(sample.image)
            if key not in pictures:
                size = sample.size or image_size(sample.image)
                name = _unused_name(sample.image, taken)
                pictures[key] = Picture(name, names[split], sample, size)
            elif not _same(pictures[key].sample, sample):
                raise DataError(f"{sample.image}: has other boxes in split {split!r}")
            members[names[split]].append(pictures[key])
    ordered = {names[split]: members[names[split]] for split in splits}
    return Plan(classes.pop(), tuple(pictures.values()), ordered)


def split_names(splits: Iterable[str]) -> dict[str, str]:
    """What the splits are called when written: ``val`` for ``valid``, unless two would be one."""
    splits = tuple(splits)
    common = [plain_name(common_name(split)) for split in splits]
    return {
        split: name if common.count(name) == 1 else plain_name(split)
        for split, name in zip(splits, common, strict=True)
    }


def _unused_name(image: Path, taken: set[str]) -> str:
    """The picture's name without spaces; its stem is no other's, also where case is ignored."""
    stem = plain_name(image.stem)
    suffix = image.suffix if image.suffix.lower() in SUFFIXES else SUFFIXES[0]
    candidate, number = stem, 1
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{stem}-{number}"
    taken.add(candidate.casefold())
    return candidate + suffix


def plain_name(name: str) -> str:
    """A name that is safe in lists and paths: no spaces, control characters or slashes."""
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff/\\:]+", "_", name).lstrip(".") or "_"


def _same(one: Sample, other: Sample) -> bool:
    pairs = ((one.boxes, other.boxes), (one.labels, other.labels), (one.difficult, other.difficult))
    return all(np.array_equal(a, b) for a, b in pairs)


def _check_names(plan: Plan, format: Format) -> None:
    for name in plan.classes:
        if _UNWRITABLE.search(name) or name != name.strip():
            raise DataError(f"class {name!r} cannot be written; rename it")
        if format == "csv" and name == BACKGROUND:
            raise DataError(f"class {name!r} means 'no object' in a CSV file; rename it")
    for split in plan.splits:
        if format == "yolo" and split in NO_SPLIT:
            raise DataError(f"split {split!r} would be a setting in a data.yaml; rename it")


def _without_place(plan: Plan, format: Format) -> tuple[str, ...]:
    """What of the data set the format cannot hold, a sentence each."""
    samples = [picture.sample for picture in plan.pictures]
    lost = []
    if format in ("voc", "csv"):
        used = {plan.classes[label] for sample in samples for label in sample.labels}
        if plan.classes != tuple(sorted(used)):
            lost.append("It has no list of classes: their order is lost, and those without boxes.")
    if format == "voc":
        thin = _count(~voc_holds(sample.boxes) for sample in samples)
        if thin:
            lost.append(f"Its boxes are wider than a pixel: {plural(thin, 'box')} left out.")
    if format == "yolo":
        difficult = _count(~trained_on(sample) for sample in samples)
        if difficult:
            lost.append(
                f"It has no difficult or crowd objects: {plural(difficult, 'box')} left out."
            )
    if format != "coco":
        masks = _count(~np.isclose(s.areas, box_areas(s.boxes), rtol=1e-3) for s in samples)
        if masks:
            lost.append(f"It has no areas of masks: {masks:,} are lost, their boxes' areas count.")
    return tuple(lost)


def _count(flags: Iterable[np.ndarray]) -> int:
    return sum(int(flag.sum()) for flag in flags)
