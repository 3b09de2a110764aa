"""A clock that a test moves by hand, in place of `loop.time`, so that timers fire in a known iteration.

A ticker registers itself anew in every iteration: the loop never sleeps, and each iteration takes a second.
"""

import asyncio


class TickingClock:
    """Installs itself as `loop.time`; `now` starts at 1000.0 and grows by 1.0 in each iteration."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, iterations: int) -> None:
        """Stops the loop after `iterations` of them."""
        self.now = 1000.0
        self.iteration = 0
        self._loop = loop
        self._last = iterations
        loop.time = lambda: self.now  # type: ignore[method-assign]
        loop.call_soon(self._tick)

    def _tick(self) -> None:
        self.iteration += 1
        self.now += 1.0
        if self.iteration == self._last:
            self._loop.stop()
        else:
            self._loop.call_soon(self._tick)
