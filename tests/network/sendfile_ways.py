"""The three ways by which a file is sent, each over a connection of its own to a blocking peer."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

from network.peers import unix_pair
from network.recorders import Recorder, connection
from network.tls import tls_connection

BYTES = random.Random(40).randbytes(1_200_001)  # more than a piece, and than a socket buffers


class Line(NamedTuple):
    """How to send on a connection, how to end its stream, and its other end."""

    send: Callable[..., Awaitable[int]]
    end: Callable[[], object]
    peer: socket.socket
    transport: Any = None
    sock: Any = None  # ours, if it is no transport's


@contextlib.asynccontextmanager
async def by_socket(make_pair: Any = unix_pair) -> AsyncIterator[Line]:
    """sock_sendfile on a socket of the caller."""
    loop = asyncio.get_running_loop()
    ours, peer = make_pair()
    ours.setblocking(False)
    with ours, peer:
        yield Line(
            lambda *args, **keywords: loop.sock_sendfile(ours, *args, **keywords),
            lambda: ours.shutdown(socket.SHUT_WR),
            peer,
            sock=ours,
        )


@contextlib.asynccontextmanager
async def by_transport(make_pair: Any = unix_pair, protocol: Any = None) -> AsyncIterator[Line]:
    """sendfile on a stream transport."""
    loop = asyncio.get_running_loop()
    async with connection(protocol or Recorder(), make_pair) as (transport, peer):
        yield Line(
            lambda *args, **keywords: loop.sendfile(transport, *args, **keywords),
            transport.write_eof,
            peer,
            transport,
        )


@contextlib.asynccontextmanager
async def by_tls(make_pair: Any = unix_pair, protocol: Any = None) -> AsyncIterator[Line]:
    """sendfile on a transport over TLS."""
    loop = asyncio.get_running_loop()
    async with tls_connection(protocol or Recorder(), make_pair) as (transport, peer):
        yield Line(
            lambda *args, **keywords: loop.sendfile(transport, *args, **keywords),
            transport.close,
            peer,
            transport,
        )


WAYS = [by_socket, by_transport, by_tls]
DIRECT_WAYS = WAYS[:2]
