"""Pictures of a slow disk are checked ahead, in threads, and come in order all the same."""

import threading
import time
from pathlib import Path

import pytest

from frcnn.data import checking
from frcnn.data.checking import checked_pictures
from frcnn.data.entries import Entry, Object
from frcnn.data.faults import ImageError

COUNT = 200
BOX = (1.0, 2.0, 3.0, 4.0)


def entry(number):
    name = Path(f"{number}.jpg")
    return Entry(name, name.with_suffix(".xml"), (Object("cat", BOX, BOX, "object 1"),))


@pytest.fixture(params=[3600.0, -1.0], ids=["one by one", "in threads"])
def sizes(request, monkeypatch):
    """A disk that finds every tenth picture broken."""
    asked = []
    monkeypatch.setattr(checking, "_WAIT", request.param)

    def image_size(path, most):
        asked.append(path)
        number = int(path.stem)
        if number % 10 == 3:
            raise ImageError(path, "is broken")
        return 10, 20 + number

    monkeypatch.setattr(checking, "image_size", image_size)
    return asked


def test_pictures_and_faults_come_in_order_and_each_counts(sizes):
    faults, counted = [], []
    entries = [entry(number) for number in range(COUNT)]
    checked, unusable = checked_pictures(
        [*entries, *entries], faults.append, lambda: counted.append(1)
    )
    broken = [Path(f"{number}.jpg") for number in range(3, COUNT, 10)]
    assert [fault.file for fault in faults] == broken == list(unusable)
    kept = [number for number in range(COUNT) if number % 10 != 3]
    assert [(int(each.image.stem), size) for each, size, _ in checked] == [
        (number, (10, 20 + number)) for number in kept
    ]
    assert all(objects == list(each.objects) for each, _, objects in checked)
    assert len(counted) == len(sizes) == COUNT  # a picture that comes again is passed over


def test_pictures_of_a_slow_disk_are_waited_for_together(monkeypatch):
    together = threading.Barrier(4)

    def image_size(path, most):
        lot, place = divmod(int(path.stem), checking._TOGETHER)
        if not lot:
            time.sleep(2 * checking._WAIT)
        elif not place:
            together.wait(timeout=60)  # until so many threads are here
        return 10, 10

    monkeypatch.setattr(checking, "image_size", image_size)
    entries = (entry(number) for number in range(5 * checking._TOGETHER))
    assert len(checked_pictures(entries, pytest.fail)[0]) == 5 * checking._TOGETHER


def test_no_more_is_read_ahead_than_was_agreed(sizes):
    taken = []

    def entries():
        for number in range(10**6):
            taken.append(number)
            yield entry(number)

    def report(fault):
        raise RuntimeError(fault)

    with pytest.raises(RuntimeError, match="3.jpg"):
        checked_pictures(entries(), report)
    assert len(taken) <= (checking._AHEAD + 1) * checking._TOGETHER
