"""Which driver a new loop takes: the caller's word, else RINGLOOP_DRIVER, else what works here.

Called when a loop is made. Invariant: where nobody asked for a driver, there is always one.
"""

import logging
import os

from ringloop import _core
from ringloop.errors import DISABLE_ENVIRONMENT, RingUnavailableError, ring_unavailable

ENVIRONMENT = "RINGLOOP_DRIVER"

logger = logging.getLogger("ringloop")

# A process that ran a NOP through a ring may do so again; a forked child may stand behind another filter.
_proven_in_pid = 0
_refused_in_pid = 0
_warned_in_pid = 0

# The value of RINGLOOP_DISABLE that rings are made by.
_hidden = ""


def requested_driver(requested: str | None = None) -> str | None:
    """Returns the driver that is asked for, "io_uring" or "epoll"; None leaves it to what works.

    `requested` is the caller's word; None leaves it to the environment variable RINGLOOP_DRIVER with the same
    meaning, which does not count when empty. Raises ValueError for any other name.
    """
    asked_by = "driver"
    if requested is None:
        asked_by = ENVIRONMENT
        requested = os.environ.get(ENVIRONMENT) or None
    if requested not in (None, "io_uring", "epoll"):
        raise ValueError(f"{asked_by} must be 'io_uring' or 'epoll', not {requested!r}")
    return requested


def choose_driver(requested: str | None = None) -> str:
    """Returns the name of the driver that a new loop is to take, given what `requested_driver` returned.

    Where io_uring is refused, and nobody asked for it, that is "epoll", and the log has one warning of it.
    Raises RingUnavailableError if io_uring was asked for and is refused.
    """
    if requested == "epoll":
        return requested
    hide_what_is_disabled()
    if requested is None and _refused_in_pid == os.getpid():
        return "epoll"
    try:
        prove_io_uring()
    except RingUnavailableError as error:
        if requested is not None:
            raise
        return fall_back(error)
    return "io_uring"


def available_driver() -> str:
    """Returns what `choose_driver` does where nobody asks for a driver, and warns nobody."""
    try:
        prove_io_uring()
    except RingUnavailableError:
        return "epoll"
    return "io_uring"


def fall_back(error: RingUnavailableError) -> str:
    """Returns "epoll", the driver for where io_uring is refused; warns of it once per process.

    Raises the error if it is of a kind that no driver could help: the process has no fd left.
    """
    global _warned_in_pid
    if error.cause == "file descriptors":
        raise error
    if _warned_in_pid != os.getpid():
        _warned_in_pid = os.getpid()
        logger.warning(
            "io_uring is not available, and so loops use epoll, which is slower: %s. Found by: %s. "
            "Remedy: %s. To choose epoll and see no warning: %s=epoll.",
            error.reason,
            error.found_by,
            error.remedy,
            ENVIRONMENT,
        )
    return "epoll"


def hide_what_is_disabled() -> None:
    """Lets rings that are made from now on lack what RINGLOOP_DISABLE names; ValueError for other names."""
    global _hidden, _proven_in_pid, _refused_in_pid
    names = os.environ.get(DISABLE_ENVIRONMENT, "")
    if names == _hidden:
        return
    from ringloop import hiding  # few processes hide anything

    hidden = hiding.parse(names)
    _core.hide(hidden.setup_flags, hidden.features, hidden.capabilities, hiding.opcode_bits(hidden.opcodes))
    _hidden = names
    _proven_in_pid = _refused_in_pid = 0


def prove_io_uring() -> None:
    """Runs a NOP through a throw-away ring, once per process; raises RingUnavailableError if that fails.

    After a failure it is tried again, but `choose_driver` does not ask again: it may take a quarter of a
    second to find that there is no memory for a ring.
    """
    global _proven_in_pid, _refused_in_pid
    hide_what_is_disabled()
    if _proven_in_pid == os.getpid():
        return
    failure = _core.probe()
    if failure is None:
        _proven_in_pid = os.getpid()
        return
    error = ring_unavailable(*failure)
    if error.cause != "file descriptors":
        _refused_in_pid = os.getpid()
    raise error
