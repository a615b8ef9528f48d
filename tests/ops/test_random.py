import numpy as np
import pytest
from keras import ops

from frcnn.ops.random import uniform

pytestmark = pytest.mark.backend


def draw(seed, first, shape, stream=0):
    seed = ops.convert_to_tensor([seed, first], "int32")
    return ops.convert_to_numpy(uniform(seed, shape, stream))


def lowbias32(x):
    """The hash in unsigned arithmetic of unlimited width."""
    x &= 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


@pytest.mark.parametrize(
    ("seed", "first", "stream"), [(0, 0, 0), (1, 0, 1), (7, 123, 0), (2**31 - 1, 10**6, 5)]
)
def test_equals_the_hash_in_python_integers(seed, first, stream):
    key = lowbias32(lowbias32(seed) + stream * 0x9E3779B9)
    expected = [
        [
            (lowbias32(lowbias32(lowbias32(first + row) + key) + column) >> 8) / 2**24
            for column in range(5)
        ]
        for row in range(3)
    ]
    np.testing.assert_array_equal(draw(seed, first, (3, 5), stream), np.float32(expected))


def test_looks_uniform_and_unrelated():
    numbers = draw(3, 4, (64, 4096))
    assert numbers.min() >= 0 and numbers.max() < 1
    histogram = np.histogram(numbers, 64, (0, 1))[0] / numbers.size * 64
    assert np.abs(histogram - 1).max() < 0.07  # five deviations of a uniform draw
    flat = numbers - 0.5
    for other in (
        draw(3, 68, (64, 4096)),
        draw(4, 4, (64, 4096)),
        draw(3, 4, (64, 4096), stream=1),
        np.roll(numbers, 1, 1),
        np.roll(numbers, 1, 0),
    ):
        assert abs((flat * (other - 0.5)).mean()) * 12 < 0.01


def test_a_row_depends_on_its_running_number_alone():
    whole = draw(1, 10, (5, 7))
    np.testing.assert_array_equal(np.concatenate([draw(1, 10, (2, 7)), draw(1, 12, (3, 7))]), whole)
