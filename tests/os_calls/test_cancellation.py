"""A cancelled call takes nothing with it: no byte of a stream, no file descriptor, no lock on a buffer."""

import asyncio
import contextlib
import fcntl
import gc
import os
import pty
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import ringloop
import ringloop.os
from support.marks import ringloop_only
from support.turns import turn


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture(params=["pipe", "socket", "terminal"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Two file descriptors of a stream: to read from, to write to."""
    if request.param == "pipe":
        ends = os.pipe()
    elif request.param == "socket":
        ours, theirs = socket.socketpair()
        ends = ours.detach(), theirs.detach()
    else:
        theirs_fd, ours_fd = pty.openpty()
        ends = ours_fd, theirs_fd
    yield ends
    for fd in ends:
        os.close(fd)


async def test_a_cancelled_read_loses_nothing(ends: tuple[int, int]) -> None:
    read_end, write_end = ends
    for count in range(20):
        line = b"line %d\n" % count
        reading = asyncio.create_task(ringloop.os.read(read_end, 100))
        await turns(count % 4)
        if count % 2:
            os.write(write_end, line)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        if not count % 2:
            os.write(write_end, line)
        assert await ringloop.os.read(read_end, 100) == line


async def read_vector(fd: int, buffer: bytearray) -> int:
    return await ringloop.os.readv(fd, [buffer])


async def read_into(fd: int, buffer: bytearray) -> int:
    return await ringloop.os.readinto(fd, buffer)


Read = Callable[[int, bytearray], Coroutine[Any, Any, int]]


@pytest.fixture(params=[read_vector, read_into])
def read(request: pytest.FixtureRequest) -> Read:
    """A read into a buffer."""
    return request.param


async def test_a_cancelled_read_into_a_buffer_loses_nothing_and_lets_go_of_it(
    read: Read, ends: tuple[int, int]
) -> None:
    read_end, write_end = ends
    buffer = bytearray(10)
    reading = asyncio.create_task(read(read_end, buffer))
    await turns(3)
    with pytest.raises(BufferError):
        buffer.append(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    del reading
    os.write(write_end, b"abc\n")
    assert await read(read_end, buffer) == 4
    assert buffer[:4] == b"abc\n"
    buffer.append(0)


async def test_a_read_into_a_buffer_waits_for_what_comes(read: Read, ends: tuple[int, int]) -> None:
    read_end, write_end = ends
    buffer = bytearray(3)
    reading = asyncio.create_task(read(read_end, buffer))
    await turns(3)
    assert not reading.done()
    os.write(write_end, b"abcd\n")
    assert await reading == 3
    assert buffer == b"abc"
    assert await read(read_end, buffer) == 2
    assert buffer == b"d\nc"


async def test_two_readers_of_a_pipe_share_what_comes() -> None:
    read_end, write_end = os.pipe()
    try:
        readers = [asyncio.create_task(ringloop.os.read(read_end, 1)) for _ in range(3)]
        await turns(3)
        for byte in (b"a", b"b", b"c"):
            os.write(write_end, byte)
        assert sorted(await asyncio.gather(*readers)) == [b"a", b"b", b"c"]
    finally:
        os.close(read_end)
        os.close(write_end)


async def test_a_timeout_is_never_swallowed() -> None:
    read_end, write_end = os.pipe()
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await ringloop.os.read(read_end, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ringloop.os.read(read_end, 1), 0.01)
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_cancelled_open_of_a_fifo_leaves_no_fd(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def main() -> None:
        for count in range(20):
            opening = asyncio.create_task(ringloop.os.open(fifo, os.O_RDONLY))
            await turns(count % 4)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening

    ringloop.run(main())


async def test_an_open_that_won_against_its_cancel_is_closed(tmp_path: Path) -> None:
    for count in range(50):
        opening = asyncio.create_task(ringloop.os.open(tmp_path / f"new{count}", os.O_CREAT | os.O_RDWR))
        await turns(1 + count % 5)
        if opening.cancel():
            with pytest.raises(asyncio.CancelledError):
                await opening
        else:
            os.close(await opening)


async def test_a_cancelled_scandir_leaves_no_fd(tmp_path: Path) -> None:
    for count in range(20):
        listing = asyncio.create_task(ringloop.os.listdir(tmp_path))
        await turns(count % 4)
        listing.cancel()
        await asyncio.gather(listing, return_exceptions=True)


async def test_a_read_whose_byte_another_took_can_be_cancelled() -> None:
    """It waits again then; after the cancel nothing holds the file."""
    reader, writer = os.pipe()
    reads = [asyncio.create_task(ringloop.os.read(reader, 1)) for _ in range(2)]
    await turns(3)
    os.write(writer, b"x")
    await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
    await turns(3)
    for read in reads:
        read.cancel()
    results = await asyncio.gather(*reads, return_exceptions=True)
    assert b"x" in results
    assert any(isinstance(result, asyncio.CancelledError) for result in results)
    os.close(reader)
    with contextlib.suppress(BrokenPipeError):
        while os.write(writer, b"y"):
            await asyncio.sleep(0)
    os.close(writer)


async def test_more_buffers_than_a_system_call_takes() -> None:
    class Many:
        def __init__(self, count: int) -> None:
            self.count = count

        def __len__(self) -> int:
            return self.count

        def __getitem__(self, index: int) -> bytes:
            return b"x"

    for count in (1025, 1 << 60):
        with pytest.raises(OSError, match="Invalid argument"):
            await ringloop.os.writev(1, Many(count))  # type: ignore[arg-type]


@ringloop_only
def test_what_is_collected_lets_go_of_the_buffer(ringloop_driver: str) -> None:
    """The loop was closed over the call, and its task is garbage; the buffer is still the caller's."""
    read_end, write_end = os.pipe()
    os.write(write_end, bytes(fcntl.fcntl(write_end, fcntl.F_GETPIPE_SZ)))
    buffer = bytearray(10)

    async def wait(call: Awaitable[int]) -> None:
        await call

    loop = ringloop.new_event_loop(ringloop_driver)
    loop.set_exception_handler(lambda *_: None)
    call = ringloop.os.write(write_end, buffer)
    task = loop.create_task(wait(call))
    turn(loop, 3)
    with pytest.raises(BufferError):
        buffer.append(0)
    loop.close()
    # The collector clears in the order of age: the call first, and not only by what else it frees.
    garbage: list[object] = [task]
    garbage.append(garbage)
    del call, task, garbage
    gc.collect()
    buffer.append(0)
    os.close(read_end)
    os.close(write_end)
