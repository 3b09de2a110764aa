"""A file outlives its loop, which was closed while calls on the file were in flight or in line."""

import asyncio
import concurrent.futures
import gc
import os
import threading
from collections.abc import Coroutine
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

    run_in_a_second_loop(loop_factory, go_on())
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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("method", ["read", "close"])
def test_another_loop_goes_on_though_the_executor_of_the_first_has_dropped_the_call(
    loop_factory: LoopFactory, method: str
) -> None:
    reader, writer = os.pipe()
    first = loop_factory()
    first.set_exception_handler(lambda _, __: None)
    executor = concurrent.futures.ThreadPoolExecutor(1)
    first.set_default_executor(executor)
    goes_on = threading.Event()
    holds = executor.submit(goes_on.wait)

    async def begin() -> asyncio.Task[Any]:
        task = asyncio.ensure_future(getattr(file, method)())
        await asyncio.sleep(0)
        return task

    # By a loop whose threads are free.
    file = asyncio.run(opened(reader))
    task = first.run_until_complete(begin())
    executor.shutdown(wait=False, cancel_futures=True)
    first.close()
    if method == "read":
        os.write(writer, b"xyz")
    os.close(writer)
    goes_on.set()
    holds.result()

    async def go_on() -> None:
        if method == "read":
            assert await file.read() == b"xyz"
        await file.close()

    run_in_a_second_loop(loop_factory, go_on())
    assert file.closed
    del task
    gc.collect()


def run_in_a_second_loop(loop_factory: LoopFactory, work: Coroutine[Any, Any, None]) -> None:
    second = loop_factory()
    second.run_until_complete(asyncio.wait_for(work, 20))
    second.run_until_complete(second.shutdown_default_executor())
    second.close()


async def opened(fd: int) -> Any:
    return await ringloop.open(fd, "rb")


def test_a_call_that_the_executor_drops_is_cancelled() -> None:
    """As one of run_in_executor()."""
    reader, writer = os.pipe()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        file = await ringloop.open(reader, "rb")
        executor = concurrent.futures.ThreadPoolExecutor(1)
        goes_on = threading.Event()
        holds = executor.submit(goes_on.wait)
        loop.set_default_executor(executor)
        task = asyncio.ensure_future(file.read(1))
        await asyncio.sleep(0)
        executor.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(asyncio.CancelledError):
            await task
        goes_on.set()
        holds.result()
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        os.write(writer, b"x")
        assert await file.read(1) == b"x"
        await file.close()

    asyncio.run(main())
    os.close(writer)
