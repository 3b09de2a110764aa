"""Watches over the loops of one test: what their exception handlers were told, and if they were closed.

One `Watch` lives as long as one test (fixture `watch`). Invariant at its end: every call of an exception
handler was expected, that is taken by `take()`; every loop left is closed and has nothing in flight.
"""

import asyncio
import weakref
from typing import Any

import pytest

from support.loops import LoopFactory

Context = dict[str, Any]


class Watch:
    """The loops made during one test and the contexts that reached their exception handlers."""

    def __init__(self) -> None:
        self.contexts: list[Context] = []
        self._loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    def factory(self, make: LoopFactory) -> LoopFactory:
        """`make`, but each new loop's exception handler records here (until another one is set)."""

        def watched() -> asyncio.AbstractEventLoop:
            loop = make()
            loop.set_exception_handler(self._record)
            self._loops.append(weakref.ref(loop))
            return loop

        return watched

    def _record(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self.contexts.append(context)
        if isinstance(context.get("exception"), pytest.fail.Exception):
            # The test's time was up during a callback: the loop would swallow that and run for ever.
            loop.stop()

    def take(self) -> list[Context]:
        """The contexts recorded so far; they count as expected from now on."""
        taken, self.contexts = self.contexts, []
        return taken

    def finish(self) -> None:
        """Fails if a handler call was not taken, or a loop is open or has something in flight."""
        unexpected = self.take()
        assert not unexpected, f"the exception handler was called and no test asked for it: {unexpected}"
        for reference in self._loops:
            loop = reference()
            if loop is None:
                continue
            assert loop.is_closed(), f"left open: {loop!r}"
            counters = getattr(loop, "_counters", None)
            if counters is not None:
                assert_balanced(counters())


def assert_balanced(counters: dict[str, int]) -> None:
    """Of a closed loop: nothing is in flight, ready or scheduled any more."""
    left = {name: counters[name] for name in ("in_flight", "ready", "timers") if counters[name]}
    assert not left, f"still there after close: {left}"
