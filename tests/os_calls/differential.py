"""The same call by `os` and by `ringloop.os`, in equal places."""

import contextlib
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from os_calls.cases import Case, Fd

READ_END, WRITE_END = "the pipe's read end", "the pipe's write end"
LONG_AGO_NS = 10**18


class Tree:
    """Files and directories that are made anew only after a call that changed them."""

    def __init__(self, root: Path, make: Callable[[Path], None]) -> None:
        self.root = root
        self._make = make
        self._made: Any = None
        self._is_as_made = False

    def stand(self) -> None:
        """Has them be there, as they were made."""
        if not self._is_as_made:
            self.remove()
            self._make(self.root)
            self._made = self._own_status(), contents(self.root)
        self._is_as_made = False

    def look(self) -> list[Any]:
        """What is there now."""
        found = contents(self.root)
        self._is_as_made = (self._own_status(), found) == self._made
        return found

    def _own_status(self) -> tuple[Any, ...]:
        """What a call on "." may have changed, which `contents` does not tell."""
        status = self.root.lstat()
        times = since(status.st_mtime_ns)
        return status.st_mode, status.st_uid, status.st_gid, times, attribute_names(self.root)

    def remove(self) -> None:
        """Removes all."""
        self._is_as_made = False
        if self.root.exists():
            shutil.rmtree(self.root)


@contextlib.contextmanager
def tree(root: Path, make: Callable[[Path], None]) -> Iterator[Tree]:
    """A tree that is gone at the end."""
    tree = Tree(root, make)
    try:
        yield tree
    finally:
        tree.remove()


class Place:
    """A directory with something of everything, and the file descriptors that stand for a case's Fds."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.root = tree.root
        self.fds: dict[Fd, int] = {}
        tree.stand()
        os.chdir(self.root)

    def close(self) -> None:
        for number in self.fds.values():
            os.close(number)
        os.chdir("/")

    def prepared(self, value: Any) -> Any:
        """An argument for this place: a number for an Fd, a copy of what the call may change."""
        if not isinstance(value, Fd):
            return copied(value)
        if value not in self.fds and value.name in (READ_END, WRITE_END):
            numbers = os.pipe()
            os.write(numbers[1], b"in the pipe")
            self.fds.update({Fd(READ_END): numbers[0], Fd(WRITE_END): numbers[1]})
        elif value not in self.fds:
            self.fds[value] = os.open(self.root / value.name, value.flags)
        return self.fds[value]

    def arguments(self, case: Case) -> tuple[list[Any], dict[str, Any]]:
        return [*map(self.prepared, case.args)], {
            name: self.prepared(value) for name, value in case.keywords.items()
        }

    def outcome(self, case: Case, result: Any, args: list[Any]) -> Any:
        """What the call returned or raised, what it made of its buffers, and what is here now."""
        if case.function == "close" and not isinstance(result, BaseException):
            self.fds = {fd: number for fd, number in self.fds.items() if number not in args}
        buffers = [value for value in args if isinstance(value, list | tuple | bytearray)]
        return self.plain(case, result), buffers, self.positions(), self.tree.look()

    def plain(self, case: Case, result: Any) -> Any:
        """A result as two places can have it in common."""
        if isinstance(result, BaseException):
            return self.failure(result)
        if isinstance(result, os.stat_result):
            return (
                result.st_mode,
                result.st_dev,
                result.st_nlink,
                result.st_uid,
                result.st_gid,
                result.st_size,
            )
        if isinstance(result, os.statvfs_result):
            return (result.f_bsize, result.f_frsize, result.f_blocks, result.f_flag, result.f_fsid)
        if case.function == "open":
            opened = os.readlink(f"/proc/self/fd/{result}").removeprefix(str(self.root))
            flags = fcntl.fcntl(result, fcntl.F_GETFL)
            inheritable = os.get_inheritable(result)
            os.close(result)
            return ("fd", opened, flags, inheritable)
        return sorted(result) if isinstance(result, list) else result

    def failure(self, error: BaseException) -> tuple[Any, ...]:
        if not isinstance(error, OSError):
            return (type(error), str(error))
        names = {number: str(fd) for fd, number in self.fds.items()}
        message = str(error)
        if error.filename in names:
            message = message.removesuffix(str(error.filename))
        return (type(error), error.errno, names.get(error.filename, error.filename), error.filename2, message)

    def positions(self) -> list[Any]:
        """Where the files stand, and what is in the pipe."""
        found: list[Any] = []
        for fd, number in self.fds.items():
            with contextlib.suppress(OSError):
                if fd.name == READ_END:
                    os.set_blocking(number, False)
                    found.append(os.read(number, 100))
                else:
                    found.append(os.lseek(number, 0, os.SEEK_CUR))
        return found


def copied(value: Any) -> Any:
    """What a call may write to, anew."""
    if isinstance(value, list | tuple):
        return type(value)(map(copied, value))
    return bytearray(value) if isinstance(value, bytearray) else value


def make_tree(root: Path) -> None:
    root.mkdir()
    (root / "file").write_bytes(b"0123456789" * 100)
    (root / "file").chmod(0o640)
    (root / "other").write_bytes(b"other")
    (root / "directory" / "below").mkdir(parents=True)
    (root / "directory" / "inner").write_bytes(b"inner")
    (root / "bare").mkdir()
    (root / "link").symlink_to("file")
    (root / "link_to_directory").symlink_to("directory")
    (root / "broken").symlink_to("nothing")
    (root / "circle").symlink_to("circle")
    os.mkfifo(root / "fifo")
    (root / "näme").touch()
    (root / os.fsdecode(b"not-utf8-\xff")).touch()
    with contextlib.suppress(OSError):  # not every file system has them
        os.setxattr(root / "file", "user.set", b"value")
    for path in root.rglob("*"):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS), follow_symlinks=False)


def contents(root: Path) -> list[tuple[Any, ...]]:
    """All that a call may have changed below `root`."""
    found: list[tuple[Any, ...]] = []
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        data: Any = None
        if stat.S_ISREG(status.st_mode):
            data = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            data = os.readlink(path)
        name = str(path.relative_to(root))
        numbers = status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_rdev
        found.append((name, numbers, since(status.st_mtime_ns), data, attribute_names(path)))
    return found


def attribute_names(path: Path) -> list[str]:
    """Of the extended attributes; none where the file system has none."""
    with contextlib.suppress(OSError):
        return sorted(os.listxattr(path, follow_symlinks=False))
    return []


def since(time_ns: int) -> int | str:
    return "now" if abs(time.time_ns() - time_ns) < 10**12 else time_ns


def by_os(function: Callable[..., Any], case: Case, tree: Tree) -> Any:
    """The outcome of the blocking call."""
    place = Place(tree)
    args, keywords = place.arguments(case)
    result: Any
    try:
        result = function(*args, **keywords)
    except Exception as error:
        result = error
    try:
        return place.outcome(case, result, args)
    finally:
        place.close()


async def by_ringloop(function: Callable[..., Awaitable[Any]], case: Case, tree: Tree) -> Any:
    """The outcome of the awaited call."""
    place = Place(tree)
    args, keywords = place.arguments(case)
    result: Any
    try:
        result = await function(*args, **keywords)
    except Exception as error:
        result = error
    try:
        return place.outcome(case, result, args)
    finally:
        place.close()
