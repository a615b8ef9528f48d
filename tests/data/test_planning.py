import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from frcnn.data.planning import (
    BLANK,
    batch_count,
    group_by_canvas,
    plan_in_order,
    plan_shuffled,
)

WIDE, TALL = (64, 96), (96, 64)


def groups_of(wide, tall, batch_size=4):
    sizes = [(64, 90)] * wide + [(90, 64)] * tall
    return group_by_canvas(sizes, 64, 96, [WIDE, TALL], batch_size)


def test_pictures_go_to_the_canvas_that_fits():
    groups = groups_of(5, 6)
    assert list(groups) == [WIDE, TALL]
    assert groups[WIDE].tolist() == [0, 1, 2, 3, 4] and groups[TALL][0] == 5


def test_a_group_smaller_than_a_batch_joins_the_largest():
    groups = groups_of(6, 3)
    assert list(groups) == [WIDE] and groups[WIDE].tolist() == list(range(9))
    assert list(groups_of(1, 0)) == [WIDE]
    assert list(groups_of(6, 4)) == [WIDE, TALL]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(0, 30), st.integers(1, 7), st.integers(0, 99))
def test_a_shuffled_pass_shows_every_sample_and_few_twice(wide, tall, batch_size, seed):
    groups = groups_of(wide, tall, batch_size)
    count = batch_count(groups, batch_size)
    plan = plan_shuffled(groups, batch_size, count, np.random.default_rng(seed))
    assert len(plan) == count
    for canvas, samples in plan:
        assert len(samples) == batch_size
        assert np.isin(samples, groups[canvas]).all()
    shown = np.bincount(np.concatenate([samples for _, samples in plan]), minlength=wide + tall)
    assert (shown >= 1).all()
    if wide + tall >= batch_size:
        assert (shown <= 2).all()
    assert shown.sum() - len(shown) < batch_size * len(groups)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(0, 20), st.integers(1, 5))
def test_a_pass_in_order_shows_every_sample_once(wide, tall, batch_size):
    groups = groups_of(wide, tall, batch_size)
    plan = plan_in_order(groups, batch_size, batch_count(groups, batch_size))
    samples = np.concatenate([part for _, part in plan])
    assert sorted(samples[samples != BLANK]) == list(range(wide + tall))
    for canvas, group in groups.items():
        mine = np.concatenate([part for each, part in plan if each == canvas])
        assert mine[: len(group)].tolist() == group.tolist()
        assert (mine[len(group) :] == BLANK).all()


def test_more_or_fewer_steps_than_a_pass():
    groups = groups_of(8, 0)
    rng = np.random.default_rng(0)
    assert len(plan_shuffled(groups, 4, 1, rng)) == 1
    longer = plan_shuffled(groups, 4, 6, rng)
    shown = np.bincount(np.concatenate([samples for _, samples in longer]))
    assert len(longer) == 6 and (shown == 3).all()
    assert [part.tolist() for _, part in plan_in_order(groups, 4, 3)] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3],
    ]  # fmt: skip
