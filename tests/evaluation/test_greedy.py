import numpy as np
import pytest

from frcnn.evaluation.coco import coco_scores
from frcnn.evaluation.greedy import class_ap, covered_share, greedy_match, interpolated_ap, quick_ap
from frcnn.structures import Detections, Sample

CLASSES = ("cat", "dog", "cow")


@pytest.mark.parametrize("distinct", [True, False])
@pytest.mark.parametrize("seed", range(15))
def test_average_precision_is_cocos(make_case, seed, distinct):
    detections, samples = make_case(seed, images=12, distinct_scores=distinct)
    ours = class_ap(greedy_match(detections, samples), len(CLASSES))
    scores = coco_scores(detections, samples, CLASSES)
    for label, name in enumerate(CLASSES):
        expected = scores.per_class[name]
        np.testing.assert_allclose(ours[label].mean(), expected["AP"], atol=1e-12)
        np.testing.assert_allclose(ours[label, 0], expected["AP50"], atol=1e-12)
    np.testing.assert_allclose(
        quick_ap(detections, samples, len(CLASSES)), scores.summary["AP"], atol=1e-12
    )


def test_a_hundred_detections_of_a_class_count():
    sample = Sample("a.jpg", np.array([[0, 0, 10, 10], [50, 0, 60, 10]]), [0, 1])
    boxes = np.array([[200, 0, 210, 10]] * 100 + [[0, 0, 10, 10], [50, 0, 60, 10]])
    scores = np.linspace(0.9, 0.1, 102)
    found = Detections(boxes, scores, [0] * 101 + [1], CLASSES)
    matches = greedy_match([found], [sample], [0.5])
    assert len(matches.scores) == 101  # all but the last of the first class
    assert matches.claimed[0].max() == 1 and matches.right[0].sum() == 1


def test_numbers_of_objects_run_through_the_data_set():
    samples = [Sample(f"{i}.jpg", np.array([[0, 0, 10, 10]] * 2), [0, 1]) for i in range(2)]
    found = [Detections(s.boxes[::-1], [0.9, 0.8], [1, 0], CLASSES) for s in samples]
    matches = greedy_match(found, samples, [0.5, 0.9])
    assert matches.claimed.tolist() == [[1, 0, 3, 2]] * 2
    assert matches.images.tolist() == [0, 0, 1, 1] and matches.truth_images.tolist() == [0, 0, 1, 1]


def test_weights_are_repetitions():
    rng = np.random.default_rng(0)
    right, weights = rng.random((2, 30)) < 0.6, rng.integers(0, 4, (2, 30)).astype(float)
    repeated = [np.repeat(right[level], weights[level].astype(int)) for level in range(2)]
    ours = interpolated_ap(right, 40.0, weights)
    # Repeated detections come one after the other, where the weighted ones come at once.
    for level in range(2):
        hits = np.cumsum(repeated[level])
        ends = np.cumsum(weights[level]).astype(int)
        points = [(hits[e - 1] / 40, hits[e - 1] / e) for e in ends if e]
        best = [
            max([p for r, p in points if r >= level_], default=0.0)
            for level_ in np.linspace(0, 1, 101)
        ]
        np.testing.assert_allclose(ours[level], np.mean(best))


def test_the_share_that_lies_in_a_region():
    boxes, region = np.array([[0, 0, 10, 10], [3, 3, 3, 9]]), np.array([[5, 0, 100, 100]])
    np.testing.assert_array_equal(covered_share(boxes, region), [[0.5], [0.0]])
