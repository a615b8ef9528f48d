import numpy as np
import pytest

from frcnn.inference.predict import Detector
from tiny import tiny_batch, tiny_detector

pytestmark = pytest.mark.backend


@pytest.fixture(scope="module")
def detector():
    return Detector(tiny_detector())


@pytest.fixture(scope="module")
def pictures():
    return list(tiny_batch(3)[0]["images"])


def test_proposals_are_those_that_the_detector_uses(detector, pictures):
    network = detector.model.network
    count = network.rpn.inference_rule.after_nms
    found = detector.proposals(pictures, count)
    sizes = np.tile(np.array([[64, 96]], np.int32), (3, 1))
    inner = network({"images": np.stack(pictures), "sizes": sizes}, training=False)
    for each, boxes, valid in zip(found, inner["proposals"], inner["valid"], strict=True):
        expected = np.asarray(boxes)[np.asarray(valid)]
        np.testing.assert_allclose(each.boxes, expected, atol=1e-3)
        assert each.classes == ("object",) and (np.diff(each.scores) <= 0).all()
        assert each.scores.min() > 0 and each.scores.max() < 1


def test_boxes_are_in_pixels_of_the_original(detector, pictures):
    large = [picture.repeat(2, axis=0).repeat(2, axis=1) for picture in pictures]
    for one, other in zip(
        detector.proposals(pictures, 5), detector.proposals(large, 5), strict=True
    ):
        np.testing.assert_allclose(2 * one.boxes, other.boxes, atol=0.1)


def test_the_count_is_kept_and_the_detector_left_as_it_was(detector, pictures):
    rule = detector.model.network.rpn.inference_rule
    before = detector.detect(pictures[0])
    few, many = (detector.proposals(pictures, count, batch=2) for count in (7, 200))
    assert {len(each) for each in few} == {7} and min(map(len, many)) > rule.after_nms
    np.testing.assert_array_equal(many[0].boxes[:7], few[0].boxes)
    assert detector.model.network.rpn.inference_rule == rule
    np.testing.assert_array_equal(detector.detect(pictures[0]).boxes, before.boxes)
    with pytest.raises(ValueError, match="at least 1. Received: 0"):
        detector.proposals(pictures, 0)
    assert detector.proposals([]) == []


def test_shapes_of_the_anchors(detector):
    shapes = detector.anchor_shapes
    assert shapes.shape == (9, 2)  # three levels of three ratios
    areas = shapes.prod(axis=1).reshape(3, 3)
    np.testing.assert_allclose(areas, np.array([12, 24, 48])[:, None] ** 2 * np.ones(3), rtol=1e-4)
