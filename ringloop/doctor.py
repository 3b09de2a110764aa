"""The doctor: tells people whether io_uring works here, what the kernel permits, and what a loop would use.

Called by `python -m ringloop`. It tries a throw-away ring and asks the heart what a loop's ring would have;
no loop is run.
"""

import os
import platform
import resource
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ringloop import _core, kernel_names, operations
from ringloop.drivers import (
    ENVIRONMENT,
    available_driver,
    hide_what_is_disabled,
    prove_io_uring,
    requested_driver,
)
from ringloop.errors import DISABLE_ENVIRONMENT, RingUnavailableError
from ringloop.kernel_names import Meaning, meanings, operation_names
from ringloop.machine import CAP_IPC_LOCK, CAP_SYS_ADMIN, Facts, read_facts

_WIDTH = 110
_LABEL_WIDTH = 14


def examine(version: str) -> tuple[bool, str]:
    """Returns whether io_uring works in this process, and the report, lines of text for people.

    `version` is the package's.
    """
    facts = read_facts()
    misnamed = None
    try:
        hide_what_is_disabled()
    except ValueError as error:
        # What there is to be named is shown all the same.
        misnamed = str(error)
        del os.environ[DISABLE_ENVIRONMENT]
    lines = [
        f"ringloop {version} on {platform.python_implementation()} {platform.python_version()}",
        "",
        *_entry("kernel", f"Linux {facts.release} on {facts.machine}"),
        *_entry("permitted", *_permissions(facts)),
    ]
    try:
        prove_io_uring()
        lines += _ring(_core.driver_report("io_uring"))
        works = True
    except RingUnavailableError as error:
        lines += _unavailable(error)
        works = False
    lines += _entry("loop", f"none can be made: {misnamed}") if misnamed else _loop(works)
    return works, "\n".join(lines)


def _entry(label: str, *paragraphs: str) -> Iterator[str]:
    """The paragraphs, wrapped, beside the label."""
    for paragraph in paragraphs:
        yield from textwrap.wrap(
            paragraph,
            width=_WIDTH,
            initial_indent=f"{label:{_LABEL_WIDTH}}",
            subsequent_indent=" " * _LABEL_WIDTH,
            break_on_hyphens=False,
            break_long_words=False,
        )
        label = ""


def _permissions(facts: Facts) -> Iterator[str]:
    match facts.io_uring_disabled:
        case None:
            yield "sysctl kernel.io_uring_disabled: unknown to this kernel (it came with 6.6)"
        case 0:
            yield "sysctl kernel.io_uring_disabled = 0: every process may use io_uring"
        case 1:
            who = "this process may, by CAP_SYS_ADMIN" if facts.capable(CAP_SYS_ADMIN) else "others may not"
            group = "no group" if facts.io_uring_group in (None, -1) else f"group {facts.io_uring_group}"
            yield f"sysctl kernel.io_uring_disabled = 1: {group} may use io_uring, {who}"
        case value:
            yield f"sysctl kernel.io_uring_disabled = {value}: no process may use io_uring"
    if facts.seccomp_mode is None:
        yield "seccomp: this kernel does not tell"
    elif facts.filtered:
        yield "seccomp: a filter is in place; whether it lets io_uring through is found by trying"
    else:
        yield "seccomp: no filter"
    if facts.memlock_bytes == resource.RLIM_INFINITY:
        yield "locked memory (RLIMIT_MEMLOCK): no limit"
    elif facts.capable(CAP_IPC_LOCK):
        yield "locked memory (RLIMIT_MEMLOCK): no limit for this process, by CAP_IPC_LOCK"
    else:
        yield f"locked memory (RLIMIT_MEMLOCK): {facts.memlock_bytes // 1024} KiB for all rings of this user"


def _unavailable(error: RingUnavailableError) -> Iterator[str]:
    yield from _entry("io_uring", "does not work here")
    yield from _entry("cause", f"{error.cause}: {error.reason}")
    yield from _entry("found by", error.found_by)
    yield from _entry("remedy", error.remedy)


def _ring(report: Mapping[str, Any]) -> Iterator[str]:
    capabilities: int = report["capabilities"]
    operations = operation_names(report["opcodes"])
    unnamed = [name for name in kernel_names.OPERATIONS if name not in operations]
    yield from _entry("io_uring", "works: a request went through a throw-away ring and came back")
    yield from _entry(
        "ring", f"{report['sq_entries']} entries for submissions, {report['cq_entries']} for completions"
    )
    yield from _entry("setup flags", *_described(meanings(report["setup_flags"], kernel_names.SETUP_FLAGS)))
    yield from _entry("features", *_described(meanings(report["features"], kernel_names.FEATURES)))
    yield from _entry("operations", f"{len(operations)} available: {' '.join(operations)}")
    if unnamed:
        where = (
            "hidden, or not in this kernel" if os.environ.get(DISABLE_ENVIRONMENT) else "not in this kernel"
        )
        yield from _entry("", f"{where}: {' '.join(unnamed)}")
    used = list(_described(meanings(capabilities, kernel_names.CAPABILITIES)))
    yield from _entry("capabilities", *(used or ["none: each receive and accept is a request of its own"]))
    missing = list(_missing(report))
    if missing:
        yield from _entry("missing", *missing)
    yield from _entry("wake-up", *_wake_up())


def _described(bits: Iterable[Meaning]) -> Iterator[str]:
    for bit in bits:
        yield f"{bit.name} ({bit.kernel}): {bit.words}"


def _missing(report: Mapping[str, Any]) -> Iterator[str]:
    """What the ring lacks that a loop would use, and what that costs."""
    disabled = os.environ.get(DISABLE_ENVIRONMENT)
    if disabled:
        yield f"{DISABLE_ENVIRONMENT}={disabled} hides what it names"
    for field, names in (
        ("setup_flags", kernel_names.SETUP_FLAGS),
        ("features", kernel_names.FEATURES),
        ("capabilities", kernel_names.CAPABILITIES),
    ):
        for bit, meaning in names.items():
            if meaning.without and not report[field] >> bit & 1:
                yield f"{meaning.name} ({meaning.kernel}): without it, {meaning.without}"
    lacking = [
        name
        for name, entry in operations.ENTRIES.items()
        if entry.opcode and kernel_names.OPERATIONS.index(entry.opcode) not in report["opcodes"]
    ]
    if lacking:
        yield f"operations: by ringloop's worker threads, or not at all: {' '.join(lacking)}"


def _wake_up() -> Iterator[str]:
    yield "from other threads: an eventfd that the ring polls, written to only while the loop sleeps"
    yield "from signals: a socket pair that the ring polls (signal.set_wakeup_fd), in the main thread"


def _served() -> Iterator[str]:
    """How the operations of `ringloop.submit` are served, in groups by what serves them last."""
    table = operations.capabilities().values()
    yield f"{len(table)} operations (docs/operations.md), of which are served"
    for way, words in (
        (operations.RING, "by the ring, without a thread"),
        (operations.RING_WORKER, "by the ring's worker threads"),
        (operations.DRIVER, "by the driver, at once"),
        (operations.READINESS, "as soon as the file is ready, without a thread"),
        (operations.TIMER, "by the driver's timers"),
        (operations.DRIVER_WORKER, "by the driver's worker threads"),
        (operations.OWN_WORKER, "by ringloop's worker threads"),
    ):
        names = [one.name for one in table if one.served and one.served[-1] == way]
        if names:
            yield f"{words}: {' '.join(names)}"
    yield f"at once, if cached: {' '.join(one.name for one in table if operations.INLINE in one.served)}"
    missing = [one.name for one in table if not one.served]
    if missing:
        yield f"not here: {' '.join(missing)}"


def _loop(ring_works: bool) -> Iterator[str]:
    """What a loop would use, and how it serves what it is asked for."""
    asked = os.environ.get(ENVIRONMENT)
    source = f"{ENVIRONMENT}={asked}" if asked else f"{ENVIRONMENT} is not set"
    try:
        driver = requested_driver() or available_driver()
    except ValueError as error:
        yield from _entry("loop", f"none can be made: {error}")
        return
    if driver == "io_uring" and not ring_works:
        yield from _entry("loop", f"none can be made: io_uring does not work here ({source})")
        return
    yield from _entry("submit", *_served())
    words = [f"ringloop.new_event_loop() makes a ringloop.Loop over the {driver} driver ({source})"]
    if driver == "epoll":
        words.append(
            "over epoll everything works, with more system calls: sockets by readiness, files by threads"
        )
    yield from _entry("loop", *words)
