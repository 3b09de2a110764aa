"""Servers to be measured, one per file.

Each module has ``serve(loop, listener, ready)``: it serves the bound socket `listener` on a new loop of
the kind `loop` for ever, and calls `ready` once it accepts. ``python -m bench.servers NAME --loop LOOP``
runs one and prints where it is: its port, or the name of a Unix socket. They end by being killed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

from bench.loops import LoopName, factory_of

SERVERS = ("protocol", "buffered", "streams", "sock", "tls", "unix", "datagram", "aiohttp", "uvicorn")
DATAGRAM_SERVERS = ("datagram",)  # on UDP
UNIX_SERVERS = ("unix",)  # the others are on TCP

BACKLOG = 1024  # a thousand clients may come at once

Ready = Callable[[], None]


class Serve(Protocol):
    """The one function of a server module."""

    def __call__(self, loop: LoopName, listener: socket.socket, ready: Ready) -> None:
        """Serves for ever."""


def serve_forever(loop: LoopName, start: Callable[[], Awaitable[object]], ready: Ready) -> None:
    """Runs `start` on a new loop, calls `ready`, then lets the loop run: for servers of plain asyncio."""

    async def main() -> None:
        server = await start()  # kept until the end: a Server may close when it is collected
        ready()
        await asyncio.Event().wait()
        del server

    with asyncio.Runner(loop_factory=factory_of(loop)) as runner:
        runner.run(main())
