"""Files that others make longer or shorter between two reads: where the end is, is always seen anew."""

import asyncio
import builtins
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ringloop

PAGE = 4096
SIZES = [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE]
CHANGES = [-PAGE, -1, 0, 1, PAGE - 1, PAGE, 20 * PAGE]


@pytest.fixture(params=["disk", "memory"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "disk":
        yield tmp_path / "file"
        return
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("nothing to write to at /dev/shm")
    in_memory = Path("/dev/shm") / f"ringloop-{os.getpid()}-{os.urandom(4).hex()}"
    yield in_memory
    in_memory.unlink(missing_ok=True)


def resize(path: Path, size: int) -> None:
    """To that size, by another fd: what is new is written, or is a hole."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        if size > end and size % 2:
            file.write(bytes(number % 251 for number in range(end, size)))
        file.truncate(size)


@pytest.mark.parametrize("length", [-1, 1, PAGE, 300_000])
@pytest.mark.parametrize("buffering", [0, -1])
@pytest.mark.parametrize("size", SIZES)
async def test_reads_go_to_where_the_end_is_by_then(
    path: Path, size: int, buffering: int, length: int
) -> None:
    if buffering and length >= 0:
        length = 300_000  # more than is read ahead, which need not be the same
    for change in CHANGES:
        path.write_bytes(os.urandom(size))
        async with ringloop.open(path, "rb", buffering=buffering) as ours:
            with builtins.open(path, "rb", buffering=buffering) as theirs:
                for so_far in (0, 1, 2):
                    assert await ours.read(length) == theirs.read(length), (change, so_far)
                    assert await ours.tell() == theirs.tell()
                    resize(path, max(size + change * (so_far + 1), 0))
                    await asyncio.sleep(0)
                assert await ours.read(length) == theirs.read(length), change


@pytest.mark.parametrize("read", [os.read, lambda fd, length: os.pread(fd, length, PAGE)])
@pytest.mark.parametrize("size", SIZES)
async def test_so_do_reads_by_a_descriptor(path: Path, size: int, read: Callable[[int, int], bytes]) -> None:
    path.write_bytes(os.urandom(size))
    ours, theirs = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
    try:
        for change in [0, *CHANGES]:
            resize(path, max(size + change, 0))
            for length in (1, PAGE, 100_000):
                call = (
                    ringloop.os.read(ours, length)
                    if read is os.read
                    else ringloop.os.pread(ours, length, PAGE)
                )
                assert await call == read(theirs, length)
    finally:
        os.close(ours)
        os.close(theirs)
