"""Pipes that are found full again and again are widened, but not those whose size somebody chose."""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable

import pytest

import ringloop
from network.pipes import PipeRecorder, read_exactly, reading, writing
from support.child import Child
from support.marks import ringloop_only

ORDINARY = 64 * 1024
WIDE = 256 * 1024
FULL_TIMES = 16
WIDE_AT_A_TIME = 32
PIECE = os.urandom(ORDINARY)

# An ordinary user's pipes together may hold 64 MiB; after that none of them may be widened.
REFUSED = """
import asyncio, contextlib, fcntl, os
from network.test_pipe_sizes import PIECE, FULL_TIMES, size_of
from network.pipes import PipeRecorder, reading

async def main():
    nobody_else = 1_000_000 + os.getpid()
    os.setgroups([])
    os.setresgid(*[nobody_else] * 3)
    os.setresuid(*[nobody_else] * 3)
    reader, writer = os.pipe()
    for size in 1 << 20, 1 << 17:
        with contextlib.suppress(PermissionError):
            while True:
                fcntl.fcntl(os.pipe()[0], fcntl.F_SETPIPE_SZ, size)
    recorder = PipeRecorder()
    async with reading(recorder, reader):
        for count in range(1, 2 * FULL_TIMES):
            os.write(writer, PIECE)
            await recorder.until_received(count * len(PIECE))
        print(size_of(writer), recorder.received == PIECE * count)

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


def size_of(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)


def widened() -> int:
    """What a pipe of the ordinary size becomes; asyncio leaves it."""
    return WIDE if isinstance(asyncio.get_running_loop(), ringloop.Loop) else ORDINARY


async def fill_and_read(writer: int, recorder: PipeRecorder, times: int, piece: bytes = PIECE) -> None:
    """The transport finds the pipe full each time."""
    for _ in range(times):
        awaited = len(recorder.received) + len(piece)
        assert os.write(writer, piece) == len(piece)
        await recorder.until_received(awaited)


async def test_a_pipe_that_is_read_full_again_and_again() -> None:
    reader, writer = os.pipe()
    recorder = PipeRecorder()
    async with reading(recorder, reader):
        await fill_and_read(writer, recorder, FULL_TIMES)
        os.write(writer, PIECE)
        os.close(writer)
        await recorder.until_closed()
    assert recorder.trace[1] == ("data_received", PIECE * (FULL_TIMES + 1))


async def test_a_read_pipe_is_widened_after_so_many_times() -> None:
    reader, writer = os.pipe()
    recorder = PipeRecorder()
    async with reading(recorder, reader):
        await fill_and_read(writer, recorder, FULL_TIMES - 1)
        assert size_of(writer) == ORDINARY
        await fill_and_read(writer, recorder, 1)
        assert size_of(writer) == widened()
        await fill_and_read(writer, recorder, 3, PIECE * (widened() // ORDINARY))
    os.close(writer)


async def test_a_written_pipe_is_widened_after_so_many_times() -> None:
    reader, writer = os.pipe()
    recorder = PipeRecorder()
    async with writing(recorder, writer) as transport:
        for times in range(FULL_TIMES):
            assert size_of(reader) == ORDINARY, times
            transport.write(PIECE + b"more")
            assert await asyncio.to_thread(read_exactly, reader, len(PIECE) + 4) == PIECE + b"more"
            while transport.get_write_buffer_size():
                await asyncio.sleep(0)
        assert size_of(reader) == widened()
    os.close(reader)


@pytest.mark.parametrize("chosen", [ORDINARY // 2, ORDINARY * 2])
async def test_a_size_that_somebody_chose_stays(chosen: int) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, chosen)
    recorder = PipeRecorder()
    async with reading(recorder, reader):
        await fill_and_read(writer, recorder, 2 * FULL_TIMES, os.urandom(chosen))
        assert size_of(writer) == chosen
    os.close(writer)


async def test_a_pipe_that_is_never_full_stays_as_it_is() -> None:
    reader, writer = os.pipe()
    recorder = PipeRecorder()
    async with reading(recorder, reader):
        await fill_and_read(writer, recorder, 4 * FULL_TIMES, PIECE[: ORDINARY - 1])
        assert size_of(writer) == ORDINARY
    os.close(writer)


async def test_only_so_many_are_wide_at_a_time() -> None:
    async with contextlib.AsyncExitStack() as stack:
        used = [await open_used(stack) for _ in range(WIDE_AT_A_TIME + 1)]
        assert [size_of(writer) for writer, _ in used] == [widened()] * WIDE_AT_A_TIME + [ORDINARY]
        used[0][1].transport.close()
        await used[0][1].until_closed()
        writer, _ = await open_used(stack)
        assert size_of(writer) == widened()
    # All are closed, and count no more.
    async with contextlib.AsyncExitStack() as stack:
        used = [await open_used(stack) for _ in range(WIDE_AT_A_TIME)]
        assert {size_of(writer) for writer, _ in used} == {widened()}


async def open_used(stack: contextlib.AsyncExitStack) -> tuple[int, PipeRecorder]:
    """A pipe that was found full as often as it takes: its writing end, and who reads."""
    reader, writer = os.pipe()
    stack.callback(os.close, writer)
    recorder = PipeRecorder()
    await stack.enter_async_context(reading(recorder, reader))
    await fill_and_read(writer, recorder, FULL_TIMES)
    return writer, recorder


@ringloop_only
@pytest.mark.skipif(os.geteuid() != 0, reason="would make the pipes small of all that this user runs")
def test_where_it_is_refused_the_pipe_stays_as_it_is(run_child: Callable[..., Child]) -> None:
    child = run_child(REFUSED)
    assert child.stdout.split() == [str(ORDINARY), "True"], child.explain()
