"""Sending a file of 10 MiB, all of it in memory, over TCP to a child that drops it on the other cores.

A call is one file. A loop without `sendfile` reads it and writes it, as an application has to there.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from typing import BinaryIO

FILE_BYTES = 10 * 1024 * 1024
FILES = 20
BLOCK_BYTES = 256 * 1024

DROP = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as peer:
    while peer.recv(1 << 20, socket.MSG_TRUNC):
        pass
"""


class Writer(asyncio.Protocol):
    """Tells when the transport takes more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.lost = loop.create_future()

    def pause_writing(self) -> None:
        """Stops."""
        self.may_write.clear()

    def resume_writing(self) -> None:
        """Goes on."""
        self.may_write.set()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Ends."""
        self.lost.set_result(None)


async def read_and_write(transport: asyncio.Transport, protocol: Writer, file: BinaryIO) -> None:
    """What `sendfile` does, where there is none."""
    file.seek(0)
    while block := file.read(BLOCK_BYTES):
        await protocol.may_write.wait()
        transport.write(block)


async def send(loop: asyncio.AbstractEventLoop) -> int:
    """Sends the file again and again on one connection."""
    with tempfile.TemporaryFile() as file, socket.create_server(("127.0.0.1", 0)) as server:
        file.write(os.urandom(FILE_BYTES))
        file.flush()
        with subprocess.Popen([sys.executable, "-c", DROP, str(server.getsockname()[1])]) as child:
            # It is not bound to the core that is measured.
            os.sched_setaffinity(child.pid, range(os.cpu_count() or 1))
            sock, _ = server.accept()
            transport, protocol = await loop.create_connection(lambda: Writer(loop), sock=sock)
            for _ in range(FILES):
                try:
                    await loop.sendfile(transport, file)
                except NotImplementedError:
                    await read_and_write(transport, protocol, file)
            transport.close()
            await protocol.lost
    return FILES
