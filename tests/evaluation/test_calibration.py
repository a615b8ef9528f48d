import numpy as np
import pytest

from frcnn.evaluation.calibration import best_score, calibrate, ranking


def by_counting(scores, right):
    error = 0.0
    for low in range(10):
        inside = [
            (s, r)
            for s, r in zip(scores, right, strict=True)
            if low <= s * 10 < low + 1 or (low == 9 and s == 1)
        ]
        if inside:
            apart = np.mean([s for s, _ in inside]) - np.mean([r for _, r in inside])
            error += len(inside) / len(scores) * abs(apart)
    return error


@pytest.mark.parametrize("seed", range(5))
def test_the_error_is_that_of_counting(seed):
    rng = np.random.default_rng(seed)
    scores = np.append(rng.random(200), [0.0, 1.0])
    right = rng.random(202) < scores**2
    calibration = calibrate(scores, right)
    assert calibration.error == pytest.approx(by_counting(scores, right))
    assert calibration.bias == pytest.approx(scores.mean() - right.mean())
    assert sum(each["count"] for each in calibration.bins) == 202


def test_honest_scores_have_no_error():
    scores = np.repeat([0.25, 0.75], 100)
    right = np.tile(np.arange(100) < 25, 2) ^ (scores > 0.5)
    assert calibrate(scores, right).error == pytest.approx(0.0)


@pytest.mark.parametrize("seed", range(5))
def test_ranking_is_the_share_of_pairs(seed):
    rng = np.random.default_rng(seed)
    scores, right = np.round(rng.random(60), 1), rng.random(60) < 0.4
    pairs = [(s > t) + (s == t) / 2 for s in scores[right] for t in scores[~right]]
    assert ranking(scores, right) == pytest.approx(np.mean(pairs))
    assert np.isnan(ranking(scores, np.ones(60, bool)))


@pytest.mark.parametrize("seed", range(5))
def test_the_best_score_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    scores, right = np.round(rng.random(40), 1), rng.random(40) < 0.5

    def f1(threshold):
        kept = scores >= threshold
        return 2 * right[kept].sum() / (kept.sum() + 30)

    threshold, value = best_score(scores, right, 30)
    assert value == pytest.approx(max(map(f1, scores))) and f1(threshold) == pytest.approx(value)


def test_nothing_to_compare():
    nothing = np.zeros(0)
    assert np.isnan(calibrate(nothing, nothing).error)
    assert np.isnan(best_score(nothing, nothing, 3)).all()
    assert np.isnan(best_score(np.ones(1), np.ones(1, bool), 0)).all()
