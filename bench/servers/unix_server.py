"""Echo over Unix sockets, by the protocol of the TCP server."""

from __future__ import annotations

import asyncio
import socket

from bench.loops import LoopName
from bench.servers import BACKLOG, Ready, serve_forever
from bench.servers.protocol_server import Echo


def serve(loop: LoopName, listener: socket.socket, ready: Ready) -> None:
    """See bench.servers."""

    async def start() -> asyncio.Server:
        return await asyncio.get_running_loop().create_unix_server(Echo, sock=listener, backlog=BACKLOG)

    serve_forever(loop, start, ready)
