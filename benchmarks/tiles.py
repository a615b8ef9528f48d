"""What tiles and test-time augmentation buy, and what they cost: one table each.

    python benchmarks/tiles.py RUN DATA [--split test] [--grid 3] [--tiles 320 480 640 960]
        [--overlap 0.2] [--json FILE]

Labelled pictures are pasted, GRID x GRID at a time, into composites in which the objects are as
many times smaller for the network, and a detector is scored on those as a whole, in tiles of
several sides, and in the ways that tiles can be merged: as ``seams.py`` does; by NMS; as SAHI does
(greedy merging of boxes of which one is half inside the other); and without a look at the whole.
The last row scores the pictures by themselves. The second table is of looking several times at
the pictures by themselves. AP50 is VOC 2012's mAP; AP is COCO's, but of all detections; looks are
pictures and tiles that the network sees for one picture, seconds what one takes.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import cv2
import numpy as np

import frcnn
from frcnn.data.images import read_image
from frcnn.evaluation.evaluate import evaluate_detections
from frcnn.inference import tiles as tiling
from frcnn.inference.augmented import SCALES, AugmentedDetector
from frcnn.inference.merging import joined, suppress
from frcnn.inference.seams import beyond_tiles, merge_tiles
from frcnn.inference.tiles import TiledDetector

Row = dict[str, object]


def main() -> None:
    given = arguments()
    detector = frcnn.load(given.run)
    looks = counted(detector)
    dataset = frcnn.open_dataset(given.data, given.split)
    detector.detect([sample.image for sample in dataset.samples[:16]])  # warm up
    tables: dict[str, list[Row]] = {}

    def table(title: str, data: frcnn.Dataset) -> Callable:
        rows = tables.setdefault(title, [])
        print(f"\n{title}\n{'':<44}{'AP50':>7}{'AP':>7}{'boxes':>7}{'looks':>7}{'seconds':>9}")

        def add(what: str, looking, data: frcnn.Dataset = data) -> Row:
            rows.append(score(what, looking, data, looks))
            print(
                "{what:<44}{AP50:>7.3f}{AP:>7.3f}{boxes:>7.0f}{looks:>7.1f}{seconds:>9.2f}".format(
                    **rows[-1]
                ),
                flush=True,
            )
            return rows[-1]

        return add

    with tempfile.TemporaryDirectory() as folder:
        made = composites(dataset, given.grid, Path(folder))
        title = f"{len(made)} composites of {given.grid} x {given.grid} pictures"
        add = table(title, made)
        score_tiles(detector, add, given)
        add("the pictures by themselves", detector, dataset)
    score_views(detector, table(f"{len(dataset)} pictures, looked at several times", dataset))
    if given.json:
        Path(given.json).write_text(json.dumps(tables, indent=2) + "\n")


def counted(detector) -> list[int]:
    """How many pictures and tiles the network has seen, from now on."""
    looks, infer = [0], detector.infer

    def infer_and_count(images, sizes):
        looks[0] += len(images)
        return infer(images, sizes)

    detector.infer = infer_and_count
    return looks


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("data")
    parser.add_argument("--split", default="test")
    parser.add_argument("--grid", type=int, default=3)
    parser.add_argument("--tiles", type=int, nargs="+", default=[320, 480, 640, 960])
    parser.add_argument("--overlap", type=float, default=0.2)
    parser.add_argument("--json")
    return parser.parse_args()


def composites(dataset: frcnn.Dataset, grid: int, folder: Path) -> frcnn.Dataset:
    """Paste pictures of one size into larger ones; those that fill none are left out."""
    height, width = dataset[0].size
    alike = [sample for sample in dataset if sample.size == (height, width)]
    top, left = height // 3, width // 3  # else seams of tiles might fall on those of pictures
    made = []
    for number in range(len(alike) // grid**2):
        canvas = np.zeros((top + grid * height, left + grid * width, 3), np.uint8)
        boxes, labels = [], []
        for place, sample in enumerate(alike[number * grid**2 : (number + 1) * grid**2]):
            y, x = top + place // grid * height, left + place % grid * width
            canvas[y : y + height, x : x + width] = read_image(sample.image)
            boxes.append(sample.boxes + [x, y, x, y])
            labels.append(sample.labels)
        file = folder / f"{number}.png"
        cv2.imwrite(str(file), canvas[..., ::-1])
        made.append(
            frcnn.Sample(file, np.concatenate(boxes), np.concatenate(labels), size=canvas.shape[:2])
        )
    return frcnn.Dataset(tuple(made), dataset.classes, folder)


def score_tiles(detector, add: Callable, given: argparse.Namespace) -> None:
    add("whole", detector)
    rows = [
        add(
            f"tiles {side}, overlap {given.overlap:g}", TiledDetector(detector, side, given.overlap)
        )
        for side in given.tiles
    ]
    best = given.tiles[int(np.argmax([row["AP"] for row in rows]))]
    for overlap in (0.0, 2 * given.overlap):
        add(f"tiles {best}, overlap {overlap:g}", TiledDetector(detector, best, overlap))
    tiled = TiledDetector(detector, best, given.overlap)
    for name, merge in OTHERS.items():
        tiling.merge_tiles = merge
        add(f"tiles {best}, merged by {name}", tiled)
    tiling.merge_tiles = merge_tiles
    tiling.beyond_tiles = lambda found, *_: found
    add(f"tiles {best}, all of the whole", tiled)
    tiling.beyond_tiles = beyond_tiles
    add(f"tiles {best}, none of it", TiledDetector(detector, best, given.overlap, whole=False))


def merge_by_nms(found, tiles, size):
    """All detections of all tiles, thinned out as a detector's own are."""
    return suppress(joined(found), 0.5)


def merge_by_ios(found, tiles, size):
    """SAHI's GREEDYNMM of IoS 0.5: a box and those half inside each other become one box."""
    every = joined(found)
    boxes, keep = every.boxes.copy(), np.ones(len(every), bool)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for row in range(len(every)):
        if not keep[row]:
            continue
        low = np.maximum(every.boxes[row, :2], every.boxes[:, :2])
        high = np.minimum(every.boxes[row, 2:], every.boxes[:, 2:])
        common = np.clip(high - low, 0, None).prod(axis=1)
        same = keep & (every.labels == every.labels[row])
        same &= common > 0.5 * np.minimum(areas, areas[row])
        same[: row + 1] = False
        keep[same] = False
        both = every.boxes[np.flatnonzero(same).tolist() + [row]]
        boxes[row] = [*both[:, :2].min(axis=0), *both[:, 2:].max(axis=0)]
    return frcnn.Detections(boxes, every.scores, every.labels, every.classes)[keep]


OTHERS: dict[str, Callable] = {"NMS": merge_by_nms, "IoS 0.5, as SAHI does": merge_by_ios}


def score_views(detector, add: Callable) -> None:
    add("once", detector)
    for scales, flip in (((1.0,), True), (SCALES, False), (SCALES, True), ((0.8, *SCALES), True)):
        for merge in ("nms", "fuse"):
            augmented = AugmentedDetector(detector, scales, flip, merge)
            shown = ", ".join(f"{scale:g}" for scale in scales)
            add(f"scales {shown}{', mirrored' * flip}, {merge}", augmented)


def score(what: str, detector, dataset: frcnn.Dataset, looks: list[int]) -> Row:
    began, before = time.perf_counter(), looks[0]
    found = detector.detect([sample.image for sample in dataset])
    seconds = (time.perf_counter() - began) / len(dataset)
    result = evaluate_detections(found, dataset.samples, dataset.classes)
    return {
        "what": what,
        "AP50": result.voc12["mAP"],
        "AP": mean_ap(found, dataset),
        "boxes": result.detections / len(dataset),
        "looks": (looks[0] - before) / len(dataset),
        "seconds": seconds,
    }


def mean_ap(found: Sequence[frcnn.Detections], dataset: frcnn.Dataset) -> float:
    """COCO's AP, but of all detections: 100 a picture are too few for a composite."""
    from faster_coco_eval import COCO, COCOeval_faster

    images = [{"id": number} for number in range(len(dataset))]
    categories = [{"id": label} for label in range(len(dataset.classes))]
    truth, answers = [], []
    for number, (sample, seen) in enumerate(zip(dataset, found, strict=True)):
        for (x1, y1, x2, y2), label in zip(sample.boxes.tolist(), sample.labels, strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            truth.append(
                {
                    "id": len(truth) + 1,
                    "image_id": number,
                    "category_id": int(label),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
        answers += seen.to_coco(number, first_category=0)
    labelled = COCO({"images": images, "annotations": truth, "categories": categories})
    figures = COCOeval_faster(
        labelled, labelled.loadRes(answers), "bbox", print_function=lambda *_: None
    )
    figures.params.maxDets = [1, 10, 10_000]
    figures.evaluate()
    figures.accumulate()
    precision = figures.eval["precision"][:, :, :, 0, -1]
    return float(precision[precision > -1].mean())


if __name__ == "__main__":
    main()
