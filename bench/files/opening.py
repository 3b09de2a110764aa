"""Files of 4 KiB, opened, read and closed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import ModuleType

from bench.files.row import Row

AT_ONCE = 100


class OneByOne(Row):
    """Each after the one before."""

    def __init__(self, directory: Path, kind: str) -> None:
        super().__init__(directory, kind)
        self.paths = sorted(map(str, (directory / "small").iterdir()))[: self.calls]

    def blocking(self) -> int:
        """As every program does."""
        for path in self.paths:
            with open(path, "rb") as file:
                file.read()
        return len(self.paths)

    async def coroutine(self, library: ModuleType) -> int:
        """The same with `async`."""
        for path in self.paths:
            async with library.open(path, "rb") as file:
                await file.read()
        return len(self.paths)


class AtOnce(OneByOne):
    """A hundred tasks, each with a file; blocking code does them one by one."""

    async def coroutine(self, library: ModuleType) -> int:
        """By gather."""

        async def read(path: str) -> None:
            async with library.open(path, "rb") as file:
                await file.read()

        for first in range(0, len(self.paths), AT_ONCE):
            await asyncio.gather(*map(read, self.paths[first : first + AT_ONCE]))
        return len(self.paths)
