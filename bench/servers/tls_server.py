"""Echo over TLS, by the protocol of the TCP server, with a certificate that is made for it."""

from __future__ import annotations

import asyncio
import socket
import ssl

import trustme

from bench.loops import LoopName
from bench.servers import BACKLOG, Ready, serve_forever
from bench.servers.protocol_server import Echo


def serve(loop: LoopName, listener: socket.socket, ready: Ready) -> None:
    """See bench.servers."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    async def start() -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            Echo, sock=listener, backlog=BACKLOG, ssl=context
        )

    serve_forever(loop, start, ready)
