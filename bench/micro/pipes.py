"""Pipe transports: bytes to, from and through a child process, which runs on the other cores.

A call is a piece of 64 KiB, what a pipe holds; for `echo` a message of 1 KiB there and back. CPU time is this
process's alone.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import BinaryIO, cast

PIECE = b"p" * (64 * 1024)
PIECES = 2_000
MESSAGE = b"m" * 1024
MESSAGES = 3_000


def start(command: list[str], *, stdin: int, stdout: int) -> subprocess.Popen[bytes]:
    """A child that is not bound to the core which is measured."""
    child = subprocess.Popen(command, stdin=stdin, stdout=stdout, bufsize=0)
    os.sched_setaffinity(child.pid, range(os.cpu_count() or 1))
    return child


class Ending(asyncio.Protocol):
    """Tells when its transport has let go of the pipe: a child may be waited for only then."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.done = loop.create_future()
        self.lost = loop.create_future()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The pipe is closed when this returns."""
        self.lost.set_result(None)


class Count(Ending):
    """Counts bytes up to the number awaited."""

    def __init__(self, loop: asyncio.AbstractEventLoop, awaited: int) -> None:
        super().__init__(loop)
        self.left = awaited

    def data_received(self, data: bytes) -> None:
        """Counts."""
        self.left -= len(data)
        if self.left == 0:
            self.done.set_result(None)


class Feed(Ending):
    """Writes pieces whenever the transport takes them, and closes it after the last."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.left = PIECES
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self.transport = cast(asyncio.WriteTransport, transport)
        self.feed()

    def feed(self) -> None:
        """Writes until the transport says stop."""
        while self.left and not self.paused:
            self.left -= 1
            self.transport.write(PIECE)
        if not self.left:
            # Not from inside resume_writing(), which asyncio's transport does not bear.
            asyncio.get_running_loop().call_soon(self.transport.close)

    def pause_writing(self) -> None:
        """Stops."""
        self.paused = True

    def resume_writing(self) -> None:
        """Goes on."""
        self.paused = False
        self.feed()


class Echo(Ending):
    """Writes the next message when the last came back."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.WriteTransport) -> None:
        super().__init__(loop)
        self.left = MESSAGES
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """One message is back: it was written at once, and is far smaller than a pipe."""
        self.left -= 1
        if self.left:
            self.transport.write(MESSAGE)
        else:
            self.done.set_result(None)


async def receive(loop: asyncio.AbstractEventLoop) -> int:
    """A child writes as fast as it can."""
    count = len(PIECE) * PIECES
    with start(
        ["dd", "if=/dev/zero", f"bs={len(PIECE)}", f"count={PIECES}", "status=none"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as child:
        protocol = Count(loop, count)
        transport, _ = await loop.connect_read_pipe(lambda: protocol, cast(BinaryIO, child.stdout))
        await protocol.done
        transport.close()
        await protocol.lost
    return PIECES


async def send(loop: asyncio.AbstractEventLoop) -> int:
    """A child reads as fast as it can."""
    with start(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        protocol = Feed(loop)
        await loop.connect_write_pipe(lambda: protocol, cast(BinaryIO, child.stdin))
        await protocol.lost
    return PIECES


async def echo(loop: asyncio.AbstractEventLoop) -> int:
    """One message at a time goes through a child and comes back."""
    with start(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        writer, ending = await loop.connect_write_pipe(lambda: Ending(loop), cast(BinaryIO, child.stdin))
        protocol = Echo(loop, writer)
        reader, _ = await loop.connect_read_pipe(lambda: protocol, cast(BinaryIO, child.stdout))
        writer.write(MESSAGE)
        await protocol.done
        writer.close()
        reader.close()
        await asyncio.gather(ending.lost, protocol.lost)
    return MESSAGES
