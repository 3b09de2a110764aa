"""A tree of small files walked, read and hashed: examples/checksum_tree.py, and its rivals."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.files.row import Row
from examples.checksum_tree import Checksum, Search


def _paths(top: str) -> Iterator[str]:
    for directory, _, names in os.walk(top):
        for name in names:
            yield os.path.join(directory, name)


def _line(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        return f"{hashlib.sha256(file.read()).hexdigest()}  {path}"


class AiofilesSearch(Search):
    """The same program on aiofiles."""

    async def entries(self, path: str) -> list[tuple[bool, str]]:
        """aiofiles lists in a thread; what entries say of themselves was listed, too."""
        import aiofiles.os

        with await aiofiles.os.scandir(path) as found:
            return [
                (entry.is_dir(follow_symlinks=False), entry.path)
                for entry in found
                if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)
            ]

    def open(self, path: str) -> Any:
        """The file."""
        import aiofiles

        return aiofiles.open(path, "rb")


class Checksums(Row):
    """Every way has to come to the same lines; a call is one file."""

    TAKES_SECONDS = True

    def __init__(self, directory: Path, kind: str) -> None:
        super().__init__(directory, kind)
        self.top = str(directory / "tree")
        self.expected = sorted(map(_line, _paths(self.top)))  # this also has the kernel read them
        self.lines: list[str] = []

    def prepare(self) -> None:
        """Forgets the lines of the batch before."""
        self.lines = []

    def check(self) -> None:
        """Whatever the order."""
        if sorted(self.lines) != self.expected:
            raise ValueError("the checksums are not the right ones")

    def blocking(self) -> int:
        """One file after the other."""
        self.lines.extend(map(_line, _paths(self.top)))
        return len(self.lines)

    def threads(self) -> int:
        """A pool as large as Python makes it, which is handed all files."""
        with ThreadPoolExecutor() as pool:
            self.lines.extend(pool.map(_line, _paths(self.top)))
        return len(self.lines)

    async def aiofiles(self) -> int:
        """64 tasks."""
        return await self._search(AiofilesSearch)

    async def ringloop(self) -> int:
        """The example as it is: 64 tasks."""
        return await self._search(Search)

    async def _search(self, kind: type[Search]) -> int:
        search = kind(Checksum, self.lines.extend)
        await search.run(self.top)
        if search.failures:
            raise search.failures[0]
        return len(self.lines)
