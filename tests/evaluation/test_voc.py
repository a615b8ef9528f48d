import math

import numpy as np
import pytest

from frcnn.evaluation.voc import (
    PrecisionRecall,
    average_precision,
    mean_ap,
    precision_recall,
    voc_average_precision,
)
from frcnn.structures import Detections, Sample

BOTH = pytest.mark.parametrize("points", ["07", "12"])


def devkit(detections, samples, label, threshold, points):
    """The development kit's procedure written out, one detection at a time."""
    rows = [
        (float(score), image, box)
        for image, found in enumerate(detections)
        for score, box, number in zip(found.scores, found.boxes, found.labels, strict=True)
        if number == label
    ]
    rows.sort(key=lambda row: -row[0])  # Python's sort is stable
    taken, right, wrong = set(), [], []
    for _, image, box in rows:
        best, best_iou = None, -1.0
        for number, truth in enumerate(samples[image].boxes):
            if samples[image].labels[number] != label:
                continue
            wide = min(box[2], truth[2]) - max(box[0], truth[0])
            high = min(box[3], truth[3]) - max(box[1], truth[1])
            inside = float(wide) * float(high) if wide > 0 and high > 0 else 0.0
            areas = [float(b[2] - b[0]) * float(b[3] - b[1]) for b in (box, truth)]
            iou = inside / (sum(areas) - inside)
            if iou > best_iou:
                best, best_iou = number, iou
        if best_iou >= threshold and samples[image].difficult[best]:
            right.append(0)
            wrong.append(0)
        elif best_iou >= threshold and (image, best) not in taken:
            taken.add((image, best))
            right.append(1)
            wrong.append(0)
        else:
            right.append(0)
            wrong.append(1)
    total = sum(int(((s.labels == label) & ~s.difficult).sum()) for s in samples)
    if not total:
        return float("nan")
    points_on_curve, hits, misses = [], 0, 0
    for good, bad in zip(right, wrong, strict=True):
        hits, misses = hits + good, misses + bad
        points_on_curve.append((hits, hits / (hits + misses) if hits + misses else 0.0))
    if points == "07":
        # Levels compared in whole numbers: hits / total >= k / 10.
        best = [
            max([p for h, p in points_on_curve if 10 * h >= k * total] or [0]) for k in range(11)
        ]
        return sum(best) / 11
    area, previous = 0.0, 0
    for hits, _ in points_on_curve:
        if hits > previous:  # a step to the right, as high as the curve ever is from here on
            area += (hits - previous) / total * max(p for h, p in points_on_curve if h >= hits)
            previous = hits
    return area


@BOTH
@pytest.mark.parametrize("threshold", [0.5, 0.75])
def test_equal_to_the_procedure_written_out(make_case, points, threshold):
    for seed in range(40):
        detections, samples = make_case(seed, distinct_scores=seed % 2 == 0)
        classes = detections[0].classes
        per_class = voc_average_precision(detections, samples, classes, threshold, points)
        expected = [devkit(detections, samples, i, threshold, points) for i in range(3)]
        np.testing.assert_allclose(list(per_class.values()), expected, atol=1e-12)


def hand_made():
    """Four boxes, six detections of one class, in two pictures; from the best score on:

    0.9 a0 hit             right   P 1/1  R 1/4
    0.8 a0 again           wrong   P 1/2  R 1/4
    0.7 b0 hit             right   P 2/3  R 2/4
    0.6 on the difficult   neither
    0.5 nowhere            wrong   P 2/4  R 2/4
    0.4 b1 hit             right   P 3/5  R 3/4
    """
    samples = [
        Sample(
            "a.jpg",
            [[0, 0, 10, 10], [20, 0, 30, 10], [0, 50, 10, 60]],
            [0, 0, 0],
            [False, False, True],
        ),
        Sample("b.jpg", [[0, 0, 10, 10], [40, 40, 60, 60]], [0, 0]),
    ]
    detections = [
        Detections(
            [[0, 0, 10, 10], [0, 0, 10, 9], [0, 50, 10, 60]], [0.9, 0.8, 0.6], [0] * 3, ("x",)
        ),
        Detections(
            [[0, 0, 10, 10], [70, 0, 80, 10], [40, 40, 60, 60]], [0.7, 0.5, 0.4], [0] * 3, ("x",)
        ),
    ]
    return detections, samples


def test_a_case_by_hand():
    detections, samples = hand_made()
    curve = precision_recall(detections, samples, ("x",))["x"]
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3, 2 / 4, 3 / 5])
    np.testing.assert_allclose(curve.recall, [1 / 4, 1 / 4, 2 / 4, 2 / 4, 3 / 4])
    np.testing.assert_allclose(curve.scores, [0.9, 0.8, 0.7, 0.5, 0.4])
    assert curve.positives == 4
    # 11 points: 1 at 0, .1, .2; 2/3 at .3, .4, .5; 3/5 at .6, .7; 0 at .8, .9, 1.
    assert average_precision(curve, "07") == pytest.approx((3 * 1 + 3 * 2 / 3 + 2 * 3 / 5) / 11)
    # Area: quarters of recall at 1, 2/3, 3/5, 0.
    assert average_precision(curve, "12") == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)


def test_a_recall_of_three_tenths_reaches_its_level():
    curve = PrecisionRecall(np.ones(3), np.arange(1, 4) / 10, np.ones(3), 10)
    assert average_precision(curve, "07") == pytest.approx(4 / 11)
    assert average_precision(curve, "12") == pytest.approx(0.3)


def test_the_best_box_is_decided_before_asking_whether_it_is_free():
    # The second detection overlaps the first box most (1.0 against 0.8), which is taken; the
    # devkit counts it wrong although the second box is free and overlaps enough.
    sample = Sample("a.jpg", [[0, 0, 10, 10], [0, 0, 10, 8]], [0, 0])
    found = Detections([[0, 0, 10, 10], [0, 0, 10, 10]], [0.9, 0.8], [0, 0], ("x",))
    curve = precision_recall([found], [sample], ("x",))["x"]
    assert curve.recall.tolist() == [0.5, 0.5]


def test_iou_at_the_threshold_counts():
    sample = Sample("a.jpg", [[0, 0, 10, 10]], [0])
    found = Detections([[0, 0, 10, 5]], [0.9], [0], ("x",))
    assert voc_average_precision([found], [sample], ("x",), 0.5) == {"x": 1.0}
    assert voc_average_precision([found], [sample], ("x",), 0.51) == {"x": 0.0}


def test_equal_scores_keep_the_order_of_the_pictures():
    samples = [Sample("a.jpg"), Sample("b.jpg", [[0, 0, 9, 9]], [0])]
    detections = [Detections([[0, 0, 9, 9]], [0.5], [0], ("x",))] * 2
    assert voc_average_precision(detections, samples, ("x",)) == {"x": 0.5}
    assert voc_average_precision(detections[::-1], samples[::-1], ("x",)) == {"x": 1.0}


@BOTH
def test_perfect_detections_score_one(make_case, find_all, points):
    for seed in range(5):
        _, samples = make_case(seed)
        per_class = voc_average_precision(
            find_all(samples), samples, ("cat", "dog", "cow"), 0.5, points
        )
        values = [value for value in per_class.values() if not math.isnan(value)]
        assert values and np.allclose(values, 1)


@BOTH
def test_scores_are_between_0_and_1_and_do_not_depend_on_the_order_of_pictures(make_case, points):
    for seed in range(20):
        detections, samples = make_case(seed)
        order = np.random.default_rng(seed).permutation(len(samples))
        classes = detections[0].classes
        one = voc_average_precision(detections, samples, classes, 0.5, points)
        other = voc_average_precision(
            [detections[i] for i in order], [samples[i] for i in order], classes, 0.5, points
        )
        np.testing.assert_allclose(list(one.values()), list(other.values()))
        assert all(math.isnan(value) or 0 <= value <= 1 for value in one.values())


@BOTH
def test_removing_a_false_positive_never_lowers_the_score(points):
    detections, samples = hand_made()
    before = voc_average_precision(detections, samples, ("x",), 0.5, points)["x"]
    for image, row in ((0, 1), (1, 1)):
        fewer = list(detections)
        fewer[image] = fewer[image][np.arange(3) != row]
        assert voc_average_precision(fewer, samples, ("x",), 0.5, points)["x"] > before


@BOTH
def test_a_class_of_difficult_boxes_only_is_undefined_and_left_out_of_the_mean(points):
    sample = Sample("a.jpg", [[0, 0, 9, 9], [20, 20, 29, 29]], [0, 1], [True, False])
    found = Detections([[0, 0, 9, 9], [20, 20, 29, 29]], [0.9, 0.8], [0, 1], ("x", "y"))
    per_class = voc_average_precision([found], [sample], ("x", "y", "z"), 0.5, points)
    assert math.isnan(per_class["x"]) and math.isnan(per_class["z"])
    assert per_class["y"] == mean_ap(per_class) == 1


@BOTH
def test_nothing_found_scores_zero_and_nothing_to_find_is_undefined(points):
    nothing = Detections([], [], [], ("x",))
    sample = Sample("a.jpg", [[0, 0, 9, 9]], [0])
    assert voc_average_precision([nothing], [sample], ("x",), 0.5, points) == {"x": 0.0}
    per_class = voc_average_precision([nothing], [Sample("b.jpg")], ("x",), 0.5, points)
    assert math.isnan(per_class["x"]) and math.isnan(mean_ap(per_class))
    assert voc_average_precision([], [], (), 0.5, points) == {}
    assert math.isnan(mean_ap({}))


def test_classes_are_matched_by_name():
    sample = Sample("a.jpg", [[0, 0, 9, 9]], [1])
    found = Detections([[0, 0, 9, 9], [0, 0, 9, 9]], [0.9, 0.95], [0, 1], ("dog", "lamp"))
    per_class = voc_average_precision([found], [sample], ("cat", "dog"))
    assert per_class["dog"] == 1 and math.isnan(per_class["cat"])


@pytest.mark.parametrize("threshold", [0, -0.5, 1.1])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ValueError, match=f"Received: {threshold}"):
        voc_average_precision([], [], (), threshold)


def test_points_out_of_range_are_refused():
    detections, samples = hand_made()
    with pytest.raises(ValueError, match="Received: '11'"):
        voc_average_precision(detections, samples, ("x",), 0.5, "11")
