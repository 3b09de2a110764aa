"""Where cachestat() is missing (before 6.5) or refused: reads find out otherwise what is in memory."""

import os
from pathlib import Path

import pytest

from unavailable.denial import run_denied

COLD_READS = """
import asyncio, os, sys
import ringloop

path, content = sys.argv[1], open(sys.argv[1], "rb").read()

async def read(offset):
    async with ringloop.open(path, "rb", buffering=0) as file:
        await file.seek(offset)
        assert await file.read(4096) == content[offset : offset + 4096]

async def main():
    await ringloop.os.stat(path)
    for _ in range(20):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        await asyncio.gather(*(read(offset) for offset in range(0, len(content), 4096)))

with asyncio.Runner(loop_factory=lambda: ringloop.new_event_loop("epoll")) as runner:
    runner.run(main())
print("read")
"""


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_cold_reads_are_read_all_the_same(tmp_path: Path, error: str) -> None:
    """Workers have one read each: nobody can tell them that several have begun."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(64 * 4096))
    child = run_denied({"cachestat": error}, "-c", COLD_READS, str(path))
    assert (child.stdout, child.stderr, child.returncode) == ("read\n", "", 0)
