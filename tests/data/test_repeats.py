import numpy as np
import pytest

from frcnn.data.dataset import Dataset
from frcnn.data.planning import batch_count, plan_shuffled
from frcnn.data.repeats import repeat_factors
from frcnn.structures import Sample

CLASSES = ("common", "rare", "none")


def dataset(labels, difficult=()):
    samples = []
    for number, own in enumerate(labels):
        boxes = np.tile(np.array([[1, 1, 9, 9]], np.float32), (len(own), 1))
        hard = np.full(len(own), number in difficult)
        samples.append(Sample(f"{number}.png", boxes, np.array(own, int), hard, size=(10, 10)))
    return Dataset(tuple(samples), CLASSES, "-")


def test_the_factors_are_the_papers():
    """16 pictures: class 0 in 8, class 1 in 1, of which the square root of 0.25 / (1/16) is 2."""
    labels = [[0]] * 7 + [[0, 1]] + [[]] * 8
    factors = repeat_factors(dataset(labels), 0.25)
    np.testing.assert_allclose(factors, [1] * 7 + [2] + [1] * 8)
    # Above the share of class 0 too: sqrt(0.75 / 0.5).
    factors = repeat_factors(dataset(labels), 0.75)
    np.testing.assert_allclose(factors[[0, 7, 8]], [1.5**0.5, 12**0.5, 1])


def test_difficult_objects_do_not_count():
    factors = repeat_factors(dataset([[0]] * 3 + [[1]], difficult=[3]), 1.0)
    np.testing.assert_allclose(factors, [(4 / 3) ** 0.5] * 3 + [1])


def shown_in(plan, count):
    return np.bincount(np.concatenate([samples for _, samples in plan]), minlength=count)


def test_samples_are_shown_as_often_as_they_should_be():
    repeats = np.array([1.0] * 12 + [2.5] * 8)
    groups = {(64, 96): np.arange(0, 20, 2), (96, 64): np.arange(1, 20, 2)}
    steps = batch_count(groups, 4, repeats)
    assert steps == 2 * 4  # 16 of each canvas
    rng = np.random.default_rng(0)
    plans = [plan_shuffled(groups, 4, steps, rng, repeats) for _ in range(400)]
    assert all(len(plan) == steps for plan in plans)
    shown = np.mean([shown_in(plan, 20) for plan in plans], axis=0)
    np.testing.assert_allclose(shown, repeats, atol=0.15)
    for plan in plans:
        assert all(np.isin(samples, groups[canvas]).all() for canvas, samples in plan)


@pytest.mark.parametrize("seed", range(5))
def test_without_fractions_each_is_shown_exactly_so_often(seed):
    repeats = np.array([1.0] * 6 + [3.0] * 2)
    groups = {(64, 96): np.arange(8)}
    plan = plan_shuffled(groups, 4, 3, np.random.default_rng(seed), repeats)
    assert shown_in(plan, 8).tolist() == repeats.tolist()
