"""The layouts of COCO data sets: which files hold the splits, and where their pictures are.

``annotations/instances_<split>.json`` with the pictures in ``<split>/`` or ``images/`` is COCO's
own; ``<split>/_annotations.coco.json`` among the pictures is Roboflow's export.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from frcnn.data.coco import read_coco
from frcnn.data.entries import Reading, Report, Source
from frcnn.data.joining import joined
from frcnn.data.lookup import existing_folders
from frcnn.data.names import VALIDATION, common_name

SUFFIX = ".json"
ROBOFLOW = "_annotations.coco.json"

# What an annotation file in the data set's own folder is called; other JSON files there may be
# anything.
_AT_THE_TOP = re.compile(
    r"(instances.*|annotations|labels|result|(train|val|valid|validation|test)\d*)\.json"
)


def coco_source(path: Path) -> Source | None:
    """The COCO data set at ``path``, a JSON file or a folder; None if there is none."""
    own = None
    if path.is_dir() and (path / ROBOFLOW).is_file():
        path = path / ROBOFLOW
    if path.is_file() and path.suffix.lower() == SUFFIX:
        own = _split_name(path)
        files = _by_split(_beside(path)) | {own: path}
    else:
        files = _by_split(_inside(path))
    if not files:
        return None

    def read(split: str | None, report: Report) -> Reading:
        name = split or own
        chosen = [name] if name else sorted(files)
        readings = [read_coco(files[name], _folders(files[name], name), report) for name in chosen]
        classes = dict.fromkeys(name for reading in readings for name in reading.classes or ())
        entries = (entry for reading in readings for entry in reading.entries)
        return Reading(joined(path, entries, report), tuple(classes))

    return Source(tuple(sorted(files)), read, own)


def _inside(folder: Path) -> list[Path]:
    """The annotation files of a data set's folder, by the first layout that fits."""
    for layout in ("annotations/instances_*.json", "annotations/*.json", f"*/{ROBOFLOW}"):
        files = list(folder.glob(layout))
        if files:
            return files
    return [file for file in folder.glob("*.json") if _AT_THE_TOP.fullmatch(file.name)]


def _beside(file: Path) -> Iterable[Path]:
    """The files of the data set that ``file`` is a split of."""
    if file.name == ROBOFLOW:
        return _named(file.parent).parent.glob(f"*/{ROBOFLOW}")
    return file.parent.glob("instances_*.json" if file.name.startswith("instances_") else "*.json")


def _by_split(files: Iterable[Path]) -> dict[str, Path]:
    shown = (file for file in files if file.is_file() and not file.name.startswith("."))
    return {_split_name(file): file for file in shown}


def _split_name(file: Path) -> str:
    if file.name == ROBOFLOW:
        return _named(file.parent).name
    return re.sub(r"^(instances|annotations)_|_(instances|annotations|coco)$", "", file.stem)


def _folders(file: Path, split: str) -> tuple[Path, ...]:
    """Where the pictures may be, the folders of the split first."""
    here = _named(file.parent)
    root = here.parent if here.name.lower() == "annotations" else here
    common = common_name(split)
    names = (split, common, *(VALIDATION if common in VALIDATION else ()))
    own = (root / above / name for name in names for above in ("", "images"))
    return existing_folders((*own, here, root, root / "images", root / "data"))


def _named(folder: Path) -> Path:
    """The folder under a path that ends in its name, which ``.`` does not."""
    return folder if folder.name else folder.resolve()
