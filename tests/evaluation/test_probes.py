import tracemalloc

import numpy as np
import pytest

from frcnn.evaluation.coco import coco_scores
from frcnn.evaluation.confusion import confusion_matrix
from frcnn.evaluation.probes import find_relabelling, find_shift, without_classes
from frcnn.structures import Detections, Sample
from made_detections import CLASSES, moved, renamed, scene


def relabelling_of(found, samples):
    confusion = confusion_matrix(found, samples, CLASSES, 0.0)
    return find_relabelling(confusion, found, samples)


def test_a_permutation_is_found_with_the_ap_it_hides():
    found, samples = scene()
    other = relabelling_of(renamed(found, [2, 0, 1, 3]), samples)
    assert other.names == {"cat": "dog", "dog": "cow", "cow": "cat"}
    assert other.ap == pytest.approx(coco_scores(found, samples, CLASSES).summary["AP"], abs=1e-9)


def test_two_exchanged_classes_are_found_and_a_sound_detector_has_no_other_names():
    found, samples = scene(1)
    assert relabelling_of(renamed(found, [0, 3, 2, 1]), samples).names == {
        "dog": "yak",
        "yak": "dog",
    }
    assert relabelling_of(found, samples) is None


@pytest.mark.parametrize("shift", [(10, 10), (-10, 4), (0, -25), (3.3, 0.4)])
def test_a_shift_is_measured_even_where_no_box_overlaps_its_object(shift):
    for sides in ((8, 14), (15, 60), (80, 160)):
        found, samples = scene(2, sides=sides, spread=0.03 * sides[1])
        by = find_shift(moved(found, *shift), samples, len(CLASSES))
        assert (by.x, by.y) == pytest.approx(shift, abs=1.0)
        expected = coco_scores(found, samples, CLASSES).summary["AP"]
        assert by.ap == pytest.approx(expected, abs=0.1)


def test_a_sound_detector_has_no_shift():
    found, samples = scene(3)
    by = find_shift(found, samples, len(CLASSES))
    assert abs(by.x) < 0.5 and abs(by.y) < 0.5


def test_a_shift_in_rows_of_like_objects():
    """Touching objects of one size, as cells have them: the next object is no shift."""
    x, y = np.meshgrid(np.arange(8) * 31.0, np.arange(6) * 33.0)
    corner = np.stack([x.ravel(), y.ravel()], axis=1)
    rng = np.random.default_rng(0)
    samples, found = [], []
    for index in range(5):
        boxes = np.hstack([corner, corner + 30]) + rng.normal(0, 3, (48, 4))
        samples.append(Sample(f"{index}.jpg", boxes, [0] * 48))
        near = boxes + rng.normal(0, 1, boxes.shape)
        found.append(Detections(near, np.linspace(1, 0.5, 48), [0] * 48, CLASSES))
    by = find_shift(moved(found, 10, 10), samples, len(CLASSES))
    assert (by.x, by.y) == pytest.approx((10, 10), abs=1.0)


def test_a_shift_of_large_objects_takes_little_memory():
    rng = np.random.default_rng(0)
    samples, found = [], []
    for index in range(20):
        corner = rng.uniform(0, 4000, (6, 2))
        boxes = np.hstack([corner, corner + rng.uniform(3800, 4000, (6, 2))])
        samples.append(Sample(f"{index}.jpg", boxes, [0] * 6))
        found.append(Detections(boxes + [40, -30, 40, -30], [0.9] * 6, [0] * 6, CLASSES))
    tracemalloc.start()
    by = find_shift(found, samples, len(CLASSES))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (by.x, by.y) == pytest.approx((40, -30), abs=0.1) and most < 50e6


def test_nothing_to_compare():
    nothing = [Detections([], [], [], CLASSES)]
    sample = [Sample("a.jpg", np.array([[0, 0, 9, 9]]), [0])]
    assert find_shift(nothing, sample, 4) is None and find_shift([], [], 4) is None
    assert relabelling_of(nothing, sample) is None
    empty = [Detections([], [], [], ())], [Sample("a.jpg")]
    assert find_relabelling(confusion_matrix(*empty, (), 0.0), *empty) is None


def test_boxes_of_several_classes_on_one_place_are_one():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10.5], [0, 0, 10, 11], [90, 0, 99, 9]])
    found = Detections(boxes, [0.5, 0.9, 0.4, 0.3], [0, 1, 1, 2], CLASSES)
    sample = Sample("a.jpg", boxes[:1], [3])
    kept, truth = without_classes([found], [sample])
    # Of one class nothing is dropped: that is what the detector's own NMS did.
    np.testing.assert_allclose(kept[0].scores, [0.9, 0.4, 0.3])
    assert set(kept[0].labels) == {0} and truth[0].labels.tolist() == [0]
