import itertools
import sys

import numpy as np
import pytest

from frcnn.apps.tracking import NOBODY, Tracker, TrackingRule, _Motion
from frcnn.errors import UserError
from frcnn.structures import Detections

CLASSES = ("disc", "square")


def found(*rows):
    """Detections of rows (x, y, side, score, label)."""
    rows = np.array(rows, float).reshape(-1, 5)
    corners = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:3]], axis=1)
    return Detections(corners, rows[:, 3], rows[:, 4].astype(int), CLASSES)


def follow(frames, rule=TrackingRule(), **options):  # noqa: B008
    tracker = Tracker(rule)
    return [tracker.update(each, **options).tolist() for each in frames]


def test_objects_that_pass_each_other_keep_their_numbers():
    """One goes right, one left, their boxes overlap half way; given in any order."""
    rng = np.random.default_rng(0)
    frames, orders = [], []
    for step in range(40):
        rows = [(10 + 4 * step, 20, 30, 0.9, 0), (166 - 4 * step, 32, 30, 0.8, 0)]
        order = rng.permutation(2)
        frames.append(found(*(rows[each] for each in order)))
        orders.append(order)
    for ids, order in zip(follow(frames), orders, strict=True):
        assert sorted(ids) == [1, 2]
        assert ids[list(order).index(0)] == follow(frames[:1])[0][list(orders[0]).index(0)]


def test_classes_are_followed_apart():
    """A square appears where a disc was."""
    frames = [found((10, 10, 30, 0.9, 0))] * 3 + [found((10, 10, 30, 0.9, 1))] * 3
    assert follow(frames) == [[1]] * 3 + [[NOBODY], [2], [2]]
    both = [found((10, 10, 30, 0.9, 0), (10, 10, 30, 0.9, 1))] * 3
    assert follow(both) == [[1, 2]] * 3


def test_unsure_detections_go_on_with_tracks_and_begin_none():
    frames = [found((10, 10, 30, score, 0)) for score in (0.9, 0.9, 0.2, 0.15, 0.9)]
    assert follow(frames) == [[1]] * 5
    assert follow([found((10, 10, 30, 0.2, 0))] * 4) == [[NOBODY]] * 4
    assert follow([found((10, 10, 30, 0.9, 0)), found((10, 10, 30, 0.05, 0))]) == [[1], [NOBODY]]


def test_an_object_that_was_hidden_for_a_while_has_its_number_again():
    seen = [found((10 + 2 * step, 10, 30, 0.9, 0)) for step in range(30)]
    frames = seen[:10] + [found()] * 8 + seen[18:]
    assert follow(frames)[:10] + follow(frames)[18:] == [[1]] * 22
    frames = seen[:10] + [found()] * 8 + seen[18:]
    rule = TrackingRule(patience=5)
    assert follow(frames, rule)[18:] == [[NOBODY]] + [[2]] * 11


def test_frames_that_were_left_out_count():
    """An object that moves by half its side a frame, seen in every fourth frame alone."""
    steps = [0, 1, 2, 3, 4, 8, 12, 16]
    tracker, ids = Tracker(), []
    for last, step in itertools.pairwise([-1, *steps]):
        detections = found((10 + 15 * step, 10, 30, 0.9, 0))
        ids += tracker.update(detections, step - last).tolist()
    assert ids == [1] * 8


def test_what_is_seen_once_has_no_number():
    nothing, something = found((99, 99, 9, 0.9, 0)), found((10, 10, 30, 0.9, 0))
    both = found((10, 10, 30, 0.9, 0), (99, 99, 9, 0.9, 1))
    assert follow([something, both, something, both, both]) == [
        [1], [1, NOBODY], [1], [1, NOBODY], [1, 2],
    ]  # fmt: skip
    assert follow([found(), nothing, something]) == [[], [NOBODY], [NOBODY]]


def test_the_best_matching_is_taken_not_the_first():
    """Greedily the upper box would take the track that alone fits the lower one."""
    frames = [found((0, 0, 40, 0.9, 0), (0, 16, 40, 0.9, 0))] * 2
    moved = found((0, 12, 40, 0.9, 0), (0, 30, 40, 0.9, 0))
    assert follow([*frames, moved])[2] == [1, 2]


def test_many_tracks_against_brute_force():
    """Independent noise on many objects that stand still, far apart."""
    rng = np.random.default_rng(1)
    places = np.stack(np.meshgrid(np.arange(6), np.arange(5)), -1).reshape(-1, 2) * 100.0
    truth = None
    tracker = Tracker()
    for _ in range(20):
        order = rng.permutation(len(places))
        noisy = places[order] + rng.normal(0, 2, (len(places), 2))
        ids = tracker.update(found(*((x, y, 40, 0.9, 0) for x, y in noisy)))
        by_place = ids[np.argsort(order)]
        truth = by_place if truth is None else truth
        assert (by_place == truth).all() and len(set(ids)) == len(ids)


def test_the_filter_against_one_of_matrices():
    """Kalman's equations with states of two numbers, one coordinate at a time."""
    rng = np.random.default_rng(2)
    boxes = rng.uniform(20, 60, (3, 4))
    motion = _Motion.begun(boxes)
    side = boxes[:, 2:].mean(axis=1)
    states = [[np.array([value, 0.0]) for value in box] for box in boxes]
    spreads = [[np.diag([(2 * s / 20) ** 2, (10 * s / 160) ** 2])] * 4 for s in side]
    for frames in (1, 1, 3, 1):
        side = motion.place[:, 2:].mean(axis=1)
        motion.predict(frames)
        step = np.array([[1, frames], [0, 1]])
        for i, j in itertools.product(range(3), range(4)):
            noise = frames * np.diag([(side[i] / 20) ** 2, (side[i] / 160) ** 2])
            states[i][j] = step @ states[i][j]
            spreads[i][j] = step @ spreads[i][j] @ step.T + noise
        measured = boxes + rng.normal(0, 1, (3, 4))
        side = motion.place[:, 2:].mean(axis=1)
        motion.correct(np.arange(3), measured)
        for i, j in itertools.product(range(3), range(4)):
            spread = spreads[i][j]
            gain = spread[:, 0] / (spread[0, 0] + (side[i] / 20) ** 2)
            states[i][j] = states[i][j] + gain * (measured[i, j] - states[i][j][0])
            spreads[i][j] = spread - np.outer(gain, spread[0])
        np.testing.assert_allclose(motion.place, [[s[0] for s in row] for row in states])
        np.testing.assert_allclose(motion.speed, [[s[1] for s in row] for row in states])


def test_no_detections_at_all():
    assert follow([found()] * 3) == [[]] * 3


def test_a_missing_library_is_a_sentence(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "scipy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(UserError, match="pip install 'frcnn"):
        Tracker()
