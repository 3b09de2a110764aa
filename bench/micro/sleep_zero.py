"""``await asyncio.sleep(0)``: a task that gives way and goes on in the next iteration."""

from __future__ import annotations

import asyncio

SLEEPS = 10_000


async def batch(loop: asyncio.AbstractEventLoop) -> int:
    """One task, one iteration per sleep."""
    for _ in range(SLEEPS):
        await asyncio.sleep(0)
    return SLEEPS
