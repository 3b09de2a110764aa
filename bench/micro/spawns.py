"""Subprocesses: `/bin/true` started and waited for, by a small parent and by one with 1 GiB resident."""

from __future__ import annotations

import asyncio
import functools

CALLS = 20
RESIDENT_BYTES = 1 << 30
PAGE_BYTES = 4096


@functools.cache
def large_memory() -> bytearray:
    """Memory of which every page is there; the same for all batches."""
    memory = bytearray(RESIDENT_BYTES)
    memory[::PAGE_BYTES] = b"r" * (RESIDENT_BYTES // PAGE_BYTES)
    return memory


async def small(loop: asyncio.AbstractEventLoop) -> int:
    """One child after the other."""
    for _ in range(CALLS):
        child = await asyncio.create_subprocess_exec("/bin/true")
        await child.wait()
    return CALLS


async def large(loop: asyncio.AbstractEventLoop) -> int:
    """The same with much memory, which a spawn must not copy the page tables of."""
    large_memory()
    return await small(loop)
