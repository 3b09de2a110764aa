"""Work that is repeated: once by default, for a share of --integration-minutes if that is given.

Invariant: a round ends all that it began. After each one the process has no more file descriptors than after
the first, and no more than a bounded number of threads and bytes.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from support.leaks import open_fds, resident_bytes, thread_count

SETTLES_WITHIN = 20.0  # seconds: only what fails takes that long
THREADS_MORE = 40  # asyncio's executor, ringloop's workers and the ring's come when they are first needed
BYTES_MORE = 64 * 1024 * 1024
ROUNDS_OF_GROWTH = 3  # allocators and caches have then what they want


@dataclass(frozen=True)
class Held:
    """What the process has, and what the loop has in flight (ringloop says so)."""

    fds: int
    in_flight: int

    @staticmethod
    def now() -> "Held":
        counters = getattr(asyncio.get_running_loop(), "_counters", dict)()
        return Held(len(open_fds()), counters.get("in_flight", 0))

    def exceeds(self, other: "Held") -> bool:
        return self.fds > other.fds or self.in_flight > other.in_flight


class Rounds:
    """Runs rounds of work in the running loop until `seconds` have passed, at least one; counts them."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.done = 0

    async def run(self, one_round: Callable[[int], Awaitable[None]]) -> None:
        """Calls `one_round(number)` again and again, and compares what is held after each."""
        deadline = time.monotonic() + self.seconds
        before = await settled(Held.now())
        threads, grown_bytes = thread_count(), resident_bytes()
        while self.done == 0 or time.monotonic() < deadline:
            await one_round(self.done)
            held = await settled(before)
            assert not held.exceeds(before), f"after round {self.done}: {held}, before the first: {before}"
            assert thread_count() <= threads + THREADS_MORE
            self.done += 1
            if self.done <= ROUNDS_OF_GROWTH:
                grown_bytes = max(grown_bytes, resident_bytes())
            assert resident_bytes() <= grown_bytes + BYTES_MORE


async def settled(wanted: Held) -> Held:
    """What is held when it is no more than `wanted`, or when it has had its time: ends come a pass later."""
    deadline = time.monotonic() + SETTLES_WITHIN
    while True:
        await asyncio.sleep(0)
        gc.collect()
        held = Held.now()
        if not held.exceeds(wanted) or time.monotonic() > deadline:
            return held
        await asyncio.sleep(0.01)
