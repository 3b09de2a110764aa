"""Both ends of every kind of file that pipe transports take, and transports over them."""

import asyncio
import contextlib
import os
import pty
import socket
import tty
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

from network.peers import TIMEOUT
from network.recorders import Recorder

Ends = tuple[int, int]  # the reading and the writing end


def pipe_ends(_: Path) -> Ends:
    return os.pipe()


def fifo_ends(directory: Path) -> Ends:
    path = directory / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    os.set_blocking(reader, True)
    return reader, writer


def socket_ends(_: Path) -> Ends:
    left, right = socket.socketpair()
    return left.detach(), right.detach()


def terminal_ends(_: Path) -> Ends:
    """The slave is the writing end."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    return master, slave


STREAMS = [pipe_ends, fifo_ends, socket_ends]
ALL_KINDS = [*STREAMS, terminal_ends]


class PipeRecorder(Recorder):
    """A Recorder that also knows when the transport has closed its file, which is after connection_lost."""

    async def until_closed(self) -> None:
        await self.until("connection_lost")
        pipe = self.transport.get_extra_info("pipe")
        async with asyncio.timeout(TIMEOUT):
            while not pipe.closed:
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def reading(protocol: PipeRecorder, fd: int) -> AsyncIterator[asyncio.ReadTransport]:
    """A read transport of the running loop, closed at the end."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(fd, "rb", 0))
    try:
        yield transport
    finally:
        transport.close()
        await protocol.until_closed()


@contextlib.asynccontextmanager
async def writing(protocol: PipeRecorder, fd: int) -> AsyncIterator[asyncio.WriteTransport]:
    """A write transport of the running loop, aborted at the end."""
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(fd, "wb", 0)
    transport, _ = await loop.connect_write_pipe(lambda: cast(Any, protocol), pipe)
    try:
        yield transport
    finally:
        if "connection_lost" not in protocol.names and not transport.is_closing():
            transport.abort()
        await protocol.until_closed()


def read_all(fd: int) -> bytes:
    """Everything until the end; closes."""
    with os.fdopen(fd, "rb", 0) as file:
        return file.read()


def read_exactly(fd: int, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = os.read(fd, min(count - len(data), 100_000))
        assert piece, "the end came too early"
        data += piece
    return bytes(data)
