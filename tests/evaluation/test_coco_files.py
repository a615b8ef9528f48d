"""COCO files read and scored here, against pycocotools reading the same files itself."""

import contextlib
import io
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from frcnn.data.dataset import open_dataset
from frcnn.evaluation.coco import coco_scores
from frcnn.structures import Detections

DATA = Path(os.environ.get("FRCNN_DATA", Path(__file__).parents[2] / "../shared/data"))


def pycocotools_stats(file, results):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        evaluator = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return np.where(evaluator.stats == -1, np.nan, evaluator.stats)


def random_results(content, seed):
    """Detections near the boxes of the file, some of them repeated, and some anywhere."""
    rng = np.random.default_rng(seed)
    categories = [category["id"] for category in content["categories"]]
    near = [rng.choice(content["annotations"]) for _ in range(2 * len(content["annotations"]))]
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    results = []
    for annotation in near:
        x, y, width, height = annotation["bbox"]
        share = (0.6, 0.1, 0.02)[rng.integers(3)]
        if annotation.get("iscrowd"):  # detections of single members of the crowd
            x, y = x + rng.uniform(0, 0.8) * width, y + rng.uniform(0, 0.8) * height
            width, height = 0.3 * width, 0.3 * height
        shift = rng.normal(0, share / 4, 4) * [width, height, width, height]
        box = [x + shift[0], y + shift[1], max(width + shift[2], 1), max(height + shift[3], 1)]
        category = annotation["category_id"] if rng.random() < 0.9 else rng.choice(categories)
        results.append(result(annotation["image_id"], category, box, rng))
    for id_, (width, height) in sizes.items():
        for _ in range(rng.integers(0, 4)):
            x, y = rng.uniform(0, width - 10), rng.uniform(0, height - 10)
            box = [x, y, rng.uniform(5, width - x), rng.uniform(5, height - y)]
            results.append(result(id_, rng.choice(categories), box, rng))
    return results


def result(image, category, box, rng):
    # Corners in single precision, as detections have them.
    x, y, width, height = np.float32(box).astype(float)
    x2, y2 = np.float32([x + width, y + height]).astype(float)
    return {
        "image_id": int(image), "category_id": int(category),
        "bbox": [x, y, x2 - x, y2 - y], "score": float(np.float32(rng.random())),
    }  # fmt: skip


def detections_of(results, content, dataset):
    """The same results for the samples of a data set, by file name and class name."""
    ids = {Path(image["file_name"]).name: image["id"] for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    found = []
    for sample in dataset:
        rows = [row for row in results if row["image_id"] == ids[sample.image.name]]
        boxes = np.array([row["bbox"] for row in rows]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = [dataset.classes.index(names[row["category_id"]]) for row in rows]
        found.append(Detections(boxes, [row["score"] for row in rows], labels, dataset.classes))
    return found


def assert_equal_to_pycocotools(file, dataset, seed):
    content = json.loads(file.read_text())
    results = random_results(content, seed)
    summary = coco_scores(
        detections_of(results, content, dataset), dataset, dataset.classes
    ).summary
    expected = pycocotools_stats(file, results)
    assert 0.05 < expected[0] < 0.95
    np.testing.assert_allclose(list(summary.values()), expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("split", ["train", "val"])
def test_coco_tiny(split, seed):
    if not (DATA / "coco_tiny").is_dir():
        pytest.skip("The real data set 'coco_tiny' is not under FRCNN_DATA.")
    dataset = open_dataset(DATA / "coco_tiny", split, strict=True)
    file = DATA / "coco_tiny" / "annotations" / f"instances_{split}2017.json"
    assert_equal_to_pycocotools(file, dataset, seed)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A data set with crowds, negatives, masks smaller than their boxes, and gaps in the ids."""
    root = tmp_path_factory.mktemp("crowded")
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    categories = [{"id": id_, "name": f"class {id_}"} for id_ in (90, 3, 17)]
    images, annotations = [], []
    for index in range(24):
        width, height = (int(side) for side in rng.integers(150, 320, 2))
        name = f"{index}.png"
        cv2.imwrite(str(root / "images" / name), np.zeros((height, width, 3), np.uint8))
        images.append({"id": 1000 - 7 * index, "file_name": name, "width": width, "height": height})
        for _ in range(0 if index % 6 == 5 else rng.integers(1, 7)):
            x, y = rng.uniform(0, width - 30), rng.uniform(0, height - 30)
            box = [x, y, rng.uniform(8, width - x), rng.uniform(8, height - y)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": images[-1]["id"],
                    "category_id": int(rng.choice([90, 3, 17])),
                    "bbox": [round(float(side), 2) for side in box],
                    "area": float(rng.uniform(0.2, 0.9) * box[2] * box[3]),
                    "iscrowd": int(rng.random() < 0.25),
                    "segmentation": [],
                }
            )
    content = {"images": images, "annotations": annotations, "categories": categories}
    file = root / "annotations" / "instances_val.json"
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    return root, file


@pytest.mark.parametrize("seed", range(6))
def test_crowds_masks_and_gaps(crowded, seed):
    root, file = crowded
    dataset = open_dataset(root, "val", strict=True)
    assert sum(sample.difficult.sum() for sample in dataset) > 10
    assert_equal_to_pycocotools(file, dataset, seed)


def test_the_cases_tell_crowds_and_areas_apart(crowded):
    # Without the flags, or with the areas of boxes, the figures would be others.
    root, file = crowded
    dataset = open_dataset(root, "val")
    content = json.loads(file.read_text())
    found = detections_of(random_results(content, 0), content, dataset)
    right = coco_scores(found, dataset, dataset.classes).summary
    for field in ("difficult", "areas"):
        changed = [
            type(s)(**{name: getattr(s, name) for name in ("image", "boxes", "labels", "size")}
                    | {other: getattr(s, other) for other in ("difficult", "areas")
                       if other != field})
            for s in dataset
        ]  # fmt: skip
        other = coco_scores(found, changed, dataset.classes).summary
        assert abs(other["AP_medium"] - right["AP_medium"]) > 1e-3
