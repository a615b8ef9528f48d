"""One writer a format: annotations into a folder, and where each picture's file belongs there.

Each takes a `Plan` and an existing empty folder, writes all but the pictures, and gives these with
the paths their files go to. Numbers are as short as single precision allows.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import yaml

from frcnn.data.csv_columns import DIFFICULT, HEADER
from frcnn.structures import Sample


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture to write.

    Args:
        name: of its file; no other has the same stem.
        home: the first split that has it.
        sample: its boxes.
        size: (height, width) in pixels.
    """

    name: str
    home: str
    sample: Sample
    size: tuple[int, int]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return Path(self.name).stem


@dataclass(frozen=True, eq=False)
class Plan:
    """A data set to write.

    Args:
        classes: names that the samples' labels index.
        pictures: all of them, each once.
        splits: those of each split, in its order.
    """

    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    splits: dict[str, list[Picture]]


Placed = Iterable[tuple[Picture, Path]]


def write_voc(plan: Plan, folder: Path) -> Placed:
    """``Annotations/``, ``JPEGImages/`` and ``ImageSets/Main/``; boxes of a pixel are left out."""
    annotations, lists = folder / "Annotations", folder / "ImageSets" / "Main"
    annotations.mkdir()
    lists.mkdir(parents=True)
    for picture in plan.pictures:
        tree = _voc_tree(picture, plan.classes)
        tree.write(annotations / f"{picture.stem}.xml", encoding="utf-8")
    for split, pictures in plan.splits.items():
        _write_lines(lists / f"{split}.txt", [picture.stem for picture in pictures])
    return [(picture, folder / "JPEGImages" / picture.name) for picture in plan.pictures]


def write_coco(plan: Plan, folder: Path) -> Placed:
    """``annotations/instances_<split>.json`` and ``images/``; difficult objects are crowds."""
    (folder / "annotations").mkdir()
    ids = {picture.name: number for number, picture in enumerate(plan.pictures, 1)}
    categories = [{"id": number, "name": name} for number, name in enumerate(plan.classes, 1)]
    for split, pictures in plan.splits.items():
        content = {
            "images": [
                {"id": ids[p.name], "file_name": p.name, "width": p.size[1], "height": p.size[0]}
                for p in pictures
            ],
            "annotations": _coco_annotations(pictures, ids),
            "categories": categories,
        }
        file = folder / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps(content, ensure_ascii=False) + "\n", "utf-8")
    return [(picture, folder / "images" / picture.name) for picture in plan.pictures]


def write_yolo(plan: Plan, folder: Path) -> Placed:
    """``images/<split>/``, ``labels/<split>/`` and ``data.yaml``; difficult objects are left out.

    A split whose pictures are not all its own is a list of them, ``<split>.txt``.
    """
    places = []
    for picture in plan.pictures:
        label = folder / "labels" / picture.home / f"{picture.stem}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        _write_lines(label, _yolo_rows(picture))
        places.append((picture, folder / "images" / picture.home / picture.name))
    settings: dict[str, object] = {}
    for split, pictures in plan.splits.items():
        if all(picture.home == split for picture in pictures):
            settings[split] = f"images/{split}"
        else:
            settings[split] = f"{split}.txt"
            lines = [f"./images/{picture.home}/{picture.name}" for picture in pictures]
            _write_lines(folder / f"{split}.txt", lines)
    settings |= {"nc": len(plan.classes), "names": dict(enumerate(plan.classes))}
    with (folder / "data.yaml").open("w", encoding="utf-8") as file:
        yaml.safe_dump(settings, file, sort_keys=False, allow_unicode=True)
    return places


def write_csv(plan: Plan, folder: Path) -> Placed:
    """``<split>.csv`` and ``images/``; a column ``difficult`` where there is any such object."""
    flagged = any(picture.sample.difficult.any() for picture in plan.pictures)
    header = [*HEADER, DIFFICULT] if flagged else [*HEADER]
    for split, pictures in plan.splits.items():
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            for picture in pictures:
                rows = _csv_rows(picture, plan.classes)
                writer.writerows(row[: len(header)] for row in rows)
    return [(picture, folder / "images" / picture.name) for picture in plan.pictures]


def voc_corners(boxes: np.ndarray) -> np.ndarray:
    """VOC's (xmin, ymin, xmax, ymax) of xyxy boxes, float32 (N, 4): counted from 1, inclusive."""
    return boxes + np.array([1, 1, 0, 0], np.float32)


def voc_holds(boxes: np.ndarray) -> np.ndarray:
    """Which boxes VOC can hold, bool (N,): those whose corners differ when they are inclusive."""
    corners = voc_corners(boxes)
    return np.all(corners[:, 2:] > corners[:, :2], axis=1)


def _voc_tree(picture: Picture, classes: tuple[str, ...]) -> ElementTree.ElementTree:
    top = ElementTree.Element("annotation")
    height, width = picture.size
    add_elements(top, filename=picture.name)
    add_elements(ElementTree.SubElement(top, "size"), width=width, height=height, depth=3)
    sample = picture.sample
    rows = zip(
        voc_corners(sample.boxes), sample.labels, sample.difficult, voc_holds(sample.boxes),
        strict=True,
    )  # fmt: skip
    for corners, label, difficult, held in rows:
        if held:
            item = ElementTree.SubElement(top, "object")
            add_elements(item, name=classes[label], difficult=int(difficult))
            xmin, ymin, xmax, ymax = map(_short, corners)
            add_elements(
                ElementTree.SubElement(item, "bndbox"), xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax
            )
    ElementTree.indent(top)
    return ElementTree.ElementTree(top)


def add_elements(parent: ElementTree.Element, **values: str | int) -> None:
    """Give an element children of these names and texts, in order."""
    for tag, value in values.items():
        ElementTree.SubElement(parent, tag).text = str(value)


def _coco_annotations(pictures: list[Picture], ids: dict[str, int]) -> list[dict]:
    rows = []
    for picture in pictures:
        sample = picture.sample
        columns = (sample.boxes, sample.labels, sample.difficult, sample.areas)
        for box, label, difficult, area in zip(*columns, strict=True):
            x1, y1, x2, y2 = box
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": ids[picture.name],
                    "category_id": int(label) + 1,
                    "bbox": [float(_short(value)) for value in (x1, y1, x2 - x1, y2 - y1)],
                    "area": float(area),
                    "iscrowd": int(difficult),
                }
            )
    return rows


def _yolo_rows(picture: Picture) -> list[str]:
    height, width = picture.size
    sample = picture.sample
    easy = ~sample.difficult
    rows = []
    for box, label in zip(sample.boxes[easy].astype(np.float64), sample.labels[easy], strict=True):
        x1, y1, x2, y2 = box / (width, height, width, height)
        shares = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
        rows.append(f"{label} " + " ".join(f"{share:.10g}" for share in shares))
    return rows


def _csv_rows(picture: Picture, classes: tuple[str, ...]) -> list[list[str]]:
    """Rows with all columns, ``difficult`` last; one of empty cells where there is no object."""
    path, sample = f"images/{picture.name}", picture.sample
    rows = [
        [path, *map(_short, box), classes[label], str(int(difficult))]
        for box, label, difficult in zip(sample.boxes, sample.labels, sample.difficult, strict=True)
    ]
    return rows or [[path, *[""] * 6]]


def _short(value: np.float32) -> str:
    """The fewest digits that give the same number in single precision: ``10``, ``212.6``."""
    return np.format_float_positional(np.float32(value), trim="-")


def _write_lines(file: Path, lines: list[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines), "utf-8")
