"""Opening a data set: the format is seen from the path, the annotations are checked once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from frcnn.data.checking import Checked, checked_pictures
from frcnn.data.entries import Entry, Object, Report, Source
from frcnn.data.faults import DataError, Fault, Faults, Kind, describe_faults, plural
from frcnn.data.formats import find_source
from frcnn.data.images import MAX_PIXELS, image_size
from frcnn.data.names import match_split, respelled, respellings
from frcnn.errors import printable
from frcnn.structures import Sample, box_areas

__all__ = ["DataError", "Dataset", "Fault", "available_splits", "hold_out", "open_dataset"]

_MOST_CLASSES = 100_000  # names; a network's outputs take as many rows


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled pictures, checked but not decoded.

    Args:
        samples: the usable pictures; every one states its size.
        classes: class names; a sample's labels are indices into it.
        root: the folder or file that was opened.
        split: the split that was read, None for all of it.
        faults: what was left out when it was opened, and remarks; a subset has none.
        unknown: classes that have boxes but were not asked for; the boxes are left out.
        unusable: pictures that were left out when it was opened; a subset has none.
    """

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    root: Path
    split: str | None = None
    faults: tuple[Fault, ...] = ()
    unknown: tuple[str, ...] = ()
    unusable: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def sizes(self) -> np.ndarray:
        """The (height, width) of every picture in pixels, int32 (N, 2)."""
        sizes = [sample.size or image_size(sample.image) for sample in self.samples]
        return np.asarray(sizes, np.int32).reshape(-1, 2)

    def fingerprint(self) -> str:
        """SHA-256 of its classes and of each sample's file name, size, boxes and labels."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for sample in self.samples:
            known = sample.image.name, sample.size, sample.boxes.shape
            digest.update(repr(known).encode())
            for array in (sample.boxes, sample.labels, sample.difficult):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def subset(self, keep: Sequence[int] | np.ndarray | Callable[[Sample], bool]) -> Dataset:
        """Some of the samples, by their indices in the order given, or by a predicate."""
        if callable(keep):
            chosen = tuple(sample for sample in self.samples if keep(sample))
        else:
            chosen = tuple(self.samples[int(index)] for index in keep)
        return Dataset(chosen, self.classes, self.root, self.split)

    def with_classes(self, classes: Sequence[str]) -> Dataset:
        """The same with another list of classes, which must hold those of the boxes.

        Raises:
            ValueError: a class that has boxes is not among ``classes``.
        """
        labels = {name: label for label, name in enumerate(classes)}
        missing = [n for n, count in self.box_counts().items() if count and n not in labels]
        if missing:
            raise ValueError(f"Expected classes with {missing[0]!r}. Received: {classes}.")
        new = np.array([labels.get(name, len(labels)) for name in self.classes], np.int64)
        samples = tuple(replace(sample, labels=new[sample.labels]) for sample in self.samples)
        return replace(self, samples=samples, classes=tuple(classes))

    def box_counts(self) -> dict[str, int]:
        """How many boxes each class has, difficult ones included."""
        labels = [sample.labels for sample in self.samples]
        counts = np.bincount(np.concatenate(labels), minlength=len(self.classes)) if labels else []
        counted = dict.fromkeys(self.classes, 0)
        counted.update(zip(self.classes, map(int, counts), strict=False))
        return counted

    def summary(self) -> str:
        """A few lines: pictures, boxes a class, and what was left out and why."""
        counts = self.box_counts()
        empty = sum(not len(sample.labels) for sample in self.samples)
        difficult = sum(int((~trained_on(sample)).sum()) for sample in self.samples)
        name = printable(f"{self.root}" + (f" [{self.split}]" if self.split else ""))
        lines = [f"{name}: {plural(len(self), 'image')}, {plural(sum(counts.values()), 'box')}"]
        if empty:
            lines[0] += f", {plural(empty, 'image')} without objects"
        if difficult:
            lines[0] += f", {difficult:,} of the boxes difficult"
        width = max(map(len, self.classes), default=0)
        lines += [f"  {label:<{width}}  {count:>7,}" for label, count in counts.items()]
        return "\n".join(filter(None, (*lines, describe_faults(self.faults))))


def trained_on(sample: Sample) -> np.ndarray:
    """Which boxes of a sample are trained on and scored, bool (N,): all but the difficult."""
    return ~cast(np.ndarray, sample.difficult)


def why_nothing_to_train_on(samples: Iterable[Sample]) -> str | None:
    """Why no object of these is trained on; None where one is."""
    boxes = 0
    for sample in samples:
        if trained_on(sample).any():
            return None
        boxes += len(sample.labels)
    if not boxes:
        return "no picture has a usable box"
    return f"all boxes ({boxes:,}) are difficult objects or crowds, which are not trained on"


def open_dataset(
    path: str | os.PathLike,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    strict: bool = False,
    progress: Callable[[], None] | None = None,
    most: int = MAX_PIXELS,
) -> Dataset:
    """Open a data set in PASCAL VOC's, COCO's or YOLO's format, or a CSV file of boxes.

    The format is seen from the path. Crowd regions of COCO, like VOC's difficult objects, are
    neither trained on nor scored.

    Args:
        path: one of

            - a VOC root, or a folder with ``VOC2007`` and/or ``VOC2012`` below it (merged); VOC's
              XML files beside their pictures, or in ``annotations`` beside ``images``, in one
              folder or in one for each split;
            - a COCO JSON file, or a folder with ``annotations/instances_<split>.json``,
              ``<split>/_annotations.coco.json`` or ``<split>/annotations.json``;
            - a YOLO ``data.yaml``, or a folder with one, or with ``images`` and ``labels``,
              or with ``classes.txt`` and labels beside their pictures, split by folders or not;
            - a ``.csv`` (or ``.txt``) file, or a folder of ``.csv`` files.
        split: for VOC a list of ``ImageSets/Main`` by its name, or a folder's; for COCO and CSV
            the file's name without ``instances_`` and the suffix, or its folder's; for YOLO a key
            of the ``data.yaml`` or the folder's name. ``val`` also finds ``valid`` and
            ``val2017``, ``train`` also ``training`` and ``train_labels``, and the like. None reads
            everything in a folder, or the file itself.
        classes: the class names, in the order of their labels; boxes of other classes are left
            out. None takes those that the data set declares, in its order (COCO, YOLO), else the
            sorted names of the boxes read, so that labels do not depend on another split.
        strict: raise at the first fault instead of leaving the picture or the box out.
        progress: called after each picture.
        most: pixels that a picture may have. Training and detection without tiles take no more
            than the default.

    Raises:
        DataError: ``path`` is none of these, the split does not exist, no picture is usable, or
            anything is at fault while ``strict``.
    """
    path = Path(path)
    faults = Faults(path)

    def report(fault: Fault) -> None:
        if strict and not fault.is_remark:
            raise DataError(str(fault))
        faults.add(fault)

    source = find_source(path)
    if split is not None:
        split = _existing_split(path, split, source)
    reading = source.read(split, report)
    checked, unusable = checked_pictures(reading.entries, report, progress, most)
    if not checked:
        raise DataError(f"{path}: has no usable picture{_of(split)}{faults.first()}")
    if classes is None:
        classes = reading.classes or sorted({o.name for *_, objects in checked for o in objects})
        if not classes:
            problem = f"has no usable box{_of(split)}, so no class to learn{faults.first()}"
            raise DataError(f"{path}: {problem}")
        if len(classes) > _MOST_CLASSES:
            raise DataError(f"{path}: has {len(classes):,} classes, more than {_MOST_CLASSES:,}")
        for one, other in respellings(classes):
            problem = f"has the classes {one!r} and {other!r}: if they are one, spell them alike"
            report(Fault(path, problem, kind=Kind.SPELLING))
    labels = {name: label for label, name in enumerate(classes)}
    unknown = _report_unknown(checked, labels, report)
    samples = tuple(_sample(entry, size, objects, labels) for entry, size, objects in checked)
    return Dataset(samples, tuple(classes), path, split, faults.all(), unknown, unusable)


def available_splits(path: str | os.PathLike) -> tuple[str, ...]:
    """The splits that ``open_dataset`` would accept at ``path``, sorted.

    Raises:
        DataError: ``path`` is no data set.
    """
    return find_source(Path(path)).splits


def hold_out(dataset: Dataset, fraction: float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Part a data set in two, the same way whatever the order of its samples.

    Args:
        dataset: at least two samples.
        fraction: the share of the second part, in (0, 1); each part gets one sample at least.
        seed: the draw.

    Returns:
        The rest, which keeps the faults, and the held-out part, each in the data set's order.

    Raises:
        ValueError: a fraction outside (0, 1).
        DataError: fewer than two samples.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"Expected a fraction between 0 and 1. Received: {fraction}.")
    if len(dataset) < 2:
        raise DataError(f"{dataset.root}: has {plural(len(dataset), 'image')}, too few to part")
    by_name = sorted(range(len(dataset)), key=lambda index: str(dataset[index].image.absolute()))
    count = min(max(round(fraction * len(dataset)), 1), len(dataset) - 1)
    drawn = np.random.default_rng(seed).permutation(len(dataset))[:count]
    held = {by_name[index] for index in drawn}
    rest = [index for index in range(len(dataset)) if index not in held]
    return replace(dataset.subset(rest), faults=dataset.faults), dataset.subset(sorted(held))


def _existing_split(path: Path, wanted: str, source: Source) -> str:
    if wanted in source.unlisted:
        return wanted
    split = match_split(wanted, source.splits)
    if split is None:
        existing = ", ".join(source.splits) or "none"
        raise DataError(f"{path}: has no split {wanted!r}; it has {existing}")
    return split


def _of(split: str | None) -> str:
    return f" in split {split!r}" if split else ""


def _report_unknown(
    checked: list[Checked], labels: dict[str, int], report: Report
) -> tuple[str, ...]:
    """One fault for each class that has boxes but no label, at the file that has it first."""
    found: dict[str, tuple[Path, int]] = {}
    for entry, _, objects in checked:
        for item in objects:
            if item.name not in labels:
                file, count = found.get(item.name, (entry.source, 0))
                found[item.name] = (file, count + 1)
    for name, (file, count) in found.items():
        problem = f"has class {name!r}, not among the {plural(len(labels), 'class')} expected"
        other = respelled(name, labels)
        hint = f"; is {other!r} meant?" if other else ""
        problem = f"{problem} ({plural(count, 'box')} in all){hint}"
        report(Fault(file, problem, boxes=count, kind=Kind.UNKNOWN_CLASS))
    return tuple(found)


def _sample(
    entry: Entry, size: tuple[int, int], objects: list[Object], labels: dict[str, int]
) -> Sample:
    known = [item for item in objects if item.name in labels]
    boxes = np.asarray([item.box for item in known], np.float32).reshape(-1, 4)
    stated = np.asarray([item.area for item in known], np.float64)  # NaN where there is none
    return Sample(
        image=entry.image,
        boxes=boxes,
        labels=np.asarray([labels[item.name] for item in known], np.int64),
        difficult=np.asarray([item.difficult for item in known], bool),
        size=size,
        areas=np.where(np.isnan(stated), box_areas(boxes), stated),
    )
