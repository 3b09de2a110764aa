"""What `ringloop.patch("anyio")` replaces in anyio: how it has its file functions executed by threads.

anyio's files and paths give `to_thread.run_sync` a method of a blocking file or of a pathlib.Path; frameworks
give it functions of `os`. What is found in a table here is awaited instead, under the same rules: a
cancellation that is already there comes first, one that comes meanwhile is heard afterwards, unless the
caller abandons the call; the caller's own limiter holds.

Whoever has anyio open a file gets one of ringloop's in the AsyncFile; but who gives `open` itself to
`to_thread.run_sync` asks for a blocking file, and gets one.
"""

import asyncio
import builtins
import functools
import io
import os as _os
import pathlib
import stat as _stat
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import anyio._core._fileio as fileio
import anyio.to_thread
from anyio.lowlevel import checkpoint_if_cancelled

import ringloop
from ringloop import os, routes
from ringloop._closing import close_surely
from ringloop._files import File
from ringloop.loop import Loop

_Route = Callable[..., Coroutine[Any, Any, Any]]

_run_sync = anyio.to_thread.run_sync
_iterdir = anyio.Path.iterdir


def _runs_here() -> bool:
    """Whether the loop is ringloop's: under trio there is none of asyncio's."""
    return isinstance(asyncio._get_running_loop(), Loop)


async def _in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, functools.partial(function, *args, **kwargs))


# --- pathlib's methods


def _kind_test(original: Callable[..., Any], kind: int, follows: bool = True) -> _Route:
    """A method that tells whether a path is of a kind (0: is there)."""

    async def test(path: pathlib.Path, *, follow_symlinks: bool = follows) -> Any:
        try:
            status = await os.stat(path, follow_symlinks=follow_symlinks)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError):
            # Which errors mean no, and which are raised, depends on the version.
            asked = {} if follow_symlinks == follows else {"follow_symlinks": follow_symlinks}
            return await _in_thread(original, path, **asked)
        return kind == 0 or _stat.S_IFMT(status.st_mode) == kind

    return test


async def _lstat(path: pathlib.Path) -> _os.stat_result:
    return await os.lstat(path)


async def _mkdir(
    path: pathlib.Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False
) -> None:
    try:
        await os.mkdir(path, mode)
    except FileNotFoundError:
        if not parents or path.parent == path:
            raise
        await _mkdir(path.parent, parents=True, exist_ok=True)
        await _mkdir(path, mode, exist_ok=exist_ok)
    except OSError:
        # Not only FileExistsError: the path of a mount may give another.
        if not exist_ok or not await os.path.isdir(path):
            raise


async def _open(
    path: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    *others: Any,
) -> Any:
    return await ringloop.open(path, mode, buffering, encoding, errors, newline, *others)


async def _read_bytes(path: pathlib.Path) -> bytes:
    async with ringloop.open(path, "rb", buffering=0) as file:
        return await file.read()


async def _read_text(
    path: pathlib.Path, encoding: str | None = None, errors: str | None = None, newline: str | None = None
) -> str:
    encoding = io.text_encoding(encoding)
    async with ringloop.open(path, "r", encoding=encoding, errors=errors, newline=newline) as file:
        return await file.read()


async def _write_bytes(path: pathlib.Path, data: Any) -> int:
    view = memoryview(data)
    async with ringloop.open(path, "wb") as file:
        return await file.write(view)


async def _write_text(
    path: pathlib.Path,
    data: str,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> int:
    if not isinstance(data, str):
        raise TypeError(f"data must be str, not {type(data).__name__}")
    encoding = io.text_encoding(encoding)
    async with ringloop.open(path, "w", encoding=encoding, errors=errors, newline=newline) as file:
        return await file.write(data)


async def _rename(path: pathlib.Path, target: Any) -> None:
    await os.rename(path, target)


async def _replace(path: pathlib.Path, target: Any) -> None:
    await os.replace(path, target)


async def _resolve(path: pathlib.Path, strict: bool = False) -> Any:
    try:
        resolved = await os.path.realpath(path, strict=strict)
        if not strict:
            await os.stat(resolved)
    except FileNotFoundError:
        if strict:
            raise
    except (OSError, ValueError):
        # What is wrong differs: a circle of links has an error of its own before Python 3.13.
        return await _in_thread(path.resolve, strict)
    return resolved


async def _rmdir(path: pathlib.Path) -> None:
    await os.rmdir(path)


async def _samefile(path: pathlib.Path, other: Any) -> bool:
    return await os.path.samefile(path, other)


async def _symlink_to(path: pathlib.Path, target: Any, target_is_directory: bool = False) -> None:
    await os.symlink(target, path, target_is_directory)


async def _touch(path: pathlib.Path, mode: int = 0o666, exist_ok: bool = True) -> None:
    if exist_ok:
        try:
            await os.utime(path, None)
        except OSError:
            pass  # it is made, or that says what is wrong
        else:
            return
    flags = _os.O_CREAT | _os.O_WRONLY | (0 if exist_ok else _os.O_EXCL)
    await close_surely(await os.open(path, flags, mode))


async def _unlink(path: pathlib.Path) -> None:
    await os.unlink(path)


_METHODS: dict[Any, _Route] = {
    pathlib.Path.exists: _kind_test(pathlib.Path.exists, 0),
    pathlib.Path.is_block_device: _kind_test(pathlib.Path.is_block_device, _stat.S_IFBLK),
    pathlib.Path.is_char_device: _kind_test(pathlib.Path.is_char_device, _stat.S_IFCHR),
    pathlib.Path.is_dir: _kind_test(pathlib.Path.is_dir, _stat.S_IFDIR),
    pathlib.Path.is_fifo: _kind_test(pathlib.Path.is_fifo, _stat.S_IFIFO),
    pathlib.Path.is_file: _kind_test(pathlib.Path.is_file, _stat.S_IFREG),
    pathlib.Path.is_socket: _kind_test(pathlib.Path.is_socket, _stat.S_IFSOCK),
    pathlib.Path.is_symlink: _kind_test(pathlib.Path.is_symlink, _stat.S_IFLNK, follows=False),
    pathlib.Path.lstat: _lstat,
    pathlib.Path.mkdir: _mkdir,
    pathlib.Path.open: _open,
    pathlib.Path.read_bytes: _read_bytes,
    pathlib.Path.read_text: _read_text,
    pathlib.Path.rename: _rename,
    pathlib.Path.replace: _replace,
    pathlib.Path.resolve: _resolve,
    pathlib.Path.rmdir: _rmdir,
    pathlib.Path.samefile: _samefile,
    pathlib.Path.symlink_to: _symlink_to,
    pathlib.Path.touch: _touch,
    pathlib.Path.unlink: _unlink,
    pathlib.Path.write_bytes: _write_bytes,
    pathlib.Path.write_text: _write_text,
}

# Of these another result is asked for by who has a thread call them: what a non-blocking fd has at once, or
# the iterator of os.
_NOT_FOR_ALL = {
    _os.copy_file_range,
    _os.read,
    _os.readv,
    _os.scandir,
    _os.sendfile,
    _os.splice,
    _os.write,
    _os.writev,
}


# --- in place of threads


def _route(function: Any) -> _Route | None:
    """What stands for a function of `os`."""
    found = routes.find(function)
    return None if found is not None and function in _NOT_FOR_ALL else found


def _route_of_files(function: Any) -> _Route | None:
    """The same for what anyio's own files and paths have called."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, File):
        return function
    if isinstance(owner, pathlib.Path):
        method = _METHODS.get(getattr(function, "__func__", None))
        return None if method is None else functools.partial(method, owner)
    return _open if function is builtins.open else _route(function)


def _runner(find: Callable[[Any], _Route | None]) -> Callable[..., Coroutine[Any, Any, Any]]:
    @functools.wraps(_run_sync)
    async def run_sync(
        func: Any,
        *args: Any,
        abandon_on_cancel: bool = False,
        cancellable: bool | None = None,
        limiter: Any = None,
    ) -> Any:
        keywords: dict[str, Any] = {}
        plain, given = func, args
        if isinstance(func, functools.partial):
            plain, given, keywords = func.func, (*func.args, *args), func.keywords
        route = find(plain) if cancellable is None and _runs_here() else None
        if route is None:
            others = {} if cancellable is None else {"cancellable": cancellable}
            return await _run_sync(
                func, *args, abandon_on_cancel=abandon_on_cancel, limiter=limiter, **others
            )
        await checkpoint_if_cancelled()
        if limiter is None:
            return await _shielded(route, given, keywords, not abandon_on_cancel)
        async with limiter:
            return await _shielded(route, given, keywords, not abandon_on_cancel)

    return run_sync


async def _shielded(route: _Route, args: Any, keywords: dict[str, Any], shield: bool) -> Any:
    if not shield:
        return await route(*args, **keywords)
    with anyio.CancelScope(shield=True):
        return await route(*args, **keywords)


class _Threads:
    """In place of the module `to_thread`, where anyio's files and paths look for it."""

    run_sync = staticmethod(_runner(_route_of_files))

    def __getattr__(self, name: str) -> Any:
        return getattr(anyio.to_thread, name)


async def _iterdir_routed(self: anyio.Path) -> AsyncIterator[anyio.Path]:
    if not _runs_here():
        async for path in _iterdir(self):
            yield path
        return
    names = await _Threads.run_sync(_os.listdir, self._path, abandon_on_cancel=True, limiter=self.limiter)
    for name in names:
        yield self / name


def replacements() -> list[tuple[object, str, object]]:
    """Owners, names of attributes, and what they are to be."""
    return [
        (anyio.to_thread, "run_sync", _runner(_route)),
        (fileio, "to_thread", _Threads()),
        (anyio.Path, "iterdir", functools.wraps(_iterdir)(_iterdir_routed)),
    ]
