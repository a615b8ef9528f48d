"""The comparison of an export with its model: what is the same, what is a fault."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from frcnn.export.parity import Comparison, Difference, Found, difference
from frcnn.export.verdict import FLOAT32, Report
from frcnn.inference.artefact import Artefact

ARTEFACT = Artefact(("a", "b"), (64, 96), 1, "uint8", 64, 96, "smooth", {})


def found(*rows):
    """Rows (x, y, side, score, label)."""
    table = np.array(rows, np.float64).reshape(-1, 5)
    x, y, side, scores, labels = table.T
    return Found(np.stack([x, y, x + side, y + side], axis=1), scores, labels.astype(int))


def compare(first, second, threshold=0.05, most=100):
    return difference(first, second, threshold, most, margin=1e-3)


def test_nothing_to_compare():
    assert compare(found(), found()) == Difference()


def test_the_largest_differences_of_what_both_have():
    first = found((0, 0, 10, 0.9, 0), (40, 0, 20, 0.5, 1))
    second = found((40, 0, 20.5, 0.5, 1), (0, 0, 10, 0.7, 0))
    by = compare(first, second)
    assert (by.matched, by.missing, by.more, by.borderline) == (2, 0, 0, 0)
    assert by.boxes == pytest.approx(0.5) and by.scores == pytest.approx(0.2)


def test_another_class_is_another_detection():
    by = compare(found((0, 0, 10, 0.9, 0)), found((0, 0, 10, 0.9, 1)))
    assert (by.matched, by.missing, by.more) == (0, 1, 1)


def test_each_detection_is_matched_once_and_with_its_like():
    near, far = (0, 0, 10, 0.9, 0), (1, 0, 10, 0.8, 0)
    by = compare(found(near, far), found(far, near))
    assert (by.matched, by.boxes, by.scores) == (2, 0, 0)
    assert compare(found(near, far), found(near)).missing == 1


def test_detections_at_the_threshold_may_be_missing():
    by = compare(found((0, 0, 10, 0.0505, 0)), found())
    assert (by.missing, by.borderline) == (0, 1)
    assert compare(found((0, 0, 10, 0.06, 0)), found()).missing == 1


def test_detections_at_the_end_of_a_full_list_may_be_others():
    first = found((0, 0, 10, 0.9, 0), (30, 0, 10, 0.4, 0))
    second = found((0, 0, 10, 0.9, 0), (60, 0, 10, 0.4, 0))
    assert compare(first, second, most=2).borderline == 2
    assert compare(first, second, most=3).missing == 1


def report(precision="float32", detections=1000, ap=(0.5, 0.5), **by):
    result = Comparison(4, detections, replace(Difference(matched=10), **by), ap, ap, (20.0, 10.0))
    return Report(replace(ARTEFACT, precision=precision), "ONNX", "torch", "4 pictures", result)


def test_a_report_without_faults(tmp_path):
    good = report(boxes=FLOAT32.boxes, scores=FLOAT32.scores, missing=2, ap=(math.nan, math.nan))
    assert not good.faults
    good.write(tmp_path / "parity.json")
    values = json.loads((tmp_path / "parity.json").read_text())
    assert values["passed"] and values["AP"] == {"Keras on torch": None, "ONNX": None}
    assert values["milliseconds_per_image"]["ONNX"] == 10.0
    assert "0.50 of the time" in str(good) and "4 pictures" in str(good)


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"boxes": 0.2}, "boxes differ by 0.2 pixels, 0.1 allowed"),
        ({"boxes": math.nan}, "boxes differ by nan pixels"),
        ({"scores": 0.01}, "scores differ by 0.01"),
        ({"missing": 3}, "3 detections are missing, 2 allowed"),
        ({"more": 3}, "3 detections are there that the model has not"),
        ({"ap": (0.5, 0.49)}, "COCO AP falls by 0.01"),
    ],
)
def test_faults(values, fault):
    assert [sentence.startswith(fault) for sentence in report(**values).faults] == [True]


def test_eight_bits_may_move_boxes_but_not_lose_objects():
    assert not report("int8", boxes=9.0, scores=0.3, missing=50, ap=(0.5, 0.48)).faults
    assert len(report("int8", ap=(0.5, 0.4)).faults) == 1


def test_a_comparison_of_nothing_says_so():
    assert "found nothing" in str(report(detections=0))
    assert "found nothing" not in str(report())
