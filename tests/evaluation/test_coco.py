import contextlib
import gc
import io
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from frcnn.evaluation.coco import coco_scores
from frcnn.structures import Detections, Sample

KEYS = [
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
]


def reference(detections, samples, classes):
    """The twelve figures and the per-class AP of pycocotools."""
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(len(samples))],
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes)],
        "annotations": [
            {
                "image_id": image,
                "category_id": int(label),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": int(difficult),
            }
            for image, sample in enumerate(samples)
            for (x1, y1, x2, y2), label, difficult in zip(
                sample.boxes.tolist(), sample.labels, sample.difficult, strict=True
            )
        ],
    }
    for number, annotation in enumerate(truth.dataset["annotations"], 1):
        annotation["id"] = number
    results = [
        {
            "image_id": image,
            "category_id": int(label),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for image, found in enumerate(detections)
        for (x1, y1, x2, y2), label, score in zip(
            found.boxes.tolist(), found.labels, found.scores.tolist(), strict=True
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    figures = np.where(evaluator.stats == -1, np.nan, evaluator.stats)
    precision = evaluator.eval["precision"][:, :, :, 0, 2]
    per_class = [
        {"AP": mean_or_nan(precision[:, :, k]), "AP50": mean_or_nan(precision[0, :, k])}
        for k in range(len(classes))
    ]
    return dict(zip(KEYS, figures, strict=True)), per_class


def mean_or_nan(values):
    values = values[values > -1]
    return values.mean() if values.size else float("nan")


def assert_equal(scores, figures, per_class):
    assert list(scores.summary) == KEYS
    np.testing.assert_allclose(
        [scores.summary[key] for key in KEYS], [figures[key] for key in KEYS], atol=1e-9
    )
    for ours, theirs in zip(scores.per_class.values(), per_class, strict=True):
        np.testing.assert_allclose(list(ours.values()), list(theirs.values()), atol=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_equal_to_pycocotools(make_case, seed):
    detections, samples = make_case(seed, images=8, distinct_scores=seed % 2 == 0)
    classes = detections[0].classes
    figures, per_class = reference(detections, samples, classes)
    assert_equal(coco_scores(detections, samples, classes), figures, per_class)


def test_equal_to_pycocotools_beyond_the_limit_of_detections():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 300, (130, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + rng.uniform(5, 200, (130, 2))], axis=1)
    samples = [Sample("a.jpg", boxes, np.zeros(130, int))]
    detections = [Detections(boxes + 1, rng.random(130), np.zeros(130, int), ("x",))]
    figures, per_class = reference(detections, samples, ("x",))
    assert figures["AR1"] < figures["AR10"] < figures["AR100"] < 100 / 130
    assert_equal(coco_scores(detections, samples, ("x",)), figures, per_class)


def test_a_case_by_hand():
    # One 40 x 40 box; a detection of 40 x 30 inside it has IoU 0.75: right at 0.50 ... 0.75, that
    # is 6 of the 10 thresholds. 1600 square pixels are of medium size.
    sample = Sample("a.jpg", [[0, 0, 40, 40]], [0])
    found = Detections([[0, 0, 40, 30]], [0.9], [0], ("x",))
    scores = coco_scores([found], [sample], ("x",))
    expected = dict.fromkeys(KEYS, 0.6)
    expected |= {"AP50": 1, "AP75": 1}
    expected |= {f"{kind}_{size}": math.nan for kind in ("AP", "AR") for size in ("small", "large")}
    np.testing.assert_allclose([scores.summary[key] for key in KEYS], [expected[k] for k in KEYS])
    assert scores.per_class == {"x": {"AP": pytest.approx(0.6), "AP50": 1}}


def test_a_difficult_box_is_ignored_like_a_crowd():
    # Two detections lie on the difficult box, one covering a quarter of it: neither is wrong.
    sample = Sample("a.jpg", [[0, 0, 40, 40], [100, 100, 140, 140]], [0, 0], [False, True])
    found = Detections(
        [[0, 0, 40, 40], [100, 100, 140, 140], [100, 100, 120, 120]], [0.5, 0.9, 0.8], [0] * 3, "x"
    )
    assert coco_scores([found], [sample], ("x",)).summary["AP"] == pytest.approx(1)


def test_perfect_detections_score_one(make_case, find_all):
    _, samples = make_case(3)
    scores = coco_scores(find_all(samples), samples, ("cat", "dog", "cow"))
    assert scores.summary["AP"] == pytest.approx(1)
    assert scores.summary["AR100"] == pytest.approx(1)


def test_perfect_detections_of_boxes_between_pixels_score_one():
    # At IoU 0.95 a box compared with itself must not lose to rounding.
    boxes = np.random.default_rng(0).uniform(0, 50, (20, 4)).astype(np.float32)
    boxes[:, 2:] = boxes[:, :2] + np.float32(1.7) + boxes[:, 2:]
    scores = np.arange(20) / 20
    found = Detections(boxes, scores, np.zeros(20, int), ("x",))
    sample = Sample("a.jpg", boxes, np.zeros(20, int))
    assert coco_scores([found], [sample], ("x",)).summary["AP"] == pytest.approx(1)


def test_the_order_of_pictures_does_not_matter(make_case):
    detections, samples = make_case(5)
    classes = detections[0].classes
    one = coco_scores(detections, samples, classes).summary
    other = coco_scores(detections[::-1], samples[::-1], classes).summary
    assert one == pytest.approx(other, nan_ok=True)


def test_classes_are_matched_by_name():
    sample = Sample("a.jpg", [[0, 0, 40, 40]], [1])
    found = Detections([[0, 0, 40, 40]] * 2, [0.9, 0.95], [0, 1], ("dog", "lamp"))
    per_class = coco_scores([found], [sample], ("cat", "dog")).per_class
    assert per_class["dog"]["AP"] == pytest.approx(1) and math.isnan(per_class["cat"]["AP"])


def test_nothing_found_scores_zero():
    samples = [Sample("a.jpg", [[0, 0, 40, 40]], [0]), Sample("b.jpg")]
    scores = coco_scores([Detections([], [], [], ("x",))] * 2, samples, ("x",))
    assert scores.summary["AP"] == scores.summary["AR100"] == 0
    assert math.isnan(scores.summary["AP_large"])


@pytest.mark.parametrize("samples", [[], [Sample("a.jpg")]], ids=["no pictures", "no boxes"])
def test_nothing_to_find_is_undefined(samples):
    found = [Detections([[0, 0, 9, 9]], [0.5], [0], ("x",)) for _ in samples]
    scores = coco_scores(found, samples, ("x",))
    assert list(scores.summary) == KEYS
    assert all(math.isnan(value) for value in scores.summary.values())
    assert all(math.isnan(value) for value in scores.per_class["x"].values())


def test_no_classes_at_all():
    scores = coco_scores([Detections([], [], [], ())], [Sample("a.jpg")], ())
    assert math.isnan(scores.summary["AP"]) and scores.per_class == {}


def test_only_difficult_boxes_are_nothing_to_find():
    sample = Sample("a.jpg", [[0, 0, 40, 40]], [0], [True])
    found = Detections([[0, 0, 40, 40]], [0.9], [0], ("x",))
    assert math.isnan(coco_scores([found], [sample], ("x",)).summary["AP"])


def test_it_is_silent_and_changes_nothing_given(make_case, capfd, caplog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    detections, samples = make_case(1)
    before = [found.boxes.copy() for found in detections]
    with caplog.at_level("INFO"):
        coco_scores(detections, samples, detections[0].classes)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert not list(tmp_path.iterdir())
    for boxes, found in zip(before, detections, strict=True):
        np.testing.assert_array_equal(boxes, found.boxes)


def test_the_garbage_collector_is_left_as_it_was(make_case):
    detections, samples = make_case(0)
    try:
        for enabled in (True, False):
            (gc.enable if enabled else gc.disable)()
            coco_scores(detections, samples, detections[0].classes)
            assert gc.isenabled() == enabled
    finally:
        gc.enable()
