"""A DatagramProtocol that writes down what its transport tells it, and endpoints for tests.

A trace is as that of recorders.py; of datagrams: ("datagram_received", bytes, address) and
("error_received", the exception's type name, errno).
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

from network.peers import TIMEOUT, Pair
from network.recorders import Recording
from network.unix_peers import abstract_name


class DatagramRecorder(Recording, asyncio.DatagramProtocol):
    """A DatagramProtocol that records."""

    @property
    def endpoint(self) -> asyncio.DatagramTransport:
        """The transport that `connection_made` brought."""
        return cast(asyncio.DatagramTransport, self.transport)

    @property
    def datagrams(self) -> list[bytes]:
        """What was received, in order."""
        return [event[1] for event in self.events if event[0] == "datagram_received"]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.happened("datagram_received", data, addr)

    def error_received(self, exc: Exception) -> None:
        self.happened("error_received", type(exc).__name__, getattr(exc, "errno", None))


@contextlib.asynccontextmanager
async def endpoint(
    protocol: DatagramRecorder | None = None, **keywords: Any
) -> AsyncIterator[tuple[asyncio.DatagramTransport, DatagramRecorder]]:
    """An endpoint of the running loop, by default on a free port of 127.0.0.1; ended and gone afterwards."""
    wanted = DatagramRecorder() if protocol is None else protocol
    if not keywords:
        keywords["local_addr"] = ("127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    transport, made = await loop.create_datagram_endpoint(lambda: wanted, **keywords)
    assert made is wanted
    try:
        yield transport, made
    finally:
        if "connection_lost" not in made.names:
            transport.abort()
            await made.until("connection_lost")


def udp_peer(host: str = "127.0.0.1") -> socket.socket:
    """A bound UDP socket that blocks, for TIMEOUT at most."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(TIMEOUT)
    sock.bind((host, 0))
    return sock


def named_unix_pair() -> Pair:
    """Two Unix datagram sockets, each connected to the other's name: a full queue makes them wait."""
    first, second = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    names = abstract_name(), abstract_name()
    for sock, name in zip((first, second), names, strict=True):
        sock.settimeout(TIMEOUT)
        sock.bind(name)
    first.connect(names[1])
    second.connect(names[0])
    return first, second
