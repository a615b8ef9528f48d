"""What is wrong between the splits of a data set, and beside them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from frcnn.data.dataset import Dataset, why_nothing_to_train_on
from frcnn.data.duplicates import Looks, like_groups
from frcnn.data.faults import Kind, plural
from frcnn.data.findings import Finding, finding
from frcnn.data.images import SUFFIXES
from frcnn.data.names import common_name, respellings
from frcnn.data.voc import annotation_files, unlisted_annotations, voc_roots
from frcnn.data.yolo import labels_without_picture
from frcnn.structures import Sample

TRAIN = "train"
_OWN = (TRAIN, "val", "test")  # common names of splits that ought to share nothing
_SHOWN = 5

Homes = dict[Path, frozenset[str]]


def own_splits(splits: Mapping[str, Dataset]) -> list[str]:
    """The splits that ought to share no picture with each other.

    One such as ``trainval``, half of whose pictures or half of another's are in both, is joined
    from others by intent.
    """
    pictures = {name: {sample.image for sample in split} for name, split in splits.items()}

    def joined(name: str) -> bool:
        if common_name(name) in _OWN:
            return False
        others = (other for key, other in pictures.items() if key != name)
        smaller = ((len(pictures[name] & o), min(len(pictures[name]), len(o))) for o in others)
        return any(2 * shared >= count for shared, count in smaller)

    return [name for name in splits if not joined(name)]


def homes_of(splits: Mapping[str, Dataset]) -> Homes:
    """The splits that each picture is in; joined ones only for pictures that no other has."""
    own = own_splits(splits)
    found: dict[Path, set[str]] = {}
    for name in own:
        for sample in splits[name]:
            found.setdefault(sample.image, set()).add(name)
    alone = set(found)
    for name in splits:
        if name not in own:
            for sample in splits[name]:
                if sample.image not in alone:
                    found.setdefault(sample.image, set()).add(name)
    return {path: frozenset(names) for path, names in found.items()}


def shared_pictures(splits: Mapping[str, Dataset]) -> list[Finding]:
    """Pictures that two splits list."""
    own = set(own_splits(splits))
    shared = [(p, in_) for p, names in homes_of(splits).items() if len(in_ := names & own) > 1]
    if not shared:
        return []
    path, names = shared[0]
    sentence = (
        f"{plural(len(shared), 'picture')} in two splits, so figures on one say nothing: "
        f"{path.name} is in {' and '.join(sorted(names))}. List each in one of them."
    )
    return [finding(Kind.SHARED, len(shared), sentence, (path for path, _ in shared))]


def differing_pictures(splits: Mapping[str, Dataset]) -> list[Finding]:
    """Pictures that two splits have with other boxes, as where each class has a file."""
    first: dict[Path, tuple[str, Sample]] = {}
    differing: dict[Path, tuple[str, str]] = {}
    for name, split in splits.items():
        for sample in split:
            other, same = first.setdefault(sample.image, (name, sample))
            if _boxes(sample) != _boxes(same):
                differing.setdefault(sample.image, (other, name))
    if not differing:
        return []
    path, (one, other) = next(iter(differing.items()))
    sentence = (
        f"{plural(len(differing), 'picture')} with other boxes in another split: {path.name} in "
        f"{one} and in {other}. What is in one file alone is background to the other: train on all "
        "of the folder, which takes the boxes of both, or join the files."
    )
    return [finding(Kind.DIFFERING, len(differing), sentence, differing)]


def _boxes(sample: Sample) -> set[tuple[float, ...]]:
    labelled = zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True)
    return {(*box, label) for box, label in labelled}


def like_pictures(paths: list[Path], looks: Looks, homes: Homes) -> list[Finding]:
    """Pictures that show the same, in one split and in two."""
    within: list[list[Path]] = []
    across: list[list[Path]] = []
    for group in like_groups(looks):
        members = [paths[index] for index in group]
        by_home: dict[frozenset[str], list[Path]] = {}
        for path in members:
            by_home.setdefault(homes[path], []).append(path)
        within += [same for same in by_home.values() if len(same) > 1]
        if len(frozenset().union(*by_home)) > 1 and len(by_home) > 1:
            across.append(members)
    found = []
    if within:
        count = sum(len(group) - 1 for group in within)
        sentence = (
            f"{plural(count, 'picture')} again in the same split, under another name: "
            f"{_names(within[0])}. Keep one of each."
        )
        found.append(finding(Kind.TWICE, count, sentence, (p for g in within for p in g)))
    if across:
        first = ", ".join(f"{p.name} ({'+'.join(sorted(homes[p]))})" for p in across[0][:_SHOWN])
        sentence = (
            f"{plural(len(across), 'picture')} alike in two splits, so figures on one are too "
            f"high: {first}. Move all of one scene to one split."
        )
        found.append(finding(Kind.ALIKE, len(across), sentence, (p for g in across for p in g)))
    return found


def dark_pictures(paths: Sequence[Path]) -> list[Finding]:
    """Pictures of 16 bits that become nearly black with 8."""
    if not paths:
        return []
    sentence = (
        f"{plural(len(paths), 'picture')} of 16 bits that use a small part of them, and are "
        f"nearly black with 8: {_names([*paths])}. Scale them to the full range."
    )
    return [finding(Kind.DARK, len(paths), sentence, paths)]


def class_findings(splits: Mapping[str, Dataset]) -> list[Finding]:
    """Classes that one split alone has, and names that differ in their spelling only."""
    own = own_splits(splits)
    homes: dict[str, list[str]] = {}
    for name in own:
        for label, count in splits[name].box_counts().items():
            if count:
                homes.setdefault(label, []).append(name)
    alone = {label: names[0] for label, names in homes.items() if len(names) == 1}
    found = []
    if len(own) > 1 and alone:
        shown = ", ".join(f"{label!r} in {split}" for label, split in [*alone.items()][:_SHOWN])
        more = f" and {len(alone) - _SHOWN} more" if len(alone) > _SHOWN else ""
        sentence = (
            f"{plural(len(alone), 'class')} in one split alone: {shown}{more}. What is not in "
            "training cannot be learnt, what is only there is never measured."
        )
        trained = all(common_name(split) == TRAIN for split in alone.values())
        found.append(finding(Kind.CLASS_OF_ONE, len(alone), sentence, note=trained))
    names = dict.fromkeys(name for split in splits.values() for name in split.classes)
    pairs = respellings(names)
    if pairs:
        shown = ", ".join(f"{one!r} and {other!r}" for one, other in pairs[:_SHOWN])
        sentence = f"{plural(len(pairs), 'class')} spelled in two ways: {shown}. Spell them alike."
        found.append(finding(Kind.SPELLING, len(pairs), sentence))
    return found


def nothing_to_train_on(splits: Mapping[str, Dataset]) -> list[Finding]:
    """No object to learn in the training split, or in any where there is none of that name."""
    trained = [split for name, split in splits.items() if common_name(name) == TRAIN]
    samples = {sample.image: sample for split in trained or splits.values() for sample in split}
    why = why_nothing_to_train_on(samples.values())
    if why is None:
        return []
    place = " in the training split" if trained else ""
    sentence = (
        f"No object to train on{place}: {why}. Label what is to be found there, or clear the "
        "flag (difficult, iscrowd) of the objects to be learnt."
    )
    return [finding(Kind.NOTHING, 1, sentence)]


def empty_pictures(splits: Mapping[str, Dataset]) -> list[Finding]:
    """Pictures without objects: meant as such, or not labelled yet."""
    each = {sample.image: len(sample.labels) for split in splits.values() for sample in split}
    empty = [path for path, count in each.items() if not count]
    if not empty:
        return []
    sentence = (
        f"{plural(len(empty), 'picture')} without objects, trained on as background: "
        f"{_names(empty)}. Label what is to be seen there, if anything is."
    )
    return [finding(Kind.NO_OBJECTS, len(empty), sentence, empty)]


def unused_files(root: Path, splits: Mapping[str, Dataset]) -> list[Finding]:
    """Annotations that no split lists or that have no picture, and pictures that have none."""
    unlisted = unlisted_annotations(voc_roots(root))
    found = []
    if unlisted:
        sentence = (
            f"{plural(len(unlisted), 'annotation')} in no split: {_names(unlisted)}. List them in "
            "ImageSets/Main, or remove them."
        )
        found.append(finding(Kind.NO_SPLIT, len(unlisted), sentence, unlisted))
    known = {sample.image for split in splits.values() for sample in split}
    known |= {path for split in splits.values() for path in split.unusable}
    annotated = {file.stem for root in voc_roots(root) for file in annotation_files(root)}
    lost = labels_without_picture(sorted(known))
    if lost:
        sentence = (
            f"{plural(len(lost), 'label file')} without a picture: {_names(lost)}. Bring the "
            "pictures back, or remove the labels."
        )
        found.append(finding(Kind.MISSING_PICTURE, len(lost), sentence, lost))
    without = [
        path for path in _pictures_beside(known) if path not in known and path.stem not in annotated
    ]
    if without:
        sentence = (
            f"{plural(len(without), 'picture')} without annotation: {_names(without)}. Label them, "
            "or remove them."
        )
        found.append(finding(Kind.NO_ANNOTATION, len(without), sentence, without))
    return found


def _pictures_beside(pictures: Iterable[Path]) -> Iterable[Path]:
    """The picture files in the folders of these, sorted by folder and name."""
    for folder in sorted({path.parent for path in pictures}):
        if folder.is_dir():
            with os.scandir(folder) as entries:
                names = sorted(e.name for e in entries if e.name.lower().endswith(SUFFIXES))
            yield from (folder / name for name in names if not name.startswith("."))


def _names(paths: list[Path]) -> str:
    shown = ", ".join(path.name for path in paths[:_SHOWN])
    return shown + (f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else "")
