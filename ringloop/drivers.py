"""Which driver a new loop takes: the caller's word, else RINGLOOP_DRIVER, else what works here.

Called when a loop is made. Invariant: a driver that is returned has run a request in this very process.
"""

import os

from ringloop import _core, errors

ENVIRONMENT = "RINGLOOP_DRIVER"

# A process that ran a NOP through a ring may do so again; a forked child may stand behind another filter.
_proven_in_pid = 0


def choose_driver(requested: str | None = None) -> str:
    """Returns the name of the driver that a new loop is to take.

    `requested` is "io_uring" or "epoll"; None leaves the choice to the environment variable RINGLOOP_DRIVER
    with the same meaning, and to the loop where that is unset or empty.

    Raises RingUnavailableError if the kernel refuses io_uring, NotImplementedError for "epoll", ValueError
    for any other name.
    """
    asked_by = "driver"
    if requested is None:
        asked_by = ENVIRONMENT
        requested = os.environ.get(ENVIRONMENT) or None
    if requested == "epoll":
        raise NotImplementedError(f"{asked_by}='epoll': the epoll driver is not built yet")
    if requested not in (None, "io_uring"):
        raise ValueError(f"{asked_by} must be 'io_uring' or 'epoll', not {requested!r}")
    prove_io_uring()
    return "io_uring"


def prove_io_uring() -> None:
    """Runs a NOP through a throw-away ring, once per process; raises RingUnavailableError if that fails.

    A failure is not remembered: limits change.
    """
    global _proven_in_pid
    if _proven_in_pid == os.getpid():
        return
    failure = _core.probe()
    if failure is not None:
        raise errors.ring_unavailable(*failure)
    _proven_in_pid = os.getpid()
