"""Pictures of many requests through one network, together.

All waiting is done in the event loop; pictures are decoded by a few threads, and one thread runs
the network. While it runs, what arrives gathers; then as many as there are, of one canvas, are the
next batch. So nobody waits for company, and under load batches are full.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from frcnn.apps.serve.metrics import Metrics
from frcnn.apps.serve.settings import ENDING
from frcnn.inference.pictures import PictureDetector
from frcnn.inference.preparation import Image, Prepared
from frcnn.structures import Detections
from frcnn.threads import decoders


class Busy(Exception):
    """Why pictures are not detected on now, in a sentence."""


class _Ticket(NamedTuple):
    prepared: Prepared
    answer: asyncio.Future[Detections]


class Batcher:
    """Detects on pictures that come one by one from anywhere; an async context manager.

    Args:
        detector: what detects.
        batch: most pictures of a batch; a detector of a fixed batch keeps to that.
        queue: most pictures in work.
        metrics: counts batches.
    """

    def __init__(self, detector: PictureDetector, batch: int, queue: int, metrics: Metrics):
        self.detector = detector
        self._batch = detector.fixed_batch or batch
        self._queue = queue
        self._metrics = metrics
        self._in_work = 0
        self._waiting: dict[asyncio.Future[Detections], _Ticket] = {}
        self._until = math.inf  # when all must have been answered
        self._lasted = 0.0  # seconds of the last batch

    async def __aenter__(self) -> Batcher:
        self._arrived = asyncio.Event()
        # Bytes are small, decoded pictures are not: only what the next batches take is decoded.
        self._room = asyncio.Semaphore(4 * self._batch)
        self._decoders = decoders()
        self._network = ThreadPoolExecutor(1, "network")
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        for pool in (self._decoders, self._network):
            pool.shutdown(cancel_futures=True)

    async def detect(self, pictures: Sequence[Image]) -> list[Detections | ValueError]:
        """Find objects in each picture, whatever their scores.

        Returns:
            For each what was found, or why the picture cannot be read.

        Raises:
            Busy: more pictures would wait than are allowed, or the server ends.
            Exception: the network's, of a fault of its own.
        """
        if self._in_work + len(pictures) > self._queue:
            raise Busy("Too many pictures are waiting: ask again later.")
        self._in_work += len(pictures)
        self._metrics.waiting.set(self._in_work)
        try:
            # One that fails leaves the others to end, so that all in work are counted.
            found = await asyncio.gather(*map(self._one, pictures), return_exceptions=True)
        finally:
            self._in_work -= len(pictures)
            self._metrics.waiting.set(self._in_work)
        for each in found:
            if isinstance(each, BaseException) and not isinstance(each, _Unreadable):
                raise each
        return [each.error if isinstance(each, _Unreadable) else each for each in found]  # type: ignore[misc]

    def end(self, seconds: float) -> None:
        """Start no more batches than will be done within some seconds; others get ``Busy``."""
        self._until = time.perf_counter() + seconds

    async def _one(self, picture: Image) -> Detections:
        loop = asyncio.get_running_loop()
        async with self._room:
            if self._is_late():
                raise Busy(ENDING)
            try:
                prepared = await loop.run_in_executor(
                    self._decoders, self.detector.prepare, picture
                )
            except ValueError as error:
                raise _Unreadable(error) from None
            ticket = _Ticket(prepared, loop.create_future())
            self._waiting[ticket.answer] = ticket
            self._arrived.set()
            try:
                return await ticket.answer
            finally:  # at once if who asked has gone
                self._waiting.pop(ticket.answer, None)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            if self._is_late():
                self._refuse_waiting()
            group = self._next_group()
            if not group:
                continue
            started = time.perf_counter()
            pictures = [ticket.prepared for ticket in group]
            batch = self.detector.fixed_batch or len(group)
            try:
                found = await loop.run_in_executor(
                    self._network, self.detector.detect_prepared, pictures, batch
                )
                answers = list(zip(group, found, strict=True))
            except Exception as error:  # theirs who asked; the next batch may fare better
                for ticket in group:
                    if not ticket.answer.done():
                        ticket.answer.set_exception(error)
                continue
            self._lasted = time.perf_counter() - started
            self._metrics.network_seconds.observe(self._lasted)
            self._metrics.batches.observe(len(group))
            self._metrics.pictures.inc(len(group))
            for ticket, detections in answers:
                if not ticket.answer.done():  # who asked may have gone
                    ticket.answer.set_result(detections)

    def _next_group(self) -> list[_Ticket]:
        """The oldest picture with those of its canvas, as many as are run together, if any."""
        waiting = [ticket for ticket in self._waiting.values() if not ticket.answer.done()]
        same = [each for each in waiting if each.prepared.canvas == waiting[0].prepared.canvas]
        group = same[: self._size(len(same))] if same else []
        for ticket in group:
            del self._waiting[ticket.answer]
        if len(group) == len(waiting):
            self._arrived.clear()
        return group

    def _is_late(self) -> bool:
        return time.perf_counter() + self._lasted > self._until

    def _refuse_waiting(self) -> None:
        for ticket in self._waiting.values():
            if not ticket.answer.done():
                ticket.answer.set_exception(Busy(ENDING))

    def _size(self, waiting: int) -> int:
        """How many of those waiting are run together.

        Networks are compiled, or recorded, for each number of pictures: there are few numbers,
        the powers of two.
        """
        most = min(waiting, self._batch)
        if self.detector.fixed_batch or most == self._batch:
            return most
        return 1 << (most.bit_length() - 1)


class _Unreadable(Exception):
    """A picture that cannot be read, among the faults of the server's own."""

    def __init__(self, error: ValueError):
        super().__init__(str(error))
        self.error = error
