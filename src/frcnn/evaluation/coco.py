"""COCO's twelve figures for boxes, computed by faster-coco-eval (equal to pycocotools).

Two things are settled here:

- A difficult object is passed on as COCO's ``iscrowd``: detections on it are ignored, however
  many, where "on it" means that the intersection covers enough of the *detection* (not of the
  union). COCO's own crowd regions are read into ``Sample.difficult``, so theirs is the meaning.
- The area that sorts objects into small, medium and large is ``Sample.areas``: that of the mask
  where a COCO file states it, as in COCO's published figures, else that of the box.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from frcnn.evaluation.matching import check_pairs, relabel
from frcnn.structures import Detections, Sample

_LIMITS: tuple[int, ...] = (1, 10, 100)  # detections a picture and class
_AREAS = ("all", "small", "medium", "large")  # split at 32^2 and 96^2 square pixels


@dataclass(frozen=True, eq=False)
class CocoScores:
    """COCO's figures, 0..1; NaN where there is no object to measure them on.

    Args:
        summary: ``AP`` (mean over IoU 0.50, 0.55, ... 0.95 and classes), ``AP50``, ``AP75``,
            ``AP_small``, ``AP_medium``, ``AP_large``; average recall with at most 1, 10 and 100
            detections a picture and class ``AR1``, ``AR10``, ``AR100``, and with 100
            ``AR_small``, ``AR_medium``, ``AR_large``.
        per_class: class name -> ``AP`` and ``AP50`` of that class.
    """

    summary: dict[str, float]
    per_class: dict[str, dict[str, float]]


def coco_scores(
    detections: Sequence[Detections], samples: Sequence[Sample], classes: Sequence[str]
) -> CocoScores:
    """Score detections as COCO does; prints nothing, writes no file.

    Args:
        detections: what was found, one entry a picture, in the order of ``samples``. Classes
            are matched by name; those not in ``classes`` are left out.
        samples: the pictures with their ground truth.
        classes: the names the labels of ``samples`` index.

    Raises:
        ValueError: detections that do not fit the samples.
    """
    check_pairs(detections, samples, classes)
    found = [relabel(d, classes) for d in detections]
    if samples and classes:
        with _without_collector():
            precision, recall = _accumulate(_ground_truth(samples, classes), _results(found))
    else:
        precision = np.full((10, 101, len(classes), len(_AREAS), len(_LIMITS)), -1.0)
        recall = np.full((10, len(classes), len(_AREAS), len(_LIMITS)), -1.0)
    per_class = {
        name: {
            "AP": _mean(precision[:, :, label, 0, -1]),
            "AP50": _mean(precision[0, :, label, 0, -1]),
        }
        for label, name in enumerate(classes)
    }
    return CocoScores(_summary(precision, recall), per_class)


def _summary(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    # precision (IoU, recall level, class, area, limit); recall (IoU, class, area, limit)
    figures = {
        "AP": _mean(precision[:, :, :, 0, -1]),
        "AP50": _mean(precision[0, :, :, 0, -1]),
        "AP75": _mean(precision[5, :, :, 0, -1]),
    }
    for index, area in enumerate(_AREAS[1:], 1):
        figures[f"AP_{area}"] = _mean(precision[:, :, :, index, -1])
    for index, limit in enumerate(_LIMITS):
        figures[f"AR{limit}"] = _mean(recall[:, :, 0, index])
    for index, area in enumerate(_AREAS[1:], 1):
        figures[f"AR_{area}"] = _mean(recall[:, :, index, -1])
    return figures


def _mean(values: np.ndarray) -> float:
    values = values[values > -1]  # COCO's -1: nothing to measure
    return float(values.mean()) if values.size else float("nan")


def _accumulate(truth: dict, results: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    # Imported here: it takes half a second, and only measuring needs it.
    from faster_coco_eval import COCO, COCOeval_faster

    reference = COCO(truth)
    found = reference.loadRes(results)
    evaluator = COCOeval_faster(reference, found, "bbox", print_function=_silent, extra_calc=False)
    evaluator.params.maxDets = list(_LIMITS)
    evaluator.evaluate()
    evaluator.accumulate()
    return np.asarray(evaluator.eval["precision"]), np.asarray(evaluator.eval["recall"])


@contextmanager
def _without_collector() -> Iterator[None]:
    """Stop Python's search for cyclic garbage.

    The evaluator's records, several a detection, are all kept to its end; looking through them
    again and again took a quarter of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _silent(*_: object) -> None:
    """Take the place of the evaluator's own printing."""


def _ground_truth(samples: Sequence[Sample], classes: Sequence[str]) -> dict:
    annotations = []
    for image_id, sample in enumerate(samples, 1):
        columns = (_xywh(sample.boxes), sample.labels, sample.difficult, sample.areas.tolist())
        for box, label, crowd, area in zip(*columns, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,  # 0 would mean "unmatched" to the evaluator
                    "image_id": image_id,
                    "category_id": int(label) + 1,
                    "bbox": box,
                    "area": area,
                    "iscrowd": int(crowd),
                }
            )
    return {
        "images": [{"id": image_id} for image_id in range(1, len(samples) + 1)],
        "categories": [{"id": label, "name": name} for label, name in enumerate(classes, 1)],
        "annotations": annotations,
    }


def _results(detections: Sequence[Detections]) -> list[dict]:
    return [
        {
            "image_id": image_id,
            "category_id": category,
            "bbox": box,
            "score": score,
            "segmentation": None,  # else the box's outline would be made for each
        }
        for image_id, found in enumerate(detections, 1)
        for box, score, category in zip(
            _xywh(found.boxes), found.scores.tolist(), (found.labels + 1).tolist(), strict=True
        )
    ]


def _xywh(boxes: np.ndarray) -> list[list[float]]:
    # In float64, so that the same box gives the same numbers as truth and as a result.
    corners = boxes.astype(np.float64)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
