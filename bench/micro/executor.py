"""``loop.run_in_executor``: one call at a time, there and back."""

from __future__ import annotations

import asyncio

from bench.micro import nothing

CALLS = 100


async def batch(loop: asyncio.AbstractEventLoop) -> int:
    """Each call waits for the one before, as a coroutine that reads files by threads does."""
    for _ in range(CALLS):
        await loop.run_in_executor(None, nothing)
    return CALLS
