"""Work done ahead by a thread, as far as a bounded queue has room."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

_WAIT = 0.1  # seconds between looks at whether anybody still wants more


def ahead(
    items: Generator[T, None, None], depth: int, newest: bool = False
) -> Generator[T, None, None]:
    """The same items, made by a thread of their own while others are used.

    Args:
        items: made in the thread, and closed there when nobody wants more.
        depth: most items waiting.
        newest: when so many wait, drop the oldest rather than let their maker wait.

    Raises:
        BaseException: whatever ``items`` raises, after those before it.
    """
    worker = _Worker(items, depth, newest)
    worker.start()
    try:
        yield from worker.results()
    finally:
        worker.stop()


class _Worker(threading.Thread):
    def __init__(self, items: Generator, depth: int, newest: bool):
        super().__init__(daemon=True)  # one that hangs in a library does not keep the process
        self._items = items
        self._newest = newest
        self._queue: queue.Queue = queue.Queue(depth)
        self._unwanted = threading.Event()
        self._ended = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            for item in self._items:
                self._put(item)
                if self._unwanted.is_set():
                    break
        except BaseException as error:  # the consumer's to deal with
            self._error = error
        finally:
            self._items.close()
            self._ended.set()

    def results(self) -> Iterator:
        while True:
            try:
                yield self._queue.get(timeout=_WAIT)
            except queue.Empty:
                if self._ended.is_set() and self._queue.empty():
                    break
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        self._unwanted.set()
        self.join(20)

    def _put(self, item: object) -> None:
        while not self._unwanted.is_set():
            try:
                return self._queue.put(item, timeout=0 if self._newest else _WAIT)
            except queue.Full:
                if self._newest:
                    self._drop()

    def _drop(self) -> None:
        with suppress(queue.Empty):  # taken meanwhile
            self._queue.get_nowait()
