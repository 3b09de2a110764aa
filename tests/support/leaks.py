"""What this process holds: file descriptors, threads, memory. Read from /proc: no bookkeeping is trusted."""

import gc
import os
from pathlib import Path

RELEASES_MAX = 10


def open_fds() -> dict[int, str]:
    """Every open file descriptor and what it refers to."""
    fds = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            fds[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the descriptor that listdir itself used
            continue
    return fds


def thread_count() -> int:
    """Native threads of this process, Python's or not."""
    return len(os.listdir("/proc/self/task"))


def resident_bytes() -> int:
    """Resident set size in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def assert_no_new_fds(before: dict[int, str]) -> None:
    """Fails if a descriptor is open that `before` (from `open_fds`) did not have. Collects garbage first."""
    if open_fds() == before:
        return
    gc.collect()
    new = _new_fds(before)
    for _ in range(RELEASES_MAX):
        if not any(target.startswith("pipe:") for target in new.values()):
            break
        release_rings()
        new = _new_fds(before)
    assert not new, f"file descriptors left open: {new}"


def _new_fds(before: dict[int, str]) -> dict[int, str]:
    return {fd: target for fd, target in open_fds().items() if before.get(fd) != target}


def release_rings() -> None:
    """Gives the kernel another second to let go of the rings of closed loops: each has a pipe until then.

    The end of any loop waits so long at most, which is not enough on a machine with far too much to do.
    """
    import ringloop

    ringloop.new_event_loop("epoll").close()
