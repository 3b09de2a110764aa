"""This machine: cores to pin to, CPU clocks and memory of processes, and what a report says of it."""

from __future__ import annotations

import os
import platform
import resource
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"

_CPUCLOCK_SCHED = 2


@dataclass(frozen=True)
class Cores:
    """Where servers and clients run; None means not pinned."""

    server: int | None
    client: int | None

    @property
    def note(self) -> str:
        """One line for the report."""
        if self.server is None:
            return "one core only: server and client share it, unpinned; compare with care"
        return f"server on core {self.server}, client on core {self.client}"


def choose_cores() -> Cores:
    """The first two cores this process may use, server first; none on a machine with one."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        return Cores(None, None)
    return Cores(allowed[0], allowed[1])


def process_cpu_ns(pid: int) -> int:
    """CPU time used by all threads of `pid`, ns, also by those that the kernel runs on its behalf.

    The number of the clock is what clock_getcpuclockid(3) computes. The kernel brings it up to date when
    a thread leaves its core and at each tick, so it is exact for a process that sleeps.
    """
    return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)


def resident_bytes(pid: int) -> int:
    """Resident memory of `pid` in bytes, counted page by page: the figure in statm lags behind."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no Rss in /proc/{pid}/smaps_rollup")


def allow_open_files(count: int) -> None:
    """Lifts the soft limit of open files to at least `count`; OSError if the hard limit is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise OSError(f"{count} open files are needed, and the hard limit (ulimit -Hn) is {hard}")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def machine_facts() -> dict[str, str]:
    """What a reader needs to know to judge figures from here."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpu": f"{model}, {os.cpu_count()} cores",
        "time": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    }
