"""SIGTERM, by which machines are taken back and services stopped, as orderly an end as Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(KeyboardInterrupt):
    """SIGTERM came; the command line exits with status 143, as of a process that it ended."""


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """While this lasts, SIGTERM raises ``Terminated``, so that what was done is finished.

    Further ones are ignored: ``timeout`` and others send two at once, and the second would cut the
    finishing off. In another thread than the main one nothing changes: whoever runs it handles it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number, frame):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
