"""What is fuzzed by the hour reads its seeds, and a few inputs near them."""

import random

import pytest

from frcnn.data.dataset import open_dataset
from targets import TARGETS


def near(data: bytes, draw: random.Random) -> bytes:
    """Cut, repeated, or with a few other bytes."""
    start, end = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    kind = draw.randrange(3)
    if kind == 0:
        return data[:start] + data[end:]
    if kind == 1:
        return data[:end] + data[start:end] * draw.randrange(4) + data[end:]
    changed = bytearray(data)
    for _ in range(draw.randrange(1, 5)):
        changed[draw.randrange(len(data))] = draw.choice(b"\0\1\xff\x7f09-.[]{}<>&,:'\" \n")
    return bytes(changed)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_what_is_near_them(tmp_path, name):
    seeds, read = TARGETS[name](tmp_path)
    draw = random.Random(0)
    for seed in seeds:
        count = 2 if name == "keras_h5" else 25  # which starts a process for each
        for data in (seed, b"", *(near(seed, draw) for _ in range(count))):
            read(data)


def test_a_target_would_tell_of_a_fault(tmp_path, monkeypatch):
    """An error that the reader does not promise comes out, and boxes out of their picture."""
    seeds, read = TARGETS["csv"](tmp_path)
    monkeypatch.setattr("frcnn.data.csv_file._read_row", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        read(seeds[0])
    monkeypatch.undo()
    dataset = open_dataset(tmp_path / "csv")
    dataset.samples[0].boxes[:] = 1e6
    monkeypatch.setattr("targets.open_dataset", lambda *_: dataset)
    with pytest.raises(AssertionError):
        read(seeds[0])
