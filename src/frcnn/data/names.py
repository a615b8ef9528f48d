"""Names that differ in their spelling only: of splits (``valid``, ``val``) and of classes."""

from __future__ import annotations

import re
from collections.abc import Iterable

VALIDATION = ("val", "valid", "validation")

# How the usual splits are spelled, by their common names.
SPELLINGS = {
    "train": ("train", "training"),
    "val": VALIDATION,
    "test": ("test", "testing"),
    "trainval": ("trainval",),
}
_COMMON = {word: common for common, words in SPELLINGS.items() for word in words}

# What exports write before and behind the name of a split; "obj_train_data" is Darknet's folder.
_AROUND = re.compile(
    r"^(instances|annotations|labels|lvis_v[\d.]+|obj)[-_]"
    r"|[-_](instances|annotations|labels|images|coco|set|data)$"
)


def common_name(split: str) -> str:
    """What a split is called everywhere.

    ``train`` for ``training``, ``train2017`` and ``train_labels``, ``val`` for ``valid``.
    """
    name = _without_year(split.strip().lower())
    plain = _without_year(_AROUND.sub("", name))
    return _COMMON.get(plain, name)


def _without_year(name: str) -> str:
    return re.sub(r"(?<=.)[-_]?(19|20)\d\d$", "", name)


def match_split(wanted: str, splits: Iterable[str]) -> str | None:
    """The one of ``splits`` that is meant: of this name, else the only one of its common name."""
    splits = tuple(splits)
    if wanted in splits:
        return wanted
    same = [split for split in splits if common_name(split) == common_name(wanted)]
    return same[0] if len(same) == 1 else None


def respelled(name: str, classes: Iterable[str]) -> str | None:
    """The class that differs from ``name`` in case, spaces, hyphens or underscores only."""
    for known in classes:
        if known != name and _letters(known) == _letters(name):
            return known
    return None


def respellings(classes: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of classes that are ``respelled``, the earlier one first."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault(_letters(name), name), name) for name in classes]
    return [(known, name) for known, name in pairs if known != name]


def _letters(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()
