"""``loop.call_soon``: one callback per iteration, and a thousand per iteration."""

from __future__ import annotations

import asyncio

from bench.micro import nothing

CALLS = 10_000
FAN = 1_000


async def chain(loop: asyncio.AbstractEventLoop) -> int:
    """A callback that registers itself again: each call is an iteration of the loop, with its poll."""
    done: asyncio.Future[None] = loop.create_future()
    left = CALLS

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    loop.call_soon(step)
    await done
    return CALLS


async def fan(loop: asyncio.AbstractEventLoop) -> int:
    """A thousand callbacks in each iteration: the price of a handle and its call alone."""
    for _ in range(CALLS // FAN):
        for _ in range(FAN):
            loop.call_soon(nothing)
        await asyncio.sleep(0)
    return CALLS
