import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frcnn.evaluation.matching import check_pairs, match, relabel
from frcnn.structures import Detections, Sample, pairwise_iou


def devkit_iou(a, b):
    """The development kit's formula on inclusive whole pixels, as its Matlab code writes it."""
    wide = min(a[2], b[2]) - max(a[0], b[0]) + 1
    high = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if wide <= 0 or high <= 0:
        return 0.0
    union = (a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return wide * high / (union - wide * high)


whole = st.integers(1, 400)
voc_box = st.tuples(whole, whole, whole, whole).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)


@settings(max_examples=150, deadline=None)
@given(voc_box, voc_box)
def test_continuous_iou_is_the_devkits_inclusive_iou(a, b):
    boxes = np.array([a, b], np.float32) - [1, 1, 0, 0]  # as the VOC reader converts
    assert pairwise_iou(boxes[:1], boxes[1:])[0, 0] == devkit_iou(a, b)


def test_iou_of_every_pair():
    a = np.array([[0, 0, 10, 10], [0, 0, 5, 10], [3, 3, 3, 9]], np.float32)
    b = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    np.testing.assert_array_equal(pairwise_iou(a, b), [[1, 0], [0.5, 0], [0, 0]])
    empty = np.zeros((0, 4), np.float32)
    assert pairwise_iou(empty, b).shape == (0, 2) and pairwise_iou(a, empty).shape == (3, 0)


def test_two_empty_boxes_in_one_place_do_not_overlap():
    point = np.array([[3, 3, 3, 3]], np.float32)
    assert pairwise_iou(point, point)[0, 0] == 0


def test_classes_are_matched_by_name():
    found = Detections([[0, 0, i, 1] for i in (1, 2, 3)], [0.9, 0.8, 0.7], [0, 1, 2], "abc")
    moved = relabel(found, ("c", "x", "a"))
    assert moved.names == ["a", "c"] and moved.labels.tolist() == [2, 0]
    assert moved.boxes[:, 2].tolist() == [1, 3]
    assert relabel(found, ("a", "b", "c")) is found
    assert len(relabel(found, ())) == 0
    assert len(relabel(Detections([], [], [], ()), ("a",))) == 0


def test_a_detection_claims_the_best_box_of_its_class():
    samples = [
        Sample("a.jpg", [[0, 0, 9, 9]], [0]),
        Sample("b.jpg", [[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 9]], [0, 0, 1]),
    ]
    nothing = Detections([], [], [], ("x", "y"))
    # IoU with the boxes of the class: 0.9 and 8 / 9; the box of class y would fit perfectly.
    found = Detections([[0, 0, 10, 9], [50, 50, 60, 60]], [0.5, 0.4], [0, 0], ("x", "y"))
    matches = match([nothing, found], samples, 0.5)
    assert matches.claimed.tolist() == [1, -1]
    assert match([nothing, found], samples, 0.9).claimed.tolist() == [1, -1]
    assert match([nothing, found], samples, 0.91).claimed.tolist() == [-1, -1]


def test_detections_of_another_number_of_pictures_are_refused():
    with pytest.raises(ValueError, match="detections of 1 pictures.*Received: 0"):
        check_pairs([], [Sample("a.jpg")], ("x",))


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_without_a_class_names_the_picture(label):
    sample = Sample("some/picture.jpg", [[0, 0, 1, 1]], [label])
    with pytest.raises(ValueError, match=rf"Received: {label} in some/picture.jpg"):
        check_pairs([Detections([], [], [], ("x",))], [sample], ("x", "y"))
