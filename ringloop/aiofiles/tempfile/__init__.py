"""`aiofiles.tempfile`: temporary files and directories; their names and rights are those of `tempfile`."""

import asyncio
import contextlib
import errno
import os as _os
import random
import tempfile as _tempfile
from collections.abc import Callable
from typing import Any

import ringloop
from ringloop import opening, os
from ringloop.aiofiles.base import AiofilesContextManager, in_thread
from ringloop.aiofiles.tempfile.temptypes import (
    AsyncSpooledTemporaryFile,
    AsyncTemporaryDirectory,
    NamedFile,
    Spool,
)
from ringloop.aiofiles.threadpool import wrap

__all__ = ["NamedTemporaryFile", "SpooledTemporaryFile", "TemporaryDirectory", "TemporaryFile"]

_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789_"
_FLAGS = _os.O_RDWR | _os.O_CREAT | _os.O_EXCL | _os.O_NOFOLLOW | _os.O_CLOEXEC
# The system's generator: a child process that was forked makes other names than its parent.
_random = random.SystemRandom()


def NamedTemporaryFile(
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: Any = None,
    prefix: Any = None,
    dir: Any = None,
    delete: bool = True,
    delete_on_close: bool = True,
    loop: Any = None,
    executor: Any = None,
) -> AiofilesContextManager:
    """As tempfile.NamedTemporaryFile(): a file with a path, which is removed when it is closed.

    `delete_on_close` is here for every Python: if false, it is removed at the end of `async with`.
    """
    arguments = mode, buffering, encoding, newline, suffix, prefix, dir
    return AiofilesContextManager(_named_file(arguments, delete, delete_on_close, loop, executor))


def TemporaryFile(
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: Any = None,
    prefix: Any = None,
    dir: Any = None,
    loop: Any = None,
    executor: Any = None,
) -> AiofilesContextManager:
    """As tempfile.TemporaryFile(): a file that has no path."""
    arguments = mode, buffering, encoding, newline, suffix, prefix, dir
    return AiofilesContextManager(_unnamed_file(arguments, loop, executor))


def SpooledTemporaryFile(
    max_size: int = 0,
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: Any = None,
    prefix: Any = None,
    dir: Any = None,
    loop: Any = None,
    executor: Any = None,
) -> AiofilesContextManager:
    """As tempfile.SpooledTemporaryFile(): in memory until it is larger than `max_size` bytes, then a file."""
    arguments = mode, buffering, encoding, newline, suffix, prefix, dir
    return AiofilesContextManager(_spooled_file(max_size, arguments, loop, executor))


def TemporaryDirectory(
    suffix: Any = None, prefix: Any = None, dir: Any = None, loop: Any = None, executor: Any = None
) -> "AiofilesContextManagerTempDir":
    """As tempfile.TemporaryDirectory(): `async with` gives its path and removes it with all that is in it."""
    return AiofilesContextManagerTempDir(_directory(suffix, prefix, dir, loop, executor))


class AiofilesContextManagerTempDir(AiofilesContextManager):
    """What TemporaryDirectory() returns: awaited the object, entered its path."""

    async def __aenter__(self) -> Any:
        return (await self).name


async def _named_file(
    arguments: tuple[Any, ...], delete: bool, delete_on_close: bool, loop: Any, executor: Any
) -> Any:
    suffix, prefix, dir = arguments[4:]
    _check(*arguments[:4])
    path, fd = await _new_file(suffix, prefix, dir)
    try:
        file = await _file_of(fd, *arguments[:4])
    except BaseException:
        await os.unlink(path)
        raise
    result = wrap(file, loop=loop, executor=executor)
    result._file = NamedFile(file, path, delete, delete_on_close)
    result.delete = delete
    return result


async def _unnamed_file(arguments: tuple[Any, ...], loop: Any, executor: Any) -> Any:
    return wrap(await _open_unnamed(*arguments), loop=loop, executor=executor)


async def _open_unnamed(
    mode: str, buffering: int, encoding: str | None, newline: str | None, suffix: Any, prefix: Any, dir: Any
) -> Any:
    """A file object of ringloop's."""
    _check(mode, buffering, encoding, newline)
    directory = (await _parts(suffix, prefix, dir))[0]
    try:
        fd = await os.open(directory, _os.O_RDWR | _os.O_TMPFILE | _os.O_CLOEXEC, 0o600)
    except OSError:
        # Not every file system can. What else is wrong is wrong with a name, too.
        path, fd = await _new_file(suffix, prefix, dir)
        try:
            await os.unlink(path)
        except BaseException:
            _os.close(fd)
            raise
    return await _file_of(fd, mode, buffering, encoding, newline)


async def _spooled_file(max_size: int, arguments: tuple[Any, ...], loop: Any, executor: Any) -> Any:
    mode, buffering, encoding, newline = arguments[:4]
    _check(mode, buffering, encoding, newline)
    spool = Spool(max_size, mode, encoding, newline, lambda: _open_unnamed(*arguments))
    return AsyncSpooledTemporaryFile(spool, loop=loop, executor=executor)


async def _directory(suffix: Any, prefix: Any, dir: Any, loop: Any, executor: Any) -> Any:
    path, _ = await _new(
        suffix, prefix, dir, lambda path: os.mkdir(path, 0o700), lambda path, _: os.rmdir(path)
    )
    return AsyncTemporaryDirectory(path, loop=loop, executor=executor)


# --- what is new


def _check(mode: Any, buffering: Any, encoding: Any, newline: Any) -> None:
    """Refuses what builtins.open() would, before there is a file."""
    opening.check("", mode, buffering, encoding, None, newline, True)
    if "b" not in mode:
        opening.text_codec(encoding, None, newline)
        if buffering == 0:
            raise ValueError("can't have unbuffered text I/O")


async def _file_of(fd: int, mode: str, buffering: int, encoding: str | None, newline: str | None) -> Any:
    try:
        return await ringloop.open(fd, mode, buffering, encoding, None, newline)
    except BaseException:
        # Arguments are right: it was cancelled, and the fd is still ours.
        _os.close(fd)
        raise


async def _parts(suffix: Any, prefix: Any, dir: Any) -> tuple[Any, Any, Any]:
    """The directory and both ends of a name, str or bytes as those that are given."""
    given = [_os.fspath(part) for part in (suffix, prefix, dir) if part is not None]
    is_bytes = any(isinstance(part, bytes) for part in given)
    if is_bytes and any(isinstance(part, str) for part in given):
        raise TypeError("Can't mix bytes and non-bytes in path components.")
    if _tempfile.tempdir is None and dir is None:
        # It tries which directory can be written to, the first time.
        await in_thread(None, None, _tempfile.gettempdir)
    encode: Any = _os.fsencode if is_bytes else _os.fsdecode
    return (
        _os.path.abspath(encode(_tempfile.gettempdir() if dir is None else dir)),
        encode(_tempfile.gettempprefix() if prefix is None else prefix),
        encode("" if suffix is None else suffix),
    )


async def _new_file(suffix: Any, prefix: Any, dir: Any) -> tuple[Any, int]:
    """The path and the fd of a file that was not there."""

    async def undo(path: Any, fd: int) -> None:
        _os.close(fd)
        await os.unlink(path)

    return await _new(suffix, prefix, dir, lambda path: os.open(path, _FLAGS, 0o600), undo)


async def _new(
    suffix: Any, prefix: Any, dir: Any, make: Callable[[Any], Any], undo: Callable[[Any, Any], Any]
) -> tuple[Any, Any]:
    """A path that `make`, called with it, found free; and what it gave, which `undo` takes back."""
    directory, start, end = await _parts(suffix, prefix, dir)
    for _ in range(_tempfile.TMP_MAX):
        name = "".join(_random.choices(_CHARACTERS, k=8))
        path = _os.path.join(directory, start + (name if isinstance(start, str) else name.encode()) + end)
        # A cancelled call may have made it, or found that somebody else has: it is let come to its end.
        making = asyncio.ensure_future(make(path))
        try:
            return path, await asyncio.shield(making)
        except FileExistsError:
            continue
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                await undo(path, await making)
            raise
    raise FileExistsError(errno.EEXIST, "No usable temporary file name found")
