"""Serving until a signal ends it."""

from __future__ import annotations

import errno
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from frcnn.apps.serve.settings import Settings
from frcnn.errors import UserError, printable
from frcnn.inference.load import load
from frcnn.inference.pictures import PictureDetector

_LOCAL = ("127.", "::1", "localhost")
_LIBRARIES = ("uvicorn", "h11", "fastapi", "starlette", "python_multipart", "prometheus_client")


def serve(reference: str, host: str, port: int, settings: Settings, proxy: str | None) -> None:
    """Serve a detector until SIGTERM or Ctrl-C; what is being answered then is still answered.

    Args:
        reference: a detector, as ``frcnn.load`` takes it.
        host: the address to listen on.
        port: of it; 0 takes a free one.
        settings: limits, and the token.
        proxy: the address of a proxy whose word is taken for where requests come from.

    Raises:
        UserError: there is no such detector, the address cannot be listened on, or the libraries
            of the extra ``serve`` are not installed.
    """
    try:
        from frcnn.apps.serve.running import new_server
    except ModuleNotFoundError as error:
        if error.name not in _LIBRARIES:
            raise
        raise UserError(
            f"Serving needs {error.name}, which is not installed. Install it with "
            "`pip install 'frcnn[serve]'`."
        ) from error

    detector = load(reference)
    warm_up(detector)
    with listening(host, port) as listener:
        _announce(reference, host, listener, settings)
        with _signals_end_it_well():
            new_server(detector, settings, proxy).run(sockets=[listener])


def warm_up(detector: PictureDetector) -> None:
    """Run the network once on each canvas, so that no client waits for its compilation."""
    preparation = detector.preparation
    for height, width in preparation.canvases or ((preparation.short, preparation.long),):
        detector.detect(np.zeros((height, width, 3), np.uint8))


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens on an address.

    Raises:
        UserError: it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        advice = " Choose another --port." if error.errno == errno.EADDRINUSE else ""
        reason = str(error.strerror).partition(" (while")[0]
        raise UserError(f"{host}:{port} cannot be listened on: {reason}.{advice}") from None
    with listener:
        yield listener


def _announce(reference: str, host: str, listener: socket.socket, settings: Settings) -> None:
    shown = f"[{host}]" if ":" in host else host
    port = listener.getsockname()[1]
    print(printable(f"Serving {reference} on http://{shown}:{port}; Ctrl-C ends it."), flush=True)
    if settings.token is None and not host.startswith(_LOCAL):
        print(
            "Warning: whoever can reach this address may use it. Set FRCNN_TOKEN to ask for a "
            "token.",
            file=sys.stderr,
        )


@contextmanager
def _signals_end_it_well() -> Iterator[None]:
    """Uvicorn ends on these signals, and then raises them again: by now all is done."""
    before = {each: signal.signal(each, _ignore) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _ignore(*_) -> None:
    pass
