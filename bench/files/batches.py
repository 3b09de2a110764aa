"""Ten thousand operations at once: `ringloop.batch`; with aiofiles, which has none, `gather`.

Every way ends with a list of all results in memory.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.files.material import PAGE_BYTES
from bench.files.row import Row
from bench.files.seeking import places


class Read(Row):
    """4 KiB at random places of an open file that is in memory."""

    CALLS = 10_000

    def __init__(self, directory: Path, kind: str) -> None:
        super().__init__(directory, kind)
        self.offsets = places(directory / "large", self.calls)
        self.fd = os.open(directory / "large", os.O_RDONLY)

    def close(self) -> None:
        """Closes the file."""
        os.close(self.fd)

    def prepare(self) -> None:
        """Has the kernel read what is asked for."""
        for offset in self.offsets:
            os.pread(self.fd, PAGE_BYTES, offset)

    def blocking(self) -> int:
        """By os.pread."""
        return len([os.pread(self.fd, PAGE_BYTES, offset) for offset in self.offsets])

    async def aiofiles(self) -> int:
        """By its wrapper for functions of `os` that it does not have."""
        from aiofiles.os import wrap

        pread = wrap(os.pread)
        await asyncio.gather(*(pread(self.fd, PAGE_BYTES, offset) for offset in self.offsets))
        return self.calls

    async def ringloop(self) -> int:
        """As one batch."""
        await _run_batch(("read", self.fd, PAGE_BYTES, offset) for offset in self.offsets)
        return self.calls


class Stat(Row):
    """Files that are in memory, each several times."""

    CALLS = 10_000

    def __init__(self, directory: Path, kind: str) -> None:
        super().__init__(directory, kind)
        paths = sorted(map(str, (directory / "small").iterdir()))
        self.paths = [paths[number % len(paths)] for number in range(self.calls)]

    def blocking(self) -> int:
        """By os.stat."""
        return len([os.stat(path) for path in self.paths])

    async def aiofiles(self) -> int:
        """All by one gather."""
        from aiofiles.os import stat

        await asyncio.gather(*map(stat, self.paths))
        return self.calls

    async def ringloop(self) -> int:
        """As one batch."""
        await _run_batch(("statx", path) for path in self.paths)
        return self.calls


async def _run_batch(operations: Iterable[tuple[Any, ...]]) -> None:
    """Does all; the first error is raised, for then nothing was measured."""
    import ringloop

    for result in await ringloop.batch(operations):
        if isinstance(result, BaseException):
            raise result
