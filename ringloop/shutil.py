"""Copying, moving and removing files and trees of files: the functions of `shutil`, to be awaited.

    from ringloop import shutil

    await shutil.copytree("site", "backup", dirs_exist_ok=True)
    await shutil.rmtree("site")

Names, arguments, results and exceptions are those of the standard library's `shutil`. `copytree` and `rmtree`
have many operations in flight, so files are copied and removed in another order than one after the other.
Functions that are given to them are called on the loop's thread; what they return is awaited if it can be.
"""

import contextlib
import errno
import functools
import inspect
import os as _os
import shutil as _shutil
import stat
import sys
from collections.abc import Callable
from shutil import Error, SameFileError, SpecialFileError
from typing import Any

import ringloop
from ringloop import os
from ringloop._closing import close_surely
from ringloop._copying import NO_ATTRIBUTES, copy_file, copy_status
from ringloop._crew import Crew, Job
from ringloop._globbing import entries_of
from ringloop._turns import InTurns

__all__ = [
    "Error",
    "SameFileError",
    "SpecialFileError",
    "copy",
    "copy2",
    "copyfile",
    "copymode",
    "copystat",
    "copytree",
    "move",
    "rmtree",
]

_FILES_IN_FLIGHT_MAX = 64
_DIRECTORIES_IN_FLIGHT_MAX = 4
# The kernel changes a directory for one at a time: others would only wait, each in a thread.
_REMOVALS_IN_A_DIRECTORY_MAX = 8
_DIRECTORIES_OPEN_MAX = 64

# What changed in shutil with Python 3.13.
_IS_AS_3_13 = sys.version_info >= (3, 13)


# --- single files


async def copyfile(src: Any, dst: Any, *, follow_symlinks: bool = True) -> Any:
    """As shutil.copyfile(): copies the content in the most efficient way. Returns `dst`."""
    sys.audit("shutil.copyfile", src, dst)
    statuses = [await _status_if_any(src), await _status_if_any(dst)]
    if None not in statuses and _os.path.samestat(*statuses):  # type: ignore[arg-type]
        raise SameFileError(f"{src!r} and {dst!r} are the same file")
    for path, status in zip((src, dst), statuses, strict=True):
        if status is not None and stat.S_ISFIFO(status.st_mode):
            shown = path.path if isinstance(path, _os.DirEntry | os.DirEntry) else path
            raise SpecialFileError(f"`{shown}` is a named pipe")
    if not follow_symlinks and await os.path.islink(src):
        await os.symlink(await os.readlink(src), dst)
        return dst
    try:
        await copy_file(src, dst)
    except IsADirectoryError as error:
        if error.filename == _os.fspath(src) or await os.path.exists(dst):
            raise
        raise FileNotFoundError(f"Directory does not exist: {dst}") from error
    return dst


async def _status_if_any(path: Any) -> _os.stat_result | None:
    try:
        return await os.stat(path)
    except OSError:
        return None


async def _are_links(src: Any, dst: Any) -> bool:
    return await os.path.islink(src) and await os.path.islink(dst)


async def copymode(src: Any, dst: Any, *, follow_symlinks: bool = True) -> None:
    """As shutil.copymode(): copies the permissions. Symbolic links have none."""
    sys.audit("shutil.copymode", src, dst)
    if follow_symlinks or not await _are_links(src, dst):
        await os.chmod(dst, stat.S_IMODE((await os.stat(src)).st_mode))


async def copystat(src: Any, dst: Any, *, follow_symlinks: bool = True) -> None:
    """As shutil.copystat(): copies permissions, times and extended attributes."""
    sys.audit("shutil.copystat", src, dst)
    follows = follow_symlinks or not await _are_links(src, dst)
    status = await os.stat(src, follow_symlinks=follows)
    await copy_status(src, dst, status, follow_symlinks=follows, hidden=NO_ATTRIBUTES)


async def copy(src: Any, dst: Any, *, follow_symlinks: bool = True) -> Any:
    """As shutil.copy(): copies content and permissions, also into a directory. Returns the new path."""
    dst = await _inside_if_directory(src, dst)
    await copyfile(src, dst, follow_symlinks=follow_symlinks)
    await copymode(src, dst, follow_symlinks=follow_symlinks)
    return dst


async def copy2(src: Any, dst: Any, *, follow_symlinks: bool = True) -> Any:
    """As shutil.copy2(): as copy(), and copies what copystat() does. Returns the new path."""
    dst = await _inside_if_directory(src, dst)
    await copyfile(src, dst, follow_symlinks=follow_symlinks)
    await copystat(src, dst, follow_symlinks=follow_symlinks)
    return dst


async def _inside_if_directory(src: Any, dst: Any) -> Any:
    return _os.path.join(dst, _os.path.basename(src)) if await os.path.isdir(dst) else dst


# --- trees


class _Copied:
    """A directory that is being copied."""

    def __init__(self, source: Any, src: Any, dst: Any, above: "_Copied | None", index: int) -> None:
        self.source = source  # a path or an entry
        self.src = src
        self.dst = dst
        self.above = above
        self.index = index  # in the one above
        self.pending = 0
        self.errors: dict[int, list[tuple[Any, Any, str]]] = {}

    def all_errors(self) -> list[tuple[Any, Any, str]]:
        """In the order of the directory's entries, as shutil has them."""
        return [error for index in sorted(self.errors) for error in self.errors[index]]


class _CopyTree:
    """One call of copytree()."""

    def __init__(
        self,
        symlinks: bool,
        ignore: Callable[[Any, list[Any]], Any] | None,
        copy_function: Callable[[Any, Any], Any],
        ignore_dangling_symlinks: bool,
        dirs_exist_ok: bool,
    ) -> None:
        self.symlinks = symlinks
        self.ignore = ignore
        self.copy_function = copy_function
        self.ignore_dangling_symlinks = ignore_dangling_symlinks
        self.dirs_exist_ok = dirs_exist_ok
        self.crew = Crew(_FILES_IN_FLIGHT_MAX)

    async def run(self, src: Any, dst: Any) -> list[tuple[Any, Any, str]]:
        top = _Copied(src, src, dst, None, 0)
        await self.crew.run(functools.partial(self._enter, top))
        return top.all_errors()

    async def _enter(self, directory: _Copied) -> None:
        sys.audit("shutil.copytree", directory.source, directory.dst)
        try:
            entries = await entries_of(directory.source)
            ignored: Any = ()
            if self.ignore is not None:
                ignored = self.ignore(_os.fspath(directory.source), [entry.name for entry in entries])
            await os.makedirs(directory.dst, exist_ok=self.dirs_exist_ok)
        except OSError as error:
            if directory.above is None:
                raise
            why = [(directory.src, directory.dst, str(error))]
            await self._leave(directory.above, directory.index, why)
            return
        jobs: list[Job] = [
            functools.partial(self._copy_entry, directory, index, entry)
            async for index, entry in InTurns(enumerate(entries))
            if entry.name not in ignored
        ]
        directory.pending = len(jobs) + 1
        self.crew.add(jobs)
        await self._leave(directory, 0, [])

    async def _copy_entry(self, directory: _Copied, index: int, entry: os.DirEntry) -> None:
        src = _os.path.join(directory.source, entry.name)
        dst = _os.path.join(directory.dst, entry.name)
        source = entry if self.copy_function in (copy, copy2) else src
        errors = []
        try:
            if await entry.is_symlink() and not await self._follows(src, dst, source):
                pass
            elif await entry.is_dir():
                await self._enter(_Copied(source, src, dst, directory, index))
                return
            else:
                await _awaited(self.copy_function(source, dst))
        except Error as error:
            errors += error.args[0]
        except OSError as error:
            errors.append((src, dst, str(error)))
        await self._leave(directory, index, errors)

    async def _follows(self, src: Any, dst: Any, source: Any) -> bool:
        """Whether what the link leads to is to be copied. The link itself is copied here."""
        leads_to = await os.readlink(src)
        if self.symlinks:
            await os.symlink(leads_to, dst)
            await copystat(source, dst, follow_symlinks=False)
            return False
        return not self.ignore_dangling_symlinks or await os.path.exists(leads_to)

    async def _leave(self, directory: _Copied, index: int, errors: list[tuple[Any, Any, str]]) -> None:
        """One of the directory's entries is done. The last one ends the directory, and may end that above."""
        while True:
            if errors:
                directory.errors[index] = errors
            directory.pending -= 1
            if directory.pending > 0:
                return
            try:
                await copystat(directory.source, directory.dst)
            except OSError as error:
                directory.errors[sys.maxsize] = [(directory.source, directory.dst, str(error))]
            if directory.above is None:
                return
            errors = directory.all_errors()
            directory, index = directory.above, directory.index


async def copytree(
    src: Any,
    dst: Any,
    symlinks: bool = False,
    ignore: Callable[[Any, list[Any]], Any] | None = None,
    copy_function: Callable[[Any, Any], Any] = copy2,
    ignore_dangling_symlinks: bool = False,
    dirs_exist_ok: bool = False,
) -> Any:
    """As shutil.copytree(): copies a whole directory, with many files at a time. Returns `dst`.

    What fails is told at the end, by one shutil.Error. `copy_function` may be a coroutine function.
    """
    tree = _CopyTree(symlinks, ignore, copy_function, ignore_dangling_symlinks, dirs_exist_ok)
    if errors := await tree.run(src, dst):
        raise Error(errors)
    return dst


async def _awaited(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


class _Removed:
    """A directory that is being removed."""

    def __init__(self, name: Any, path: Any, above: "_Removed | None", above_fd: int | None) -> None:
        self.name = name  # below `above_fd`
        self.path = path
        self.above = above
        self.above_fd = above_fd
        self.fd = -1
        self.pending = 1


class _RemoveTree:
    """One call of rmtree(). What is removed is looked up in directories held open, not by its whole path."""

    def __init__(self, report: Callable[[Any, Any, BaseException], Any]) -> None:
        self.report = report
        self.fds: set[int] = set()
        self.crew = Crew(_DIRECTORIES_IN_FLIGHT_MAX, lambda: len(self.fds) < _DIRECTORIES_OPEN_MAX)

    async def run(self, path: Any, dir_fd: int | None) -> None:
        try:
            await self.crew.run(functools.partial(self._enter, _Removed(path, path, None, dir_fd)))
        finally:
            await close_surely(*self.fds)

    async def _enter(self, directory: _Removed) -> None:
        """Opens the directory, removes what is in it, and gives the crew those below it."""
        opened = await (self._open_top(directory) if directory.above is None else self._open(directory))
        if not opened:
            await self._leave(directory, False)
            return
        try:
            entries = await entries_of(directory.fd)
        except OSError as error:
            await self._failed(_os.scandir, directory, error)
            await self._leave(directory)
            return
        below: list[Job] = []
        others = []
        async for entry in InTurns(entries):
            if await _is_dir(entry):
                path = _os.path.join(directory.path, entry.name)
                node = _Removed(entry.name, path, directory, directory.fd)
                below.append(functools.partial(self._enter, node))
            else:
                others.append(entry.name)
        directory.pending += len(below)
        self.crew.add(below)
        await self._unlink(directory, others)
        await self._leave(directory)

    async def _open_top(self, directory: _Removed) -> bool:
        """Opens what the caller named. If it is a link, or becomes one meanwhile, it is refused."""
        function: Any = _os.lstat
        try:
            before = await os.lstat(directory.name, dir_fd=directory.above_fd)
            function = _os.open
            await self._take_fd(directory, _os.O_RDONLY | _os.O_NONBLOCK)
            function = _os.path.islink
            if not _os.path.samestat(before, await os.fstat(directory.fd)):
                raise OSError("Cannot call rmtree on a symbolic link")
        except OSError as error:
            await self._failed(function, directory, error)
            return False
        except ValueError as error:
            if _IS_AS_3_13:
                raise
            await _awaited(self.report(function, directory.path, error))
            return False
        return True

    async def _open(self, directory: _Removed) -> bool:
        """Opens a directory found in another; not what it was replaced with by a link."""
        function: Any = _os.open
        try:
            try:
                await self._take_fd(directory, _os.O_RDONLY | _os.O_DIRECTORY | _os.O_NOFOLLOW)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                function = _os.path.islink
                raise OSError("Cannot call rmtree on a symbolic link") from None
        except OSError as error:
            await self._failed(function, directory, error)
            return False
        return True

    async def _take_fd(self, directory: _Removed, flags: int) -> None:
        directory.fd = await os.open(directory.name, flags, dir_fd=directory.above_fd)
        self.fds.add(directory.fd)

    async def _unlink(self, directory: _Removed, names: list[str]) -> None:
        """Removes what is no directory, many at a time."""
        operations = (("unlinkat", name, 0, directory.fd) for name in names)
        async with ringloop.batch(operations, cookies=names, limit=_REMOVALS_IN_A_DIRECTORY_MAX) as batch:
            async for name, result in batch:
                if not isinstance(result, OSError):
                    continue
                if _IS_AS_3_13 and isinstance(result, FileNotFoundError):
                    continue
                result.filename = name
                try:
                    raise result
                except OSError as error:
                    await _awaited(self.report(_os.unlink, _os.path.join(directory.path, name), error))

    async def _leave(self, directory: _Removed, is_to_go: bool = True) -> None:
        """A part of the directory is done. The last one ends the directory, and may end that above."""
        while True:
            directory.pending -= 1
            if directory.pending > 0:
                return
            if directory.fd >= 0:
                self.fds.remove(directory.fd)
                try:
                    await close_surely(directory.fd)
                except OSError as error:
                    await self._failed(_os.close, directory, error)
            if is_to_go:
                try:
                    await os.rmdir(directory.name, dir_fd=directory.above_fd)
                except OSError as error:
                    await self._failed(_os.rmdir, directory, error)
            if directory.above is None:
                return
            directory, is_to_go = directory.above, True

    async def _failed(self, function: Any, directory: _Removed, error: OSError) -> None:
        """To be called where the error is handled: the caller's function may raise it again."""
        is_gone = isinstance(error, FileNotFoundError) and directory.above is not None
        if _IS_AS_3_13 and is_gone and function is not _os.close:
            return  # somebody else removed it
        if _IS_AS_3_13 or function is _os.scandir:
            error.filename = directory.path
        await _awaited(self.report(function, directory.path, error))


async def _is_dir(entry: os.DirEntry) -> bool:
    with contextlib.suppress(OSError):
        return bool(await entry.is_dir(follow_symlinks=False))
    return False


async def rmtree(
    path: Any,
    ignore_errors: bool = False,
    onerror: Callable[[Any, Any, Any], Any] | None = None,
    *,
    onexc: Callable[[Any, Any, BaseException], Any] | None = None,
    dir_fd: int | None = None,
) -> None:
    """As shutil.rmtree(): removes a whole directory, with many operations in flight.

    `onexc` or `onerror`, which may be a coroutine function, hears of each failure, with the function of the
    standard library's `os` that corresponds to what failed. Without it the first failure is raised.
    """
    sys.audit("shutil.rmtree", path, dir_fd)

    def report(function: Any, path: Any, error: BaseException) -> Any:
        if ignore_errors:
            return None
        if onexc is not None:
            return onexc(function, path, error)
        if onerror is not None:
            return onerror(function, path, (type(error), error, error.__traceback__))
        raise error

    await _RemoveTree(report).run(_os.fsdecode(path) if isinstance(path, bytes) else path, dir_fd)


rmtree.avoids_symlink_attacks = _shutil.rmtree.avoids_symlink_attacks  # type: ignore[attr-defined]


async def move(src: Any, dst: Any, copy_function: Callable[[Any, Any], Any] = copy2) -> Any:
    """As shutil.move(): renames, or copies to another file system and removes. Returns the new path.

    `copy_function` may be a coroutine function.
    """
    sys.audit("shutil.move", src, dst)
    real_dst = dst
    if await os.path.isdir(dst):
        if await _is_same(src, dst) and not (_IS_AS_3_13 and await os.path.islink(src)):
            await os.rename(src, dst)
            return None
        real_dst = _os.path.join(dst, _os.path.basename(_os.fspath(src).rstrip(_os.path.sep)))
        if await os.path.exists(real_dst):
            raise Error(f"Destination path '{real_dst}' already exists")
    try:
        await os.rename(src, real_dst)
    except OSError:
        if await os.path.islink(src):
            await os.symlink(await os.readlink(src), real_dst)
            await os.unlink(src)
        elif await os.path.isdir(src):
            if await _is_below(src, dst):
                raise Error(f"Cannot move a directory '{src}' into itself '{dst}'.") from None
            await copytree(src, real_dst, copy_function=copy_function, symlinks=True)
            await rmtree(src)
        else:
            await _awaited(copy_function(src, real_dst))
            await os.unlink(src)
    return real_dst


async def _is_same(src: Any, dst: Any) -> bool:
    try:
        return await os.path.samefile(src, dst)
    except OSError:
        return False


async def _is_below(src: Any, dst: Any) -> bool:
    if sys.version_info >= (3, 14):
        paths = [await os.path.realpath(path) for path in (src, dst)]
    else:
        paths = [_os.path.abspath(path) for path in (src, dst)]
    source, target = (_os.path.join(path, "") for path in paths)
    return target.startswith(source)
