import keras
import numpy as np
import pytest
from keras import ops

from frcnn.errors import UserError
from frcnn.models.detector import DetectionModel, DetectionRule, read_model
from tiny import CLASSES, tiny_batch, tiny_detector, tiny_network

pytestmark = pytest.mark.backend


def brute_force(model, x):
    """The same detections by a loop in NumPy over boxes of one image at a time."""
    network = model.network
    found = network(x, training=False)
    logits, deltas = (
        ops.convert_to_numpy(v) for v in network.roi_head(found["features"], found["proposals"])
    )
    proposals, valid = (ops.convert_to_numpy(found[k]) for k in ("proposals", "valid"))
    results = []
    for image in range(len(logits)):
        height, width = x["sizes"][image]
        rows = []
        for p in np.flatnonzero(valid[image]):
            scores = np.exp(logits[image, p] - logits[image, p].max())
            scores /= scores.sum()
            x1, y1, x2, y2 = proposals[image, p]
            for c in range(len(CLASSES)):
                dx, dy, dw, dh = deltas[image, p, c] / np.array([10, 10, 5, 5])
                cx, cy = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
                w, h = (x2 - x1) * np.exp(dw), (y2 - y1) * np.exp(dh)
                box = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
                box = box.clip(0, [width, height, width, height])
                rows.append((scores[c], box, c))
        kept = []
        for score, box, label in sorted(rows, key=lambda row: -row[0]):
            if all(label != other or iou(box, b) <= 0.5 for _, b, other in kept):
                kept.append((score, box, label))
        results.append(kept[: model.rule.count])
    return results


def iou(a, b):
    wide = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    high = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return wide * high / (area - wide * high)


def test_equals_a_loop_over_boxes():
    model = tiny_detector()
    x, _ = tiny_batch()
    found = model.predict_on_batch(x)
    for image, expected in enumerate(brute_force(model, x)):
        assert found["count"][image] == len(expected) > 5
        for row, (score, box, label) in enumerate(expected):
            assert found["labels"][image, row] == label
            assert found["scores"][image, row] == pytest.approx(score, abs=1e-4)
            np.testing.assert_allclose(found["boxes"][image, row], box, atol=0.05)


def test_rows_after_the_count_are_empty():
    model = tiny_detector(score=0.34)
    x, _ = tiny_batch()
    found = model.predict_on_batch(x)
    for image, count in enumerate(found["count"]):
        assert (found["scores"][image, :count] > 0.34).all()
        assert (np.diff(found["scores"][image, :count]) <= 0).all()
        assert (found["labels"][image, count:] == -1).all()
        assert not found["boxes"][image, count:].any()


def test_nothing_is_found_in_a_blank_of_no_size():
    x, _ = tiny_batch()
    x["sizes"][:] = 0
    assert not tiny_detector().predict_on_batch(x)["count"].any()


def test_save_and_load_keeps_everything(tmp_path):
    model = tiny_detector()
    model.save(tmp_path / "model.keras")
    copy = read_model(tmp_path / "model.keras")
    assert copy.classes == CLASSES and copy.canvases == model.canvases
    assert (copy.short, copy.long, copy.rule) == (model.short, model.long, model.rule)
    x, _ = tiny_batch()
    first, second = model.predict_on_batch(x), copy.predict_on_batch(x)
    for key in first:
        np.testing.assert_allclose(second[key], first[key], atol=1e-4)


def test_class_names_must_fit_the_network():
    with pytest.raises(ValueError, match="Expected 2 class names.*Received: 1, dog"):
        DetectionModel(tiny_network(), ("dog",), 64, 96, ((64, 96),))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and then nothing", b"no archive"])
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "broken.keras").write_bytes(content)
    with pytest.raises(UserError, match="broken.keras"):
        read_model(tmp_path / "broken.keras")
    with pytest.raises(UserError, match="no model file"):
        read_model(tmp_path / "missing.keras")


def test_another_keras_model_is_refused(tmp_path):
    inputs = keras.Input((2,))
    keras.Model(inputs, keras.layers.Dense(1)(inputs)).save(tmp_path / "other.keras")
    with pytest.raises(UserError, match="not a detector"):
        read_model(tmp_path / "other.keras")


def test_candidates_cap_what_enters_nms():
    network = tiny_network()
    x, _ = tiny_batch()
    rule = DetectionRule(score=0.0, count=20, candidates=3)
    model = DetectionModel(network, CLASSES, 64, 96, ((64, 96),), rule)
    assert (model.predict_on_batch(x)["count"] <= 3).all()
