import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from frcnn.evaluation.coco import coco_scores
from frcnn.evaluation.evaluate import evaluate, evaluate_detections
from frcnn.evaluation.voc import mean_ap, voc_average_precision
from frcnn.structures import Detections, Sample


def found_in(samples, detections):
    """A detector that answers from a table."""
    answers = dict(zip([sample.image for sample in samples], detections, strict=True))
    return lambda images: [answers[image] for image in images]


def test_the_figures_are_those_of_the_parts(make_case):
    detections, samples = make_case(0)
    classes = detections[0].classes
    scores = evaluate_detections(detections, samples, classes)
    for points, voc in (("07", scores.voc07), ("12", scores.voc12)):
        expected = voc_average_precision(detections, samples, classes, 0.5, points)
        assert voc["per_class"] == pytest.approx(expected, nan_ok=True)
        assert voc["mAP"] == pytest.approx(mean_ap(expected))
    coco = coco_scores(detections, samples, classes)
    assert scores.coco == {**coco.summary, "per_class": coco.per_class}
    assert scores.curves["cat"].positives == scores.per_class["cat"]["boxes"]


def test_counts(make_case):
    detections, samples = make_case(2)
    scores = evaluate_detections(detections, samples, detections[0].classes)
    difficult = sum(int(sample.difficult.sum()) for sample in samples)
    assert scores.images == len(samples)
    assert scores.boxes == sum(len(sample.boxes) for sample in samples) - difficult
    assert scores.detections == sum(map(len, detections))
    assert sum(row["difficult"] for row in scores.per_class.values()) == difficult
    assert sum(row["detections"] for row in scores.per_class.values()) == scores.detections


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_running_a_detector_gives_the_figures_of_its_detections(make_case, batch_size):
    detections, samples = make_case(1, images=9)
    dataset = SimpleNamespace(samples=samples, classes=detections[0].classes)
    sizes, done = [], []
    detect = found_in(samples, detections)

    def counted(images):
        assert all(isinstance(image, Path) for image in images)
        sizes.append(len(images))
        return detect(images)

    scores = evaluate(counted, dataset, batch_size, lambda *counts: done.append(counts))
    assert sum(sizes) == 9 and max(sizes) == min(batch_size, 9)
    assert done[-1] == (9, 9) and len(done) == len(sizes)
    assert 0 < scores.seconds_per_image < 1
    expected = evaluate_detections(detections, samples, dataset.classes).to_dict()
    assert {**scores.to_dict(), "seconds_per_image": None} == expected


def test_an_object_with_a_detect_method_will_do(make_case):
    detections, samples = make_case(1)
    dataset = SimpleNamespace(samples=samples, classes=detections[0].classes)
    detector = SimpleNamespace(detect=found_in(samples, detections))
    assert evaluate(detector, dataset).detections == sum(map(len, detections))


def test_a_detector_that_skips_a_picture_is_refused():
    dataset = SimpleNamespace(samples=[Sample("a.jpg"), Sample("b.jpg")], classes=("x",))
    with pytest.raises(ValueError, match=r"each of 2 pictures.*a\.jpg.*Received: 1"):
        evaluate(lambda images: [Detections([], [], [], ("x",))], dataset)


def test_a_batch_size_below_one_is_refused():
    with pytest.raises(ValueError, match="Received: 0"):
        evaluate(lambda images: [], SimpleNamespace(samples=[], classes=()), batch_size=0)


def test_an_empty_data_set_is_undefined_not_an_error():
    scores = evaluate(lambda images: [], SimpleNamespace(samples=[], classes=("x",)))
    assert (scores.images, scores.seconds_per_image) == (0, None)
    assert scores.unknown_classes == ()
    assert math.isnan(scores.voc12["mAP"])
    assert scores.to_dict()["voc12"] == {"mAP": None, "per_class": {"x": None}}
    assert "0 images" in str(scores)


def renamed(order):
    """A detector of the same skill that knows the classes in another order, and more of them."""
    return lambda found: Detections(
        found.boxes, found.scores, [order.index(name) for name in found.names], order
    )


def test_the_detectors_own_order_of_classes_does_not_matter(make_case):
    detections, samples = make_case(4)
    classes = detections[0].classes
    other = list(map(renamed(("zebra", "cow", "cat", "lamp", "dog")), detections))
    expected = evaluate_detections(detections, samples, classes).to_dict()
    assert evaluate_detections(other, samples, classes).to_dict() == expected


def test_a_class_the_detector_does_not_know_scores_zero_and_is_named():
    sample = Sample("a.jpg", [[0, 0, 40, 40], [50, 50, 90, 90]], [0, 1])
    found = Detections([[0, 0, 40, 40]], [0.9], [0], ("cat",))
    scores = evaluate_detections([found], [sample], ("cat", "unicorn"))
    assert scores.unknown_classes == ("unicorn",)
    assert scores.voc12["per_class"] == {"cat": 1.0, "unicorn": 0.0}
    assert scores.voc12["mAP"] == 0.5
    warning = str(scores).splitlines()[-1]
    assert warning.startswith("Warning") and "unicorn" in warning and "cat" not in warning
    assert "Warning" not in str(evaluate_detections([found], [Sample("b.jpg")], ("cat",)))


def test_pictures_too_crowded_for_coco_are_named():
    corners = np.stack([np.arange(150) * 20, np.zeros(150)], axis=1)
    boxes, labels = np.concatenate([corners, corners + 10], axis=1), [0] * 150
    crowded = Sample("a.jpg", boxes, labels)
    found = Detections(boxes, np.linspace(0.9, 0.1, 150), labels, ("cat", "dog"))
    scores = evaluate_detections([found], [crowded], ("cat", "dog"))
    assert scores.crowded == scores.to_dict()["crowded"] == 1
    assert scores.voc12["mAP"] == 1.0 and scores.coco["AR100"] == pytest.approx(100 / 150)
    assert "more than 100 objects of one class: 1." in str(scores)
    mixed = Sample("b.jpg", boxes, [0] * 75 + [1] * 75)
    ignored = Sample("c.jpg", boxes, labels, [True] * 50 + [False] * 100)
    for sample in (mixed, ignored):
        scores = evaluate_detections([found], [sample], ("cat", "dog"))
        assert scores.crowded == 0 and "Note" not in str(scores)


def test_the_dictionary_survives_strict_json(make_case):
    detections, samples = make_case(0)
    scores = evaluate_detections(detections, samples, ("cat", "dog", "cow", "ghost"), 0.25)
    plain = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert plain["voc07"]["per_class"]["ghost"] is None
    assert plain["coco"]["per_class"]["ghost"] == {"AP": None, "AP50": None}
    assert plain["coco"]["AP50"] == scores.coco["AP50"]
    assert plain["seconds_per_image"] == 0.25
    assert plain["unknown_classes"] == ["ghost"]


def test_the_table_shows_every_class_and_figure():
    sample = Sample("a.jpg", [[0, 0, 40, 40]], [0], [False])
    found = Detections([[0, 0, 40, 30]], [0.9], [0], ("cat", "dog"))
    table = str(evaluate_detections([found], [sample], ("cat", "dog"), 0.0125))
    assert "1 images, 1 boxes, 1 detections, 12.5 ms an image" in table
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines() if line}
    # IoU 0.75: right at six of COCO's ten thresholds.
    assert rows["cat"] == ["1", "1", "1.000", "1.000", "0.600", "1.000"]
    assert rows["dog"] == ["0", "0", "-", "-", "-", "-"]
    assert rows["COCO"][-3:] == ["0.600", "1.000", "1.000"]


def test_removing_a_false_positive_never_lowers_a_figure():
    sample = Sample("a.jpg", [[0, 0, 40, 40]], [0])
    both = Detections([[60, 60, 99, 99], [0, 0, 40, 40]], [0.9, 0.5], [0, 0], ("x",))
    with_it = evaluate_detections([both], [sample], ("x",))
    without = evaluate_detections([both[np.array([1])]], [sample], ("x",))
    assert without.voc12["mAP"] == 1 > with_it.voc12["mAP"]
    assert without.coco["AP"] > with_it.coco["AP"]
