"""Calls that are given up while they are in flight: what they lent, and what they were to close."""

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import ringloop
from support import leaks
from support.loops import LoopFactory
from support.marks import ringloop_only
from support.waiting import until_asleep


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("buffering", [0, -1])
async def test_a_cancelled_write_locks_its_memory_until_the_kernel_is_done(buffering: int) -> None:
    reader, writer = full_pipe()
    data = bytearray(1 << 20)
    file = await ringloop.open(writer, "wb", buffering=buffering)
    task = asyncio.ensure_future(file.write(data))
    await until_asleep()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    reads = asyncio.get_running_loop().run_in_executor(None, read_to_the_end, reader)
    await file.close()
    await reads
    data.append(1)


def full_pipe() -> tuple[int, int]:
    """A pipe that takes nothing more until somebody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    return reader, writer


def read_to_the_end(fd: int) -> None:
    with open(fd, "rb") as file:
        file.read()


@pytest.mark.parametrize("buffering", [0, -1])
async def test_a_write_can_be_closed_while_it_is_in_flight(buffering: int) -> None:
    reader, writer = full_pipe()
    data = bytearray(1 << 20)
    file = await ringloop.open(writer, "wb", buffering=buffering)

    async def write() -> None:
        await file.write(data)

    coroutine = write()
    waits_for: Any = coroutine.send(None)
    while waits_for is None or waits_for.done():
        await asyncio.sleep(0)
        waits_for = coroutine.send(None)
    await until_asleep()
    coroutine.close()
    reads = asyncio.get_running_loop().run_in_executor(None, read_to_the_end, reader)
    await file.close()
    await reads
    data.append(1)


class Number:
    """Has nothing of an integer but its value."""

    def __index__(self) -> int:
        return 3


@pytest.mark.parametrize("length", [5, 3 << 20])
async def test_numbers_of_a_pread(tmp_path: Path, length: int) -> None:
    (tmp_path / "file").write_bytes(b"abcdefgh")
    async with ringloop.open(tmp_path / "file", "rb", buffering=0) as file:
        offset: Any = Number()
        assert await file.pread(length, offset) == b"defgh"[:length]


@ringloop_only
def test_a_close_that_is_cancelled_before_its_turn_closes(loop_factory: LoopFactory, tmp_path: Path) -> None:
    async def use_up_turns(file: Any, count: int) -> None:
        for _ in range(count):
            await ringloop.os.stat("/")
        await file.close()

    async def main() -> None:
        for count in range(12):
            file = await ringloop.open(tmp_path / "file", "wb", buffering=0)
            await file.write(b"x")
            task = asyncio.ensure_future(use_up_turns(file, count))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            while file.closed and str(tmp_path / "file") in leaks.open_fds().values():
                await asyncio.sleep(0)
            await file.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


@pytest.mark.parametrize("is_shut_down", [False, True], ids=["", "executor that drops it"])
def test_a_close_that_is_cancelled_before_its_thread_begins_closes(
    tmp_path: Path, is_shut_down: bool
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        executor = concurrent.futures.ThreadPoolExecutor(1)
        loop.set_default_executor(executor)
        file = await ringloop.open(tmp_path / "file", "wb", buffering=0)
        fd = file.fileno()
        began, goes_on = threading.Event(), threading.Event()

        def hold() -> None:
            began.set()
            goes_on.wait()

        others = loop.run_in_executor(None, hold)
        began.wait()
        task = asyncio.ensure_future(file.close())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert file.closed
        if is_shut_down:
            executor.shutdown(wait=False, cancel_futures=True)
        goes_on.set()
        await others
        executor.shutdown()
        del task
        # What the thread had told the loop before.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not is_open(fd)

    asyncio.run(main())


async def gone(fd: int, executor: concurrent.futures.Executor) -> bool:
    """Whether it is closed when all is done that the executor was given before."""
    await asyncio.get_running_loop().run_in_executor(executor, int)
    return not is_open(fd)


@pytest.mark.parametrize("when", ["while it runs", "when it is over"])
async def test_what_an_opener_opens_for_nobody_is_closed(tmp_path: Path, when: str) -> None:
    loop = asyncio.get_running_loop()
    (tmp_path / "file").touch()
    began, goes_on = threading.Event(), threading.Event()
    fds: list[int] = []

    def opener(path: str, flags: int) -> int:
        fds.append(os.open(path, flags))
        began.set()
        goes_on.wait()
        return fds[0]

    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        loop.set_default_executor(executor)
        task = asyncio.ensure_future(ringloop.open(tmp_path / "file", "rb", opener=opener))
        while not began.is_set():
            await asyncio.sleep(0)
        if when == "when it is over":
            goes_on.set()
            executor.submit(int).result()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        goes_on.set()
        assert await gone(fds[0], executor)


async def test_a_coroutine_of_an_opener_that_nobody_waits_for_is_closed() -> None:
    began, goes_on = threading.Event(), threading.Event()

    async def never() -> int:
        raise AssertionError

    def opener(path: str, flags: int) -> Any:
        began.set()
        goes_on.wait()
        return never()

    task = asyncio.ensure_future(ringloop.open("file", "rb", opener=opener))
    while not began.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    goes_on.set()
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_what_an_opener_opened_is_closed_if_it_would_be_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, inheritable: bool) -> None:
        raise PermissionError("refused")

    fds: list[int] = []
    (tmp_path / "file").touch()

    def opener(path: str, flags: int) -> int:
        fds.append(os.open(path, flags))
        return fds[0]

    with monkeypatch.context() as patched:
        patched.setattr(os, "set_inheritable", refuse)
        with pytest.raises(PermissionError, match="refused"):
            await ringloop.open(tmp_path / "file", "rb", opener=opener)
    assert not is_open(fds[0])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
async def test_a_write_that_nothing_is_taken_of_leaves_the_mark_to_the_next(encoding: str) -> None:
    """The byte order mark, which stands before the first text alone."""
    reader, writer = full_pipe()
    file = await ringloop.open(writer, "w", buffering=16, encoding=encoding)
    await file.buffer.write(b"before ")
    task = asyncio.ensure_future(file.write("never" * 10))
    await until_asleep()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    reads = asyncio.get_running_loop().run_in_executor(None, everything, reader)
    await file.write("text")
    await file.close()
    assert (await reads).lstrip(b"\0") == b"before " + "text".encode(encoding)


def everything(fd: int) -> bytes:
    with open(fd, "rb") as file:
        return file.read()
