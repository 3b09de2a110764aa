"""The functions of `os` that touch the file system or a file descriptor, to be awaited.

    from ringloop import os

    fd = await os.open("log", os.O_RDONLY)
    async with os.scandir("/srv") as entries:
        async for entry in entries:
            print(entry.name, (await entry.stat()).st_size)

Names, arguments, results and exceptions are those of the standard library's `os`. What a function returns
is like a coroutine: it begins when it is awaited, and tasks, groups and timeouts take it. Under ringloop's
loop it is a system call of io_uring or of a native thread, or done at once if the kernel has all it takes in
memory; under another loop a thread of that loop's executor makes the same call. Arguments are checked, and
auditing hooks told, when the function is called.

Where this differs from `os`: a pipe or socket with O_NONBLOCK is waited for; `scandir` returns an
asynchronous iterator; posix_fallocate() does not write zeros where a file system cannot reserve space. The
constants of `os` are here, too. `os.path` is made in the same way; what looks at no file is as it was.
"""

import asyncio
import contextlib
import os as _os
import stat as _stat
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Self

from ringloop import _os_path as path
from ringloop._closing import close_surely
from ringloop._os import (
    access,
    fstat,
    link,
    lstat,
    mkdir,
    mkfifo,
    mknod,
    open,
    readlink,
    remove,
    rename,
    replace,
    rmdir,
    stat,
    symlink,
    unlink,
)
from ringloop._os_attributes import (
    chmod,
    chown,
    fchmod,
    fchown,
    fstatvfs,
    getxattr,
    lchown,
    listxattr,
    removexattr,
    setxattr,
    statvfs,
    utime,
)
from ringloop._os_fds import (
    close,
    copy_file_range,
    eventfd_read,
    eventfd_write,
    fdatasync,
    fsync,
    ftruncate,
    lseek,
    posix_fadvise,
    posix_fallocate,
    pread,
    preadv,
    pwrite,
    pwritev,
    read,
    readinto,
    readv,
    sendfile,
    splice,
    sync,
    truncate,
    write,
    writev,
)
from ringloop._os_listing import Directory, DirEntry, listdir, turn
from ringloop._os_locks import lockf
from ringloop._turns import ITEMS_A_TURN

__all__ = [
    "DirEntry",
    "ScandirIterator",
    "access",
    "chmod",
    "chown",
    "close",
    "copy_file_range",
    "eventfd_read",
    "eventfd_write",
    "fchmod",
    "fchown",
    "fdatasync",
    "fstat",
    "fstatvfs",
    "fsync",
    "ftruncate",
    "fwalk",
    "getxattr",
    "lchown",
    "link",
    "listdir",
    "listxattr",
    "lockf",
    "lseek",
    "lstat",
    "makedirs",
    "mkdir",
    "mkfifo",
    "mknod",
    "open",
    "path",
    "posix_fadvise",
    "posix_fallocate",
    "pread",
    "preadv",
    "pwrite",
    "pwritev",
    "read",
    "readinto",
    "readlink",
    "readv",
    "remove",
    "removedirs",
    "removexattr",
    "rename",
    "renames",
    "replace",
    "rmdir",
    "scandir",
    "sendfile",
    "setxattr",
    "splice",
    "stat",
    "statvfs",
    "symlink",
    "sync",
    "truncate",
    "unlink",
    "utime",
    "walk",
    "write",
    "writev",
]

# As the standard library does, so that it can be imported.
sys.modules[f"{__name__}.path"] = path


def __getattr__(name: str) -> Any:
    """The constants of `os`, and no function of it: those block."""
    if name.isupper() and hasattr(_os, name):
        return getattr(_os, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# --- directories


async def makedirs(
    name: Any, mode: int = 0o777, exist_ok: bool = False, *, parent_mode: int | None = None
) -> None:
    """As os.makedirs(): also makes the directories above it that are missing.

    They get `parent_mode`, as from Python 3.15 on, or else what mkdir() gives when it is not told.
    """
    head, tail = _split(name)
    if head and tail and not await path.exists(head):
        with contextlib.suppress(FileExistsError):  # somebody else made it meanwhile
            above = 0o777 if parent_mode is None else parent_mode
            await makedirs(head, above, exist_ok, parent_mode=parent_mode)
        if tail in (".", b"."):
            return
    try:
        await mkdir(name, mode)
    except OSError:
        if not exist_ok or not await path.isdir(name):
            raise


async def removedirs(name: Any) -> None:
    """As os.removedirs(): also removes the directories above it, up to one that is not empty."""
    await rmdir(name)
    head, tail = _split(name)
    with contextlib.suppress(OSError):
        while head and tail:
            await rmdir(head)
            head, tail = path.split(head)


async def renames(old: Any, new: Any) -> None:
    """As os.renames(): makes the directories of the new name, removes those that the old one leaves empty."""
    head, tail = path.split(new)
    if head and tail and not await path.exists(head):
        await makedirs(head)
    await rename(old, new)
    head, tail = path.split(old)
    if head and tail:
        with contextlib.suppress(OSError):
            await removedirs(head)


def _split(name: Any) -> tuple[Any, Any]:
    """The directory that `name` is in and its last part, though it may end with a slash."""
    head, tail = path.split(name)
    return (head, tail) if tail else path.split(head)


class ScandirIterator:
    """What `scandir` returns: `async with` and `async for` it, or `await` it to have it begin."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._given = 0

    def __await__(self) -> Generator[Any, Any, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        if not self._directory.has_begun:
            try:
                await self._directory.read()
            except (asyncio.CancelledError, GeneratorExit):
                # Whoever entered has nothing that he could close.
                self._directory.close()
                raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DirEntry:
        # What was read is in memory: a loop over it would not let others run for as long as it takes.
        self._given += 1
        if self._given % ITEMS_A_TURN == 0:
            await turn()
        while (entry := self._directory.next_entry()) is None:
            if self._directory.is_over:
                raise StopAsyncIteration
            await self._directory.read()
        return entry

    async def close(self) -> None:
        """Gives up what is left. Done at the end, by itself."""
        self._directory.close()

    def __del__(self) -> None:
        if self._directory.is_open:
            warnings.warn(f"unclosed scandir iterator {self!r}", ResourceWarning, stacklevel=2, source=self)


def scandir(path: Any = None) -> ScandirIterator:
    """As os.scandir(): an asynchronous iterator of DirEntry. `path` may be a file descriptor."""
    sys.audit("os.scandir", path)
    return ScandirIterator(Directory("scandir", path))


async def walk(
    top: Any,
    topdown: bool = True,
    onerror: Callable[[OSError], object] | None = None,
    followlinks: bool = False,
) -> AsyncIterator[tuple[Any, list[Any], list[Any]]]:
    """As os.walk(): tuples of a directory's path and the names in it, of directories and of all else."""
    sys.audit("os.walk", top, topdown, onerror, followlinks)
    pending: list[Any] = [_os.fspath(top)]
    while pending:
        top = pending.pop()
        if isinstance(top, tuple):
            yield top
            continue
        try:
            async with scandir(top) as entries:
                directories, others, below = await _sorted(entries, topdown, followlinks)
        except OSError as error:
            if onerror is not None:
                onerror(error)
            continue
        if topdown:
            yield top, directories, others
            # The caller may have changed the list, and what is there.
            for name in reversed(directories):
                below_top = path.join(top, name)
                if followlinks or not await path.islink(below_top):
                    pending.append(below_top)
        else:
            pending.append((top, directories, others))
            pending += below[::-1]


async def _sorted(
    entries: ScandirIterator, topdown: bool, followlinks: bool
) -> tuple[list[Any], list[Any], list[Any]]:
    """The names of directories, those of all else, and from the bottom up the paths to go on with."""
    directories, others, below = [], [], []
    async for entry in entries:
        if not await _whether(entry.is_dir()):
            others.append(entry.name)
            continue
        directories.append(entry.name)
        if not topdown and (followlinks or not await _whether(entry.is_symlink())):
            below.append(entry.path)
    return directories, others, below


async def _whether(question: Any) -> bool:
    """What a DirEntry says; False if it cannot say."""
    try:
        return bool(await question)
    except OSError:
        return False


async def fwalk(
    top: Any = ".",
    topdown: bool = True,
    onerror: Callable[[OSError], object] | None = None,
    *,
    follow_symlinks: bool = False,
    dir_fd: int | None = None,
) -> AsyncIterator[tuple[Any, list[Any], list[Any], int]]:
    """As os.fwalk(): as walk(), with a file descriptor of the directory, valid until the next step."""
    sys.audit("os.fwalk", top, topdown, onerror, follow_symlinks, dir_fd)
    async for found in _fwalk(
        _os.fspath(top), _os.fspath(top), topdown, onerror, follow_symlinks, dir_fd, True
    ):
        yield found


async def _fwalk(
    top: Any,
    name: Any,
    topdown: bool,
    onerror: Callable[[OSError], object] | None,
    follow_symlinks: bool,
    dir_fd: int | None,
    is_root: bool,
) -> AsyncIterator[tuple[Any, list[Any], list[Any], int]]:
    """The directory `name` of `dir_fd`, whose path is `top`, and what is below it."""
    try:
        before = None if follow_symlinks else await stat(name, dir_fd=dir_fd, follow_symlinks=False)
        fd = await open(name, _os.O_RDONLY | _os.O_NONBLOCK, dir_fd=dir_fd)
    except OSError as error:
        if is_root:
            raise
        if onerror is not None:
            onerror(error)
        return
    try:
        # Between the two somebody may have put a link in its place.
        if before is not None and not (
            _stat.S_ISDIR(before.st_mode) and path.samestat(before, await stat(fd))
        ):
            return
        try:
            async with scandir(fd) as entries:
                directories, others, _ = await _sorted(entries, True, False)
        except OSError as error:
            if onerror is not None:
                onerror(error)
            return
        if isinstance(top, bytes):
            directories, others = [*map(_os.fsencode, directories)], [*map(_os.fsencode, others)]
        if topdown:
            yield top, directories, others, fd
        for below in directories:
            async for found in _fwalk(
                path.join(top, below), below, topdown, onerror, follow_symlinks, fd, False
            ):
                yield found
        if not topdown:
            yield top, directories, others, fd
    finally:
        await close_surely(fd)
