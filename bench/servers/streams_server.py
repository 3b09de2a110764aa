"""Echo by asyncio's streams: read, write, drain."""

from __future__ import annotations

import asyncio
import socket

from bench.loops import LoopName
from bench.servers import BACKLOG, Ready, serve_forever

READ_BYTES = 64 * 1024


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection."""
    try:
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def serve(loop: LoopName, listener: socket.socket, ready: Ready) -> None:
    """See bench.servers."""

    async def start() -> asyncio.Server:
        return await asyncio.start_server(echo, sock=listener, backlog=BACKLOG)

    serve_forever(loop, start, ready)
