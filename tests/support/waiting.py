"""Waiting for a state that no event announces, above all: a thread of this process sleeps in its loop's wait.

A test that interrupts a wait has to know that the wait has begun. /proc says which system call a thread is
blocked in; a thread of the same process may always read it.
"""

import asyncio
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path

_EPOLL_CALLS = {"x86_64": {232, 281, 441}, "aarch64": {22, 441}}  # epoll_wait, epoll_pwait, epoll_pwait2
_FUTEX_CALLS = {"x86_64": {"202"}, "aarch64": {"98"}}.get(platform.machine(), set())
_IO_URING_ENTER = 426  # the same number on every architecture
LOOP_WAITS = _EPOLL_CALLS.get(platform.machine(), set()) | {_IO_URING_ENTER}


def wait_until(condition: Callable[[], bool], what: str, *, timeout: float = 20.0) -> None:
    """Blocks the calling thread until `condition()` holds; fails naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain: {what}")
        time.sleep(0.001)


def is_asleep(native_id: int) -> bool:
    """Whether the thread is blocked in the system call that a loop waits in."""
    words = Path(f"/proc/self/task/{native_id}/syscall").read_text().split()
    return words[0].isdigit() and int(words[0]) in LOOP_WAITS


def is_in_futex(native_id: int | None) -> bool:
    """Whether the thread is blocked by a lock."""
    return Path(f"/proc/self/task/{native_id}/syscall").read_text().split()[0] in _FUTEX_CALLS


def wait_asleep(native_id: int, *, timeout: float = 20.0) -> None:
    """Blocks until the thread sleeps in its loop's wait. Not to be called from that thread."""
    wait_until(lambda: is_asleep(native_id), f"thread {native_id} asleep in its loop", timeout=timeout)


def when_asleep(action: Callable[[], object]) -> threading.Thread:
    """Starts a thread that runs `action` as soon as the calling thread sleeps in its loop's wait."""
    native_id = threading.get_native_id()

    def watch() -> None:
        wait_asleep(native_id)
        action()

    thread = threading.Thread(target=watch, name="when_asleep", daemon=True)
    thread.start()
    return thread


async def until_asleep() -> None:
    """Waits until the running loop sleeps: all that was begun is submitted, and nothing is left to run."""
    loop = asyncio.get_running_loop()
    slept: asyncio.Future[None] = loop.create_future()
    thread = when_asleep(lambda: loop.call_soon_threadsafe(slept.set_result, None))
    await slept
    thread.join()
