import numpy as np
import pytest

from frcnn.evaluation.diagnosis import diagnose_detections
from frcnn.evaluation.errors import KINDS, find_errors
from frcnn.evaluation.tables import mistakes_table
from frcnn.structures import Detections, Sample
from tide_peer import tide_gains

NAMES = dict(
    zip(KINDS, ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"), strict=True),
)
CLASSES = ("cat", "dog", "cow")


def check(case, detections, samples, classes=CLASSES):
    ours = find_errors(detections, samples, classes)
    theirs = tide_gains(case, detections, samples, classes)
    assert 100 * ours.ap50 == pytest.approx(theirs["ap50"], abs=0.1)
    for kind, name in NAMES.items():
        assert 100 * ours.gains[kind] == pytest.approx(theirs[name], abs=0.1), kind
    assert 100 * ours.false_positives == pytest.approx(theirs["FalsePos"], abs=0.1)
    assert 100 * ours.false_negatives == pytest.approx(theirs["FalseNeg"], abs=0.1)
    return ours


def noisy(seed, images=25, classes=3):
    """Objects found with every kind of error, in crowded pictures."""
    rng = np.random.default_rng(seed)
    samples, detections = [], []
    for index in range(images):
        count = int(rng.integers(2, 9))
        corner = rng.uniform(0, 150, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(15, 70, (count, 2))], axis=1)
        labels = rng.integers(0, classes, count)
        samples.append(Sample(f"{index}.jpg", boxes, labels, rng.random(count) < 0.1))
        rows = np.repeat(np.arange(count), rng.integers(0, 4, count))
        found = boxes[rows] + rng.normal(0, 6, (len(rows), 4)) * rng.integers(0, 3, (len(rows), 1))
        stray = rng.uniform(0, 180, (int(rng.integers(0, 3)), 2))
        found = np.concatenate([found, np.concatenate([stray, stray + 20], axis=1)])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 2)
        names = np.append(labels[rows], rng.integers(0, classes, len(stray)))
        wrong = rng.random(len(names)) < 0.2
        names[wrong] = rng.integers(0, classes, wrong.sum())
        detections.append(Detections(found, rng.random(len(found)), names, CLASSES[:classes]))
    return detections, samples


@pytest.mark.parametrize("seed", range(12))
def test_gains_are_those_of_tidecv(seed):
    errors = check(f"noisy {seed}", *noisy(seed))
    assert min(errors.counts.values()) > 0  # every kind is there


@pytest.mark.parametrize("seed", range(6))
def test_gains_are_those_of_tidecv_on_few_and_empty_pictures(make_case, seed):
    detections, samples = make_case(seed, images=30, most=4)
    rng = np.random.default_rng(seed)
    # Of a detection that lies half on a difficult object tidecv and COCO think differently.
    inexact = [
        Detections(d.boxes + rng.uniform(0, 0.1, d.boxes.shape), d.scores, d.labels, d.classes)
        for d in detections
    ]
    check(f"few {seed}", inexact, samples)


def test_gains_are_those_of_tidecv_on_a_trained_detector(demo_case):
    errors = check("demo", *demo_case)
    assert sum(count > 0 for count in errors.counts.values()) >= 5


def of(boxes, labels, scores):
    return Detections(np.array(boxes, float), np.array(scores), np.array(labels), CLASSES)


def test_each_kind_by_hand():
    truth = Sample("a.jpg", np.array([[0, 0, 10, 10], [50, 50, 60, 60], [90, 0, 99, 9]]), [0, 1, 2])
    cases = {
        "classification": ([50, 50, 60, 60], 2),
        "localisation": ([0, 0, 10, 30], 0),
        "both": ([50, 50, 60, 80], 0),
        "duplicate": ([0, 0, 10, 11], 0),
        "background": ([200, 200, 210, 210], 0),
    }
    for kind, (box, label) in cases.items():
        found = of([[0, 0, 10, 10], box], [0, label], [0.9, 0.8])
        errors = find_errors([found], [truth], CLASSES)
        assert [KINDS[index] for index in errors.kinds if index >= 0] == [kind]
        assert errors.counts[kind] == 1
        mendable = kind == "classification"
        assert errors.missed.tolist() == ([2] if mendable else [1, 2])
        assert errors.counts["missed"] == len(errors.missed)


def test_a_detection_on_a_difficult_object_is_no_error():
    truth = Sample("a.jpg", np.array([[0, 0, 10, 10], [50, 50, 60, 60]]), [0, 0], [False, True])
    found = of([[0, 0, 10, 10], [50, 50, 60, 60]], [0, 0], [0.8, 0.9])
    errors = find_errors([found], [truth], CLASSES)
    assert errors.kinds.tolist() == [-1, -1] and errors.ap50 == 1.0
    assert errors.rows[errors.ignored].tolist() == [1]
    assert all(gain == 0.0 for gain in errors.gains.values()) and not len(errors.missed)


def test_what_is_ignored_is_not_counted():
    """Detections on difficult objects are neither wrong nor right."""
    near = [[20 * i, 50, 20 * i + 10, 60] for i in range(5)]
    truth = [
        Sample(f"{i}.jpg", np.array([[0, 0, 10, 10], *near]), [0] * 6, [False, *[True] * 5])
        for i in range(12)
    ]
    boxes = [[0, 0, 10, 10], [200, 200, 210, 210], *near]
    found = [of(boxes, [0] * 7, [0.9, 0.8, *[0.7] * 5]) for _ in truth]
    errors = find_errors(found, truth, CLASSES)
    assert errors.counts["background"] == 12 == len(mistakes_table(errors, found, truth))
    assert sum(errors.counts.values()) == 12 and errors.ignored.sum() == 60


def test_nothing_found_and_nothing_to_find():
    truth = Sample("a.jpg", np.array([[0, 0, 10, 10]]), [0])
    errors = find_errors([of([], [], [])], [truth], CLASSES)
    assert errors.ap50 == 0.0 and errors.counts["missed"] == 1
    assert find_errors([], [], CLASSES).to_dict()["counts"] == dict.fromkeys(KINDS, 0)
    assert np.isnan(find_errors([of([[0, 0, 9, 9]], [1], [0.5])], [Sample("a.jpg")], CLASSES).ap50)


def test_more_than_a_hundred_detections_of_a_picture_are_cut():
    truth = Sample("a.jpg", np.array([[0, 0, 10, 10]]), [0])
    boxes = [[0, 0, 10, 10]] + [[200 + i, 0, 210 + i, 10] for i in range(100)]
    found = of(boxes, [0] * 101, [0.1, *np.linspace(0.9, 0.5, 100)])
    errors = find_errors([found], [truth], CLASSES)
    assert errors.rows.tolist() == list(range(1, 101)) and errors.counts["missed"] == 1


def test_in_a_crowded_picture_more_are_looked_at():
    corners = np.stack([np.arange(150) * 20, np.zeros(150)], axis=1)
    truth = Sample("a.jpg", np.concatenate([corners, corners + 10], axis=1), [0] * 150)
    found = of(truth.boxes, [0] * 150, np.linspace(0.9, 0.1, 150))
    errors = find_errors([found], [truth], CLASSES)
    assert errors.ap50 == 1.0 and not any(errors.counts.values())
    diagnosis = diagnose_detections([found], [truth], CLASSES)
    assert diagnosis.score == pytest.approx(0.1) and diagnosis.f1 == 1.0
