"""UDP echo by ``asyncio.DatagramProtocol``: ``datagram_received`` sends back what it got."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from bench.loops import LoopName
from bench.servers import Ready, serve_forever


class Echo(asyncio.DatagramProtocol):
    """The endpoint."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self.transport = cast(asyncio.DatagramTransport, transport)  # uvloop's is no instance of it

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Sends it back."""
        self.transport.sendto(data, addr)


def serve(loop: LoopName, listener: socket.socket, ready: Ready) -> None:
    """See bench.servers."""

    async def start() -> object:
        return await asyncio.get_running_loop().create_datagram_endpoint(Echo, sock=listener)

    serve_forever(loop, start, ready)
