"""``loop.call_soon_threadsafe``: from the loop's own thread, and from another one."""

from __future__ import annotations

import asyncio
import threading

from bench.micro import nothing

CALLS = 10_000
BURST = 100


async def same_thread(loop: asyncio.AbstractEventLoop) -> int:
    """A hundred calls in each iteration, made by the running loop itself."""
    for _ in range(CALLS // BURST):
        for _ in range(BURST):
            loop.call_soon_threadsafe(nothing)
        await asyncio.sleep(0)
    return CALLS


async def other_thread(loop: asyncio.AbstractEventLoop) -> int:
    """Bursts of a hundred calls by a thread that waits until the loop has run each burst."""
    done: asyncio.Future[None] = loop.create_future()
    burst_ran = threading.Event()

    def produce() -> None:
        for _ in range(CALLS // BURST):
            for _ in range(BURST - 1):
                loop.call_soon_threadsafe(nothing)
            loop.call_soon_threadsafe(burst_ran.set)
            burst_ran.wait()
            burst_ran.clear()
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=produce)
    thread.start()
    await done
    thread.join()
    return CALLS
