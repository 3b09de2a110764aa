"""Temporary files and directories with methods to be awaited, and how they go away."""

import asyncio
import contextlib
import io
import os as _os
import shutil
import warnings
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from ringloop import os
from ringloop._closing import wait_surely
from ringloop.aiofiles.base import AsyncBase, Awaited, file_methods


class NamedFile(Awaited):
    """A file object of ringloop's whose path goes away with it."""

    def __init__(self, file: Any, path: Any, delete: bool, delete_on_close: bool) -> None:
        self._wrapped = file
        self.name = path
        self._deletes = delete
        self._deletes_on_close = delete_on_close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    async def close(self) -> None:
        """Closes the file; removes its path, if that is when it goes."""
        try:
            await self._wrapped.close()
        finally:
            if self._deletes_on_close:
                await self._delete()

    async def __aexit__(self, *exception: object) -> None:
        try:
            await self._wrapped.__aexit__(*exception)
        finally:
            await self._delete()

    async def _delete(self) -> None:
        if self._deletes:
            self._deletes = False
            try:
                with contextlib.suppress(FileNotFoundError):
                    await os.unlink(self.name)
            except asyncio.CancelledError:
                self._deletes = True
                raise

    def __del__(self) -> None:
        # Nobody can wait. The file below warns if it was not closed.
        if self._deletes:
            with contextlib.suppress(FileNotFoundError):
                _os.unlink(self.name)


# --- in memory at first


class Spool(Awaited):
    """What is in memory until it is rolled over to a file."""

    def __init__(
        self,
        max_size: int,
        mode: str,
        encoding: str | None,
        newline: str | None,
        open_file: Callable[[], Awaitable[Any]],
    ) -> None:
        self._max_size = max_size
        self._mode = mode
        self._rolled = False
        self._open_file = open_file
        self._memory = io.BytesIO()
        self._file: Any = self._memory
        if "b" not in mode:
            self._file = io.TextIOWrapper(self._memory, encoding=encoding, newline=newline)

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    @property
    def encoding(self) -> str:
        return self._file.encoding

    @property
    def mode(self) -> str:
        """Of a text in memory what was asked for."""
        return getattr(self._file, "mode", self._mode)

    @property
    def name(self) -> Any:
        """None as long as there is no file."""
        return getattr(self._file, "name", None)

    @property
    def newlines(self) -> Any:
        return self._file.newlines

    async def rollover(self) -> None:
        """Has what is in memory in a file from now on."""
        if self._rolled:
            return
        self._file.flush()
        position = self._file.tell()
        file = await self._open_file()
        try:
            await getattr(file, "buffer", file).write(self._memory.getvalue())
            await file.seek(position)
        except BaseException:
            await file.close()
            raise
        self._file = file
        self._rolled = True

    async def call(self, name: str, *arguments: Any) -> Any:
        """What the method returns."""
        result = getattr(self._file, name)(*arguments)
        if self._rolled and name != "isatty":
            return await result
        if name in ("write", "writelines") and self._max_size and self._file.tell() > self._max_size:
            await self.rollover()
        return result

    async def truncate(self, *size: Any) -> Any:
        """In memory nothing gets larger than it may."""
        if size and size[0] is not None and size[0] > self._max_size:
            await self.rollover()
        return await self.call("truncate", *size)

    async def fileno(self) -> int:
        """Of the file that it must be for that."""
        await self.rollover()
        return self._file.fileno()

    async def __aexit__(self, *exception: object) -> None:
        await self.call("close")


@file_methods(properties="closed encoding mode name newlines")
class AsyncSpooledTemporaryFile(AsyncBase):
    """A file that is in memory until it is too large for that."""

    _file: Spool

    async def close(self) -> None:
        """Closes it; what is in it is gone."""
        await self._file.call("close")

    async def flush(self) -> None:
        """As flush() of the file objects of `io`."""
        await self._file.call("flush")

    async def isatty(self) -> bool:
        """False."""
        return await self._file.call("isatty")

    async def read(self, *size: Any) -> Any:
        """As read() of the file objects of `io`."""
        return await self._file.call("read", *size)

    async def readline(self, *size: Any) -> Any:
        """As readline() of the file objects of `io`."""
        return await self._file.call("readline", *size)

    async def readlines(self, *hint: Any) -> Any:
        """As readlines() of the file objects of `io`."""
        return await self._file.call("readlines", *hint)

    async def seek(self, *arguments: Any) -> int:
        """As seek() of the file objects of `io`."""
        return await self._file.call("seek", *arguments)

    async def tell(self) -> int:
        """As tell() of the file objects of `io`."""
        return await self._file.call("tell")

    async def truncate(self, *size: Any) -> int:
        """As truncate() of the file objects of `io`; beyond the largest size in memory it is rolled over."""
        return await self._file.truncate(*size)

    async def write(self, data: Any) -> int:
        """Writes; what then is too large for memory is rolled over."""
        return await self._file.call("write", data)

    async def writelines(self, lines: Any) -> None:
        """Writes all of them; what then is too large for memory is rolled over."""
        await self._file.call("writelines", lines)

    async def fileno(self) -> int:
        """The file descriptor. What is in memory is rolled over for it."""
        return await self._file.fileno()

    async def rollover(self) -> None:
        """Puts what is in memory into a file."""
        await self._file.rollover()


# --- directories


class AsyncTemporaryDirectory:
    """A directory that goes away with all that is in it."""

    def __init__(self, name: Any, loop: Any, executor: Any) -> None:
        self._name = name
        self._loop = loop
        self._executor = executor
        self._remove_in_the_end()

    def _remove_in_the_end(self) -> None:
        message = f"Implicitly cleaning up {self!r}"
        self._finalizer = weakref.finalize(self, _remove_forgotten, self.name, message)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def name(self) -> Any:
        """The path, str or bytes."""
        return self._name

    async def cleanup(self) -> None:
        """Removes it."""
        if self._finalizer.detach() or await os.path.exists(self.name):
            try:
                await _remove(self.name)
            except asyncio.CancelledError:
                self._remove_in_the_end()
                raise

    async def close(self) -> None:
        """As cleanup()."""
        await self.cleanup()

    async def _exit(self, exc_type: Any, exc: Any, traceback: Any) -> None:
        # Nobody else would go on with it.
        removal = asyncio.ensure_future(self.cleanup())
        await wait_surely([removal])
        await removal


def _remove_forgotten(path: Any, message: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
    warnings.warn(message, ResourceWarning, stacklevel=2)


async def _remove(name: Any, parent_fd: int | None = None) -> None:
    """Removes a directory and all in it, by file descriptors: no symbolic link is followed.

    What must not be read or written gets the rights first, as with tempfile.TemporaryDirectory. What somebody
    else removes meanwhile is gone.
    """
    try:
        fd = await _open_directory(name, parent_fd)
    except FileNotFoundError:
        return
    try:
        async with os.scandir(fd) as entries:
            found = [(entry.name, await entry.is_dir(follow_symlinks=False)) async for entry in entries]
        for entry_name, is_directory in found:
            if is_directory:
                await _remove(entry_name, fd)
            else:
                await _with_rights(os.unlink, entry_name, fd)
    finally:
        await os.close(fd)
    await _with_rights(os.rmdir, name, parent_fd)


async def _open_directory(name: Any, parent_fd: int | None) -> int:
    flags = _os.O_RDONLY | _os.O_DIRECTORY | _os.O_NOFOLLOW | _os.O_CLOEXEC
    try:
        return await os.open(name, flags, dir_fd=parent_fd)
    except PermissionError:
        # O_PATH needs no right to read it; chmod() of a name could be led astray by a link.
        fd = await os.open(name, flags | _os.O_PATH, dir_fd=parent_fd)
        try:
            await os.chmod(f"/proc/self/fd/{fd}", 0o700)
            return await os.open(name, flags, dir_fd=parent_fd)
        finally:
            await os.close(fd)


async def _with_rights(remove: Callable[..., Any], name: Any, parent_fd: int | None) -> None:
    try:
        await remove(name, dir_fd=parent_fd)
    except FileNotFoundError:
        return
    except PermissionError:
        if parent_fd is None:
            raise
        await os.fchmod(parent_fd, 0o700)
        await remove(name, dir_fd=parent_fd)
