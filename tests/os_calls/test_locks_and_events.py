"""Locks of parts of files against another process, events, and reading into a buffer on every Python."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ringloop
import ringloop.os
from support.marks import ringloop_only

HOLDER = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
os.lockf(fd, os.F_LOCK, 10)
print("held", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process has the first ten bytes locked, until its standard input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    fd = os.open(path, os.O_RDWR)
    yield path, fd
    os.close(fd)


async def test_a_lock_of_another_process(file: tuple[Path, int]) -> None:
    path, fd = file
    with held(path) as holder:
        with pytest.raises(BlockingIOError):
            await ringloop.os.lockf(fd, os.F_TLOCK, 10)
        with pytest.raises(PermissionError):
            await ringloop.os.lockf(fd, os.F_TEST, 5)
        os.lseek(fd, 10, os.SEEK_SET)
        await ringloop.os.lockf(fd, os.F_TEST, 5)
        await ringloop.os.lockf(fd, os.F_TLOCK, 5)
        os.lseek(fd, 0, os.SEEK_SET)
        waiting = asyncio.ensure_future(ringloop.os.lockf(fd, os.F_LOCK, 0))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert holder.stdin
        holder.stdin.close()
        await waiting
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c",
        "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR); os.lockf(fd, os.F_TLOCK, 0)", str(path),
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await child.wait() == 1


@ringloop_only
def test_a_cancelled_wait_for_a_lock_ends_and_leaves_none(file: tuple[Path, int]) -> None:
    path, fd = file

    async def main() -> None:
        with held(path) as holder:
            for count in range(10):
                waiting = asyncio.ensure_future(ringloop.os.lockf(fd, os.F_LOCK, 10))
                for _ in range(count):
                    await asyncio.sleep(0)
                if count == 9:
                    assert holder.stdin
                    holder.stdin.close()
                    holder.wait()
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting

    ringloop.run(main())
    with held(path):  # who could not have it if one of the cancelled had
        pass


async def test_the_position_is_that_of_the_moment_when_it_is_awaited(file: tuple[Path, int]) -> None:
    path, fd = file
    with held(path):
        call = ringloop.os.lockf(fd, os.F_TEST, 5)
        os.lseek(fd, 10, os.SEEK_SET)
        await call
        call = ringloop.os.lockf(fd, os.F_TEST, 5)
        os.lseek(fd, 0, os.SEEK_SET)
        with pytest.raises(PermissionError):
            await call


@pytest.mark.parametrize("value", [0, 7, True, 1.5, "1", None, -1, 1 << 64])
async def test_what_an_event_counts(value: Any) -> None:
    fd = os.eventfd(0)
    try:
        outcomes = []
        for write in os.eventfd_write, ringloop.os.eventfd_write:
            try:
                result = write(fd, value)
                outcomes.append(await result if write is ringloop.os.eventfd_write else result)
            except Exception as error:
                outcomes.append((type(error), str(error)))
        assert outcomes[0] == outcomes[1]
        if outcomes[0] is None and value:
            assert os.eventfd_read(fd) == 2 * value
    finally:
        os.close(fd)


async def test_events() -> None:
    for flags in (0, os.EFD_NONBLOCK, os.EFD_SEMAPHORE):
        fd = os.eventfd(3, os.EFD_CLOEXEC | flags)
        try:
            if flags == os.EFD_SEMAPHORE:
                assert [await ringloop.os.eventfd_read(fd) for _ in range(3)] == [1, 1, 1]
            else:
                assert await ringloop.os.eventfd_read(fd) == 3
            waiting = asyncio.ensure_future(ringloop.os.eventfd_read(fd))
            await asyncio.sleep(0)
            assert await ringloop.os.eventfd_write(fd, 1) is None
            assert await waiting == 1
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await ringloop.os.eventfd_read(fd)
        finally:
            os.close(fd)


async def test_an_event_that_is_none(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb+") as file, pytest.raises(OSError, match="Invalid argument"):
        await ringloop.os.eventfd_read(file)
    for value in (-1, 1 << 64):
        with pytest.raises((OverflowError, ValueError)):
            ringloop.os.eventfd_write(0, value)


async def test_reading_into_a_buffer(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 1000)
    buffer = bytearray(8000)
    with open(path, "rb", buffering=0) as file:
        assert await ringloop.os.readinto(file.fileno(), buffer) == 8000
        assert await ringloop.os.readinto(file.fileno(), memoryview(buffer)[:4000]) == 2000
        assert await ringloop.os.readinto(file.fileno(), buffer) == 0
    assert buffer == b"0123456789" * 800
    with pytest.raises(TypeError, match="read-write bytes-like object, not bytes"):
        ringloop.os.readinto(0, b"x")


def test_what_looks_at_no_file_is_the_standard_librarys() -> None:
    for name in ("join", "relpath", "expandvars", "splitext", "commonpath"):
        assert getattr(ringloop.os.path, name) is getattr(os.path, name)


async def test_the_same_open_file(file: tuple[Path, int]) -> None:
    path, fd = file
    with open(path, "rb") as other:
        assert await ringloop.os.path.sameopenfile(fd, other.fileno())
    assert not await ringloop.os.path.sameopenfile(fd, 0)
