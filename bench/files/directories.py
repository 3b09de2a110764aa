"""What is done with names: stat, listdir, rename and unlink."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import ModuleType

from bench.files.material import scratch
from bench.files.row import Row

AT_ONCE = 50


class Stat(Row):
    """One after the other."""

    def __init__(self, directory: Path, kind: str) -> None:
        super().__init__(directory, kind)
        self.paths = sorted(map(str, (directory / "small").iterdir()))[: self.calls]

    def blocking(self) -> int:
        """By os.stat."""
        for path in self.paths:
            os.stat(path)
        return len(self.paths)

    async def coroutine(self, library: ModuleType) -> int:
        """The same."""
        for path in self.paths:
            await library.os.stat(path)
        return len(self.paths)


class List(Row):
    """A directory of a thousand files, again and again."""

    CALLS = 20

    def blocking(self) -> int:
        """By os.listdir."""
        for _ in range(self.calls):
            os.listdir(self.directory / "small")
        return self.calls

    async def coroutine(self, library: ModuleType) -> int:
        """The same."""
        for _ in range(self.calls):
            await library.os.listdir(self.directory / "small")
        return self.calls


class Rename(Row):
    """Empty files get another name, and are removed by that. A call is one file's both."""

    CALLS = 500

    def __init__(self, directory: Path, kind: str) -> None:
        super().__init__(directory, kind)
        self.scratch = scratch(directory)
        paths = [f"{self.scratch.name}/{number}" for number in range(self.calls)]
        self.names = [(path, path + "-renamed") for path in paths]

    def close(self) -> None:
        """Removes what is left."""
        self.scratch.cleanup()

    def prepare(self) -> None:
        """Makes the files."""
        for old, _ in self.names:
            os.close(os.open(old, os.O_CREAT | os.O_EXCL | os.O_WRONLY))

    def blocking(self) -> int:
        """One after the other."""
        for old, new in self.names:
            os.rename(old, new)
            os.unlink(new)
        return self.calls

    async def coroutine(self, library: ModuleType) -> int:
        """Fifty tasks at a time."""

        async def rename_and_unlink(names: tuple[str, str]) -> None:
            await library.os.rename(*names)
            await library.os.unlink(names[1])

        for first in range(0, self.calls, AT_ONCE):
            await asyncio.gather(*map(rename_and_unlink, self.names[first : first + AT_ONCE]))
        return self.calls
