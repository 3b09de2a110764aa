"""The front door: a new loop, a program run on it, and ringloop as the whole process's default.

Nothing here names asyncio's policy: it warns in 3.14 and is gone in 3.16. `install` reaches for it on first
use.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ringloop.loop import Loop

_T = TypeVar("_T")

#: asyncio has event loop policies up to Python 3.15.
HAS_POLICIES = sys.version_info < (3, 16)


def new_event_loop(driver: str | None = None) -> Loop:
    """Returns a new event loop. The caller closes it.

    `driver` is "io_uring" or "epoll"; None takes what the environment variable RINGLOOP_DRIVER names, or else
    what works: io_uring, and epoll where that is refused, of which the logger "ringloop" has one warning.
    `loop.driver` tells.

    Raises RingUnavailableError where io_uring is asked for and the kernel refuses it, with the cause and the
    remedy; ValueError for any other name.
    """
    return Loop(driver)


def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> _T:
    """Runs the coroutine on a new ringloop and returns its result, as `asyncio.run` does on asyncio's loop.

    `debug` switches the loop's debug mode; None leaves it to PYTHONASYNCIODEBUG and `-X dev`. `loop_factory`
    makes the loop instead of `new_event_loop`. Raises RuntimeError when a loop is running in this thread.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("ringloop.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=loop_factory or new_event_loop) as runner:
        return runner.run(main)


def install() -> None:
    """Makes ringloop what `asyncio.run`, `asyncio.Runner` and `asyncio.new_event_loop` use in this process.

    By an event loop policy where Python has them, else by taking the place of `asyncio.new_event_loop`.
    """
    if HAS_POLICIES:
        from ringloop.policy import set_policy

        set_policy()
    else:
        replace_new_event_loop()


def replace_new_event_loop() -> None:
    """Puts `new_event_loop` in the place of asyncio's, where `Runner` and users look for it."""
    for module in (asyncio, asyncio.events):
        module.new_event_loop = new_event_loop  # type: ignore[attr-defined]
