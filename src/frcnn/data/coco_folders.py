"""The layouts of COCO data sets: which files hold the splits, and where their pictures are.

``annotations/instances_<split>.json`` with the pictures in ``<split>/`` or ``images/`` is COCO's
own; ``<split>/_annotations.coco.json`` among the pictures is Roboflow's export. Other exports have
``<split>/labels.json`` and the like, beside pictures or folders of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from frcnn.data.coco import read_coco
from frcnn.data.entries import Reading, Report, Source
from frcnn.data.faults import Fault, Kind
from frcnn.data.joining import joined
from frcnn.data.lookup import existing_folders, folders_in
from frcnn.data.names import SPELLINGS, common_name
from frcnn.files import read_file

SUFFIX = ".json"
ROBOFLOW = "_annotations.coco.json"

# What an annotation file in the data set's own folder is called; other JSON files there may be
# anything.
_AT_THE_TOP = re.compile(
    r"(instances.*|annotations|labels|result|(train|val|valid|validation|test)\d*)\.json"
)

# What it is called in a folder for each split: by FiftyOne, Supervisely, CVAT and by hand.
_IN_A_SPLIT = (
    *("annotations.json", "_annotations.json", "labels.json", "coco.json"),
    *("annotations/instances.json", "annotations/instances_default.json"),
)
_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_MOST_BYTES = 1 << 31  # as of ``read_coco``


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
    return _source(path, files, own) if files else None


def coco_splits_source(path: Path) -> Source | None:
    """The COCO data set at ``path`` that has a folder for each split; None if there is none.

    Or that has files such as ``train_annotations.json``. These names say little, so that other
    formats come first.
    """
    folders = folders_in(path)
    layouts = [{part.name: part / name for part in folders} for name in _IN_A_SPLIT]
    beside = (file for file in path.glob(f"*{SUFFIX}") if common_name(file.stem) in SPELLINGS)
    for layout in (*layouts, {file.stem: file for file in beside}):
        files = {split: file for split, file in layout.items() if file.is_file()}
        if any(map(_holds_instances, files.values())):
            return _source(path, files)
    return None


def _source(root: Path, files: dict[str, Path], own: str | None = None) -> Source:
    passed_over = _other_files(files, own)
    splits = {split: file for split, file in files.items() if split not in passed_over}

    def read(split: str | None, report: Report) -> Reading:
        for file in () if own else passed_over.values():  # who names a file asks for no other
            problem = "is not read: it lacks some of COCO's lists (images, annotations, categories)"
            report(Fault(file, problem, kind=Kind.READING))
        name = split or own
        chosen = [name] if name else sorted(splits)
        found = [read_coco(splits[name], _folders(splits[name], name), report) for name in chosen]
        classes = dict.fromkeys(name for reading in found for name in reading.classes or ())
        entries = (entry for reading in found for entry in reading.entries)
        return Reading(joined(root, entries, report), tuple(classes))

    return Source(tuple(sorted(splits)), read, own)


def _other_files(files: dict[str, Path], own: str | None) -> dict[str, Path]:
    """Those that are about something else, such as lists of classes; none if all seem to be.

    One that is called as a split is taken for one, so that a damaged one is not passed over.
    """
    if len(files) == 1:
        return {}
    others = {
        split: file
        for split, file in files.items()
        if split != own
        and common_name(split) not in SPELLINGS
        and not file.name.startswith(("instances_", ROBOFLOW))
        and not _holds_instances(file)
    }
    return others if len(others) < len(files) else {}


def _holds_instances(file: Path) -> bool:
    """Whether a file seems to have COCO's three lists, without parsing it."""
    try:
        content = read_file(file, _MOST_BYTES)
    except OSError:  # what is wrong with it is said when it is read
        return True
    return all(key in content for key in _KEYS)


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
    names = (split, common, *SPELLINGS.get(common, ()))
    own = (root / above / name for name in names for above in ("", "images"))
    return existing_folders((*own, here, root, root / "images", root / "data"))


def _named(folder: Path) -> Path:
    """The folder under a path that ends in its name, which ``.`` does not."""
    return folder if folder.name else folder.resolve()
