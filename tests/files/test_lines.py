"""Calls on one file that wait in line behind each other, and what becomes of those given up there."""

import asyncio
import os
from typing import Any

import pytest

import ringloop

CALLS = [
    ("close", ()),
    ("tell", ()),
    ("read", (1,)),
    ("readline", ()),
    ("seek", (0,)),
    ("flush", ()),
    ("detach", ()),
]


async def begun(call: Any) -> asyncio.Future[Any]:
    """A task that has done its first step."""
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize(("method", "arguments"), CALLS, ids=[name for name, _ in CALLS])
@pytest.mark.parametrize("mode", ["r", "rb"])
async def test_a_call_behind_a_detach_finds_the_raw_file_gone(mode: str, method: str, arguments: Any) -> None:
    reader, writer = os.pipe()
    file = await ringloop.open(reader, mode)
    below = file.buffer if mode == "r" else file
    reads = await begun(below.read(1))
    detaches = await begun(below.detach())
    behind = await begun(getattr(file, method)(*arguments))
    os.write(writer, b"xy")
    os.close(writer)
    assert await reads == b"x"
    raw = await detaches
    with pytest.raises(ValueError, match="raw stream has been detached"):
        await behind
    await raw.close()


@pytest.mark.parametrize("buffering", [0, -1])
async def test_one_in_line_is_cancelled_after_the_one_that_has_the_turn(buffering: int) -> None:
    reader, writer = os.pipe()
    async with ringloop.open(reader, "rb", buffering=buffering) as file:
        tasks = [await begun(file.read(1)) for _ in range(3)]
        tasks[0].cancel()
        tasks[1].cancel()
        for task in tasks[:2]:
            with pytest.raises(asyncio.CancelledError):
                await task
        os.write(writer, b"x")
        assert await tasks[2] == b"x"
        os.close(writer)
