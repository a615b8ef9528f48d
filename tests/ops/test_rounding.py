import numpy as np
import pytest

from frcnn.ops import rounding

pytestmark = pytest.mark.backend


def test_division_by_a_constant_is_rounded_once(run):
    """XLA multiplies by the reciprocal otherwise, which is off by one unit for a third of these."""
    values = np.arange(1, 3000, dtype=np.float32)
    for divisor in (3, 7, 14):
        quotient = run(lambda value, by=divisor: rounding.divide(value, by), values)
        np.testing.assert_array_equal(quotient, values / np.float32(divisor))


def test_halves_round_away_from_zero(run):
    values = np.float32([-2.5, -1.5, -0.5, -0.4, 0, 0.4, 0.5, 1.5, 2.5])
    expected = [-3, -2, -1, 0, 0, 0, 1, 2, 3]
    np.testing.assert_array_equal(run(rounding.round_half_away, values), expected)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 0.5, 0.7, 1.0])
def test_float32_below_decides_as_float64(value):
    bound = rounding.float32_below(value)
    assert np.float32(bound) == bound <= value
    near = np.float32(value)
    for x in (np.nextafter(near, np.float32(-1)), near, np.nextafter(near, np.float32(2))):
        assert (x > np.float32(bound)) == (float(x) > value)
