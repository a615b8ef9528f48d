"""The layouts of YOLO data sets: a ``data.yaml``, or folders of pictures beside their labels.

Read are Ultralytics' ``data.yaml`` (its paths lead to folders of pictures or to lists of them),
Roboflow's export (the same, with paths that begin one folder too high), and the folders alone:
``images/<split>`` with ``labels/<split>``, ``<split>/images`` with ``<split>/labels``, one
``images`` with ``labels``, or labels beside their pictures and a list of the classes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from frcnn.data.entries import Reading, Report, Source
from frcnn.data.faults import DataError, Fault, Kind
from frcnn.data.lookup import folders_in, holds_pictures, listing, pictures_below
from frcnn.data.names import VALIDATION
from frcnn.data.yolo import label_file, label_folders, read_yolo
from frcnn.data.yolo_settings import NAME_LISTS, SUFFIXES, Settings, read_names, read_settings

_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_EXPECTED = ("train", *VALIDATION, "test")


@dataclass(frozen=True)
class Places:
    """Where the pictures of a data set are.

    Args:
        splits: folders and lists of pictures by split.
        unsplit: the same for a data set without splits.
        remarks: what a ``data.yaml`` names that does not exist, or is in two places.
    """

    splits: dict[str, list[Path]]
    unsplit: tuple[Path, ...] = ()
    remarks: tuple[str, ...] = ()

    def of(self, split: str | None) -> list[Path]:
        """The places of a split, or of all of them."""
        if split is not None:
            return self.splits[split]
        return [place for places in self.splits.values() for place in places] or [*self.unsplit]


def yolo_source(path: Path) -> Source | None:
    """The YOLO data set at ``path``, a YAML file or a folder; None if there is none.

    Raises:
        DataError: a YAML file that cannot be used.
    """
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return _stated_source(path.parent, path)
    file = _settings_file(path) if path.is_dir() else None
    if file:
        return _stated_source(path, file)
    places = _layout(path)
    return _source(path, places) if _has_pictures(places) else None


def yolo_parts_source(path: Path) -> Source | None:
    """The data set at ``path`` whose folders hold pictures beside their labels; None if none is.

    That there are label files is seen from the folders alone, so other formats come first.
    """
    places = _parts(path) if path.is_dir() else Places({})
    return _source(path, places) if _has_pictures(places) else None


def _stated_source(folder: Path, file: Path) -> Source:
    settings = read_settings(file)
    roots = _roots(folder, settings)
    places = _stated(settings, roots)
    if not places.splits:
        states = "; ".join(places.remarks) or "it names no train, val or test pictures"
        places = _layout(folder)
        if not _has_pictures(places):
            raise DataError(
                f"{file}: {states}; looked in {listing(roots)}, and there are no folders "
                f"images and labels in {folder}"
            )
    return _source(folder, places, settings, file)


def _source(
    folder: Path, places: Places, settings: Settings | None = None, file: Path | None = None
) -> Source:
    settings = settings or Settings()
    roots = _roots(folder, settings)
    names = settings.names or _listed_names(folder, places.of(None))

    def read(split: str | None, report: Report) -> Reading:
        for problem in places.remarks:
            report(Fault(file or folder, problem, kind=Kind.READING))
        if names is None:
            report(
                Fault(
                    file or folder,
                    "has no class names (names in data.yaml, or classes.txt): "
                    "the classes are called by their numbers",
                    kind=Kind.READING,
                )
            )
        return read_yolo(places.of(split), names, report, roots, settings.keypoints)

    return Source(tuple(sorted(places.splits)), read)


def _settings_file(folder: Path) -> Path | None:
    """The folder's ``data.yaml``, or the only YAML file there if it names training pictures."""
    for name in _FILES:
        if (folder / name).is_file():
            return folder / name
    found = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES]
    if len(found) != 1 or not found[0].is_file():
        return None
    try:
        settings = read_settings(found[0])
    except DataError:  # it may be about anything else
        return None
    return found[0] if any(key in settings.splits for key in _EXPECTED) else None


def _roots(folder: Path, settings: Settings) -> tuple[Path, ...]:
    """Folders that a ``data.yaml``'s paths may start from.

    Its ``path`` is often that of another machine, or one from where training was started.
    """
    stated = folder / settings.root if settings.root else folder
    return tuple(dict.fromkeys((stated, folder)))


def _stated(settings: Settings, roots: tuple[Path, ...]) -> Places:
    """The splits whose pictures exist; a key that is no usual split may be anything else."""
    splits: dict[str, list[Path]] = {}
    remarks = []
    for key, paths in settings.splits.items():
        found = [(path, _existing(path, roots)) for path in paths]
        places = [existing[0] for _, existing in found if existing]
        if places:
            splits[key] = places
        if places or key in _EXPECTED:
            remarks += [f"{key} is {path!r}, which does not exist" for path, at in found if not at]
        remarks += [
            f"{key} is {path!r}: {at[0]} is read, not {at[1]}" for path, at in found if len(at) > 1
        ]
    return Places(splits, remarks=tuple(remarks))


def _existing(path: str, roots: tuple[Path, ...]) -> list[Path]:
    """The place that a path means, and behind it another that it might."""
    relative = path.replace("\\", "/")
    for root in roots:
        # Roboflow's paths begin with "../" though they start from the file's own folder; what is
        # beside that folder may be of another data set.
        found = [place for name in _readings(relative) if _is_place(place := root / name)]
        if found:
            return found
    return []


def _readings(relative: str) -> tuple[str, ...]:
    return (relative.removeprefix("../"), relative) if relative.startswith("../") else (relative,)


def _is_place(path: Path) -> bool:
    try:
        return path.is_dir() or (path.suffix.lower() == ".txt" and path.is_file())
    except (OSError, ValueError):  # a name too long, or with a zero in it
        return False


def _layout(folder: Path) -> Places:
    """The splits by folders named ``images`` that have ``labels`` beside them.

    Where there are none, a list of the classes shows that labels are beside their pictures.
    """
    images, labels = folder / "images", folder / "labels"
    if images.is_dir() and labels.is_dir():
        # Pictures right there show that the folders below are no splits.
        inside = [] if holds_pictures(images) else folders_in(images)
        found = [part for part in inside if (labels / part.name).is_dir()]
        return Places({part.name: [part] for part in found}, () if found else (images,))
    found = [
        part
        for part in folders_in(folder)
        if (part / "images").is_dir() and (part / "labels").is_dir()
    ]
    if not found and _has_list(folder):
        return _beside(folder)
    return Places({part.name: [part / "images"] for part in found})


def _beside(folder: Path) -> Places:
    """Labels beside their pictures, as labelImg and Darknet have them: there, or in each split."""
    if holds_pictures(folder):
        return Places({}, (folder,))
    return Places({part.name: [part] for part in folders_in(folder) if holds_pictures(part)})


def _parts(folder: Path) -> Places:
    """Splits of labels beside their pictures that are no plain folders with one list of classes.

    labelImg and Roboflow write a list into each of them; CVAT writes one for all, and the pictures
    of a task with folders into the same folders.
    """
    parts = folders_in(folder)
    if not _has_list(folder):
        parts = (
            [part for part in parts if holds_pictures(part)] if any(map(_has_list, parts)) else []
        )
    return Places({part.name: [part] for part in parts if _holds_labelled(part)})


def _has_list(folder: Path) -> bool:
    return any(os.path.isfile(folder / name) for name in NAME_LISTS)


def _holds_labelled(folder: Path) -> bool:
    """Whether there is a picture with its labels in ``folder`` or below it."""
    return any(label_file(picture) for picture in pictures_below(folder))


def _has_pictures(places: Places) -> bool:
    return bool(places.splits or places.unsplit)


def _listed_names(folder: Path, places: Iterable[Path]) -> dict[int, str] | None:
    """The class names of the data set's list, or of those beside the labels of its splits.

    Raises:
        DataError: one of these lists calls a class otherwise than another.
    """
    lists = _lists(folder, folder / "labels")[:1]
    lists = lists or _lists(*(labels for place in places for labels in label_folders(place)))
    names: dict[int, str] = {}
    for file in lists:
        for number, name in read_names(file).items():
            if names.setdefault(number, name) != name:
                raise DataError(
                    f"{file}: calls class {number} {name!r:.100}, but {lists[0]} calls it "
                    f"{names[number]!r:.100}: the numbers must mean the same in all splits"
                )
    return names or None


def _lists(*folders: Path) -> list[Path]:
    files = (folder / name for folder in dict.fromkeys(folders) for name in NAME_LISTS)
    return [file for file in files if os.path.isfile(file)]
