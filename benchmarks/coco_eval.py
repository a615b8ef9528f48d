"""Seconds that COCO's figures take, beside pycocotools, on the same detections.

    python benchmarks/coco_eval.py [--images 5000] [--rounds 3] [--json FILE]

Pictures are drawn at random: several classes, objects that overlap and crowds among them; most
detections lie near an object, some of another class, the others anywhere. Both sides start from
the same arrays, so all conversion counts. The numbers must agree to 1e-6. Medians of alternating
rounds; the ratio is pycocotools' time over ours: above 1, ours is faster.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import time
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from frcnn.evaluation.coco import coco_scores
from frcnn.structures import Detections, Sample

SIZE = np.array([480, 640])
CLASSES = tuple(f"class {index}" for index in range(20))
NAMES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)  # in the order of COCOeval.stats


def random_boxes(rng, count: int) -> np.ndarray:
    """Boxes of all sizes inside a picture, (count, 4)."""
    sides = np.exp(rng.uniform(np.log(8), np.log(300), (count, 2)))
    corners = rng.uniform(0, 1, (count, 2)) * (SIZE[::-1] - sides)
    return np.concatenate([corners, corners + sides], axis=1)


def picture(rng, detections: int) -> tuple[Sample, Detections]:
    """Objects in clusters, and what a fair detector might find."""
    clusters = random_boxes(rng, rng.integers(1, 5))
    truth = np.repeat(clusters, rng.integers(1, 5, len(clusters)), axis=0)
    truth = truth + rng.normal(0, 10, (len(truth), 1)) + rng.normal(0, 3, truth.shape)
    truth[:, 2:] = np.maximum(truth[:, 2:], truth[:, :2] + 2)
    labels = rng.integers(0, len(CLASSES), len(truth))
    sample = Sample(Path("none"), truth, labels, rng.random(len(truth)) < 0.02)

    near = rng.integers(0, len(truth), int(detections * 0.7))
    sides = (truth[near, 2:] - truth[near, :2]).mean(axis=1, keepdims=True)
    noise = rng.exponential(0.12, (len(near), 1))
    found = truth[near] + rng.normal(0, 1, (len(near), 4)) * noise * sides
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    guesses = np.where(rng.random(len(near)) < 0.85, labels[near], rng.integers(0, 20, len(near)))
    scores = np.clip(0.9 - noise[:, 0] + rng.normal(0, 0.1, len(near)), 0.01, 1)
    others = detections - len(near)
    found = np.concatenate([found, random_boxes(rng, others)])
    guesses = np.concatenate([guesses, rng.integers(0, 20, others)])
    scores = np.concatenate([scores, rng.beta(1, 5, others)]).astype(np.float32)
    best = np.argsort(-scores, kind="stable")
    return sample, Detections(found[best], scores[best], guesses[best], CLASSES)


def ours(samples, found) -> dict[str, float]:
    return coco_scores(found, samples, CLASSES).summary


def pycocotools(samples, found) -> dict[str, float]:
    """COCOeval, from arrays to the twelve figures."""
    reference = COCO()
    reference.dataset = {
        "images": [{"id": image} for image in range(1, len(samples) + 1)],
        "categories": [{"id": index, "name": name} for index, name in enumerate(CLASSES, 1)],
        "annotations": [
            {"id": 0, "image_id": image, "category_id": label + 1, "bbox": box, "iscrowd": crowd}
            | {"area": box[2] * box[3]}
            for image, sample in enumerate(samples, 1)
            for box, label, crowd in zip(
                xywh(sample.boxes), sample.labels.tolist(), sample.difficult.tolist(), strict=True
            )
        ],
    }
    for number, annotation in enumerate(reference.dataset["annotations"], 1):
        annotation["id"] = number
    results = [
        {"image_id": image, "category_id": label + 1, "bbox": box, "score": score}
        for image, each in enumerate(found, 1)
        for box, label, score in zip(
            xywh(each.boxes), each.labels.tolist(), each.scores.tolist(), strict=True
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        reference.createIndex()
        evaluator = COCOeval(reference, reference.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return dict(zip(NAMES, map(float, evaluator.stats), strict=True))


def xywh(boxes: np.ndarray) -> list[list[float]]:
    corners = boxes.astype(np.float64)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="in each picture")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the row to a file")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    samples, found = zip(
        *(picture(rng, given.detections) for _ in range(given.images)), strict=True
    )
    ours(samples[:10], found[:10])  # imports
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    figures: dict[str, dict[str, float]] = {}
    for _ in range(given.rounds):
        for name, run in (("ours", ours), ("peer", pycocotools)):
            start = time.perf_counter()
            figures[name] = run(samples, found)
            seconds[name].append(time.perf_counter() - start)
    apart = max(abs(figures["ours"][name] - figures["peer"][name]) for name in NAMES)
    if not apart <= 1e-6:
        raise SystemExit(f"The figures differ by {apart}: {figures}")
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    row = {
        "work": f"COCO figures of {given.images} pictures x {given.detections} detections",
        "backend": "cpu",
        **medians,
        "ratio": medians["peer"] / medians["ours"],
    }
    print(f"{'seconds':52} {'ours':>8} {'pycocotools':>12} {'ratio':>7}")
    print(f"{row['work']:52} {row['ours']:8.2f} {row['peer']:12.2f} {row['ratio']:7.2f}")
    print(f"AP {figures['ours']['AP']:.4f}; the figures agree to {apart:.1e}")
    if given.json:
        given.json.write_text(json.dumps([row], indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
