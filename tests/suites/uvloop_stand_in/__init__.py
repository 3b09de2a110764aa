"""Stands for uvloop in uvloop's own tests: its names, upon ringloop, or upon asyncio's loop for comparison.

Lies in the place of uvloop's package, beside what that has for its tests, so that child processes find it,
too. SUITE_LOOP says whose loop it is, and RINGLOOP_DRIVER which of ringloop's.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import ringloop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Loop: Any
EventLoopPolicy: Any
new_event_loop: LoopFactory

if os.environ["SUITE_LOOP"] == "ringloop":
    Loop, EventLoopPolicy = ringloop.Loop, ringloop.EventLoopPolicy
    new_event_loop = ringloop.new_event_loop
else:
    Loop = new_event_loop = asyncio.SelectorEventLoop
    if sys.version_info < (3, 14):
        EventLoopPolicy = asyncio.DefaultEventLoopPolicy
    else:
        EventLoopPolicy = asyncio.unix_events._DefaultEventLoopPolicy


def run(
    main: Coroutine[Any, Any, Any], *, debug: bool | None = None, loop_factory: LoopFactory = new_event_loop
) -> Any:
    """Runs it as uvloop's does, but on any loop."""
    if os.environ["SUITE_LOOP"] == "ringloop":
        return ringloop.run(main, debug=debug, loop_factory=loop_factory)
    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)
