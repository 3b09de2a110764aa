"""What the running system says about itself and io_uring: the evidence for messages and for the doctor.

Reads /proc and resource limits only; it tries nothing out (that is the driver's probe). A fact that the
system does not tell is None, never a guess.
"""

import os
import re
import resource
from typing import NamedTuple

CAP_IPC_LOCK = 14
CAP_SYS_ADMIN = 21
SECCOMP_FILTER = 2  # Seccomp: in /proc/self/status; 0 is off, 1 strict


class Facts(NamedTuple):
    """A snapshot of this process's permissions and of its kernel."""

    release: str  # as uname -r
    machine: str  # as uname -m
    io_uring_disabled: int | None  # sysctl kernel.io_uring_disabled (6.6): 0 all, 1 a group, 2 nobody
    io_uring_group: int | None  # sysctl kernel.io_uring_group (6.6); -1 is no group
    seccomp_mode: int | None
    capabilities: int  # effective, as a bit mask
    memlock_bytes: int  # soft limit; resource.RLIM_INFINITY for none
    files_max: int  # soft limit of open file descriptors

    @property
    def kernel(self) -> tuple[int, int]:
        """Major and minor version; (0, 0) if the release does not begin with them."""
        found = re.match(r"(\d+)\.(\d+)", self.release)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def capable(self, capability: int) -> bool:
        """Whether the process has the capability (CAP_*) in its effective set."""
        return bool(self.capabilities >> capability & 1)

    @property
    def filtered(self) -> bool:
        """Whether a seccomp filter stands between this process and the kernel."""
        return self.seccomp_mode == SECCOMP_FILTER


def read_facts() -> Facts:
    """Returns the facts as they are now, for the calling thread."""
    uname = os.uname()
    status = _status()
    seccomp = status.get("Seccomp")
    return Facts(
        release=uname.release,
        machine=uname.machine,
        io_uring_disabled=_number("/proc/sys/kernel/io_uring_disabled"),
        io_uring_group=_number("/proc/sys/kernel/io_uring_group"),
        seccomp_mode=None if seccomp is None else int(seccomp),
        capabilities=int(status.get("CapEff", "0"), 16),
        memlock_bytes=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        files_max=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def _read(path: str) -> str | None:
    """The file's text, or None where this kernel or sandbox does not show it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def _number(path: str) -> int | None:
    text = _read(path)
    return None if text is None else int(text)


def _status() -> dict[str, str]:
    lines = (_read("/proc/thread-self/status") or "").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
