import json
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest

from frcnn.structures import Detections, Sample

CLASSES = ("cat", "dog")


def three():
    return Detections(
        [[0, 0, 10, 20], [5, 5, 6, 7], [1, 2, 3, 4]], [0.9, 0.5, 0.1], [1, 0, 1], CLASSES
    )


def test_a_sample_takes_lists_and_holds_arrays_of_fixed_types():
    sample = Sample("folder/a.jpg", [[1, 2, 3, 4]], [1])
    assert sample.image == Path("folder/a.jpg")
    assert sample.boxes.dtype == np.float32 and sample.boxes.shape == (1, 4)
    assert sample.labels.dtype == np.int64
    assert sample.difficult.dtype == bool and not sample.difficult.any()
    assert sample.size is None


def test_a_sample_without_objects():
    for sample in (Sample("a.jpg"), Sample("a.jpg", [], [], [])):
        assert sample.boxes.shape == (0, 4) and sample.boxes.dtype == np.float32
        assert sample.labels.shape == (0,) and sample.difficult.shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(boxes=[[1, 2, 3]], labels=[0]), "shape (N, 4). Received: shape (1, 3)"),
        (dict(boxes=[1, 2, 3, 4], labels=[0]), "Received: shape (4,)"),
        (dict(boxes=[[0, 0, 1, 1], [0, 0, np.nan, 1]], labels=[0, 0]), "row 1"),
        (dict(boxes=[[0, 0, np.inf, 1]], labels=[0]), "row 0"),
        (dict(boxes=[[0, 0, 1, 1]], labels=[0, 1]), "Expected 1 labels"),
        (dict(boxes=[[0, 0, 1, 1]], labels=[0], difficult=[]), "Expected 1 difficult flags"),
    ],
)
def test_a_sample_that_cannot_be_is_refused(arguments, words):
    with pytest.raises(ValueError) as error:
        Sample("a.jpg", **arguments)
    assert words in str(error.value)


def test_a_sample_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Sample("a.jpg").labels = np.zeros(1)


def test_detections_hold_arrays_of_fixed_types():
    found = three()
    assert len(found) == 3
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.labels.dtype == np.int64
    assert found.names == ["dog", "cat", "dog"]
    assert Detections([], [], [], ["cat"]).classes == ("cat",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([[0, 0, 1, 1]], [0.5, 0.4], [0], CLASSES), "Expected 1 scores"),
        (([[0, 0, 1, 1]], [0.5], [], CLASSES), "Expected 1 labels"),
        (([[0, 0, 1, 1]], [0.5], [2], CLASSES), "Expected labels in 0..1"),
        (([[0, 0, 1, 1]], [0.5], [-1], CLASSES), "Received: -1..-1"),
        (([[0, 0, 1, np.nan]], [0.5], [0], CLASSES), "finite"),
    ],
)
def test_detections_that_cannot_be_are_refused(arguments, words):
    with pytest.raises(ValueError) as error:
        Detections(*arguments)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("rows", "scores"),
    [
        (0, [0.9]),
        (-1, [0.1]),
        (np.int64(1), [0.5]),
        (slice(1, None), [0.5, 0.1]),
        ([2, 0], [0.1, 0.9]),
        (np.array([True, False, True]), [0.9, 0.1]),
        ([], []),
    ],
)
def test_rows_are_chosen_as_in_numpy(rows, scores):
    rows = np.array(rows, int) if isinstance(rows, list) else rows
    chosen = three()[rows]
    assert isinstance(chosen, Detections)
    np.testing.assert_allclose(chosen.scores, scores)
    assert chosen.classes == CLASSES
    assert len(chosen.boxes) == len(chosen.labels) == len(scores)


@pytest.mark.parametrize("row", [3, -4])
def test_a_row_out_of_range_is_refused(row):
    with pytest.raises(IndexError, match=f"{row} is out of range for 3"):
        three()[row]


def test_detections_can_be_looped_over_one_by_one():
    assert [one.names for one in three()] == [["dog"], ["cat"], ["dog"]]


def test_above_keeps_the_threshold_itself():
    assert len(three().above(0.5)) == 2
    assert len(three().above(0.51)) == 1
    assert len(three().above(2)) == 0


def test_coco_rows_are_xywh_with_categories_from_one():
    row = three().to_coco(image_id=7)[0]
    assert row["bbox"] == [0, 0, 10, 20]
    assert (row["image_id"], row["category_id"]) == (7, 2)
    assert row["score"] == pytest.approx(0.9)
    assert three().to_coco(first_category=0)[1]["category_id"] == 0


def test_plain_rows_survive_json():
    rows = json.loads(json.dumps(three().to_dict()))
    assert rows[1] == {"box": [5, 5, 6, 7], "score": 0.5, "label": 0, "name": "cat"}
    assert json.dumps(three().to_coco())


def test_a_notebook_shows_a_table_in_which_names_are_text():
    boxes = np.tile([1.0, 2.0, 3.0, 4.0], (60, 1))
    found = Detections(boxes, np.linspace(1, 0, 60), np.zeros(60), ("<b>&",))
    shown = found._repr_html_()
    assert shown.count("<td>&lt;b&gt;&amp;</td>") == 50 and "<b>" not in shown
    assert "<td>1.000</td><td>1.0</td><td>2.0</td><td>3.0</td><td>4.0</td>" in shown
    assert "and 10 more" in shown
    assert "more" not in found[:50]._repr_html_() and "<td>" not in found[:0]._repr_html_()


@pytest.mark.parametrize("count", [0, 3])
def test_supervision_gets_the_same(count):
    import supervision

    boxes = np.arange(4 * count, dtype=np.float32).reshape(-1, 4)
    mine = Detections(boxes, np.linspace(0.9, 0.1, count), np.arange(count) % 2, ("a", "b"))
    theirs = mine.to_supervision()
    assert isinstance(theirs, supervision.Detections) and len(theirs) == count
    np.testing.assert_array_equal(theirs.xyxy, mine.boxes)
    np.testing.assert_array_equal(theirs.confidence, mine.scores)
    np.testing.assert_array_equal(theirs.class_id, mine.labels)
    assert theirs.data["class_name"].tolist() == mine.names


def test_without_supervision_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        Detections(np.zeros((0, 4)), [], [], ()).to_supervision()


def test_a_score_that_is_no_number_is_refused_with_its_row():
    with pytest.raises(ValueError, match="row 1 is nan"):
        Detections([[0, 0, 1, 1]] * 3, [0.5, float("nan"), 0.1], [0, 0, 0], ("cat",))
