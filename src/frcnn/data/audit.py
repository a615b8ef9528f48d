"""What is wrong with a data set, and what a training should know of it before it begins."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from frcnn.data.anchor_fit import Anchors, Fit
from frcnn.data.box_checks import box_findings
from frcnn.data.converting import joined_classes, splits_at
from frcnn.data.dataset import Dataset, available_splits, open_dataset
from frcnn.data.duplicates import Looks
from frcnn.data.faults import DataError, Fault, Kind
from frcnn.data.findings import Finding, of_faults
from frcnn.data.object_sizes import Working, anchor_findings, objects_at, size_findings
from frcnn.data.split_checks import (
    class_findings,
    dark_pictures,
    differing_pictures,
    empty_pictures,
    homes_of,
    like_pictures,
    nothing_to_train_on,
    shared_pictures,
    unused_files,
)
from frcnn.data.statistics import SplitFigures, split_figures
from frcnn.structures import Sample

# What is said before a training: of the kinds that are seen without decoding a picture and that
# readers do not report themselves, the weightiest first.
_BRIEF = (Kind.SMALL, Kind.ANCHORS, Kind.CLASS_OF_ONE, Kind.BOX_TWICE, Kind.BOX_OF_TWO)
_MOST_SENTENCES = 4


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Args:
        data: the path that was audited.
        working: the preset and size that it was audited for.
        splits: figures of each split.
        fit: how the preset's anchors fit the objects of all splits; None without objects.
        small: the share of objects below 16 pixels at the training size; None without objects.
        mending_size: the short side that leaves at most a twentieth of them so; None likewise.
        suggested: anchors that fit better, with how they do; None where those there are will do.
        findings: faults first.
    """

    data: str
    working: Working
    splits: tuple[SplitFigures, ...]
    fit: Fit | None
    small: float | None
    mending_size: int | None
    suggested: tuple[Anchors, Fit] | None
    findings: tuple[Finding, ...]

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that are no mere notes."""
        return tuple(each for each in self.findings if each.severity == "fault")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON.

        Returns:
            ``data``; ``training``: ``preset``, ``short``, ``long`` and ``anchors`` (``strides``,
            ``sizes``, ``ratios``, ``offset``, ``rounded``); ``splits``: ``SplitFigures.to_dict``
            of each; ``objects``: ``small_share`` and ``mending_size``, or None; ``anchors``:
            ``fit`` (``Fit.to_dict``, or None) and ``suggested`` (as ``training.anchors`` with
            ``fit``, or None); ``findings``: ``Finding.to_dict`` of each.
        """
        suggested = None
        if self.suggested:
            suggested = {**asdict(self.suggested[0]), "fit": self.suggested[1].to_dict()}
        return {
            "data": self.data,
            "training": asdict(self.working),
            "splits": [split.to_dict() for split in self.splits],
            "objects": {"small_share": self.small, "mending_size": self.mending_size},
            "anchors": {"fit": self.fit and self.fit.to_dict(), "suggested": suggested},
            "findings": [each.to_dict() for each in self.findings],
        }


@dataclass(frozen=True, eq=False)
class Opened:
    """A data set opened for an audit.

    Args:
        root: its path.
        splits: those that could be opened, with the same classes; all there is as "all" where
            there are none.
        whole: whether these are all splits there are.
        faults: why others could not be opened.
    """

    root: Path
    splits: dict[str, Dataset]
    whole: bool
    faults: tuple[Fault, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of all splits."""
        return next(iter(self.splits.values())).classes

    def pictures(self) -> list[Path]:
        """The pictures of all splits, each once."""
        return list(homes_of(self.splits))


def open_for_audit(
    path: str | os.PathLike,
    split: str | None = None,
    progress: Callable[[], None] | None = None,
) -> Opened:
    """Open the splits of a data set, one by one, so that one that is unusable is but a finding.

    Args:
        path: as of ``open_dataset``.
        split: only this one.
        progress: called after each picture.

    Raises:
        DataError: none can be used.
    """
    names = (split,) if split is not None else splits_at(path)
    splits: dict[str, Dataset] = {}
    errors: list[DataError] = []
    for name in names:
        try:
            splits[name or "all"] = open_dataset(path, name, progress=progress)
        except DataError as error:
            errors.append(error)
    if not splits:
        raise errors[0]
    classes = joined_classes(dataset.classes for dataset in splits.values())
    splits = {name: dataset.with_classes(classes) for name, dataset in splits.items()}
    root = Path(path)
    faults = tuple(
        Fault(root, str(error).removeprefix(f"{root}: "), images=1, kind=Kind.SPLIT)
        for error in errors
    )
    whole = split is None and len(names) >= len(available_splits(path))
    return Opened(root, splits, whole, faults)


def audit(opened: Opened, working: Working, looks: Looks) -> Audit:
    """Find what is wrong with a data set.

    Args:
        opened: the data set.
        working: what it would be trained with.
        looks: of ``opened.pictures()``, from ``look_at``.
    """
    splits, samples = opened.splits, _samples(opened.splits)
    objects = objects_at(samples.values(), working.short, working.long)
    fit, suggested, of_anchors = anchor_findings(objects, working)
    faults = [fault for split in splits.values() for fault in split.faults]
    findings = [
        *of_faults([*opened.faults, *faults, *looks.faults]),
        *nothing_to_train_on(splits),
        *shared_pictures(splits),
        *differing_pictures(splits),
        *like_pictures(opened.pictures(), looks, homes_of(splits)),
        *dark_pictures(looks.dark),
        *class_findings(splits),
        *box_findings(samples.values(), opened.classes),
        *empty_pictures(splits),
        *(unused_files(opened.root, splits) if opened.whole else ()),
        *size_findings(objects, working),
        *of_anchors,
    ]
    return Audit(
        str(opened.root),
        working,
        tuple(
            split_figures(name, split, working.short, working.long)
            for name, split in splits.items()
        ),
        fit,
        objects.small_share() if len(objects) else None,
        objects.mending_size(working.short) if len(objects) else None,
        suggested,
        tuple(sorted(findings, key=lambda each: each.severity != "fault")),
    )


def brief(splits: Mapping[str, Dataset], working: Working) -> list[str]:
    """What is to be said before a training: up to four sentences, from the annotations alone.

    Args:
        splits: those that take part, with the same classes.
        working: what they train.
    """
    samples = _samples(splits)
    objects = objects_at(samples.values(), working.short, working.long)
    findings = [
        *size_findings(objects, working),
        *anchor_findings(objects, working)[2],
        *class_findings(splits),
        *box_findings(samples.values(), next(iter(splits.values())).classes),
    ]
    chosen = [each for kind in _BRIEF for each in findings if each.kind == kind]
    return [each.sentence for each in chosen[:_MOST_SENTENCES]]


def _samples(splits: Mapping[str, Dataset]) -> dict[Path, Sample]:
    """The samples of all splits, each picture once."""
    return {sample.image: sample for split in splits.values() for sample in split}
