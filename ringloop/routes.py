"""Which blocking function of the standard library is which operation here.

`ringloop.aiofiles` and `ringloop.patch` look up here what they are asked to have done by a thread. Functions
are told apart by identity: a test's substitute for `os.stat` is not ours.
"""

import os as _os
import stat as _stat
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from ringloop import os

#: Those that are the same with `await` before them.
_SAME = (
    "access chmod chown close copy_file_range fchmod fchown fdatasync fstat fstatvfs fsync ftruncate "
    "getxattr lchown link listdir listxattr lseek lstat makedirs mkdir mkfifo mknod open posix_fadvise "
    "posix_fallocate pread preadv pwrite pwritev read readlink readv remove removedirs removexattr rename "
    "renames replace rmdir sendfile setxattr splice stat statvfs symlink truncate unlink utime write writev"
)
_SAME_OF_PATH = (
    "exists getatime getctime getmtime getsize isdir isfile islink ismount lexists realpath samefile"
)


async def _sameopenfile(fp1: int, fp2: int) -> bool:
    return _os.path.samestat(await os.fstat(fp1), await os.fstat(fp2))


# The kernel has the path of the working directory in memory.
async def _getcwd() -> str:
    return _os.getcwd()


async def _abspath(path: Any) -> Any:
    return _os.path.abspath(path)


class BlockingEntry:
    """An entry of a directory with the methods of os.DirEntry, which are not awaited.

    Of a symbolic link they may look at the file that it leads to, as stat() does at any: that blocks, as it
    does with os.DirEntry.
    """

    def __init__(self, name: Any, path: Any, inode: int, kind: int, dir_fd: int | None) -> None:
        self.name = name
        self.path = path
        self._inode = inode
        self._kind = kind
        self._dir_fd = dir_fd
        self._known: dict[bool, _os.stat_result] = {}

    def __fspath__(self) -> Any:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"

    def inode(self) -> int:
        """The inode's number."""
        return self._inode

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a directory or, if links are followed, leads to one."""
        return self._is(_stat.S_IFDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a regular file or, if links are followed, leads to one."""
        return self._is(_stat.S_IFREG, follow_symlinks)

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self._kind == _stat.S_IFLNK

    def is_junction(self) -> bool:
        """False: there are none here."""
        return False

    def stat(self, *, follow_symlinks: bool = True) -> _os.stat_result:
        """As os.stat() of the entry; remembered."""
        follows = follow_symlinks and self.is_symlink()
        if follows not in self._known:
            looked_up = self.path if self._dir_fd is None else self.name
            self._known[follows] = _os.stat(looked_up, dir_fd=self._dir_fd, follow_symlinks=follows)
        return self._known[follows]

    def _is(self, kind: int, follow_symlinks: bool) -> bool:
        if not (follow_symlinks and self.is_symlink()):
            return self._kind == kind
        try:
            return _stat.S_IFMT(self.stat().st_mode) == kind
        except FileNotFoundError:
            return False


class BlockingEntries:
    """The iterator that os.scandir() returns; all entries have been read, so that the next is there."""

    def __init__(self, entries: list[BlockingEntry]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> BlockingEntry:
        return next(self._entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives up what is left."""
        self._entries = iter(())


async def _scandir(path: Any = None) -> BlockingEntries:
    dir_fd = path if isinstance(path, int) else None
    async with os.scandir(path) as entries:
        return BlockingEntries(
            [
                BlockingEntry(entry.name, entry.path, entry.inode(), await _kind_of(entry), dir_fd)
                async for entry in entries
            ]
        )


async def _kind_of(entry: Any) -> int:
    """S_IFDIR, S_IFREG, S_IFLNK, or 0 for all else. The file system mostly told with the name."""
    if await entry.is_dir(follow_symlinks=False):
        return _stat.S_IFDIR
    if await entry.is_file(follow_symlinks=False):
        return _stat.S_IFREG
    return _stat.S_IFLNK if await entry.is_symlink() else 0


#: Blocking functions, and what is called and awaited instead of them.
FUNCTIONS: dict[Any, Callable[..., Coroutine[Any, Any, Any]]] = {
    **{getattr(_os, name): getattr(os, name) for name in _SAME.split()},
    **{getattr(_os.path, name): getattr(os.path, name) for name in _SAME_OF_PATH.split()},
    _os.getcwd: _getcwd,
    _os.path.abspath: _abspath,
    _os.path.sameopenfile: _sameopenfile,
    _os.scandir: _scandir,
}


def find(function: Any) -> Callable[..., Coroutine[Any, Any, Any]] | None:
    """What is called and awaited instead of the blocking `function`; None if there is nothing."""
    try:
        return FUNCTIONS.get(function)
    except TypeError:  # it cannot be hashed
        return None
