"""Workloads inside one process: what a loop costs without any socket, one subject per file.

Each workload is a coroutine function ``batch(loop)`` that makes a good number of calls (some
milliseconds' worth) and returns how many. ``python -m bench.micro NAME --loop LOOP`` repeats it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Batch = Callable[[asyncio.AbstractEventLoop], Awaitable[int]]

WORKLOADS = {
    "call_soon": "call_soon:chain",
    "call_soon-fan": "call_soon:fan",
    "sleep0": "sleep_zero:batch",
    "timers-cancelled": "timers:cancelled",
    "timers-fired": "timers:fired",
    "threadsafe": "threadsafe:same_thread",
    "threadsafe-other": "threadsafe:other_thread",
    "create_task": "tasks:batch",
    "future": "futures:batch",
    "executor": "executor:batch",
    "pipe-receive": "pipes:receive",
    "pipe-send": "pipes:send",
    "pipe-echo": "pipes:echo",
    "sendfile": "files_sent:send",
    "spawn": "spawns:small",
    "spawn-1g": "spawns:large",
}


def nothing() -> None:
    """A callback that costs as little as a callback can."""
