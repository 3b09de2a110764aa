"""The lines of a text file."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from types import ModuleType

from bench.files.material import LINES
from bench.files.row import Row


class Lines(Row):
    """10 MB of text in UTF-8, decoded line by line; with aiofiles the first lines of it."""

    CALLS = LINES
    AIOFILES_CALLS = 5_000

    def __init__(self, directory: Path, kind: str) -> None:
        super().__init__(directory, kind)
        self.path = directory / "lines"

    def blocking(self) -> int:
        """By `for`."""
        with open(self.path, encoding="utf-8") as file:
            return sum(1 for _ in islice(file, self.calls))

    async def coroutine(self, library: ModuleType) -> int:
        """By `async for`."""
        count = 0
        async with library.open(self.path, encoding="utf-8") as file:
            async for _ in file:
                count += 1
                if count == self.calls:
                    break
        return count
