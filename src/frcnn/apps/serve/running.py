"""Uvicorn, set for a server that strangers may reach."""

from __future__ import annotations

import asyncio
import logging
import socket

import uvicorn

from frcnn.apps.serve.app import create_app
from frcnn.apps.serve.guard import Guard
from frcnn.apps.serve.protocol import PromptProtocol
from frcnn.apps.serve.settings import Settings
from frcnn.inference.pictures import PictureDetector


class PromptServer(uvicorn.Server):
    """Ends a known time after a signal at the latest.

    Args:
        config: uvicorn's.
        guard: the application.
        grace: seconds that requests have to end in.
    """

    def __init__(self, config: uvicorn.Config, guard: Guard, grace: float):
        super().__init__(config)
        self._guard = guard
        self._grace = grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more requests, and wait for those that run."""
        ending = asyncio.create_task(self._end(self._grace))
        await super().shutdown(sockets)
        ending.cancel()
        if self.force_exit:  # by a second Ctrl-C; uvicorn has waited for nothing
            await self._end(0)
            await self.lifespan.shutdown()

    async def _end(self, grace: float) -> None:
        await self._guard.end(grace)
        for connection in list(self.server_state.connections):  # whose answers nobody takes
            connection.transport.abort()


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
    guard = create_app(detector, settings)
    config = uvicorn.Config(
        guard,
        http=PromptProtocol,
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy,
    )
    return PromptServer(config, guard, settings.grace)
