"""A file outlives its loop, which was closed while calls on the file were in flight or in line."""

import asyncio
import gc
import os
from pathlib import Path
from typing import Any

import pytest

import ringloop
from support.loops import LoopFactory
from support.turns import turn

IN_FLIGHT = ["one", "three", "one after a cancelled one"]


async def start(reader: int, kind: str) -> tuple[Any, list[asyncio.Task[Any]]]:
    file = await ringloop.open(reader, "rb")
    tasks = [asyncio.ensure_future(file.read(1))]
    await asyncio.sleep(0)
    if kind == "three":
        tasks += [asyncio.ensure_future(file.read(1)) for _ in range(2)]
    elif kind != "one":
        tasks[0].cancel()
        tasks.append(asyncio.ensure_future(file.read(1)))
    return file, tasks


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("are_kept", [False, True], ids=["forgotten", "kept"])
@pytest.mark.parametrize("kind", IN_FLIGHT)
def test_another_loop_goes_on_with_the_file(loop_factory: LoopFactory, kind: str, are_kept: bool) -> None:
    reader, writer = os.pipe()
    first = loop_factory()
    first.set_exception_handler(lambda _, __: None)
    file, tasks = first.run_until_complete(start(reader, kind))
    turn(first, 3)
    first.close()
    kept = tasks if are_kept else []
    del tasks
    if not are_kept:
        gc.collect()
    os.write(writer, b"xyz")
    os.close(writer)

    async def go_on() -> None:
        # What came for a read that nobody collects is for the next.
        assert await file.read() == b"xyz"
        await file.close()

    second = loop_factory()
    second.run_until_complete(asyncio.wait_for(go_on(), 20))
    second.run_until_complete(second.shutdown_default_executor())
    second.close()
    assert file.closed
    kept.clear()
    gc.collect()


def test_another_loop_waits_for_the_thread_of_the_first(loop_factory: LoopFactory) -> None:
    """What it waits for has not ended yet when the second begins."""
    reader, writer = os.pipe()
    first = loop_factory()
    first.set_exception_handler(lambda _, __: None)
    file, tasks = first.run_until_complete(start(reader, "one"))
    turn(first, 3)
    first.close()

    async def go_on() -> None:
        reads = asyncio.ensure_future(file.read())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not reads.done()
        os.write(writer, b"xyz")
        os.close(writer)
        assert await reads == b"xyz"
        await file.close()

    second = loop_factory()
    second.run_until_complete(asyncio.wait_for(go_on(), 20))
    second.run_until_complete(second.shutdown_default_executor())
    second.close()
    del tasks
    gc.collect()


def test_what_was_written_behind_is_written_by_another_loop(
    loop_factory: LoopFactory, tmp_path: Path
) -> None:
    async def begin() -> Any:
        file = await ringloop.open(tmp_path / "file", "wb", write_behind=1 << 22)
        await file.write(bytes(1 << 20))
        return file

    first = loop_factory()
    file = first.run_until_complete(begin())
    first.close()

    async def go_on() -> None:
        await file.write(bytes(1 << 22))
        await file.close()

    second = loop_factory()
    second.run_until_complete(asyncio.wait_for(go_on(), 20))
    second.run_until_complete(second.shutdown_default_executor())
    second.close()
    assert (tmp_path / "file").stat().st_size == (1 << 20) + (1 << 22)
