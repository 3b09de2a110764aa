"""Failures in words: why there is no ring, how that was found, and what to do about it.

The heart calls `ring_unavailable` with what native/ring.h reports. This module never touches a ring, and
nothing below it in the package is imported, so that it can speak when nothing else works.
"""

import enum
import errno
import os
import resource
from typing import NamedTuple

from ringloop.machine import CAP_IPC_LOCK, CAP_SYS_ADMIN, Facts, read_facts

#: The oldest kernel whose rings have all that the loop needs: io_uring_enter's timeout (EXT_ARG).
KERNEL_MIN = "5.11"

#: The environment variable that hides parts of io_uring: see hiding.py.
DISABLE_ENVIRONMENT = "RINGLOOP_DISABLE"


class RingCause(enum.IntEnum):
    """`enum rl_ring_cause` of native/ring.h, in its order."""

    OK = 0
    NOT_BUILT_IN = 1
    FORBIDDEN = 2
    NO_MEMORY = 3
    NO_FD = 4
    TOO_OLD = 5
    ENTER_REFUSED = 6
    REGISTER_REFUSED = 7
    OTHER = 8


class RingUnavailableError(OSError):
    """io_uring cannot be used in this process.

    `errno` is what the kernel answered. `cause` is one or two words: "seccomp", "sysctl", "kernel",
    "memlock", "memory", "file descriptors", "security module" or "unknown"; `reason` says it in a sentence.
    `found_by` tells which system call gave which error and what the system says about it, `remedy` what
    would help. The message holds them all.
    """

    def __init__(
        self,
        error: int,
        message: str,
        *,
        cause: str = "unknown",
        reason: str = "",
        found_by: str = "",
        remedy: str = "",
    ) -> None:
        super().__init__(error, message)
        self.cause = cause
        self.reason = reason
        self.found_by = found_by
        self.remedy = remedy


class Explanation(NamedTuple):
    """A diagnosis: the cause in a word, in a sentence, the evidence beside the errno, and the remedy."""

    cause: str
    reason: str
    evidence: str
    remedy: str


def ring_unavailable(cause: int, error: int, call: str, facts: Facts | None = None) -> RingUnavailableError:
    """Returns the exception for a `struct rl_ring_failure`: its cause, its errno and the call that failed.

    `facts` are the system's as of now unless given.
    """
    explanation = explain(cause, error, call, read_facts() if facts is None else facts)
    found_by = f"{call} failed with {errno.errorcode.get(error, error)} ({os.strerror(error)})"
    if explanation.evidence:
        found_by = f"{found_by}; {explanation.evidence}"
    return RingUnavailableError(
        error,
        f"io_uring is not available: {explanation.reason}. "
        f"Found by: {found_by}. Remedy: {explanation.remedy}.",
        cause=explanation.cause,
        reason=explanation.reason,
        found_by=found_by,
        remedy=explanation.remedy,
    )


def explain(cause: int, error: int, call: str, facts: Facts) -> Explanation:
    """Returns the most likely reason for the failure, given what the system says about itself."""
    match RingCause(cause):
        case RingCause.NOT_BUILT_IN:
            return _not_built_in(facts)
        case RingCause.FORBIDDEN:
            return _forbidden(error, facts)
        case RingCause.NO_MEMORY:
            return _no_memory(facts)
        case RingCause.NO_FD:
            return _no_descriptor(error, facts)
        case RingCause.TOO_OLD:
            return _too_old(facts)
        case RingCause.ENTER_REFUSED | RingCause.REGISTER_REFUSED:
            return _filtered(call) if facts.filtered else _unknown(call, facts)
        case _:
            return _unknown(call, facts)


def _not_built_in(facts: Facts) -> Explanation:
    # A filter may answer ENOSYS on purpose: runc does so for system calls that its profile does not know.
    if facts.filtered and facts.kernel >= (5, 1):
        return _filtered("io_uring_setup")
    if facts.kernel < (5, 1):
        return _too_old(facts)
    return Explanation(
        "kernel",
        "the kernel was built without it, or a sandbox such as gVisor stands in for the kernel",
        f"uname says Linux {facts.release}, and no seccomp filter is in place",
        f"use Linux {KERNEL_MIN} or newer, built with CONFIG_IO_URING, and no gVisor (runsc) runtime",
    )


def _too_old(facts: Facts) -> Explanation:
    disabled = os.environ.get(DISABLE_ENVIRONMENT)
    if disabled and facts.kernel >= tuple(map(int, KERNEL_MIN.split("."))):
        return Explanation(
            "kernel",
            f"{DISABLE_ENVIRONMENT} hides what the loop cannot do without",
            f"{DISABLE_ENVIRONMENT} is {disabled!r}",
            f"take names out of {DISABLE_ENVIRONMENT}, or unset it",
        )
    return Explanation(
        "kernel",
        f"the kernel is too old for what the loop needs of it, Linux {KERNEL_MIN} or newer",
        f"uname says Linux {facts.release}",
        f"use Linux {KERNEL_MIN} or newer (6.1 or newer for the full speed)",
    )


def _forbidden(error: int, facts: Facts) -> Explanation:
    permit_all = "as root: `sysctl -w kernel.io_uring_disabled=0`, and the same in /etc/sysctl.d to keep it"
    if facts.io_uring_disabled == 2:
        return Explanation(
            "sysctl",
            "the administrator has switched it off for every process",
            "kernel.io_uring_disabled is 2",
            permit_all,
        )
    if facts.io_uring_disabled == 1 and not facts.capable(CAP_SYS_ADMIN):
        return Explanation(
            "sysctl",
            "the administrator has switched it off for all but one group",
            f"kernel.io_uring_disabled is 1 and kernel.io_uring_group is {facts.io_uring_group}",
            f"{permit_all}; or run as a member of the group that kernel.io_uring_group names",
        )
    if facts.filtered:
        return _filtered("io_uring_setup")
    return Explanation(
        "security module",
        "a security module of the kernel, such as SELinux, refuses it",
        f"kernel.io_uring_disabled is {facts.io_uring_disabled}, and no seccomp filter is in place",
        "permit io_uring in its policy; `ausearch -m avc` or the kernel's log says what was refused",
    )


def _filtered(call: str) -> Explanation:
    return Explanation(
        "seccomp",
        f"a seccomp filter refuses {call}, as the default profiles of Docker, podman and containerd do",
        "/proc/thread-self/status says Seccomp: 2, a filter",
        "permit io_uring_setup, io_uring_enter and io_uring_register: Docker and podman by "
        "`--security-opt seccomp=PROFILE.json` (`seccomp=unconfined` to try it), Kubernetes by "
        "`securityContext.seccompProfile` of type Localhost, systemd by `SystemCallFilter=@aio`",
    )


def _no_memory(facts: Facts) -> Explanation:
    limited = facts.memlock_bytes != resource.RLIM_INFINITY and not facts.capable(CAP_IPC_LOCK)
    if limited:
        return Explanation(
            "memlock",
            "a ring's memory counts as locked memory, and the limit for that is too low",
            f"RLIMIT_MEMLOCK is {facts.memlock_bytes} bytes, for all rings of this user together and, for a "
            "moment, those that were closed",
            "raise the limit: `ulimit -l`, `LimitMEMLOCK=` of systemd, `--ulimit memlock=` of Docker; or use "
            "fewer loops at a time",
        )
    return Explanation(
        "memory",
        "the kernel has no memory for a ring",
        "RLIMIT_MEMLOCK does not apply to this process",
        "give the machine or the control group (memory.max) more memory",
    )


def _no_descriptor(error: int, facts: Facts) -> Explanation:
    if error == errno.ENFILE:
        return Explanation(
            "file descriptors",
            "the whole system has too many open files",
            "",
            "raise fs.file-max, or close files",
        )
    return Explanation(
        "file descriptors",
        "this process has too many open files",
        f"RLIMIT_NOFILE is {facts.files_max}",
        "close files, or raise the limit: `ulimit -n`",
    )


def _unknown(call: str, facts: Facts) -> Explanation:
    seccomp = "a seccomp filter" if facts.filtered else "no seccomp filter"
    return Explanation(
        "unknown",
        f"{call} fails in a way that has no known cause",
        f"Linux {facts.release}, kernel.io_uring_disabled is {facts.io_uring_disabled}, {seccomp}",
        f"see what {call} answers under `strace -f -e trace=io_uring_setup,io_uring_enter,io_uring_register`",
    )
