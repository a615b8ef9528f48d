"""Uvicorn, set for a server that strangers may reach."""

from __future__ import annotations

import logging

import uvicorn

from frcnn.apps.serve.app import create_app
from frcnn.apps.serve.protocol import PromptProtocol
from frcnn.apps.serve.settings import Settings
from frcnn.inference.pictures import PictureDetector

CONNECTIONS = 1000  # at once; more are told 503
ENDING = 30  # seconds that requests have to end in after a signal


def new_server(
    detector: PictureDetector, settings: Settings, proxy: str | None = None
) -> uvicorn.Server:
    """A server to run on a listening socket.

    Args:
        detector: what detects.
        settings: its limits.
        proxy: the address of a proxy whose word is taken for where requests come from.
    """
    # It warns of each malformed form, which is for who sent it to mend.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    config = uvicorn.Config(
        create_app(detector, settings),
        http=PromptProtocol,
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=ENDING,
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy,
    )
    return uvicorn.Server(config)
