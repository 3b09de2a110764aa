"""`ringloop.os.path`: the functions of `os.path` that touch the file system, to be awaited.

Those that only look at the path are the standard library's own.
"""

import errno
import os as _os
import stat as _stat
import sys
from os.path import (
    abspath,
    basename,
    commonpath,
    commonprefix,
    dirname,
    expandvars,
    isabs,
    join,
    normcase,
    normpath,
    relpath,
    samestat,
    split,
    splitdrive,
    splitext,
)
from typing import Any

from ringloop._os import fstat, lstat, readlink
from ringloop._os import stat as stat_of

__all__ = [
    "abspath",
    "basename",
    "commonpath",
    "commonprefix",
    "dirname",
    "exists",
    "expandvars",
    "getatime",
    "getctime",
    "getmtime",
    "getsize",
    "isabs",
    "isdir",
    "isfile",
    "islink",
    "ismount",
    "join",
    "lexists",
    "normcase",
    "normpath",
    "realpath",
    "relpath",
    "samefile",
    "sameopenfile",
    "samestat",
    "split",
    "splitdrive",
    "splitext",
]


# Before Python 3.13 the errors of realpath() tell relative paths as such.
_RESOLVES_FROM_ROOT = sys.version_info >= (3, 13)
# What a later Python's `strict` may be, beside True and False.
_ALLOW_MISSING = getattr(_os.path, "ALLOW_MISSING", None)
_ALL_BUT_LAST = getattr(_os.path, "ALL_BUT_LAST", None)


def _names_what_is_no_directory() -> bool:
    """Whether a strict realpath() says which part of a path is no directory, as from 3.14 on."""
    try:
        _os.path.realpath("/dev/null/x", strict=True)
    except OSError as error:
        return error.filename == "/dev/null"
    return False


_CHECKS_DIRECTORIES = _names_what_is_no_directory()


async def exists(path: Any) -> bool:
    """As os.path.exists(): False also for a broken symbolic link."""
    try:
        await stat_of(path)
    except (OSError, ValueError):
        return False
    return True


async def lexists(path: Any) -> bool:
    """As os.path.lexists(): True also for a broken symbolic link."""
    try:
        await lstat(path)
    except (OSError, ValueError):
        return False
    return True


async def isfile(path: Any) -> bool:
    """As os.path.isfile(): whether the path leads to a regular file."""
    try:
        return _stat.S_ISREG((await stat_of(path)).st_mode)
    except (OSError, ValueError):
        return False


async def isdir(path: Any) -> bool:
    """As os.path.isdir(): whether the path leads to a directory."""
    try:
        return _stat.S_ISDIR((await stat_of(path)).st_mode)
    except (OSError, ValueError):
        return False


async def islink(path: Any) -> bool:
    """As os.path.islink(): whether the path is a symbolic link."""
    try:
        return _stat.S_ISLNK((await lstat(path)).st_mode)
    except (OSError, ValueError):
        return False


async def ismount(path: Any) -> bool:
    """As os.path.ismount(): whether another file system begins here."""
    try:
        here = await lstat(path)
        if _stat.S_ISLNK(here.st_mode):
            return False
        plain = _os.fspath(path)
        parent = await lstat(await realpath(join(plain, b".." if isinstance(plain, bytes) else "..")))
    except (OSError, ValueError):
        return False
    return bool(here.st_dev != parent.st_dev or here.st_ino == parent.st_ino)


async def getsize(filename: Any) -> int:
    """As os.path.getsize(): bytes."""
    return (await stat_of(filename)).st_size


async def getmtime(filename: Any) -> float:
    """As os.path.getmtime(): when the content changed, in seconds since the epoch."""
    return (await stat_of(filename)).st_mtime


async def getatime(filename: Any) -> float:
    """As os.path.getatime(): when it was last read, in seconds since the epoch."""
    return (await stat_of(filename)).st_atime


async def getctime(filename: Any) -> float:
    """As os.path.getctime(): when its status changed, in seconds since the epoch."""
    return (await stat_of(filename)).st_ctime


async def samefile(f1: Any, f2: Any) -> bool:
    """As os.path.samefile(): whether both paths lead to the same file."""
    return samestat(await stat_of(f1), await stat_of(f2))


async def sameopenfile(fp1: Any, fp2: Any) -> bool:
    """As os.path.sameopenfile(): whether both file descriptors are of the same file."""
    return samestat(await fstat(fp1), await fstat(fp2))


async def realpath(filename: Any, *, strict: Any = False) -> Any:
    """As os.path.realpath(): the absolute path without symbolic links.

    With `strict` what does not exist, and a circle of links, raise OSError; without, they stay as they are.
    It may also be what the running Python's os.path has for it: ALLOW_MISSING, ALL_BUT_LAST.
    """
    filename = _os.fspath(filename)
    here = filename[:0]
    if _RESOLVES_FROM_ROOT:
        here = _os.getcwdb() if isinstance(filename, bytes) else _os.getcwd()
    path, _ = await _resolved(here, filename, strict, False, {})
    return abspath(path)


async def _resolved(
    path: Any, rest: Any, strict: Any, goes_on: bool, known: dict[Any, Any]
) -> tuple[Any, bool]:
    """`rest` walked from `path`, and whether all of it was: a circle of links ends it.

    `goes_on`: more follows `rest`. `known` holds where the links met so far lead to; None: that is being
    found out.
    """
    slash, dot, dots = (b"/", b".", b"..") if isinstance(rest, bytes) else ("/", ".", "..")
    if rest.startswith(slash):
        path = slash
    parts = rest.split(slash)
    for index, part in enumerate(parts, 1):
        if not part or part == dot:
            continue
        if part == dots:
            above, name = split(path)
            path = join(path, dots) if name == dots or not path else above
            continue
        link = join(path, part)
        if link in known:
            if known[link] is None:
                if strict:
                    await stat_of(link)  # which raises
                return join(link, *parts[index:]), False
            path = known[link]
            continue
        more = goes_on or index < len(parts)
        if not await _is_link(link, strict, more):
            path = link
            continue
        known[link] = None
        path, is_whole = await _resolved(path, await readlink(link), strict, more, known)
        if not is_whole:
            return join(path, *parts[index:]), False
        known[link] = path
    return path, True


async def _is_link(path: Any, strict: Any, more: bool) -> bool:
    """Whether it is a symbolic link. With `strict` it must be there, and with `more` after it a directory."""
    try:
        mode = (await lstat(path)).st_mode
    except OSError as error:
        if strict and not _may_be_missing(error, strict, more):
            raise
        return False
    if _CHECKS_DIRECTORIES and strict and more and not _stat.S_ISLNK(mode) and not _stat.S_ISDIR(mode):
        raise NotADirectoryError(errno.ENOTDIR, _os.strerror(errno.ENOTDIR), path)
    return _stat.S_ISLNK(mode)


def _may_be_missing(error: OSError, strict: Any, more: bool) -> bool:
    allowed = strict is _ALLOW_MISSING or (strict is _ALL_BUT_LAST and not more)
    return allowed and isinstance(error, FileNotFoundError)
