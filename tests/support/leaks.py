"""What this process holds: file descriptors, threads, memory. Read from /proc: no bookkeeping is trusted."""

import gc
import os
from pathlib import Path


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
    new = {fd: target for fd, target in open_fds().items() if before.get(fd) != target}
    assert not new, f"file descriptors left open: {new}"
