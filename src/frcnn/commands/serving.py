"""The command ``serve``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from frcnn.errors import UserError

TOKEN = "FRCNN_TOKEN"  # the variable that holds it


@dataclass(frozen=True)
class Serve:
    """Serve a detector over HTTP: a page for people, POST /v1/detect for programs.

    Args:
        run: a run folder, a .keras file, an exported .onnx or .xml file, torchvision:NAME or
            hf://OWNER/NAME.
        host: the address to listen on; 0.0.0.0 is all of this machine's.
        port: of that address; 0 takes a free one.
        token: ask clients for this. Left out: the environment variable FRCNN_TOKEN, else none.
        batch: most pictures run through the network together.
        queue: most pictures waiting for the network; more are refused with 503.
        rate: requests a second that one address may make; more are refused with 429. 0: any.
        body: most MiB of a request; more are refused with 413.
        grace: seconds that requests have to end in after a signal; then they are told 503.
        proxy: the address of a proxy in front, whose X-Forwarded-For is believed.
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    host: Annotated[str, arg(metavar="ADDRESS")] = "127.0.0.1"
    port: int = 8000
    token: Annotated[str | None, arg(metavar="TOKEN")] = None
    batch: int = 8
    queue: int = 128
    rate: float = 50.0
    body: Annotated[int, arg(metavar="MIB")] = 32
    grace: float = 6.0
    proxy: Annotated[str | None, arg(metavar="ADDRESS")] = None


def serve(arguments: Serve) -> None:
    """Serve until a signal ends it."""
    from frcnn.apps.serve.server import serve
    from frcnn.apps.serve.settings import MEBIBYTE, Settings

    if not 0 <= arguments.port <= 65535:
        raise UserError(f"--port must be from 0 to 65535. Received: {arguments.port}.")
    settings = Settings(
        token=os.environ.get(TOKEN) if arguments.token is None else arguments.token,
        batch=arguments.batch,
        queue=arguments.queue,
        rate=arguments.rate,
        body=arguments.body * MEBIBYTE,
        grace=arguments.grace,
        bodies=max(Settings.bodies, 2 * arguments.body * MEBIBYTE),
    )
    serve(arguments.run, arguments.host, arguments.port, settings, arguments.proxy)
