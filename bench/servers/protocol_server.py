"""Echo by ``asyncio.Protocol``: ``data_received`` writes what it got."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from bench.loops import LoopName
from bench.servers import BACKLOG, Ready, serve_forever


class Echo(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no instance of it

    def data_received(self, data: bytes) -> None:
        """Sends it back."""
        self.transport.write(data)


def serve(loop: LoopName, listener: socket.socket, ready: Ready) -> None:
    """See bench.servers."""

    async def start() -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(Echo, sock=listener, backlog=BACKLOG)

    serve_forever(loop, start, ready)
