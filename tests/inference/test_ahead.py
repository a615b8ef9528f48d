import threading
import time

import pytest

from frcnn.inference.ahead import ahead


def counting_to(count, log=None):
    try:
        for number in range(count):
            if log is not None:
                log.append(number)
            yield number
    finally:
        if log is not None:
            log.append("closed")


def test_the_same_items_in_order():
    assert list(ahead(counting_to(1000), 4)) == list(range(1000))
    assert list(ahead(counting_to(0), 4)) == []
    assert list(ahead(ahead(counting_to(50), 1), 1)) == list(range(50))


def test_no_more_are_made_than_there_is_room_for():
    log = []
    items = ahead(counting_to(100, log), 3)
    assert next(items) == 0
    time.sleep(0.4)
    assert len(log) <= 5  # one given, three waiting, one in hand
    items.close()
    assert log[-1] == "closed" and len(log) < 10


def test_an_error_comes_after_what_was_made_before_it():
    def failing():
        yield 1
        yield 2
        raise RuntimeError("broken")

    items = ahead(failing(), 1)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(RuntimeError, match="broken"):
        next(items)


def test_who_stops_early_leaves_no_thread():
    before = threading.active_count()
    for number in ahead(ahead(counting_to(10**9), 2), 2):
        if number == 5:
            break
    time.sleep(0.3)
    assert threading.active_count() == before


def test_of_what_is_live_the_oldest_are_dropped():
    made = threading.Event()

    def live():
        yield from range(50)
        made.set()

    items = ahead(live(), 3, newest=True)
    first = next(items)
    assert made.wait(5)  # nobody waited for the consumer
    last = list(items)
    assert first < 48 and last in ([48, 49], [47, 48, 49])
