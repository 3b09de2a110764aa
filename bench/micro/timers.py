"""``loop.call_later``: timers that are cancelled, as most timeouts are, and timers that fire.

Ten thousand stand at a time, as in a server with as many connections: with few, everything is in the
first-level cache and the structure that holds them does not matter.
"""

from __future__ import annotations

import asyncio
import random

from bench.micro import nothing

TIMERS = 10_000
CANCELLED_DELAYS_S = [random.Random(1).uniform(10, 20) for _ in range(TIMERS)]
FIRED_DELAYS_S = [random.Random(2).uniform(0, 0.05) for _ in range(TIMERS)]


async def cancelled(loop: asyncio.AbstractEventLoop) -> int:
    """All are set, then all are cancelled in the order they were set."""
    timers = [loop.call_later(delay_s, nothing) for delay_s in CANCELLED_DELAYS_S]
    for timer in timers:
        timer.cancel()
    await asyncio.sleep(0)
    return TIMERS


async def fired(loop: asyncio.AbstractEventLoop) -> int:
    """All fire within 50 ms, in another order than they were set."""
    done: asyncio.Future[None] = loop.create_future()
    left = TIMERS

    def fire() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    for delay_s in FIRED_DELAYS_S:
        loop.call_later(delay_s, fire)
    await done
    return TIMERS
