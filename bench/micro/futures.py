"""Futures that wake a task: what each awaited result costs above the work that made it."""

from __future__ import annotations

import asyncio

HAND_OVERS = 10_000


async def batch(loop: asyncio.AbstractEventLoop) -> int:
    """Each hand-over is a new future, a result set by a callback, and a task woken by it."""
    for _ in range(HAND_OVERS):
        future: asyncio.Future[None] = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future
    return HAND_OVERS
