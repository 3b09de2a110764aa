"""Iterations by number instead of by time: what is ready takes a known number of them on any machine."""

import asyncio


def turn(loop: asyncio.AbstractEventLoop, times: int = 1) -> None:
    """Runs `times` iterations of a loop that is not running. None of them waits."""
    for _ in range(times):
        loop.stop()
        loop.run_forever()
