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

DISTURBED_SHARE = 0.03

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


class Disturbance:
    """How much of the pinned cores went to other programs since this object was made."""

    def __init__(self, cores: Cores) -> None:
        chosen = {cores.server, cores.client} - {None}
        self._names = {f"cpu{core}" for core in chosen} or {"cpu0"}
        self._start_s = time.monotonic()
        self._busy_start_s, self._own_start_s = self._busy_s(), self._own_s()

    def _busy_s(self) -> float:
        ticks = 0
        for line in Path("/proc/stat").read_text().splitlines():
            name, *figures = line.split()
            if name in self._names:
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, figures[:8])
                ticks += user + nice + system + irq + softirq + steal
        return ticks / os.sysconf("SC_CLK_TCK")

    def _own_s(self) -> float:
        own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime

    @property
    def share(self) -> float:
        """0 to 1; to be asked when all children have ended."""
        others_s = self._busy_s() - self._busy_start_s - (self._own_s() - self._own_start_s)
        return max(0.0, others_s / (time.monotonic() - self._start_s) / len(self._names))

    @property
    def warning(self) -> str:
        """A line for people, empty if there is nothing to warn of."""
        if self.share < DISTURBED_SHARE:
            return ""
        return f"other programs took {self.share:.0%} of these cores meanwhile: the figures are disturbed"


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
