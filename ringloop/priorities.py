"""I/O priorities of file operations: `ringloop.io_priority`, and prefetching.

A priority is a class and a level in it, as ioprio_set(2) has them. Reads and writes in the ring carry it in
their SQE; a worker thread takes it for the length of one system call. Only what waits for a disk has use of
it, and only where the disk's scheduler looks at it: bfq and mq-deadline do, none does not.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

from ringloop._ops import priority as _priority
from ringloop._ops import use_priorities
from ringloop._os_fds import prefetch_piece

Class = Literal["realtime", "best_effort", "idle"]

_CLASSES: dict[str, int] = {"realtime": 1, "best_effort": 2, "idle": 3}
_CLASS_SHIFT = 13
_LEVELS = 8
_PIECE_BYTES = 1 << 25


def priority_of(class_: Class, level: int = 4) -> int:
    """The number that the kernel knows for a class and a level. Raises ValueError for what is none."""
    if class_ not in _CLASSES:
        raise ValueError(f"an I/O priority's class is one of {', '.join(_CLASSES)}, not {class_!r}")
    if level not in range(_LEVELS):
        raise ValueError(f"an I/O priority's level is 0 (first) to {_LEVELS - 1}, not {level!r}")
    return _CLASSES[class_] << _CLASS_SHIFT | level


def pair_of(priority: int) -> tuple[Class, int] | None:
    """The class and the level of such a number; None for 0."""
    for name, number in _CLASSES.items():
        if priority >> _CLASS_SHIFT == number:
            return name, priority & (1 << _CLASS_SHIFT) - 1  # type: ignore[return-value]
    return None


@contextlib.contextmanager
def io_priority(class_: Class, level: int = 4) -> Iterator[None]:
    """File operations that begin inside have this I/O priority, also in tasks that are made inside.

    `class_` is "realtime", "best_effort" or "idle" (served when nobody else asks); `level` is 0 (first) to 7.
    Raises ValueError for others. "realtime" needs CAP_SYS_ADMIN or CAP_SYS_NICE: without them operations fail
    with PermissionError.
    """
    use_priorities()
    token = _priority.set(priority_of(class_, level))
    try:
        yield
    finally:
        _priority.reset(token)


async def prefetch(fd: Any, offset: int = 0, length: int | None = None) -> int:
    """Reads a part of a file into the page cache, and returns when it is there: how many bytes that are.

    `fd` is a file descriptor or an object with one; without `length`, in bytes, it is all up to the end. That
    is more than posix_fadvise(POSIX_FADV_WILLNEED) does, which only begins to read. Memory pressure may drop
    the pages again at any time. Raises OSError: ESPIPE for pipes and sockets. Cancelled, it may go on for up
    to 32 MiB.
    """
    if offset < 0 or (length is not None and length < 0):
        raise ValueError("offset and length must not be negative")
    end = (1 << 63) - 1 if length is None else offset + length
    position = offset
    while position < end:
        wanted = min(_PIECE_BYTES, end - position)
        done = await prefetch_piece(fd, position, wanted)
        position += done
        if done < wanted:
            break
    return position - offset
