"""`aiofiles.threadpool`: open(), wrap() and the standard streams; the name is aiofiles'."""

import builtins
import functools
import io
import sys
from typing import Any

import ringloop
from ringloop._buffered import BufferedFile
from ringloop._raw import RawFile
from ringloop._text import TextFile
from ringloop.aiofiles.base import AiofilesContextManager, in_thread, takes_threads
from ringloop.aiofiles.threadpool.binary import (
    AsyncBufferedIOBase,
    AsyncBufferedReader,
    AsyncFileIO,
    AsyncIndirectBufferedIOBase,
)
from ringloop.aiofiles.threadpool.text import AsyncTextIndirectIOWrapper, AsyncTextIOWrapper

__all__ = [
    "open",
    "stderr",
    "stderr_bytes",
    "stdin",
    "stdin_bytes",
    "stdout",
    "stdout_bytes",
    "sync_open",
    "wrap",
]

#: What tests replace to have open() return a file of their own, as aiofiles documents: it is then called by a
#: thread, and wrap() must know what it returns.
sync_open = builtins.open


def open(
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Any = None,
    *,
    loop: Any = None,
    executor: Any = None,
) -> AiofilesContextManager:
    """As builtins.open(), with all its arguments and errors: await it, or use it in `async with`."""
    return AiofilesContextManager(
        _open(file, mode, buffering, encoding, errors, newline, closefd, opener, loop=loop, executor=executor)
    )


async def _open(
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Any = None,
    *,
    loop: Any = None,
    executor: Any = None,
) -> Any:
    arguments = mode, buffering, encoding, errors, newline, closefd, opener
    if sync_open is not builtins.open or takes_threads(executor):
        opened = await in_thread(loop, executor, sync_open, file, *arguments)
    else:
        opened = await ringloop.open(file, *arguments)
    return wrap(opened, loop=loop, executor=executor)


@functools.singledispatch
def wrap(file: Any, *, loop: Any = None, executor: Any = None) -> Any:
    """The file with methods to be awaited: those of a blocking one are called by threads.

    `wrap.register` makes more types known. Raises TypeError for one that is not.
    """
    raise TypeError(f"Unsupported io type: {file}.")


@wrap.register(io.TextIOBase)
@wrap.register(TextFile)
def _(file: Any, *, loop: Any = None, executor: Any = None) -> AsyncTextIOWrapper:
    return AsyncTextIOWrapper(file, loop=loop, executor=executor)


@wrap.register(io.BufferedIOBase)
def _(file: Any, *, loop: Any = None, executor: Any = None) -> AsyncBufferedIOBase:
    return AsyncBufferedIOBase(file, loop=loop, executor=executor)


@wrap.register(io.BufferedReader)
@wrap.register(io.BufferedRandom)
def _(file: Any, *, loop: Any = None, executor: Any = None) -> AsyncBufferedReader:
    return AsyncBufferedReader(file, loop=loop, executor=executor)


@wrap.register(BufferedFile)
def _(file: Any, *, loop: Any = None, executor: Any = None) -> AsyncBufferedIOBase:
    kind = AsyncBufferedReader if file.readable() else AsyncBufferedIOBase
    return kind(file, loop=loop, executor=executor)


@wrap.register(io.FileIO)
@wrap.register(RawFile)
def _(file: Any, *, loop: Any = None, executor: Any = None) -> AsyncFileIO:
    return AsyncFileIO(file, loop=loop, executor=executor)


# They have what print() and input() have buffered, and may be replaced at any time: so they are those of
# `sys`, called by threads.
stdin = AsyncTextIndirectIOWrapper("sys.stdin", None, None, indirect=lambda: sys.stdin)
stdout = AsyncTextIndirectIOWrapper("sys.stdout", None, None, indirect=lambda: sys.stdout)
stderr = AsyncTextIndirectIOWrapper("sys.stderr", None, None, indirect=lambda: sys.stderr)
stdin_bytes = AsyncIndirectBufferedIOBase("sys.stdin.buffer", None, None, indirect=lambda: sys.stdin.buffer)
stdout_bytes = AsyncIndirectBufferedIOBase(
    "sys.stdout.buffer", None, None, indirect=lambda: sys.stdout.buffer
)
stderr_bytes = AsyncIndirectBufferedIOBase(
    "sys.stderr.buffer", None, None, indirect=lambda: sys.stderr.buffer
)
