"""What a file object does when it is cancelled, fails, is used by several tasks, or is forgotten."""

import asyncio
import contextlib
import fcntl
import gc
import os
import select
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ringloop
from support.waiting import until_asleep, wait_until


def forget(kept: list[Any]) -> None:
    """Drops what it holds, and what holds itself."""
    kept.clear()
    gc.collect()


async def cancelled(call: Any) -> None:
    """Begins the call, and cancels it when it waits."""
    task = asyncio.ensure_future(call)
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("buffering", [0, -1])
async def test_bytes_that_come_after_a_cancelled_read_go_to_the_next(buffering: int) -> None:
    reader, writer = os.pipe()
    async with ringloop.open(reader, "rb", buffering=buffering) as file:
        await cancelled(file.read(4))
        os.write(writer, b"abcd")
        assert await file.read(4) == b"abcd"
        os.close(writer)
        assert await file.read(4) == b""


async def test_what_a_cancelled_read_had_gathered_is_read_again() -> None:
    reader, writer = os.pipe()
    async with ringloop.open(reader, "rb") as file:
        os.write(writer, b"abc")
        task = asyncio.ensure_future(file.read(6))
        while not task.done() and select_is_ready(reader):
            await asyncio.sleep(0)
        await cancelled(task)
        os.write(writer, b"def")
        assert await file.read(6) == b"abcdef"
        os.close(writer)


def select_is_ready(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


async def test_calls_are_done_in_their_order(tmp_path: Path) -> None:
    async with ringloop.open(tmp_path / "file", "w+b", buffering=16) as file:
        pieces = [b"%03d," % number for number in range(200)]
        await asyncio.gather(*map(file.write, pieces))
        await file.seek(0)
        found = await asyncio.gather(*(file.read(4) for _ in pieces))
        assert found == pieces


async def test_a_cancelled_call_leaves_the_line() -> None:
    reader, writer = os.pipe()
    async with ringloop.open(reader, "rb", buffering=0) as file:
        tasks = [asyncio.ensure_future(file.read(1)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        os.write(writer, b"xy")
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert found[0] == b"x"
        assert isinstance(found[1], asyncio.CancelledError)
        assert found[2] == b"y"
        os.close(writer)


@pytest.mark.parametrize("mode", ["w", "wb"])
async def test_a_failed_flush_keeps_the_bytes_and_close_tells(mode: str) -> None:
    data: Any = "abc" if mode == "w" else b"abc"
    file = await ringloop.open("/dev/full", mode)
    assert await file.write(data) == 3
    for _ in range(2):
        with pytest.raises(OSError, match="No space left on device"):
            await file.flush()
        assert not file.closed
    with pytest.raises(OSError, match="No space left on device"):
        await file.close()
    assert file.closed
    await file.close()


async def test_a_cancelled_write_tells_how_far_it_came() -> None:
    """The pipe takes as much as it has room for, and the file knows what is left."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    file = await ringloop.open(writer, "wb", buffering=1000)
    assert await file.write(b"x" * 1000) == 1000
    os.set_blocking(writer, False)
    filled = 0
    while True:
        try:
            filled += os.write(writer, b"-" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(writer, True)
    await cancelled(file.flush())
    assert os.read(reader, filled) == b"-" * filled
    await file.flush()
    await file.close()
    assert os.read(reader, 5000) == b"x" * 1000
    os.close(reader)


@pytest.mark.parametrize("buffering", [0, -1])
async def test_after_a_cancelled_write_the_position_is_how_far_it_came(
    tmp_path: Path, buffering: int
) -> None:
    data = bytes(range(256)) * (1 << 17)
    path = tmp_path / "file"
    async with ringloop.open(path, "wb", buffering=buffering) as file:
        task = asyncio.ensure_future(file.write(data))
        while path.stat().st_size == 0:
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        position = await file.tell()
        assert 0 < position <= len(data)
        await file.flush()
        assert path.stat().st_size == position
        assert path.read_bytes() == data[:position]
        await file.write(data[position:])
    assert path.read_bytes() == data


@pytest.mark.parametrize("in_a_cycle", [False, True], ids=["", "in a cycle"])
@pytest.mark.parametrize(("mode", "buffering"), [("w", -1), ("wb", -1), ("wb", 0)])
async def test_a_forgotten_file_warns_and_loses_nothing(
    tmp_path: Path, mode: str, buffering: int, in_a_cycle: bool
) -> None:
    path = tmp_path / "file"
    file = await ringloop.open(path, mode, buffering=buffering)
    await file.write("abc" if mode == "w" else b"abc")
    described = repr(file)
    # A thread of asyncio's executor holds for a moment what it has just done.
    await asyncio.get_running_loop().shutdown_default_executor()
    holder: list[Any] = [file]
    if in_a_cycle:
        holder.append(holder)
    kept = [holder]
    del file, holder
    with pytest.warns(ResourceWarning) as caught:
        forget(kept)
    assert [str(one.message) for one in caught] == [f"unclosed file {described}"]
    assert path.read_bytes() == b"abc"


@pytest.mark.parametrize("mode", ["r", "rb", "r+b", "w"])
async def test_the_flags_of_an_fd_that_is_shown(tmp_path: Path, mode: str) -> None:
    (tmp_path / "file").touch()
    async with ringloop.open(tmp_path / "file", mode) as ours:
        await ours.flush()
        with open(tmp_path / "file", mode) as theirs:
            for command in (fcntl.F_GETFL, fcntl.F_GETFD):
                assert fcntl.fcntl(ours.fileno(), command) == fcntl.fcntl(theirs.fileno(), command)


async def test_what_was_not_entered_cannot_be_left(tmp_path: Path) -> None:
    opening = ringloop.open(tmp_path / "nothing")
    with pytest.raises(RuntimeError, match="not opened"):
        opening.__aexit__(None, None, None)
    with pytest.raises(FileNotFoundError):
        await opening
    with pytest.raises(RuntimeError, match="not opened"):
        opening.__aexit__(None, None, None)


async def test_a_call_that_was_never_awaited_warns(tmp_path: Path) -> None:
    async with ringloop.open(tmp_path / "file", "wb") as file:
        with pytest.warns(RuntimeWarning, match="coroutine 'write' was never awaited"):
            file.write(b"abc")


async def test_a_lock_keeps_others_out(tmp_path: Path) -> None:
    async with (
        ringloop.open(tmp_path / "file", "w") as first,
        ringloop.open(tmp_path / "file", "w") as second,
    ):
        for where in ({}, {"start": 10, "length": 5}):
            await first.lock(**where)
            with pytest.raises(BlockingIOError):
                await second.lock(wait=False, **where)
            await first.unlock(**where)
            await second.lock(wait=False, **where)
            await second.unlock(**where)


def range_locked(path: Path, start: int, length: int) -> tuple[int, int, int]:
    """Kind, start and length of a lock that keeps others from writing to the range; F_UNLCK if none does."""
    with open(path, "rb+") as file:
        asked = struct.pack("hhqqi", fcntl.F_WRLCK, 0, start, length, 0)
        answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked)
    kind, _, start, length, _ = struct.unpack("hhqqi", answer)
    return kind, start, length


def is_locked(path: Path, how: int) -> bool:
    """Whether a lock of that kind by flock() is to be waited for."""
    with open(path, "rb+") as file:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


async def granted_to_nobody(lock: Any, release: Callable[[], Any], is_granted: Callable[[], bool]) -> None:
    """Gives the call up when it has the lock, which `release` gives to it, and nobody was told yet."""
    task = asyncio.ensure_future(lock)
    await until_asleep()
    assert not task.done()
    release()
    wait_until(is_granted, "a lock granted")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("has_one", [False, True])
async def test_a_lock_that_is_given_up_takes_none_away_that_the_file_had(
    tmp_path: Path, has_one: bool
) -> None:
    path = tmp_path / "file"
    async with ringloop.open(path, "w") as file:
        if has_one:
            await file.lock(shared=True)
        with open(path) as other:
            fcntl.flock(other, fcntl.LOCK_SH)
            await granted_to_nobody(
                file.lock(),
                lambda: fcntl.flock(other, fcntl.LOCK_UN),
                lambda: is_locked(path, fcntl.LOCK_SH),
            )
        await file.fsync()
        assert is_locked(path, fcntl.LOCK_EX) == has_one
        await file.unlock()
        assert not is_locked(path, fcntl.LOCK_EX)


#: A lock's start and length, and a place in it that no other lock of the file is at.
GIVEN_UP_RANGES = [(30, 5, 32), (12, 20, 16), (0, 0, 50), (24, -20, 18)]


@pytest.mark.parametrize(("start", "length", "place"), GIVEN_UP_RANGES)
async def test_a_range_that_is_given_up_takes_none_away_that_the_file_had(
    tmp_path: Path, start: int, length: int, place: int
) -> None:
    path = tmp_path / "file"

    def set_other(kind: int) -> None:
        fcntl.fcntl(other, fcntl.F_OFD_SETLK, struct.pack("hhqqi", kind, 0, place, 1, 0))

    async with ringloop.open(path, "w+") as file:
        await file.lock(start=8, length=7, shared=True)
        await file.lock(start=20, length=5)
        await file.unlock(start=8, length=2)
        with open(path, "rb") as other:
            set_other(fcntl.F_RDLCK)
            await granted_to_nobody(
                file.lock(start=start, length=length),
                lambda: set_other(fcntl.F_UNLCK),
                lambda: range_locked(path, place, 1)[0] == fcntl.F_WRLCK,
            )
        await file.fsync()
        assert range_locked(path, 10, 5) == (fcntl.F_RDLCK, 10, 5)
        assert range_locked(path, 20, 5) == (fcntl.F_WRLCK, 20, 5)
        for first, size in ((0, 10), (15, 5), (25, 0)):
            assert range_locked(path, first, size)[0] == fcntl.F_UNLCK
        await file.unlock(start=0)
        assert range_locked(path, 0, 0)[0] == fcntl.F_UNLCK


@pytest.mark.parametrize("where", [{}, {"start": 10, "length": 5}], ids=["whole", "range"])
async def test_a_lock_is_waited_for_and_can_be_given_up(tmp_path: Path, where: dict[str, int]) -> None:
    async with (
        ringloop.open(tmp_path / "file", "w") as first,
        ringloop.open(tmp_path / "file", "w") as second,
        ringloop.open(tmp_path / "file", "w") as third,
    ):
        await first.lock(**where)
        await cancelled(second.lock(**where))
        waits = asyncio.ensure_future(third.lock(**where))
        await asyncio.sleep(0)
        assert not waits.done()
        await first.unlock(**where)
        await waits
        with pytest.raises(BlockingIOError):
            await second.lock(wait=False, **where)
