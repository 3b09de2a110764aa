"""What `ringloop.patch("aiofiles")` replaces in aiofiles.

Its public functions call private ones, by which those that a program imported earlier are reached, too. Files
and directories are then those of `ringloop.aiofiles`, of subclasses that are aiofiles' own classes as well.
"""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import aiofiles.base
import aiofiles.tempfile
import aiofiles.tempfile.temptypes
import aiofiles.threadpool
import aiofiles.threadpool.binary
import aiofiles.threadpool.text

from ringloop import routes
from ringloop.aiofiles import base, tempfile, threadpool
from ringloop.aiofiles.tempfile import temptypes
from ringloop.loop import Loop


class _Manager(aiofiles.base.AiofilesContextManager):
    """What open() returns."""

    _obj: Any

    async def __aexit__(self, *exception: Any) -> None:
        if isinstance(self._obj, (base.AsyncBase, temptypes.AsyncTemporaryDirectory)):
            await self._obj._exit(*exception)
            self._obj = None
        else:
            await super().__aexit__(*exception)


class _DirectoryManager(_Manager, aiofiles.tempfile.AiofilesContextManagerTempDir):
    """What TemporaryDirectory() returns."""


def _pairs() -> dict[type, type]:
    """Our file classes, and for each one that is aiofiles' own, too."""
    binary, text = threadpool.binary, threadpool.text
    theirs_binary, theirs_text = aiofiles.threadpool.binary, aiofiles.threadpool.text
    theirs_temporary = aiofiles.tempfile.temptypes
    found = [
        (binary.AsyncBufferedIOBase, theirs_binary.AsyncBufferedIOBase),
        (binary.AsyncBufferedReader, theirs_binary.AsyncBufferedReader),
        (binary.AsyncFileIO, theirs_binary.AsyncFileIO),
        (text.AsyncTextIOWrapper, theirs_text.AsyncTextIOWrapper),
        (temptypes.AsyncSpooledTemporaryFile, theirs_temporary.AsyncSpooledTemporaryFile),
        (temptypes.AsyncTemporaryDirectory, theirs_temporary.AsyncTemporaryDirectory),
    ]
    return {ours: type(theirs.__name__, (ours, theirs), {}) for ours, theirs in found}


_BOTH = _pairs()


class _Loop:
    """A loop of ringloop's for aiofiles: what threads are asked for is an operation, if there is one."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def run_in_executor(self, executor: Any, function: Callable[..., Any], *args: Any) -> Any:
        if isinstance(function, functools.partial):
            route = routes.find(function.func)
            if route is not None:
                return route(*function.args, *args, **function.keywords)
        return self._loop.run_in_executor(executor, function, *args)


def _get_running_loop() -> Any:
    loop = asyncio.get_running_loop()
    return _Loop(loop) if isinstance(loop, Loop) else loop


def _routed(original: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    """A coroutine function: `ours` on a loop of ringloop's, else the original."""

    @functools.wraps(original)
    async def opened(*args: Any, **kwargs: Any) -> Any:
        threads = aiofiles.threadpool
        is_replaced = original is _open and threads.sync_open is not _sync_open
        if is_replaced or not isinstance(asyncio.get_running_loop(), Loop):
            return await original(*args, **kwargs)
        result = await ours(*args, **kwargs)
        result.__class__ = _BOTH[type(result)]
        return result

    return opened


async def _temporary_file(*, named: bool, loop: Any = None, executor: Any = None, **arguments: Any) -> Any:
    make = tempfile.NamedTemporaryFile if named else tempfile.TemporaryFile
    return await make(loop=loop, executor=executor, **arguments)


async def _spooled_file(**arguments: Any) -> Any:
    return await tempfile.SpooledTemporaryFile(**arguments)


async def _directory(**arguments: Any) -> Any:
    return await tempfile.TemporaryDirectory(**arguments)


_open = aiofiles.threadpool._open
_sync_open = aiofiles.threadpool.sync_open


def replacements() -> list[tuple[object, str, object]]:
    """Owners, names of attributes, and what they are to be."""
    threads, temporary = aiofiles.threadpool, aiofiles.tempfile
    return [
        (aiofiles.base, "get_running_loop", _get_running_loop),
        (threads, "AiofilesContextManager", _Manager),
        (threads, "_open", _routed(_open, threadpool._open)),
        (temporary, "AiofilesContextManager", _Manager),
        (temporary, "AiofilesContextManagerTempDir", _DirectoryManager),
        (temporary, "_temporary_file", _routed(temporary._temporary_file, _temporary_file)),
        (temporary, "_spooled_temporary_file", _routed(temporary._spooled_temporary_file, _spooled_file)),
        (temporary, "_temporary_directory", _routed(temporary._temporary_directory, _directory)),
    ]
