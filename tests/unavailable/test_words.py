"""The diagnosis for every cause, from what the system says about itself."""

import errno
import pickle
import re
import resource
from pathlib import Path

import pytest

from ringloop.errors import RingCause, RingUnavailableError, ring_unavailable
from ringloop.machine import CAP_IPC_LOCK, CAP_SYS_ADMIN, SECCOMP_FILTER, Facts, read_facts

PLAIN = Facts(
    release="6.18.1-generic",
    machine="x86_64",
    io_uring_disabled=0,
    io_uring_group=-1,
    seccomp_mode=0,
    capabilities=0,
    memlock_bytes=8 << 20,
    files_max=1024,
)
FILTERED = PLAIN._replace(seccomp_mode=SECCOMP_FILTER)
SETUP = "io_uring_setup"
ENTER = "io_uring_enter"
REGISTER = "io_uring_register"


@pytest.mark.parametrize(
    ("ring_cause", "error", "call", "facts", "cause", "evidence", "remedy"),
    [
        (RingCause.FORBIDDEN, errno.EPERM, SETUP, FILTERED, "seccomp", "Seccomp: 2", "--security-opt"),
        (RingCause.NOT_BUILT_IN, errno.ENOSYS, SETUP, FILTERED, "seccomp", "Seccomp: 2", "--security-opt"),
        (RingCause.ENTER_REFUSED, errno.EPERM, ENTER, FILTERED, "seccomp", "Seccomp: 2", "seccomp"),
        (
            RingCause.FORBIDDEN, errno.EPERM, SETUP, FILTERED._replace(io_uring_disabled=2),
            "sysctl", "io_uring_disabled is 2", "sysctl -w kernel.io_uring_disabled=0",
        ),
        (
            RingCause.FORBIDDEN, errno.EPERM, SETUP, PLAIN._replace(io_uring_disabled=1, io_uring_group=7),
            "sysctl", "io_uring_group is 7", "member of the group",
        ),
        (
            RingCause.FORBIDDEN, errno.EPERM, SETUP,
            FILTERED._replace(io_uring_disabled=1, capabilities=1 << CAP_SYS_ADMIN),
            "seccomp", "Seccomp: 2", "--security-opt",
        ),
        (RingCause.FORBIDDEN, errno.EACCES, SETUP, PLAIN, "security module", "no seccomp", "policy"),
        (RingCause.NOT_BUILT_IN, errno.ENOSYS, SETUP, PLAIN, "kernel", "6.18.1-generic", "CONFIG_IO_URING"),
        (
            RingCause.NOT_BUILT_IN, errno.ENOSYS, SETUP, FILTERED._replace(release="4.18.0-80.el8"),
            "kernel", "4.18.0-80.el8", "5.11 or newer",
        ),
        (RingCause.TOO_OLD, errno.EINVAL, SETUP, PLAIN._replace(release="5.4.0"), "kernel", "5.4.0", "5.11"),
        (RingCause.NO_MEMORY, errno.ENOMEM, SETUP, PLAIN, "memlock", "8388608 bytes", "ulimit -l"),
        (
            RingCause.NO_MEMORY, errno.ENOMEM, SETUP, PLAIN._replace(capabilities=1 << CAP_IPC_LOCK),
            "memory", "does not apply", "memory.max",
        ),
        (
            RingCause.NO_MEMORY, errno.ENOMEM, SETUP, PLAIN._replace(memlock_bytes=resource.RLIM_INFINITY),
            "memory", "does not apply", "memory.max",
        ),
        (RingCause.NO_FD, errno.EMFILE, SETUP, PLAIN, "file descriptors", "NOFILE is 1024", "ulimit -n"),
        (RingCause.NO_FD, errno.ENFILE, SETUP, PLAIN, "file descriptors", "ENFILE", "fs.file-max"),
        (RingCause.REGISTER_REFUSED, errno.EPERM, REGISTER, PLAIN, "unknown", "no seccomp", "strace"),
        (RingCause.OTHER, errno.EIO, "mmap", PLAIN, "unknown", "mmap failed with EIO", "strace"),
    ],
)  # fmt: skip
def test_diagnosis(
    ring_cause: RingCause, error: int, call: str, facts: Facts, cause: str, evidence: str, remedy: str
) -> None:
    told = ring_unavailable(ring_cause, error, call, facts)
    assert (told.errno, told.cause) == (error, cause)
    assert f"{call} failed with {errno.errorcode[error]}" in told.found_by
    assert evidence in told.found_by
    assert remedy in told.remedy
    assert str(told) == (
        f"[Errno {error}] io_uring is not available: {told.reason}. "
        f"Found by: {told.found_by}. Remedy: {told.remedy}."
    )


def test_pickling_keeps_everything() -> None:
    error = ring_unavailable(RingCause.FORBIDDEN, errno.EPERM, SETUP)
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, RingUnavailableError)
    assert (copy.args, vars(copy)) == (error.args, vars(error))


def test_causes_are_those_of_the_c_header() -> None:
    header = Path(__file__).parents[2].joinpath("ringloop/native/ring.h").read_text()
    enumerators = re.search(r"enum rl_ring_cause \{(.*?)\};", header, re.DOTALL)
    assert enumerators
    names = re.findall(r"^\s*RL_RING_(\w+)", enumerators[1], re.MULTILINE)
    assert names == [cause.name for cause in RingCause]


def test_facts_of_this_machine() -> None:
    facts = read_facts()
    assert facts.kernel >= (5, 1)
    assert facts.seccomp_mode in (0, SECCOMP_FILTER)
    assert facts.capabilities >= 0
