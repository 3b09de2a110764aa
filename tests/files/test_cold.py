"""Reads of what is not in memory: they wait for it, and what they brought in is then there at once."""

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path

import pytest

import ringloop
from support.marks import ringloop_only

CONTENT = os.urandom(256 * 1024)
PAGE = 4096
TRIES = 10  # the kernel may take away what was just read


def forget(path: Path) -> None:
    """Has the kernel drop what it has in memory of the file. Some file systems keep it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


async def is_at_once(call: Awaitable[bytes], expected: bytes) -> bool:
    """Whether nobody else ran meanwhile."""
    ran: list[None] = []
    asyncio.get_running_loop().call_soon(ran.append, None)
    assert await call == expected
    return not ran


@ringloop_only
@pytest.mark.parametrize("buffering", [-1, 0])
@pytest.mark.parametrize("kind", ["pread", "read", "read all"])
def test_what_a_read_brought_in_is_there_at_once(tmp_path: Path, kind: str, buffering: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)

    async def main() -> None:
        async with ringloop.open(path, "rb", buffering=buffering) as file:
            while not await is_at_once(file.pread(1, 0), CONTENT[:1]):
                pass  # the loop learns of the mounts
            for offset in range(PAGE, len(CONTENT), 16 * PAGE):
                forget(path)
                found = False
                for _ in range(TRIES):
                    await file.seek(offset)
                    if kind == "pread":
                        found = await is_at_once(file.pread(PAGE, offset), CONTENT[offset : offset + PAGE])
                    elif kind == "read":
                        found = await is_at_once(file.read(PAGE), CONTENT[offset : offset + PAGE])
                    else:
                        found = await is_at_once(file.read(), CONTENT[offset:])
                    await asyncio.sleep(0)
                    if found:
                        break
                assert found

    ringloop.run(main())


@ringloop_only
@pytest.mark.parametrize("buffering", [-1, 0])
def test_many_reads_of_what_is_not_in_memory(tmp_path: Path, buffering: int) -> None:
    """Each gets its own bytes, also beside some that are given up, or reach over the end."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    offsets = [*range(0, len(CONTENT), PAGE), len(CONTENT) - 10, len(CONTENT)]

    async def read(number: int, offset: int) -> None:
        async with ringloop.open(path, "rb", buffering=buffering) as file:
            await file.seek(offset)
            if number % 3:
                assert await file.read(PAGE) == CONTENT[offset : offset + PAGE]
                return
            task = asyncio.ensure_future(file.read(PAGE))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            position = offset if task.cancelled() else min(offset + PAGE, len(CONTENT))
            assert await file.tell() == position
            assert await file.read(PAGE) == CONTENT[position : position + PAGE]

    async def main() -> None:
        for _ in range(5):
            forget(path)
            await asyncio.gather(*(read(number, offset) for number, offset in enumerate(offsets)))

    ringloop.run(main())
