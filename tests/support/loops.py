"""Which loops the behaviour tests run on. asyncio's own loop is the oracle: a test that fails there is wrong.

`ringloop-epoll` is ringloop over its epoll driver; where io_uring is refused it is the only one.
`RINGLOOP_TEST_LOOPS` (names separated by commas) narrows the choice, or adds `uvloop` for interest.
Child processes import this as well, and so it imports little.
"""

import asyncio
import functools
import os
from collections.abc import Callable

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
ORACLE = "asyncio"


def _ringloop(driver: str) -> asyncio.AbstractEventLoop:
    import ringloop

    return ringloop.new_event_loop(driver)


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


FACTORIES: dict[str, LoopFactory] = {
    ORACLE: asyncio.SelectorEventLoop,
    "ringloop": functools.partial(_ringloop, "io_uring"),
    "ringloop-epoll": functools.partial(_ringloop, "epoll"),
    "uvloop": _uvloop,
}


#: What RINGLOOP_DRIVER has to be for `ringloop.new_event_loop()` to make the same kind of loop.
DRIVERS = {"ringloop": "io_uring", "ringloop-epoll": "epoll"}


@functools.cache
def why_no_ring() -> str:
    """What refuses io_uring to the tests; empty if nothing does."""
    from ringloop import _core

    failure = _core.probe()
    return "" if failure is None else f"io_uring is refused here: {failure[0]}"


def names_available() -> list[str]:
    """The names of all loops that can be had here, the oracle first."""
    return [ORACLE, *(name for name in DRIVERS if name != "ringloop" or not why_no_ring())]


def loop_names() -> list[str]:
    """The names of the loops under test, in the order to run them."""
    names = os.environ.get("RINGLOOP_TEST_LOOPS", "").split(",")
    if names == [""]:
        names = names_available()
    unknown = set(names) - set(FACTORIES)
    if unknown:
        raise ValueError(f"RINGLOOP_TEST_LOOPS: no such loop: {', '.join(sorted(unknown))}")
    return names


def ringloop_names() -> list[str]:
    """Those of `loop_names` that are ringloop, over one driver or the other."""
    return [name for name in loop_names() if name in DRIVERS]


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    """A new loop of the kind `name`, not watched by any fixture: for child processes."""
    return FACTORIES[name]()
