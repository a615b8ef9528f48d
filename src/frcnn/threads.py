"""How many threads, and work that they do ahead of who uses it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_MOST_DECODERS = 4  # a network takes longer over a picture than decoding it


def available_cores() -> int:
    """Cores that this process may run on: a container or ``taskset`` may leave it but some."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decoders() -> ThreadPoolExecutor:
    """Threads that decode pictures for a network."""
    return ThreadPoolExecutor(min(_MOST_DECODERS, available_cores()), "decode")


def map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], depth: int
) -> Iterator[R]:
    """``map`` by the pool, in order, with at most ``depth`` results ahead of the consumer."""
    items = iter(items)
    waiting = deque(pool.submit(function, item) for item in islice(items, depth))
    while waiting:
        done = waiting.popleft().result()
        waiting.extend(pool.submit(function, item) for item in islice(items, 1))
        yield done
