"""`ringloop.syscall`: any system call by number, but for those that would change the worker."""

import asyncio
import ctypes
import os
import platform
import struct
from pathlib import Path

import pytest

import ringloop
from operations.world import is_ringloop
from ringloop.syscalls import NUMBERS, REFUSED
from support.waiting import until_asleep

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="knows that processor's numbers")

READ, WRITE, OPEN, CLOSE, GETPID, PPOLL, CLOCK_NANOSLEEP, STAT = 0, 1, 2, 3, 39, 271, 230, 4


async def runs_here() -> bool:
    return is_ringloop(asyncio.get_running_loop())


async def test_ints_buffers_bytes_and_str(tmp_path: Path) -> None:
    if not await runs_here():
        with pytest.raises(RuntimeError, match="ringloop's loop"):
            ringloop.syscall(GETPID)
        return
    path = str(tmp_path / "file")
    assert await ringloop.syscall(GETPID) == os.getpid()
    fd = await ringloop.syscall(OPEN, path, os.O_RDWR | os.O_CREAT, 0o600)
    assert await ringloop.syscall(WRITE, fd, b"written", 7) == 7
    os.lseek(fd, 0, os.SEEK_SET)
    buffer = bytearray(20)
    assert await ringloop.syscall(READ, fd, buffer, 20) == 7
    assert buffer[:8] == b"written\0"
    assert await ringloop.syscall(CLOSE, fd) == 0
    with pytest.raises(OSError, match="Bad file") as error:
        await ringloop.syscall(CLOSE, -1)
    assert error.value.errno == 9
    with pytest.raises(FileNotFoundError):
        await ringloop.syscall(STAT, os.fsencode(path + "no"), bytearray(256))


async def test_a_buffer_is_locked_and_a_cancel_interrupts() -> None:
    if not await runs_here():
        return
    loop = asyncio.get_running_loop()
    before = loop._counters()["works_completed"]  # type: ignore[attr-defined]
    request = bytearray(struct.pack("=qq", 1000, 0))
    operation = ringloop.syscall(CLOCK_NANOSLEEP, 1, 0, request, None)
    with pytest.raises(BufferError):
        request.append(0)
    await until_asleep()
    assert operation.cancel()
    with pytest.raises(asyncio.CancelledError):
        await operation
    request.append(0)
    assert loop._counters()["works_completed"] == before + 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(REFUSED))
async def test_what_changes_the_thread_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} \(\d+\) cannot be run on a worker thread: \w+ "):
        ringloop.syscall(NUMBERS[name])


async def test_wrong_arguments() -> None:
    for number in (-1, 1 << 30 | GETPID):
        with pytest.raises(ValueError, match="no system call's number"):
            ringloop.syscall(number)
    with pytest.raises(TypeError, match="six arguments"):
        ringloop.syscall(GETPID, *range(7))
    with pytest.raises(OverflowError):
        ringloop.syscall(GETPID, 1 << 64)
    with pytest.raises(TypeError):
        ringloop.syscall(GETPID, 1.5)
    with pytest.raises(TypeError, match="'float' object"):
        ringloop.syscall(GETPID + 0.5)  # type: ignore[arg-type]


def test_numbers_are_those_of_the_c_library() -> None:
    libc = ctypes.CDLL(None)
    assert libc.syscall(NUMBERS["getcwd"], ctypes.create_string_buffer(4096), 4096) == len(os.getcwd()) + 1
    assert (NUMBERS["fork"], NUMBERS["exit_group"], NUMBERS["flock"]) == (57, 231, 73)
