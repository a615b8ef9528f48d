import numpy as np
import pytest

from frcnn.evaluation.confusion import Confusion, confusion_matrix
from frcnn.evaluation.matching import pairwise_iou
from frcnn.structures import Detections, Sample

CLASSES = ("cat", "dog", "cow")


def by_counting(detections, samples, score):
    background = len(detections[0].classes)
    matrix = np.zeros((background + 1, background + 1), int)
    for found, sample in zip(detections, samples, strict=True):
        free = [i for i, hard in enumerate(sample.difficult) if not hard]
        for row in sorted(range(len(found)), key=lambda r, f=found: -f.scores[r]):
            if found.scores[row] < score:
                continue
            box = found.boxes[row]
            ious = {i: pairwise_iou(box[None], sample.boxes[i][None])[0, 0] for i in free}
            best = max(ious, key=lambda i: (ious[i], -i), default=None)
            if best is not None and ious[best] >= 0.5:
                matrix[sample.labels[best], found.labels[row]] += 1
                free.remove(best)
                continue
            area = np.prod(box[2:] - box[:2])
            shares = [
                np.prod(
                    np.maximum(np.minimum(box[2:], hard[2:]) - np.maximum(box[:2], hard[:2]), 0)
                )
                / area
                for hard in sample.boxes[sample.difficult]
            ]
            if max(shares, default=0.0) < 0.5:
                matrix[background, found.labels[row]] += 1
        for i in free:
            matrix[sample.labels[i], background] += 1
    return matrix


@pytest.mark.parametrize("score", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(10))
def test_the_matrix_is_that_of_counting(make_case, seed, score):
    detections, samples = make_case(seed, images=10)
    matrix = confusion_matrix(detections, samples, CLASSES, score).matrix
    np.testing.assert_array_equal(matrix, by_counting(detections, samples, score))


@pytest.mark.parametrize("score", [0.0, 0.3, 0.9])
def test_a_trained_detectors_matrix_is_that_of_counting(demo_case, score):
    detections, samples, classes = demo_case
    matrix = confusion_matrix(detections, samples, classes, score).matrix
    np.testing.assert_array_equal(matrix, by_counting(detections, samples, score))
    assert matrix.trace() > matrix.sum() / 5


def test_sums_and_pairs():
    sample = Sample("a.jpg", np.array([[0, 0, 10, 10], [50, 0, 60, 10], [0, 50, 9, 59]]), [0, 1, 2])
    boxes = np.array([[0, 0, 10, 10], [50, 0, 60, 10], [90, 90, 99, 99]])
    found = Detections(boxes, [0.9, 0.8, 0.7], [1, 1, 0], CLASSES)
    confusion = confusion_matrix([found], [sample], CLASSES)
    assert confusion.matrix.tolist() == [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]]
    assert confusion.pairs() == [("cat", "dog", 1)]


def test_association_tells_a_permutation_from_chance():
    def of(located):
        matrix = np.zeros((4, 4), np.int64)
        matrix[:3, :3] = located
        return Confusion(matrix, CLASSES, 0.0).association()

    assert of(np.diag([30, 20, 10])) == pytest.approx(1.0)
    assert of(np.roll(np.diag([30, 20, 10]), 1, axis=1)) == pytest.approx(1.0)
    assert of(np.outer([30, 20, 10], [3, 2, 1])) == 0.0
    assert of(np.array([[9, 0, 0], [9, 0, 0], [3, 0, 0]])) == 0.0  # all are called the same
    assert np.isnan(of(np.array([[9, 1, 0], [0, 0, 0], [0, 0, 0]])))  # of one class


def test_no_picture_and_no_detection():
    assert confusion_matrix([], [], CLASSES).matrix.sum() == 0
    sample = Sample("a.jpg", np.array([[0, 0, 10, 10]]), [2])
    nothing = Detections([], [], [], CLASSES)
    assert confusion_matrix([nothing], [sample], CLASSES).matrix[2, 3] == 1
