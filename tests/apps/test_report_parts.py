import json
import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from frcnn.apps.report.charts import bar_chart, line_chart, thinned, ticks
from frcnn.apps.report.gallery import make_gallery
from frcnn.apps.report.markup import embedded, figure, table, text
from frcnn.apps.report.sections import confusion_table, data_section, training_curves
from frcnn.draw import save_image
from frcnn.evaluation.confusion import Confusion
from frcnn.evaluation.diagnosis import diagnose_detections
from frcnn.structures import Detections, Sample

HOSTILE = '</td></script><b onclick="x">\'&\x1b[0m'


def parsed(html: str):
    """Strictly, as XML: an unescaped name would break it."""
    return ElementTree.fromstring(f"<page>{html}</page>")


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
@example(0.0, 0.0)
@example(5.0, 5.0)
@example(0.1, 0.3)
@example(0.0, 5e-324)
def test_ticks_hold_both_ends(one, other):
    low, high = min(one, other), max(one, other)
    found = ticks(low, high)
    steps = np.diff(found)
    slack = 1e-6 * max(abs(low), abs(high), 1e-9)
    assert found[0] <= low + slack and found[-1] >= high - slack
    assert 2 <= len(found) <= 8 and (steps > 0).all()
    assert np.allclose(steps, steps[0], rtol=1e-6)


def test_a_line_goes_through_its_points():
    svg = parsed(line_chart("Losses", {"a": [(0, 0), (1, 1), (2, math.nan), (4, 4)]}, "epoch"))
    path = next(p for p in svg.iter("path") if p.get("class") == "line s0").get("d")
    corners = [tuple(map(float, part.split())) for part in path[1:].split("L")]
    assert len(corners) == 3  # what is not a number is left out
    (x0, y0), (x1, y1), (x4, y4) = corners
    assert x4 - x0 == pytest.approx(4 * (x1 - x0), abs=0.3)
    assert y0 - y4 == pytest.approx(4 * (y0 - y1), abs=0.3)


def test_a_history_with_empty_cells_and_absurd_losses_is_drawn():
    rows = [{"epoch": 1.0, "val_AP": 0.1}, {"epoch": 2.0, "loss": 1.0}, {"epoch": 3.0, "loss": 2.0}]
    rows += [{"epoch": 4.0, "loss": 1.7e308, "val_AP": 0.2}, {"epoch": 5.0, "loss": -1.7e308}]
    drawn = training_curves(rows)
    assert "Losses" in drawn and "Validation" in drawn and "inf" not in drawn


def test_charts_of_little_and_of_hostile_names():
    assert line_chart("x", {}, "x") == line_chart("x", {"a": [(1, math.nan)]}, "x") == ""
    assert "<circle" in line_chart("x", {"a": [(1, 2)]}, "x")
    svg = parsed(line_chart(HOSTILE, {HOSTILE: [(1, 2), (2, 3)]}, HOSTILE, even=True))
    assert svg.find(".//figcaption").text.startswith("</td>")
    bars = parsed(bar_chart("x", {HOSTILE: 2.0, "none": math.nan, "half": 1.0}))
    widths = [float(bar.get("width")) for bar in bars.iter("rect")]
    assert widths[0] == pytest.approx(2 * widths[2]) and widths[1] == 0


def test_many_points_are_thinned():
    points = [(float(i), float(i)) for i in range(100_001)]
    kept = thinned(points)
    assert len(kept) <= 2001 and kept[0] == points[0] and kept[-1] == points[-1]
    assert thinned(points[:50]) == points[:50]


def test_texts_and_tables_are_escaped():
    assert "<" not in text(HOSTILE) and '"' not in text(HOSTILE) and "\x1b" not in text(HOSTILE)
    assert len(text("x" * 10_000)) < 600
    cells = [
        cell.text
        for cell in parsed(table(("a", "b"), [(HOSTILE, 1234567), (None, math.nan)])).iter("td")
    ]
    assert cells[1:] == ["1,234,567", "-", "-"] and cells[0].startswith("</td>")
    assert figure(None) == figure(math.inf) == "-" and figure(0.25, 1) == "0.2"
    assert json.loads(embedded({"a": HOSTILE}))["a"] == HOSTILE and "<" not in embedded(HOSTILE)


def test_a_confusion_matrix_is_shaded_by_row_and_a_large_one_is_listed():
    matrix = np.array([[9, 1, 0], [0, 0, 5], [2, 0, 0]])
    page = parsed(confusion_table(Confusion(matrix, ("cat", HOSTILE), 0.5)))
    cells = [(cell.get("class"), cell.text) for cell in page.iter("td") if cell.get("class")]
    assert cells == [
        ("h4", "9"),
        ("h1", "1"),
        ("h0", "0"),
        ("h0", "0"),
        ("h0", "0"),
        ("h4", "5"),
        ("h4", "2"),
        ("h0", "0"),
        ("h0", "0"),
    ]
    classes = tuple(f"class {index}" for index in range(50))
    large = np.zeros((51, 51), int)
    large[3, 7] = 4
    listed = [
        cell.text for cell in parsed(confusion_table(Confusion(large, classes, 0.5))).iter("td")
    ]
    assert listed == ["class 3", "class 7", "4"]


def test_an_audit_is_shown_by_its_keys():
    found = {
        "splits": [{"name": None, "images": 3, "empty": 0, "boxes": 5, "classes": {HOSTILE: 5}}],
        "findings": [{"severity": "fault", "sentence": HOSTILE, "files": [HOSTILE, "b.jpg"]}],
    }
    page = parsed(data_section(found))
    assert [each.text for each in page.iter("summary")] == ["Files"]
    assert len(list(page.iter("code"))) == 2
    assert data_section(None) == "" and "Nothing is wrong" in data_section({"findings": []})


def test_a_detection_on_a_difficult_object_is_shown_as_ignored(tmp_path):
    save_image(tmp_path / "a.png", np.zeros((40, 60, 3), np.uint8))
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [40, 0, 50, 9]])
    sample = Sample(tmp_path / "a.png", boxes[:2], [0, 0], [False, True])
    found = [Detections(boxes, [0.9, 0.8, 0.7], [0, 0, 0], ("cat",))]
    diagnosis = diagnose_detections(found, [sample], ("cat",))
    gallery = make_gallery(diagnosis, found, [sample], ("cat",))
    shown = [item["kind"] for item in gallery.pictures[0]["found"]]
    assert shown == ["right", "ignored", "background"]
    assert gallery.score == 0.9  # where F1 is highest


def test_the_slider_hides_nothing_that_has_the_best_score(tmp_path):
    sample = Sample(tmp_path / "a.png", np.array([[0, 0, 10, 10]]), [0])
    for score, first in ((0.5678, 0.56), (0.57, 0.57), (0.005, 0.0), (0.29, 0.29), (1.0, 1.0)):
        found = [Detections(sample.boxes, [score], [0], ("cat",))]
        diagnosis = diagnose_detections(found, [sample], ("cat",))
        assert make_gallery(diagnosis, found, [sample], ("cat",)).score == first
