"""All splits of a data set at once, with one list of classes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from frcnn.data.dataset import Dataset, open_dataset
from frcnn.data.formats import find_source
from frcnn.data.names import common_name

_USUAL = ("train", "val", "test", "trainval")


def open_all_splits(
    path: str | os.PathLike,
    split: str | None = None,
    strict: bool = False,
    progress: Callable[[], None] | None = None,
) -> dict[str, Dataset]:
    """Open every split there is at a path, training first; of a file's, see ``splits_at``.

    Args:
        path: as for ``open_dataset``.
        split: only this one.
        strict: raise at the first fault.
        progress: called after each picture.

    Returns:
        Data sets by the names of their splits, all with the same classes: those of any of them.
        A data set without splits counts as ``train``.

    Raises:
        DataError: ``path`` or a split of it cannot be used.
    """
    names = (split,) if split is not None else splits_at(path)
    opened = [open_dataset(path, name, strict=strict, progress=progress) for name in names]
    opened.sort(key=lambda dataset: common_name(dataset.split or "train") != "train")
    classes = joined_classes(dataset.classes for dataset in opened)
    return {_name(dataset): dataset.with_classes(classes) for dataset in opened}


def splits_at(path: str | os.PathLike) -> tuple[str | None, ...]:
    """The splits of the data set at a path; None alone where it has none.

    Beside a file may lie others about anything: of the files there, only those called train, val
    or test, if it is so itself, are splits of the same data set.

    Raises:
        DataError: ``path`` is no data set.
    """
    source = find_source(Path(path))
    if source.own is None:
        return source.splits or (None,)
    usual = tuple(filter(_is_usual, source.splits))
    return usual if source.own in usual else (source.own,)


def joined_classes(lists: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """The classes of all lists: sorted if each of the lists is, else in the order of the lists."""
    lists = tuple(lists)
    joined = dict.fromkeys(name for names in lists for name in names)
    in_order = all(names == tuple(sorted(names)) for names in lists)
    return tuple(sorted(joined) if in_order else joined)


def _is_usual(split: str) -> bool:
    """Whether a split is called ``train``, ``val2017``, ``test_labels`` or the like."""
    words = re.split(r"[\W_]+", split)
    return any(common_name(word) in _USUAL for word in (split, *words))


def _name(dataset: Dataset) -> str:
    return Path(dataset.split or "train").stem  # a CSV's split may have been named with its suffix
