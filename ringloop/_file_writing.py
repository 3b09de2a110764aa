"""Files sent by reading and writing, where sendfile(2) does not do for `sendfile` and `sock_sendfile`.

asyncio's methods of the running Python check the arguments and choose the way. What sendfile(2) can send goes
by `_sendfile`; over TLS, and for what is no file in the kernel's sense, a file is read and written here.

Positions, as asyncio documents and mostly does: when anything was sent, the file stands behind the last byte
that was. By sendfile(2) a file is sent from `offset` on; here, before Python 3.14, one with offset 0 is sent
from where it stands.
"""

import asyncio
import io
import os
import socket
import stat
from asyncio import base_events
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import ringloop.os
from ringloop._buffered import BufferedFile
from ringloop._files import File
from ringloop._sendfile import OFFSET_IS_TRUE, file_below

# Read at once. More than asyncio's 16 KiB over a transport: a call has its price, and a TLS record 16 KiB.
BLOCK_BYTES = 64 * 1024
SOCKET_BLOCK_BYTES = 256 * 1024

_AsyncioProtocol: Any = getattr(base_events, "_SendfileFallbackProtocol")  # noqa: B009


class _FallbackProtocol(_AsyncioProtocol):
    """What the transport tells instead of its own protocol, while a file is written to it."""

    _write_ready_fut: asyncio.Future[None] | None

    def connection_lost(self, exc: Exception | None) -> None:
        """Also once nobody waits for room any more: the call was under way as the file's end came."""
        if self._write_ready_fut is not None and self._write_ready_fut.done():
            self._write_ready_fut = None
        super().connection_lost(exc)


class _Reader:
    """Reads a file block by block, each by an operation of the loop: no thread, and none of its buffer.

    `count` bytes, or all that come if it is None.
    """

    def __init__(self, fd: int, position: int, count: int | None, block_bytes: int) -> None:
        self._fd = fd
        self.position = position
        self._left_bytes = count
        self._block_bytes = block_bytes

    async def read(self) -> bytes:
        """The next block; b"" at the end."""
        length = self._block_bytes
        if self._left_bytes is not None:
            length = min(length, self._left_bytes)
            if length <= 0:
                return b""
        block = await self._read_block(length)
        self.position += len(block)
        if self._left_bytes is not None:
            self._left_bytes -= len(block)
        return block

    async def _read_block(self, length: int) -> bytes:
        return await ringloop.os.pread(self._fd, length, self.position)


class _StreamReader(_Reader):
    """Reads a file of ringloop's that is no regular one, such as a FIFO, as far as that has come."""

    def __init__(self, file: Any, position: int, count: int | None, block_bytes: int) -> None:
        super().__init__(-1, position, count, block_bytes)
        self._read_file = file.read1 if isinstance(file, BufferedFile) else file.read

    async def _read_block(self, length: int) -> bytes:
        return bytes(await self._read_file(length))


async def _ringloop_reader(file: Any, offset: Any, count: int | None, block_bytes: int) -> _Reader:
    """A reader of a file of ringloop's. Raises what `readinto`, or seek() to `offset`, raises."""
    readinto = file.readinto  # which a text file has not
    if not file.readable():
        await readinto(bytearray(1))
    fd = file.fileno()
    is_regular = stat.S_ISREG(os.fstat(fd).st_mode)
    if is_regular:
        await file.flush()
    position = 0
    if offset or OFFSET_IS_TRUE:
        position = await file.seek(offset)
    elif is_regular:
        position = await file.tell()
    if is_regular:
        return _Reader(fd, position, count, block_bytes)
    return _StreamReader(file, position, count, block_bytes)


async def _reader(file: Any, offset: int, count: int | None, block_bytes: int) -> _Reader | None:
    """A reader that gives what `file.readinto` would; None if only the file itself can tell what that is.

    Exact types of `io`: a subclass, or an object around a file, may read in its own way.
    """
    if isinstance(file, File):
        return await _ringloop_reader(file, offset, count, block_bytes)
    if not isinstance(offset, int) or offset < 0:
        return None
    if count is not None and (not isinstance(count, int) or count <= 0):
        return None
    raw = file.raw if type(file) is io.BufferedReader else file
    if type(raw) is not io.FileIO:
        return None
    if not file.readable():
        return None
    fd = file.fileno()
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return None
    position = file.seek(offset) if offset or OFFSET_IS_TRUE else file.tell()
    return _Reader(fd, position, count, block_bytes)


async def _write(file: Any, offset: int, reader: _Reader, write: Callable[[bytes], Awaitable[None]]) -> int:
    """Gives all blocks to `write`; how many bytes. After an error, too, the file stands behind them.

    Or behind the first block, if that one failed: asyncio sets the file right only after a block was sent.
    """
    begin = reader.position
    sent_bytes = 0
    try:
        while block := await reader.read():
            await write(block)
            sent_bytes += len(block)
        return sent_bytes
    finally:
        if sent_bytes or reader.position != begin:
            sought = file.seek(offset + sent_bytes if sent_bytes else reader.position)
            if isinstance(file, File):
                await sought


async def write_to_socket(
    loop: asyncio.BaseEventLoop, sock: socket.socket, file: Any, offset: int, count: int | None
) -> int:
    """What `loop._sock_sendfile_fallback` is to do."""
    file = file_below(file)
    reader = await _reader(file, offset, count, SOCKET_BLOCK_BYTES)
    if reader is None:
        inherited: Any = asyncio.BaseEventLoop
        return int(await inherited._sock_sendfile_fallback(loop, sock, file, offset, count))
    return await _write(file, offset, reader, partial(loop.sock_sendall, sock))


async def write_to_transport(
    loop: asyncio.BaseEventLoop, transp: Any, file: Any, offset: int, count: int | None
) -> int:
    """What `loop._sendfile_fallback` is to do."""
    file = file_below(file)
    reader = await _reader(file, offset, count, BLOCK_BYTES)
    if reader is None:
        inherited: Any = asyncio.BaseEventLoop
        return int(await inherited._sendfile_fallback(loop, transp, file, offset, count))
    protocol = _FallbackProtocol(transp)

    async def write(block: bytes) -> None:
        if not OFFSET_IS_TRUE:
            await protocol.drain()
        transp.write(block)
        if OFFSET_IS_TRUE:
            await protocol.drain()

    try:
        return await _write(file, offset, reader, write)
    finally:
        await protocol.restore()
