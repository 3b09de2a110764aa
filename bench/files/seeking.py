"""4 KiB at random places of a large file: with the file in memory, and with none of it."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

from bench.files.material import PAGE_BYTES
from bench.files.row import Row, UnavailableError

TASKS = 64
PATIENCE = 100  # attempts to see a page leave the cache


def places(path: Path, count: int) -> list[int]:
    """Page-aligned offsets, the same ones every time."""
    pages = path.stat().st_size // PAGE_BYTES
    return [number * PAGE_BYTES for number in random.Random(3).choices(range(pages), k=count)]


class Cached(Row):
    """One open file."""

    CALLS = 5_000
    AIOFILES_CALLS = 1_000

    def __init__(self, directory: Path, kind: str) -> None:
        super().__init__(directory, kind)
        self.path = directory / "large"
        self.offsets = places(self.path, self.calls)

    def prepare(self) -> None:
        """Has the kernel read all of it."""
        with self.path.open("rb") as file:
            while file.read(1 << 20):
                pass

    def blocking(self) -> int:
        """By seek and read."""
        with open(self.path, "rb", buffering=0) as file:
            for offset in self.offsets:
                file.seek(offset)
                file.read(PAGE_BYTES)
        return self.calls

    async def coroutine(self, library: ModuleType) -> int:
        """The same."""
        async with library.open(self.path, "rb", buffering=0) as file:
            for offset in self.offsets:
                await file.seek(offset)
                await file.read(PAGE_BYTES)
        return self.calls


class Cold(Row):
    """64 tasks, each with the file open for itself, no page of it cached. Blocking code reads one by one."""

    CALLS = 64 * 32

    def __init__(self, directory: Path, kind: str) -> None:
        super().__init__(directory, kind)
        self.path = directory / "cold"
        self.offsets = places(self.path, self.calls)
        self.files = [self._opened() for _ in range(TASKS)]

    def _opened(self) -> BinaryIO:
        file = open(self.path, "rb", buffering=0)  # noqa: SIM115 - close() closes it
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        return file

    def close(self) -> None:
        """Closes the files."""
        for file in self.files:
            file.close()

    def prepare(self) -> None:
        """Drops the file from the cache, and looks whether it is gone."""
        fd = self.files[0].fileno()
        page = bytearray(PAGE_BYTES)
        for _ in range(PATIENCE):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            try:
                os.preadv(fd, [page], self.offsets[0], os.RWF_NOWAIT)
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    return
                raise UnavailableError(f"the cache cannot be looked at here: {error.strerror}") from None
        raise UnavailableError("the kernel keeps the file in its cache here, whatever it is told")

    def blocking(self) -> int:
        """One after the other."""
        file = self.files[0]
        for offset in self.offsets:
            file.seek(offset)
            file.read(PAGE_BYTES)
        return self.calls

    async def coroutine(self, library: ModuleType) -> int:
        """At once; opening is so little beside the reading that it may count."""

        async def read(offsets: list[int]) -> None:
            async with library.open(self.path, "rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                for offset in offsets:
                    await file.seek(offset)
                    await file.read(PAGE_BYTES)

        await asyncio.gather(*(read(self.offsets[number::TASKS]) for number in range(TASKS)))
        return self.calls
