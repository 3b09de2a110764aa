"""The ASGI application of bench.apps, run by uvicorn with httptools, as ``uvicorn --loop MODULE:FACTORY``."""

from __future__ import annotations

import socket

import uvicorn

from bench.loops import LoopName
from bench.servers import Ready


class AnnouncingServer(uvicorn.Server):
    """uvicorn's server, which says when it has started."""

    def __init__(self, config: uvicorn.Config, ready: Ready) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts serving."""
        await super().startup(sockets)
        self._ready()


def serve(loop: LoopName, listener: socket.socket, ready: Ready) -> None:
    """See bench.servers."""
    config = uvicorn.Config(
        "bench.apps.asgi_app:app",
        loop=f"{loop.module}:new_event_loop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
    AnnouncingServer(config, ready).run(sockets=[listener])
