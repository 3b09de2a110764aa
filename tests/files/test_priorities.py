"""I/O priorities, prefetching, and whose rights an operation has."""

import asyncio
import errno
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ringloop
from support.marks import ringloop_only

# Numbers of system calls, ioprio_get and openat.
IOPRIO_GET, OPENAT = {"x86_64": (252, 257), "aarch64": (31, 56)}[platform.machine()]
OF_A_PROCESS = 1
IDLE = 3 << 13 | 4


async def of_a_worker() -> int:
    """The priority that the thread has which makes the call."""
    found = await ringloop.syscall(IOPRIO_GET, OF_A_PROCESS, 0)
    assert isinstance(found, int)
    return found


@ringloop_only
def test_a_worker_has_the_priority_of_the_context_for_one_call() -> None:
    async def main() -> None:
        before = await of_a_worker()
        with ringloop.io_priority("idle"):
            task = asyncio.create_task(of_a_worker())
            assert await of_a_worker() == IDLE
            with ringloop.io_priority("best_effort", 7):
                assert await of_a_worker() == 2 << 13 | 7
            assert await of_a_worker() == IDLE
        assert await task == IDLE
        assert await of_a_worker() == before

    ringloop.run(main())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("best",), "not 'best'"), (("idle", 8), "not 8"), (("idle", -1), "not -1"), ((3,), "not 3")],
)
def test_what_is_no_priority_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message), ringloop.io_priority(*arguments):
        pytest.fail("it was taken")


@pytest.mark.parametrize("mode", ["w+b", "w+"])
async def test_a_file_has_its_own(tmp_path: Path, mode: str) -> None:
    data: Any = b"data" if "b" in mode else "data"
    async with ringloop.open(tmp_path / "file", mode) as file:
        assert file.io_priority is None
        file.io_priority = ("best_effort", 2)
        assert file.io_priority == ("best_effort", 2)
        await file.write(data)
        await file.seek(0)
        assert await file.read() == data
        with pytest.raises(ValueError, match="not 'none'"):
            file.io_priority = ("none", 2)
        file.io_priority = "idle"
        assert file.io_priority == ("idle", 4)
        file.io_priority = None
        assert file.io_priority is None


AS_ANOTHER = """
import asyncio, os, sys
import ringloop

async def main(kept: str, ioprio_get: int, openat: int) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"abc")
    await ringloop.syscall(ioprio_get, 1, 0)                    # a worker's thread is there
    await ringloop.submit("openat", "/dev/null", os.O_RDONLY)   # and one of the ring's
    ringloop.open, ringloop.os.open                             # imported while that is permitted
    os.setuid(65534)
    at = (1 << 64) - 100
    calls = {
        "os": lambda: ringloop.os.open(kept, os.O_RDONLY),
        "submit": lambda: ringloop.submit("openat", kept, os.O_RDONLY),
        "worker": lambda: ringloop.syscall(openat, at, kept, os.O_RDONLY, 0),
    }
    for name, call in calls.items():
        try:
            await call()
        except PermissionError:
            print(name, "refused")
    async with ringloop.open(reader, "rb", buffering=0) as file:
        file.io_priority = ("realtime", 0)
        try:
            await file.read(3)
        except PermissionError:
            print("realtime refused")
        file.io_priority = ("idle", 0)
        print(await file.read(3))

ringloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


@ringloop_only
@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_operations_have_the_rights_that_the_process_has_when_they_begin(tmp_path: Path) -> None:
    """Also those that a thread executes which is older than the change."""
    kept = tmp_path / "kept"
    kept.write_bytes(b"secret")
    kept.chmod(0o600)
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        directory.chmod(0o755)
    command = [sys.executable, "-c", AS_ANOTHER, str(kept), str(IOPRIO_GET), str(OPENAT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split("\n") == [
        "os refused",
        "submit refused",
        "worker refused",
        "realtime refused",
        "b'abc'",
        "",
    ], done.stderr


def is_resident(fd: int, offset: int, length: int) -> bool:
    """Whether all of it can be read without waiting."""
    try:
        return os.preadv(fd, [bytearray(length)], offset, os.RWF_NOWAIT) == length
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        pytest.skip("this file system cannot say what it has in memory")


async def test_what_is_prefetched_is_in_memory(tmp_path: Path) -> None:
    size = 3_000_001
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    with path.open("rb") as file:
        fd = file.fileno()
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert await ringloop.prefetch(file, 1_000_000, 500_000) == 500_000
        assert is_resident(fd, 1_000_000, 500_000)
        assert await ringloop.prefetch(fd) == size
        assert is_resident(fd, 0, size)
        assert await ringloop.prefetch(fd, size - 10, 100) == 10
        assert await ringloop.prefetch(fd, size, 100) == 0
        assert await ringloop.prefetch(fd, 0, 0) == 0


async def test_what_cannot_be_prefetched_is_an_error() -> None:
    reader, writer = os.pipe()
    with pytest.raises(OSError, match="Illegal seek"):
        await ringloop.prefetch(reader)
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        await ringloop.prefetch(reader)
    for arguments in ((0, -1), (0, 0, -1)):
        with pytest.raises(ValueError, match="must not be negative"):
            await ringloop.prefetch(*arguments)
