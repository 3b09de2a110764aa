"""Echo by ``loop.sock_accept``, ``sock_recv`` and ``sock_sendall``: a task per connection."""

from __future__ import annotations

import asyncio
import socket

from bench.loops import LoopName
from bench.servers import BACKLOG, Ready, serve_forever

READ_BYTES = 64 * 1024


async def echo(loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
    """One connection."""
    with client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := await loop.sock_recv(client, READ_BYTES):
            await loop.sock_sendall(client, data)


async def accept(listener: socket.socket) -> None:
    """Starts a task for each client."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    while True:
        client, _ = await loop.sock_accept(listener)
        task = loop.create_task(echo(loop, client))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def serve(loop: LoopName, listener: socket.socket, ready: Ready) -> None:
    """See bench.servers."""

    async def start() -> asyncio.Task[None]:
        listener.listen(BACKLOG)
        listener.setblocking(False)
        return asyncio.get_running_loop().create_task(accept(listener))

    serve_forever(loop, start, ready)
