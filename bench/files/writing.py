"""Writing a new file: little at a time through the buffer, and much at a time past it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from bench.files.material import scratch
from bench.files.row import Row


class Writing(Row):
    """Each batch writes a file that was not there; what comes after the last close is not measured."""

    PIECE = b""

    def __init__(self, directory: Path, kind: str) -> None:
        super().__init__(directory, kind)
        self.scratch = scratch(directory)
        self.path = Path(self.scratch.name) / "written"

    def close(self) -> None:
        """Removes what is left."""
        self.scratch.cleanup()

    def prepare(self) -> None:
        """Removes the file: nothing of it need ever get to the disk."""
        self.path.unlink(missing_ok=True)

    def blocking(self) -> int:
        """By write."""
        with open(self.path, "wb") as file:
            for _ in range(self.calls):
                file.write(self.PIECE)
        return self.calls

    async def coroutine(self, library: ModuleType) -> int:
        """Each awaited."""
        async with library.open(self.path, "wb") as file:
            for _ in range(self.calls):
                await file.write(self.PIECE)
        return self.calls


class Small(Writing):
    """100 B at a time."""

    CALLS = 20_000
    AIOFILES_CALLS = 2_000
    PIECE = b"w" * 100


class Large(Writing):
    """64 KiB at a time, 64 MiB in all."""

    CALLS = 1_024
    PIECE = b"w" * (64 * 1024)


class Behind(Large):
    """The same, written while the writer goes on; the last close waits for all."""

    async def ringloop(self) -> int:
        """With at most 1 MiB that waits."""
        import ringloop

        async with ringloop.open(self.path, "wb", write_behind=1 << 20) as file:
            for _ in range(self.calls):
                await file.write(self.PIECE)
        return self.calls
