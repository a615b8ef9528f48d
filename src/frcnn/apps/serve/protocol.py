"""HTTP as uvicorn speaks it, with those alone who say soon what they want and take it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0  # for a connection's first byte, and for the head of a request
TAKE_SECONDS = 20.0  # in which a client must take some of an answer
CONNECTIONS = 1000  # at once; more are told 503
CROWDED = "crowded"  # in the state of the requests of those


class PromptProtocol(H11Protocol):
    """Closes a connection whose other side is too slow.

    Uvicorn bounds the size of a head and the silence between requests, but neither the time for
    which a head may come in drops, nor that for which an answer may lie here.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time for the first request."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            self.app_state = {**self.app_state, CROWDED: True}
        # To be told of all that a client has not taken, however little.
        transport.set_write_buffer_limits(0)
        self._head: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Read on; begin or end the time for a request's head."""
        super().data_received(data)
        self._watch_head()

    def pause_writing(self) -> None:
        """Start the time in which the client must take what was written."""
        super().pause_writing()
        self._taking = self._later(TAKE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """End it."""
        super().resume_writing()
        self._taking = _ended(self._taking)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in JSON as everything else, unless an answer is under way."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [("Content-Type", "application/json"), ("Connection", "close")]
            self._write(h11.Response(status_code=400, headers=headers, reason=b"Bad Request"))
            self._write(h11.Data(data=json.dumps({"detail": msg}).encode()))
            self._write(h11.EndOfMessage())
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End all times."""
        self._head, self._taking = _ended(self._head), _ended(self._taking)
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        if self._answers():
            self._head = _ended(self._head)
        elif self._head is None:
            self._head = self._later(HEAD_SECONDS, self._close_without_head)

    def _close_without_head(self) -> None:
        self._head = None
        if not self._answers():
            self.transport.close()

    def _write(self, event: h11.Event) -> None:
        self.transport.write(self.conn.send(event) or b"")

    def _answers(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _later(self, seconds: float, action: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, action)


def _ended(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
