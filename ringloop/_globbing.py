"""Patterns of paths: what `Path.glob` and `Path.rglob` select, and what `Path.full_match` means.

`pathlib` has had three ways to select: that of Python 3.11, that of 3.12, and the one from 3.13 on. They
differ in what `**` stands for, in the order of what they find, in duplicates, and in which errors they hide.
Each is here, and `Path` takes that of the running Python; the last if it is asked for what that Python lacks.

A selector is an asynchronous generator of paths as strings. A directory is read as a whole before anything of
it is given, so that no file descriptor is open meanwhile and the caller may change what is there.
"""

import errno
import fnmatch
import functools
import re
import stat
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from os import stat_result
from os.path import join
from typing import Any

from ringloop import os
from ringloop._turns import InTurns

# From Python 3.14 on, `exists` and its like hide every error.
_HIDES_EVERY_ERROR = sys.version_info >= (3, 14)
_HIDDEN_ERRORS = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP)
_IS_MAGIC = re.compile("[*?[]")

Selected = AsyncIterator[str]


async def entries_of(path: Any) -> list[os.DirEntry]:
    """All entries of a directory."""
    async with os.scandir(path) as entries:
        return [entry async for entry in entries]


async def status_if_any(path: Any, *, follow_symlinks: bool = True) -> stat_result | None:
    """The file's status; None if there is no such file, or for any other error that this Python hides."""
    try:
        return await os.stat(path, follow_symlinks=follow_symlinks)
    except OSError as error:
        if not _hides(error):
            raise
    except ValueError:  # no file can have such a name
        pass
    return None


def _hides(error: OSError) -> bool:
    return _HIDES_EVERY_ERROR or error.errno in _HIDDEN_ERRORS


async def _is_dir(path: str) -> bool:
    status = await status_if_any(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


# --- names


@functools.lru_cache(maxsize=512)
def matcher(pattern: str, case_sensitive: bool) -> Callable[[str], object]:
    """Tells whether one name matches one part of a pattern."""
    if pattern == "*":
        return bool
    return re.compile(fnmatch.translate(pattern), re.NOFLAG if case_sensitive else re.IGNORECASE).match


def full_match(path: str, pattern: str, case_sensitive: bool) -> bool:
    """Whether the whole path matches the pattern, as PurePath.full_match() from Python 3.13 on."""
    patterns = pattern.split("/")
    return set(patterns) == {"**"} or _match(path.split("/"), patterns, case_sensitive)


def _match(names: Sequence[str], patterns: Sequence[str], case_sensitive: bool) -> bool:
    if not patterns:
        return not names
    head, rest = patterns[0], patterns[1:]
    if head != "**":
        return (
            bool(names)
            and bool(matcher(head, case_sensitive)(names[0]))
            and _match(names[1:], rest, case_sensitive)
        )
    if not rest:
        return bool(names)
    # What `**` stands for, if anything, is not empty: that is a root by itself.
    return any(
        names[:count] != [""] and _match(names[count:], rest, case_sensitive)
        for count in range(len(names) + 1)
    )


# --- as in Python 3.11


async def select_as_3_11(path: str, parts: Sequence[str]) -> Selected:
    """`parts` of the pattern below `path`, which may lack the permission to look at anything but `path`."""
    if await _is_dir(path):
        async for found in _select_as_3_11(path, parts):
            yield found


async def _select_as_3_11(path: str, parts: Sequence[str]) -> Selected:
    if not parts or not parts[0]:
        yield path
        return
    head, rest = parts[0], parts[1:]
    try:
        if head == "**":
            seen = set()
            async for start in _directories_as_3_11(path):
                async for found in _select_as_3_11(start, rest):
                    if found not in seen:
                        yield found
                        seen.add(found)
        elif not _IS_MAGIC.search(head):
            child = join(path, head)
            if await (_is_dir(child) if rest else status_if_any(child)):
                async for found in _select_as_3_11(child, rest):
                    yield found
        else:
            matches = matcher(head, True)
            async for entry in InTurns(await entries_of(path)):
                if (not rest or await _entry_is_dir(entry, True)) and matches(entry.name):
                    async for found in _select_as_3_11(join(path, entry.name), rest):
                        yield found
    except PermissionError:
        return


async def _directories_as_3_11(path: str) -> Selected:
    """The directory and those below it, each before what is in it."""
    yield path
    try:
        async for entry in InTurns(await entries_of(path)):
            if await _entry_is_dir(entry, False):
                async for found in _directories_as_3_11(join(path, entry.name)):
                    yield found
    except PermissionError:
        return


async def _entry_is_dir(entry: os.DirEntry, follow_symlinks: bool) -> bool:
    try:
        return bool(await entry.is_dir(follow_symlinks=follow_symlinks))
    except OSError as error:
        if not _hides(error):
            raise
        return False


# --- as in Python 3.12


async def select_as_3_12(path: str, parts: Sequence[str], case_sensitive: bool) -> Selected:
    """`parts` of the pattern below `path`; errors are hidden, except of looking at `path`."""
    if await _is_dir(path):
        async for found in _select_as_3_12(path, parts, case_sensitive):
            yield found


async def _select_as_3_12(path: str, parts: Sequence[str], case_sensitive: bool) -> Selected:
    if not parts or not parts[0]:
        yield path
    elif parts[0] == "**":
        rest = _without_first(parts, "**")
        seen: set[str] | None = set() if "**" in rest else None
        async for start in _directories_as_3_12(path):
            async for found in _select_as_3_12(start, rest, case_sensitive):
                if seen is None:
                    yield found
                elif found not in seen:
                    yield found
                    seen.add(found)
    elif parts[0] == "..":
        async for found in _select_as_3_12(join(path, ".."), parts[1:], case_sensitive):
            yield found
    else:
        matches = matcher(parts[0], case_sensitive)
        async for entry in InTurns(await _entries_if_any(path)):
            if (len(parts) == 1 or await _is_surely_dir(entry, True)) and matches(entry.name):
                async for found in _select_as_3_12(join(path, entry.name), parts[1:], case_sensitive):
                    yield found


async def _directories_as_3_12(path: str) -> Selected:
    """The directory and those below it, all that are in one directory before what is in them."""
    yield path
    pending = [path]
    while pending:
        above = pending.pop()
        below = [
            join(above, entry.name)
            async for entry in InTurns(await _entries_if_any(above))
            if await _is_surely_dir(entry, False)
        ]
        for child in below:
            yield child
        pending += reversed(below)


def _without_first(parts: Sequence[str], part: str) -> Sequence[str]:
    count = 0
    while count < len(parts) and parts[count] == part:
        count += 1
    return parts[count:]


async def _entries_if_any(path: str) -> list[os.DirEntry]:
    try:
        return await entries_of(path)
    except OSError:
        return []


async def _is_surely_dir(entry: os.DirEntry, follow_symlinks: bool) -> bool:
    try:
        return bool(await entry.is_dir(follow_symlinks=follow_symlinks))
    except OSError:
        return False


# --- as from Python 3.13 on


class Selector:
    """Selects what is below paths as `pathlib` does from Python 3.13 on. `case_sensitive` None: as Linux."""

    def __init__(self, case_sensitive: bool | None, recurse_symlinks: bool) -> None:
        self._case_sensitive = case_sensitive is not False
        # Told how to compare, it compares also what it could look up.
        self._looks_up = case_sensitive is None
        self._recurse_symlinks = recurse_symlinks

    def select(self, path: str, parts: Sequence[str], exists: bool = False) -> Selected:
        """`parts` of the pattern below `path`. `exists`: it is known to."""
        if not parts:
            return self._existing(path, exists)
        head, rest = parts[0], parts[1:]
        if head == "**":
            return self._recursive(join(path, ""), _without_first(rest, "**"), exists)
        if head in ("", "..", "."):
            return self.select(join(path, head), rest, exists)
        if self._looks_up and not _IS_MAGIC.search(head):
            return self.select(join(path, head), rest)
        return self._matching(path, head, rest)

    async def _existing(self, path: str, exists: bool) -> Selected:
        if not exists:
            try:
                await os.lstat(path)
            except OSError:
                return
            except ValueError:  # no file can have such a name
                if not _HIDES_EVERY_ERROR:
                    raise
                return
        yield path

    async def _matching(self, path: str, pattern: str, rest: Sequence[str]) -> Selected:
        matches = matcher(pattern, self._case_sensitive)
        async for entry in InTurns(await _entries_if_any(path)):
            if not matches(entry.name):
                continue
            if not rest:
                yield entry.path
            elif await _is_surely_dir(entry, True):
                async for found in self.select(entry.path, rest, True):
                    yield found

    async def _recursive(self, path: str, rest: Sequence[str], exists: bool) -> Selected:
        """What `**` stands for: the directory `path`, which ends with a slash, and all below it."""
        patterns = ["**"]
        if self._recurse_symlinks:
            # What follows is compared, not looked for: circles of links would be walked for each of them.
            while rest and rest[0] not in ("", "..", "."):
                patterns.append(rest[0])
                rest = rest[1:]
        if len(patterns) == 1:
            async for found in self.select(path, rest, exists):
                yield found
        pending = [path]
        while pending:
            async for entry in InTurns(await _entries_if_any(pending.pop())):
                is_dir = await _is_surely_dir(entry, self._recurse_symlinks)
                if rest and not is_dir:
                    continue
                names = entry.path[len(path) :].split("/")
                if len(patterns) == 1 or _match(names, patterns, self._case_sensitive):
                    if rest:
                        async for found in self.select(entry.path, rest, True):
                            yield found
                    else:
                        yield entry.path
                if is_dir:
                    pending.append(entry.path)
