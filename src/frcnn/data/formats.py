"""Which format a data set is in, told from its path alone."""

from __future__ import annotations

from pathlib import Path

from frcnn.data.coco_folders import coco_source, coco_splits_source
from frcnn.data.csv_file import csv_source
from frcnn.data.entries import Source
from frcnn.data.faults import DataError
from frcnn.data.voc import YEARS, voc_source
from frcnn.data.voc_folders import voc_folders_source
from frcnn.data.yolo_folders import yolo_parts_source, yolo_source

EXPECTED = (
    f"a VOC folder (Annotations/ in it, or in {' or '.join(YEARS)} below it; "
    "or .xml files beside their pictures, or in annotations/ beside images/, split by folders or "
    "not); "
    "COCO: a .json file, or a folder with annotations/instances_*.json, "
    "SPLIT/_annotations.coco.json or SPLIT/annotations.json; "
    "YOLO: a data.yaml, or a folder with images/ and labels/, or with classes.txt and labels "
    "beside their pictures, split by folders or not; "
    "or a .csv file of boxes, or a folder of them"
)
_READERS = (
    voc_source,
    coco_source,
    yolo_source,
    voc_folders_source,
    csv_source,
    coco_splits_source,
    yolo_parts_source,
)
VOC_FOLDERS = ("Annotations", "JPEGImages")
_SHOWN = 8  # names of what a folder holds


def find_source(path: Path) -> Source:
    """The data set at ``path``.

    A folder in several formats is read as the first that fits: VOC, COCO, YOLO, VOC's files in
    other folders, CSV, COCO's files in other folders, YOLO's labels beside their pictures in other
    folders.

    Raises:
        DataError: there is none, or its description cannot be used.
    """
    if path.name in VOC_FOLDERS and all((path.parent / each).is_dir() for each in VOC_FOLDERS):
        raise DataError(f"{path}: is inside a VOC folder: name {path.parent}")
    for look in _READERS:
        source = look(path)
        if source is not None:
            return source
    if not path.exists():
        raise DataError(f"{path}: does not exist; expected {EXPECTED}")
    raise DataError(f"{path}: is no data set; expected {EXPECTED}{_contents(path)}")


def _contents(path: Path) -> str:
    """What a folder holds, for the message that it is no data set."""
    if not path.is_dir():
        return ""
    found = sorted(part.name + "/" * part.is_dir() for part in path.iterdir())
    if not found:
        return "; the folder is empty"
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"; it holds {', '.join(found[:_SHOWN])}{more}"
