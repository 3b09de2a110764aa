"""Echo by ``asyncio.BufferedProtocol``: the loop receives into a buffer of the protocol."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from bench.loops import LoopName
from bench.servers import BACKLOG, Ready, serve_forever

BUFFER_BYTES = 64 * 1024


class BufferedEcho(asyncio.BufferedProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport and makes the buffer."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no instance of it
        self.buffer = memoryview(bytearray(BUFFER_BYTES))

    def get_buffer(self, sizehint: int) -> memoryview:
        """The whole buffer: what came before has been copied out."""
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Sends a copy back: the transport may keep what it is given after the buffer is reused."""
        self.transport.write(bytes(self.buffer[:nbytes]))


def serve(loop: LoopName, listener: socket.socket, ready: Ready) -> None:
    """See bench.servers."""

    async def start() -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(BufferedEcho, sock=listener, backlog=BACKLOG)

    serve_forever(loop, start, ready)
