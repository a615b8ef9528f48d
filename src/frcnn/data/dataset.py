"""Opening a data set: the format is seen from the path, the annotations are checked once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from frcnn.data.csv_file import SUFFIXES as CSV_SUFFIXES
from frcnn.data.csv_file import csv_split, csv_splits, read_csv
from frcnn.data.entries import Entry, Object, Report, checked_objects, checked_size
from frcnn.data.faults import DataError, Fault, describe_faults, plural
from frcnn.data.images import image_size
from frcnn.data.voc import YEARS, read_voc, voc_roots, voc_splits
from frcnn.structures import Sample

__all__ = ["DataError", "Dataset", "Fault", "available_splits", "hold_out", "open_dataset"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled pictures, checked but not decoded.

    Args:
        samples: the usable pictures; every one states its size.
        classes: class names; a sample's labels are indices into it.
        root: the folder or file that was opened.
        split: the split that was read, None for all of it.
        faults: what was left out when it was opened; a subset has none.
    """

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    root: Path
    split: str | None = None
    faults: tuple[Fault, ...] = ()

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

    def subset(self, keep: Sequence[int] | np.ndarray | Callable[[Sample], bool]) -> Dataset:
        """Some of the samples, by their indices in the order given, or by a predicate."""
        if callable(keep):
            chosen = tuple(sample for sample in self.samples if keep(sample))
        else:
            chosen = tuple(self.samples[int(index)] for index in keep)
        return Dataset(chosen, self.classes, self.root, self.split)

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
        name = f"{self.root}" + (f" [{self.split}]" if self.split else "")
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


def open_dataset(
    path: str | os.PathLike,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    strict: bool = False,
) -> Dataset:
    """Open a PASCAL VOC folder or a CSV file of boxes.

    Args:
        path: a VOC root, a folder with ``VOC2007`` and/or ``VOC2012`` below it (merged), or a
            ``.csv`` (or ``.txt``) file.
        split: for VOC a list of ``ImageSets/Main`` by its name; for a CSV file the name of
            another one beside it. None reads every annotation of the folder, or the file itself.
        classes: the class names, in the order of their labels; boxes of other classes are left
            out. None takes the sorted names of the boxes read, so that the labels of one split
            do not depend on another.
        strict: raise at the first fault instead of leaving the picture or the box out.

    Raises:
        DataError: ``path`` is neither, the split does not exist, no picture is usable, or
            anything is at fault while ``strict``.
    """
    path = Path(path)
    faults: list[Fault] = []

    def report(fault: Fault) -> None:
        if strict:
            raise DataError(str(fault))
        faults.append(fault)

    checked = []
    for entry in _entries(path, split, report):
        size = checked_size(entry, report)
        if size is not None:
            checked.append((entry, size, checked_objects(entry, size, report)))
    if not checked:
        first = f"; the first fault is {faults[0]}" if faults else ""
        raise DataError(f"{path}: has no usable picture{_of(split)}{first}")
    if classes is None:
        classes = sorted({item.name for *_, objects in checked for item in objects})
        if not classes:
            raise DataError(f"{path}: has no usable box{_of(split)}, so no class to learn")
    labels = {name: label for label, name in enumerate(classes)}
    _report_unknown(checked, labels, report)
    samples = tuple(_sample(entry, size, objects, labels) for entry, size, objects in checked)
    return Dataset(samples, tuple(classes), path, split, tuple(faults))


def available_splits(path: str | os.PathLike) -> tuple[str, ...]:
    """The splits that ``open_dataset`` would accept at ``path``, sorted.

    Raises:
        DataError: ``path`` is neither a VOC folder nor a CSV file.
    """
    path = Path(path)
    return csv_splits(path) if _is_csv(path) else voc_splits(_roots(path))


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
    by_name = sorted(range(len(dataset)), key=lambda index: str(dataset[index].image))
    count = min(max(round(fraction * len(dataset)), 1), len(dataset) - 1)
    drawn = np.random.default_rng(seed).permutation(len(dataset))[:count]
    held = {by_name[index] for index in drawn}
    rest = [index for index in range(len(dataset)) if index not in held]
    return replace(dataset.subset(rest), faults=dataset.faults), dataset.subset(sorted(held))


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() in CSV_SUFFIXES and path.is_file()


def _roots(path: Path) -> tuple[Path, ...]:
    roots = voc_roots(path)
    if not roots:
        state = "is no data set" if path.exists() else "does not exist"
        raise DataError(
            f"{path}: {state}; expected a VOC folder (Annotations/ in it, "
            f"or in {' or '.join(YEARS)} below it) or a .csv file"
        )
    return roots


def _entries(path: Path, split: str | None, report: Report) -> Iterable[Entry]:
    if _is_csv(path):
        file = path if split is None else csv_split(path, split)
        if not file.is_file():
            raise DataError(_no_split(path, split, csv_splits(path)))
        return read_csv(file, report)
    roots = _roots(path)
    if split is not None and not any(
        (root / "ImageSets" / "Main" / f"{split}.txt").is_file() for root in roots
    ):
        raise DataError(_no_split(path, split, voc_splits(roots)))
    return read_voc(roots, split, report)


def _no_split(path: Path, split: str | None, existing: tuple[str, ...]) -> str:
    return f"{path}: has no split {split!r}; it has {', '.join(existing) or 'none'}"


def _of(split: str | None) -> str:
    return f" in split {split!r}" if split else ""


def _report_unknown(
    checked: list[tuple[Entry, tuple[int, int], list[Object]]],
    labels: dict[str, int],
    report: Report,
) -> None:
    """One fault for each class that has boxes but no label, at the file that has it first."""
    found: dict[str, tuple[Path, int]] = {}
    for entry, _, objects in checked:
        for item in objects:
            if item.name not in labels:
                file, count = found.get(item.name, (entry.source, 0))
                found[item.name] = (file, count + 1)
    for name, (file, count) in found.items():
        problem = f"has class {name!r}, not among the {plural(len(labels), 'class')} expected"
        report(Fault(file, f"{problem} ({plural(count, 'box')} in all)", boxes=count))


def _sample(
    entry: Entry, size: tuple[int, int], objects: list[Object], labels: dict[str, int]
) -> Sample:
    known = [item for item in objects if item.name in labels]
    return Sample(
        image=entry.image,
        boxes=np.asarray([item.box for item in known], np.float32).reshape(-1, 4),
        labels=np.asarray([labels[item.name] for item in known], np.int64),
        difficult=np.asarray([item.difficult for item in known], bool),
        size=size,
    )
