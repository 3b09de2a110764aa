"""How late a timer of 1 ms is while something else goes on in the same loop."""

from __future__ import annotations

import asyncio
import time

PERIOD_S = 0.001


class Timer:
    """Fires again and again, 1 ms after the last time; `late_us` holds how late each was.

    The time is the system's: uvloop's own is of whole milliseconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None
        self.late_us: list[float] = []

    def start(self) -> None:
        """Sets the timer."""
        self._due_ns = time.monotonic_ns() + int(PERIOD_S * 1e9)
        self._handle = self._loop.call_later(PERIOD_S, self._fire)

    def stop(self) -> None:
        """If it is due by now, it is late: that counts."""
        assert self._handle is not None
        self._handle.cancel()
        if (late_ns := time.monotonic_ns() - self._due_ns) > 0:
            self.late_us.append(late_ns / 1000)

    def _fire(self) -> None:
        self.late_us.append(max(0, time.monotonic_ns() - self._due_ns) / 1000)
        self.start()
