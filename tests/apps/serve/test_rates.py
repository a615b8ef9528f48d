import pytest

from frcnn.apps.serve.rates import BURST, RateLimit


def test_a_burst_then_the_rate():
    limit = RateLimit(10)
    allowed = [limit.wait_for("1.2.3.4", 100.0) == 0 for _ in range(30)]
    assert allowed == [True] * int(10 * BURST) + [False] * 10
    assert limit.wait_for("1.2.3.4", 100.0) == pytest.approx(0.1)
    # A second later ten more, as one that keeps to the rate always may.
    assert sum(limit.wait_for("1.2.3.4", 101.0) == 0 for _ in range(30)) == 10
    assert all(limit.wait_for("1.2.3.4", 102 + step / 10) == 0 for step in range(50))


def test_addresses_are_counted_apart_and_networks_of_ipv6_together():
    limit = RateLimit(0.5)
    assert limit.wait_for("1.2.3.4", 0) == 0 == limit.wait_for("1.2.3.5", 0)
    assert limit.wait_for("1.2.3.4", 0) > 0
    assert limit.wait_for("2001:db8::1", 0) == 0 == limit.wait_for("2001:db8:0:1::1", 0)
    assert limit.wait_for("2001:db8::ffff", 0) > 0


def test_addresses_of_ipv4_are_counted_apart_in_the_clothes_of_ipv6_too():
    limit = RateLimit(0.5)
    assert limit.wait_for("::ffff:1.2.3.4", 0) == 0 == limit.wait_for("::ffff:1.2.3.5", 0)
    assert limit.wait_for("1.2.3.4", 0) > 0 < limit.wait_for("::ffff:1.2.3.5", 0)


def test_no_rate_is_no_limit():
    limit = RateLimit(0)
    assert not any(limit.wait_for("1.2.3.4", 0) for _ in range(1000))


def test_addresses_that_are_kept_are_few():
    limit = RateLimit(1)
    for number in range(12_000):
        limit.wait_for(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
    assert len(limit._buckets) == 10_000
