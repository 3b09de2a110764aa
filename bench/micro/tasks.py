"""``loop.create_task``: tasks that end in their first step."""

from __future__ import annotations

import asyncio

TASKS = 1_000
ROUNDS = 5


async def at_once() -> None:
    """Ends without waiting."""


async def batch(loop: asyncio.AbstractEventLoop) -> int:
    """A thousand tasks at a time, awaited one by one."""
    for _ in range(ROUNDS):
        for task in [loop.create_task(at_once()) for _ in range(TASKS)]:
            await task
    return ROUNDS * TASKS
