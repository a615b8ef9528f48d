"""What stands before the application: who may ask, how often, how much and how slowly."""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import time
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from frcnn.apps.serve.metrics import Metrics
from frcnn.apps.serve.page import PAGE
from frcnn.apps.serve.protocol import CROWDED
from frcnn.apps.serve.rates import RateLimit
from frcnn.apps.serve.settings import ENDING, KIBIBYTE, MEBIBYTE, Settings
from frcnn.errors import printable

LOGGER = logging.getLogger(__name__)

# Without a token these can be had all the same: the page, which asks for it, and no more.
OPEN = frozenset({*PAGE, "/health", "/openapi.json"})
HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; "
    b"img-src 'self' blob: data:; media-src blob:; connect-src 'self'; form-action 'none'; "
    b"base-uri 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"permissions-policy": b"camera=(self), microphone=(), geolocation=()",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}


class Guard:
    """ASGI middleware: token, rate, and limits on a request's body.

    Args:
        app: the application.
        settings: the limits.
        metrics: counts requests.
        ending: told after a signal how many seconds are left.
    """

    def __init__(
        self,
        app: Starlette,
        settings: Settings,
        metrics: Metrics,
        ending: Callable[[float], None],
    ):
        self._app: ASGIApp = app
        self._paths = {getattr(route, "path", None) for route in app.routes}
        self._settings = settings
        self._metrics = metrics
        self._ending = ending
        self._rates = RateLimit(settings.rate)
        self._exchanges: set[_Exchange] = set()
        self.held = 0  # bytes of all requests that are being answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = time.perf_counter()
        exchange = _Exchange(self, scope, receive, send, self._settings)
        refusal = self._refusal(scope)
        self._exchanges.add(exchange)
        try:
            async with exchange.limit:
                await (refusal or self._app)(scope, exchange.receive, exchange.send)
        except Exception as error:
            if not exchange.limit.expired():  # Starlette has answered, and raises it again
                LOGGER.error("%s", _line(error))
            elif not exchange.status:
                refusal = _refused(503, ENDING, {"Retry-After": "1"})
                await refusal(scope, exchange.receive, exchange.send)
        finally:
            self._exchanges.remove(exchange)
            self.held -= exchange.size
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.requests.labels(path, str(exchange.status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - started)

    async def end(self, grace: float) -> None:
        """Give requests so many seconds to end in, then tell 503 to those that wait still."""
        self._ending(grace)
        await asyncio.sleep(grace)
        now = asyncio.get_running_loop().time()
        for exchange in self._exchanges:
            if not exchange.status:
                exchange.limit.reschedule(now)
        await asyncio.sleep(self._settings.linger)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        """What is wrong with a request by its head alone."""
        if CROWDED in scope.get("state", ()):
            after = {"Retry-After": "1", "Connection": "close"}
            return _refused(503, "There are too many connections: ask again later.", after)
        headers = dict(scope["headers"])
        client = scope.get("client") or ("",)
        wait = self._rates.wait_for(client[0], time.monotonic())
        if wait:
            after = {"Retry-After": str(math.ceil(wait))}
            return _refused(429, "Too many requests: ask again later.", after)
        if scope["path"] not in OPEN and not self._is_known(headers.get(b"authorization", b"")):
            challenge = {"WWW-Authenticate": "Bearer"}
            return _refused(
                401, "A token is needed: send the header Authorization: Bearer TOKEN.", challenge
            )
        stated = headers.get(b"content-length", b"0")
        if stated.isdigit() and int(stated) > self._settings.body:
            return _refused(413, too_large(self._settings.body))
        return None

    def _is_known(self, authorization: bytes) -> bool:
        token = self._settings.token
        if token is None:
            return True
        scheme, _, shown = authorization.partition(b" ")
        same = hmac.compare_digest(shown.strip(), token.encode())  # takes as long for any guess
        return scheme.lower() == b"bearer" and same


class _Exchange:
    """One request's way in and its answer's way out."""

    def __init__(
        self, guard: Guard, scope: Scope, receive: Receive, send: Send, settings: Settings
    ):
        headers = dict(scope["headers"])
        self._guard = guard
        self._receive = receive
        self._send = send
        self._settings = settings
        self._until = time.monotonic() + settings.patience
        self.limit = asyncio.timeout(None)
        self._complete = b"transfer-encoding" not in headers and headers.get(
            b"content-length", b"0"
        ) in (b"0", b"")
        self.size = 0
        self.status = 0

    async def receive(self) -> Message:
        """A part of the request.

        Raises:
            HTTPException: it is too late or too long, or all requests together are.
        """
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout(self._until - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, too_slow(self._settings)) from None
        self._count(message)
        if self.size > self._settings.body:
            raise HTTPException(413, too_large(self._settings.body))
        if self._guard.held > self._settings.bodies:
            raise HTTPException(503, "The server is busy: ask again later.", {"Retry-After": "1"})
        return message

    def _count(self, message: Message) -> None:
        size = len(message.get("body", b""))
        self.size += size
        self._until += size / self._settings.pace
        self._guard.held += size
        self._complete = not message.get("more_body", False)

    async def send(self, message: Message) -> None:
        """A part of the answer; to one who is still writing, who then sees it and is left."""
        early = not self._complete
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": _with_headers(message["headers"], early)}
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if early and last:
            await self._send({**message, "more_body": True})
            await self._drain()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _drain(self) -> None:
        """Read what is still coming, for a while: it is thrown away."""
        try:
            async with asyncio.timeout(self._settings.linger):
                while not self._complete:
                    self._complete = not (await self._receive()).get("more_body", False)
        except TimeoutError:
            pass


def too_large(most: int) -> str:
    """The sentence for a request of too many bytes."""
    return f"The request is larger than the limit of {most / MEBIBYTE:g} MiB."


def too_slow(settings: Settings) -> str:
    """The sentence for a request that comes in drops."""
    return (
        f"The request took longer than {settings.patience:g} s to arrive, and came at less than "
        f"{settings.pace / KIBIBYTE:g} KiB a second."
    )


def _refused(
    status: int, detail: str, headers: MutableMapping[str, str] | None = None
) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)


def _with_headers(given: Any, early: bool) -> list[tuple[bytes, bytes]]:
    headers = list(given)
    names = {name.lower() for name, _ in headers}
    headers += [(name, value) for name, value in HEADERS.items() if name not in names]
    if early and b"connection" not in names:
        headers.append((b"connection", b"close"))
    return headers


def _line(error: Exception) -> str:
    """An error and where it arose, in one line."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = printable(str(error))
    return f"{type(error).__name__}: {text} ({place.filename}:{place.lineno})"
