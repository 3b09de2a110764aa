"""`ringloop.Path`: pathlib for coroutines.

    log = ringloop.Path("/srv") / "log"
    await log.mkdir(parents=True, exist_ok=True)
    async for path in log.glob("**/*.txt"):
        print(path.name, (await path.stat()).st_size)

A Path is a PurePosixPath of the standard library, which does all that only looks at the path. What touches
the file system are coroutines and asynchronous iterators on top of `ringloop.os`, with the names, arguments,
results and exceptions of the running Python's pathlib.Path. What later Pythons added is there on all of them.
"""

import asyncio
import contextlib
import errno
import grp
import io
import itertools
import os as _os
import pathlib
import pwd
import re
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import PurePath, PurePosixPath
from typing import Any, Self
from urllib.parse import unquote_to_bytes

from ringloop import _globbing, os
from ringloop._closing import close_surely
from ringloop._copying import REFUSED_ATTRIBUTES, copy_file, copy_status
from ringloop._globbing import entries_of, matcher, status_if_any
from ringloop._turns import InTurns
from ringloop.shutil import rmtree

__all__ = ["Path", "PathInfo"]

_PYTHON = sys.version_info[:2]
_FILE_URI = re.compile("file:(?://(?:localhost)?(?=/))?(?=/)", re.IGNORECASE)


class PathInfo:
    """What a Path's `info` is: what kind of file it is, remembered. To be awaited, unlike pathlib's."""

    __slots__ = ("_entry", "_path", "_statuses")

    def __init__(self, path: str, entry: os.DirEntry | None = None) -> None:
        self._path = path
        self._entry = entry
        self._statuses: dict[bool, _os.stat_result | None] = {}

    def __repr__(self) -> str:
        return "<Path.info>"

    async def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is such a file."""
        if self._entry is not None and not follow_symlinks:
            return True
        return await self._status(follow_symlinks) is not None

    async def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a directory."""
        if self._entry is not None:
            return await _whether(self._entry.is_dir(follow_symlinks=follow_symlinks))
        return await self._is(stat.S_IFDIR, follow_symlinks)

    async def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a regular file."""
        if self._entry is not None:
            return await _whether(self._entry.is_file(follow_symlinks=follow_symlinks))
        return await self._is(stat.S_IFREG, follow_symlinks)

    async def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        if self._entry is not None:
            return await _whether(self._entry.is_symlink())
        return await self._is(stat.S_IFLNK, False)

    async def _is(self, kind: int, follow_symlinks: bool) -> bool:
        status = await self._status(follow_symlinks)
        return status is not None and stat.S_IFMT(status.st_mode) == kind

    async def _status(self, follow_symlinks: bool) -> _os.stat_result | None:
        if follow_symlinks not in self._statuses:
            try:
                status = await os.stat(self._path, follow_symlinks=follow_symlinks)
            except (OSError, ValueError):
                status = None
            self._statuses[follow_symlinks] = status
        return self._statuses[follow_symlinks]


async def _whether(answer: Awaitable[bool]) -> bool:
    try:
        return await answer
    except OSError:
        return False


class Path(PurePosixPath):
    """pathlib.Path for coroutines: what touches the file system is awaited or iterated by `async for`."""

    __slots__ = ("_info_cached",)
    _info_cached: PathInfo

    if sys.version_info < (3, 12):

        def with_segments(self, *pathsegments: Any) -> Self:
            """A path of this class from the segments, as in Python 3.12."""
            return type(self)(*pathsegments)

        def relative_to(self, *other: Any, walk_up: bool = False) -> Self:
            """As in Python 3.12: with `walk_up` the result may begin with `..`."""
            if not walk_up:
                return super().relative_to(*other)
            base = type(self)(*other)
            for step, above in enumerate(itertools.chain([base], base.parents)):
                if above == self or above in self.parents:
                    return type(self)(*[".."] * step, *self.parts[len(above.parts) :])
                if above.name == "..":
                    raise ValueError(f"'..' segment in {str(base)!r} cannot be walked")
            raise ValueError(f"{str(self)!r} and {str(base)!r} have different anchors")

        def match(self, path_pattern: str, *, case_sensitive: bool | None = None) -> bool:
            """As in Python 3.12: whether the end of the path, or the whole of it, matches the pattern."""
            if case_sensitive is not False:
                return super().match(path_pattern)
            parts = PurePosixPath(path_pattern).parts
            if not parts:
                raise ValueError("empty pattern")
            own = self.parts if parts[0] == "/" else self.parts[-len(parts) :]
            return len(own) == len(parts) and all(
                matcher(part, False)(name) for name, part in zip(own, parts, strict=True)
            )

    if sys.version_info < (3, 13):
        parser = _os.path

        def full_match(self, pattern: Any, *, case_sensitive: bool | None = None) -> bool:
            """As in Python 3.13: whether the whole path matches; `**` stands for any number of parts."""
            own, pattern = (str(path) if path.parts else "" for path in (self, PurePosixPath(pattern)))
            return _globbing.full_match(own, pattern, case_sensitive is not False)

        @classmethod
        def from_uri(cls, uri: str) -> Self:
            """As in Python 3.13: the path of a `file` URI."""
            if not uri.lower().startswith("file:"):
                raise ValueError(f"URI does not start with 'file:': {uri!r}")
            match = _FILE_URI.match(uri)
            if match is None:
                raise ValueError(f"URI is not absolute: {uri!r}")
            return cls(_os.fsdecode(unquote_to_bytes(uri[match.end() :])))

    if sys.version_info >= (3, 13):  # pathlib's are not, or no longer, those of pure paths

        def as_uri(self) -> str:
            """The path as a `file` URI. Raises ValueError for one that is relative."""
            return pathlib.Path.as_uri(self)  # type: ignore[arg-type]

        @classmethod
        def from_uri(cls, uri: str) -> Self:
            """The path of a `file` URI."""
            make: Any = pathlib.Path.from_uri.__func__  # type: ignore[attr-defined]
            path: Self = make(cls, uri)
            return path

    # --- what kind of file it is

    @property
    def info(self) -> PathInfo:
        """What kind of file it is, remembered. Its methods are coroutines."""
        try:
            return self._info_cached
        except AttributeError:
            self._info_cached = PathInfo(str(self))
            return self._info_cached

    def stat(self, *, follow_symlinks: bool = True) -> Coroutine[Any, Any, _os.stat_result]:
        """The file's status, as os.stat()."""
        return os.stat(self, follow_symlinks=follow_symlinks)

    def lstat(self) -> Coroutine[Any, Any, _os.stat_result]:
        """The file's status, of a symbolic link that of the link."""
        return os.lstat(self) if _PYTHON >= (3, 14) else os.stat(self, follow_symlinks=False)

    async def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is such a file."""
        return await status_if_any(self, follow_symlinks=follow_symlinks) is not None

    async def _is(self, kind: int, follow_symlinks: bool = True) -> bool:
        status = await status_if_any(self, follow_symlinks=follow_symlinks)
        return status is not None and stat.S_IFMT(status.st_mode) == kind

    async def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a directory."""
        return await self._is(stat.S_IFDIR, follow_symlinks)

    async def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a regular file."""
        return await self._is(stat.S_IFREG, follow_symlinks)

    async def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return await self._is(stat.S_IFLNK, False)

    async def is_block_device(self) -> bool:
        """Whether it is a block device."""
        return await self._is(stat.S_IFBLK)

    async def is_char_device(self) -> bool:
        """Whether it is a character device."""
        return await self._is(stat.S_IFCHR)

    async def is_fifo(self) -> bool:
        """Whether it is a FIFO."""
        return await self._is(stat.S_IFIFO)

    async def is_socket(self) -> bool:
        """Whether it is a socket."""
        return await self._is(stat.S_IFSOCK)

    async def is_junction(self) -> bool:
        """False: there are none here."""
        return False

    async def is_mount(self) -> bool:
        """Whether another file system begins here."""
        if _PYTHON >= (3, 12):
            return await os.path.ismount(self)
        if not await self.is_dir():
            return False
        try:
            above = await self.parent.stat()
        except OSError:
            return False
        here = await self.stat()
        return here.st_dev != above.st_dev or here.st_ino == above.st_ino

    async def samefile(self, other_path: Any) -> bool:
        """Whether both paths lead to the same file."""
        own = await self.stat()
        other = other_path if isinstance(other_path, PurePath) else self.with_segments(other_path)
        return _os.path.samestat(own, await os.stat(other))

    async def owner(self, *, follow_symlinks: bool = True) -> str:
        """The login name of the file's owner. Looked up by a thread: that may ask a server."""
        number = (await self.stat(follow_symlinks=follow_symlinks)).st_uid
        return (await asyncio.to_thread(pwd.getpwuid, number)).pw_name

    async def group(self, *, follow_symlinks: bool = True) -> str:
        """The name of the file's group. Looked up by a thread: that may ask a server."""
        number = (await self.stat(follow_symlinks=follow_symlinks)).st_gid
        return (await asyncio.to_thread(grp.getgrgid, number)).gr_name

    # --- other paths

    @classmethod
    async def cwd(cls) -> Self:
        """The current working directory."""
        return cls(_os.getcwd())

    @classmethod
    async def home(cls) -> Self:
        """The user's home directory."""
        return await cls("~").expanduser()

    async def expanduser(self) -> Self:
        """The path with the home directory in place of a leading ~ or ~user."""
        first = self.parts[0] if self.parts else ""
        if first[:1] != "~":
            return self
        if first == "~" and "HOME" in _os.environ:
            home = _os.path.expanduser(first)
        else:
            home = await asyncio.to_thread(_os.path.expanduser, first)
        if home[:1] == "~":
            raise RuntimeError("Could not determine home directory.")
        return self.with_segments(home, *self.parts[1:])

    async def absolute(self) -> Self:
        """The path below the current directory if it is not absolute. Nothing else of it changes."""
        return self if self.is_absolute() else self.with_segments(_os.getcwd(), self)

    async def resolve(self, strict: bool = False) -> Self:
        """The absolute path without symbolic links. With `strict`, what does not exist raises OSError."""
        if _PYTHON >= (3, 13):
            return self.with_segments(await os.path.realpath(self, strict=strict))
        try:
            resolved = self.with_segments(await os.path.realpath(self, strict=strict))
        except OSError as error:
            _refuse_circle(error)
            raise
        if not strict:
            try:
                await resolved.stat()
            except OSError as error:
                _refuse_circle(error)
        return resolved

    async def readlink(self) -> Self:
        """Where the symbolic link leads to."""
        return self.with_segments(await os.readlink(self))

    async def iterdir(self) -> AsyncIterator[Self]:
        """The paths in the directory, in no order. Asynchronous iterator."""
        async for entry in InTurns(await entries_of(self)):
            yield self._of_entry(entry)

    def _of_entry(self, entry: os.DirEntry) -> Self:
        path = self.with_segments(entry.path)
        path._info_cached = PathInfo(entry.path, entry)
        return path

    def glob(
        self, pattern: Any, *, case_sensitive: bool | None = None, recurse_symlinks: bool = False
    ) -> AsyncIterator[Self]:
        """The paths below that match the pattern. Asynchronous iterator.

        With an argument that the running Python's pathlib does not know, it finds what Python 3.13 finds:
        there, `**` stands for files, too.
        """
        sys.audit("pathlib.Path.glob", self, pattern)
        text = _os.fspath(pattern)
        return self._selected(text, self._parts_of(text, pattern), case_sensitive, recurse_symlinks)

    def rglob(
        self, pattern: Any, *, case_sensitive: bool | None = None, recurse_symlinks: bool = False
    ) -> AsyncIterator[Self]:
        """The paths below that match the pattern, at any depth: as glob() with `**/` before it."""
        sys.audit("pathlib.Path.rglob", self, pattern)
        text = _os.fspath(pattern)
        if _PYTHON >= (3, 13):
            text = _os.path.join("**", text)
            return self.glob(text, case_sensitive=case_sensitive, recurse_symlinks=recurse_symlinks)
        parts = ["**", *self._parts_of(text, pattern, at_least=0)]
        return self._selected(text, parts, case_sensitive, recurse_symlinks)

    def _parts_of(self, text: str, pattern: Any, at_least: int = 1) -> list[str]:
        """The pattern's parts; an empty one at the end if it is for directories."""
        if text.startswith("/"):
            raise NotImplementedError("Non-relative patterns are unsupported")
        parts = [part for part in text.split("/") if part and part != "."]
        if len(parts) < at_least:
            shown = self.with_segments(pattern) if _PYTHON == (3, 13) else text
            raise ValueError(f"Unacceptable pattern: {shown!r}")
        return [*parts, ""] if text.endswith("/") else parts

    def _selected(
        self, pattern: str, parts: list[str], case_sensitive: bool | None, recurse_symlinks: bool
    ) -> AsyncIterator[Self]:
        needs_3_12, needs_3_13 = case_sensitive is not None, recurse_symlinks
        root = str(self)
        if _PYTHON >= (3, 13) or needs_3_13 or (needs_3_12 and _PYTHON < (3, 12)):
            selector = _globbing.Selector(case_sensitive, recurse_symlinks)
            return self._paths(selector.select(_os.path.join(root, ""), parts))
        if any("**" in part and part != "**" for part in parts):
            raise ValueError("Invalid pattern: '**' can only be an entire path component")
        if _PYTHON >= (3, 12):
            return self._paths(_globbing.select_as_3_12(root, parts, case_sensitive is not False))
        return self._paths(_globbing.select_as_3_11(root, parts))

    async def _paths(self, selected: AsyncIterator[str]) -> AsyncIterator[Self]:
        async for path in selected:
            yield self.with_segments(path)

    async def walk(
        self,
        top_down: bool = True,
        on_error: Callable[[OSError], object] | None = None,
        follow_symlinks: bool = False,
    ) -> AsyncIterator[tuple[Self, list[str], list[str]]]:
        """This directory and those below: path, names of directories, names of all else.

        Asynchronous iterator. Links to directories are among the latter unless they are followed.
        """
        sys.audit("pathlib.Path.walk", self, on_error, follow_symlinks)
        pending: list[Any] = [self]
        while pending:
            path = pending.pop()
            if isinstance(path, tuple):
                yield path
                continue
            directories: list[str] = []
            others: list[str] = []
            try:
                async for entry in InTurns(await entries_of(path)):
                    info = PathInfo(entry.path, entry)
                    is_dir = await info.is_dir(follow_symlinks=follow_symlinks)
                    (directories if is_dir else others).append(entry.name)
            except OSError as error:
                if on_error is not None:
                    on_error(error)
                continue
            if top_down:
                yield path, directories, others
            else:
                pending.append((path, directories, others))
            pending += [path.with_segments(path, name) for name in reversed(directories)]

    # --- content

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """As ringloop.open(): to be awaited, or used in `async with`."""
        if "b" not in mode:
            encoding = io.text_encoding(encoding)
        return _open(self, mode, buffering, encoding, errors, newline)

    async def read_bytes(self) -> bytes:
        """The whole content."""
        async with self.open("rb") as file:
            return await file.read()

    async def read_text(
        self, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> str:
        """The whole content as text."""
        async with self.open("r", -1, io.text_encoding(encoding), errors, newline) as file:
            return await file.read()

    async def write_bytes(self, data: Any) -> int:
        """Makes `data` the whole content. Returns the number of bytes."""
        view = memoryview(data)  # what is no data must not cost the content
        async with self.open("wb") as file:
            return await file.write(view)

    async def write_text(
        self, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> int:
        """Makes the text `data` the whole content. Returns the number of characters."""
        if not isinstance(data, str):
            raise TypeError(f"data must be str, not {type(data).__name__}")
        async with self.open("w", -1, io.text_encoding(encoding), errors, newline) as file:
            return await file.write(data)

    # --- changes

    async def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Makes an empty file, or sets the times of the one that is there to now."""
        if exist_ok:
            with contextlib.suppress(OSError):  # open() will say it
                await os.utime(self, None)
                return
        flags = _os.O_CREAT | _os.O_WRONLY | (0 if exist_ok else _os.O_EXCL)
        await close_surely(await os.open(self, flags, mode))

    async def mkdir(
        self,
        mode: int = 0o777,
        parents: bool = False,
        exist_ok: bool = False,
        *,
        parent_mode: int | None = None,
    ) -> None:
        """Makes a directory; with `parents` also those above it, with `parent_mode` if that is given."""
        try:
            await os.mkdir(self, mode)
        except FileNotFoundError:
            if not parents or self.parent == self:
                raise
            above_mode = 0o777 if parent_mode is None else parent_mode
            await self.parent.mkdir(above_mode, parents=True, exist_ok=True, parent_mode=parent_mode)
            await self.mkdir(mode, parents=False, exist_ok=exist_ok)
        except OSError:
            if not exist_ok or not await self.is_dir():
                raise

    def chmod(self, mode: int, *, follow_symlinks: bool = True) -> Coroutine[Any, Any, None]:
        """Changes the permissions, as os.chmod()."""
        return os.chmod(self, mode, follow_symlinks=follow_symlinks)

    def lchmod(self, mode: int) -> Coroutine[Any, Any, None]:
        """Changes the permissions, of a symbolic link those of the link, if it can have any."""
        return self.chmod(mode, follow_symlinks=False)

    async def unlink(self, missing_ok: bool = False) -> None:
        """Removes the file or link."""
        try:
            await os.unlink(self)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rmdir(self) -> Coroutine[Any, Any, None]:
        """Removes the directory, which must be empty."""
        return os.rmdir(self)

    async def rename(self, target: Any) -> Self:
        """Gives the file a new path, which is returned."""
        await os.rename(self, target)
        return self._like(target)

    async def replace(self, target: Any) -> Self:
        """Gives the file a new path, which is returned, in place of what is there."""
        await os.replace(self, target)
        return self._like(target)

    def symlink_to(self, target: Any, target_is_directory: bool = False) -> Coroutine[Any, Any, None]:
        """Makes this path a symbolic link to `target`."""
        return os.symlink(target, self, target_is_directory)

    def hardlink_to(self, target: Any) -> Coroutine[Any, Any, None]:
        """Makes this path another name of the file `target`."""
        return os.link(target, self)

    # --- copies

    async def copy(
        self, target: Any, *, follow_symlinks: bool = True, preserve_metadata: bool = False
    ) -> Self:
        """Copies the file or the whole directory to the path `target`, which is returned."""
        target = self._like(target)
        if self == target:
            raise _refusal("Source and target are the same path", self, target)
        if self in target.parents:
            raise _refusal("Source path is a parent of target path", self, target)
        await _copy(self, target, follow_symlinks, preserve_metadata)
        return target.joinpath()  # not what was known of it before

    async def copy_into(
        self, target_dir: Any, *, follow_symlinks: bool = True, preserve_metadata: bool = False
    ) -> Self:
        """Copies the file or the whole directory into the directory `target_dir`. Returns the new path."""
        return await self.copy(
            self._inside(target_dir), follow_symlinks=follow_symlinks, preserve_metadata=preserve_metadata
        )

    async def move(self, target: Any) -> Self:
        """Renames the file or directory to `target`, or copies and removes it. Returns the new path."""
        target = self._like(target)
        await _refuse_same_file(self, target)
        try:
            await os.replace(self, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        else:
            return target.joinpath()
        moved = await self.copy(target, follow_symlinks=False, preserve_metadata=True)
        if await self.is_dir(follow_symlinks=False):
            await rmtree(self)
        else:
            await self.unlink()
        return moved

    async def move_into(self, target_dir: Any) -> Self:
        """Moves the file or directory into the directory `target_dir`. Returns the new path."""
        return await self.move(self._inside(target_dir))

    def _like(self, target: Any) -> Any:
        return target if isinstance(target, Path) else self.with_segments(target)

    def _inside(self, directory: Any) -> Self:
        if not self.name:
            raise ValueError(f"{self!r} has an empty name")
        return self._like(directory) / self.name


def _open(*arguments: Any) -> Any:
    import ringloop

    return ringloop.open(*arguments)


def _refuse_circle(error: OSError) -> None:
    """Up to Python 3.12 a circle of links is a RuntimeError."""
    if error.errno == errno.ELOOP:
        raise RuntimeError(f"Symlink loop from {error.filename!r}")


def _refusal(why: str, source: PurePath, target: PurePath) -> OSError:
    return OSError(errno.EINVAL, why, str(source), None, str(target))


async def _refuse_same_file(source: Path, target: Path) -> None:
    try:
        same = _os.path.samestat(await source.stat(), await target.stat())
    except (OSError, ValueError):
        return
    if same:
        raise _refusal("Source and target are the same file", source, target)


async def _copy(source: Path, target: Path, follow_symlinks: bool, preserve_metadata: bool) -> None:
    follows = True
    if not follow_symlinks and await source.info.is_symlink():
        follows = False
        await os.symlink(str(await source.readlink()), target)
    elif await source.info.is_dir():
        children = [child async for child in source.iterdir()]
        await os.mkdir(target)
        for child in children:
            await _copy(child, target / child.name, follow_symlinks, preserve_metadata)
    else:
        await _refuse_same_file(source, target)
        await copy_file(source, target)
    if preserve_metadata:
        status = await source.stat(follow_symlinks=follows)
        hidden = REFUSED_ATTRIBUTES
        await copy_status(source, target, status, follow_symlinks=follows, hidden=hidden)
