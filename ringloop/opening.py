"""The arguments of `ringloop.open`: what builtins.open refuses is refused here too, in its own words.

And the opener, which is called by a thread.
"""

import asyncio
import builtins
import contextlib
import io
import itertools
import locale
import operator
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

_FLAGS = {
    "r": os.O_RDONLY,
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
}


def _flags(kind: str, others: str) -> int:
    flags = _FLAGS[kind] | os.O_CLOEXEC
    return flags & ~os.O_WRONLY | os.O_RDWR if "+" in others else flags


# Every mode that there is, with the flags for open().
MODES: dict[str, int] = {
    "".join(letters): _flags(kind, others)
    for kind in _FLAGS
    for others in ("", "b", "t", "+", "b+", "t+")
    for letters in itertools.permutations(kind + others)
}


class _ArgumentsAreRightError(Exception):
    """The opener was reached."""


def _refuse_to_open(path: Any, flags: int) -> int:
    raise _ArgumentsAreRightError


def check(
    file: Any, mode: Any, buffering: Any, encoding: Any, errors: Any, newline: Any, closefd: Any
) -> str | bytes | int:
    """The file as its path or its fd. Raises and warns as builtins.open does before it opens anything."""
    path = file if isinstance(file, int) else os.fspath(file)
    is_fd = isinstance(path, int)
    try:
        # Of an fd nothing but its sign would be checked, and it would be closed afterwards.
        asked = "fd" if is_fd and path >= 0 else path
        arguments = asked, mode, buffering, encoding, errors, newline, closefd or is_fd, _refuse_to_open
        builtins.open(*arguments)  # noqa: SIM115
    except _ArgumentsAreRightError:
        pass
    return int(path) if is_fd else path


def check_write_behind(size: Any, mode: str, buffering: int) -> int:
    """How many bytes may be written behind the writer."""
    checked = operator.index(size)
    if checked < 0:
        raise ValueError("write_behind must not be negative")
    if checked > 0 and buffering == 0:
        raise ValueError("can't have write-behind without a buffer")
    if checked > 0 and "r" in mode and "+" not in mode:
        raise ValueError("can't have write-behind in a file that is not open for writing")
    return checked


_codecs: dict[tuple[str, str | None, str | None], tuple[str, str]] = {}


def text_codec(encoding: str | None, errors: str | None, newline: str | None) -> tuple[str, str]:
    """The names that a text file has for its encoding and its treatment of errors.

    Raises what io.TextIOWrapper does for those that there are not, and for a newline that is none.
    """
    if encoding is None:
        encoding = "utf-8" if sys.flags.utf8_mode else locale.getencoding()
    key = encoding, errors, newline
    found = _codecs.get(key)
    if found is None:
        wrapper = io.TextIOWrapper(io.BytesIO(), encoding, errors, newline)
        found = wrapper.encoding, wrapper.errors or "strict"
        _codecs[key] = found
    return found


class OpenerCall:
    """One call of an opener by a thread. What it opened for nobody, as the waiting was given up, is closed.

    The lock tells which of the two is the first to know how it ends: the thread, which then has opened
    something that somebody waits for, or who waits, with whom the thread's result is of no use any more.
    """

    def __init__(self, opener: Callable[[Any, int], Any], path: Any, flags: int) -> None:
        self._call = opener, path, flags
        self._decided = threading.Lock()
        self._opened: Any = None

    async def wait(self, loop: asyncio.AbstractEventLoop) -> Any:
        """What the opener answered."""
        try:
            return await loop.run_in_executor(None, self._run)
        except BaseException:
            if not self._is_first():
                discard(self._opened)
            raise

    def _run(self) -> Any:
        opener, path, flags = self._call
        self._opened = opener(path, flags)
        if not self._is_first():
            discard(self._opened)
        return self._opened

    def _is_first(self) -> bool:
        return self._decided.acquire(blocking=False)


def discard(opened: Any) -> None:
    """Ends what an opener answered: an fd, or a coroutine that was to bring one."""
    if isinstance(opened, int):
        with contextlib.suppress(OSError):  # it may answer any number
            os.close(opened)
    elif asyncio.iscoroutine(opened):
        opened.close()
