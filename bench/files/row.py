"""What all works on files have in common."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from bench.files.ways import AIOFILES


class UnavailableError(Exception):
    """The work cannot be done on this machine; the message says why."""


class Row:
    """One work, of the kind that `kind` names, on the files in `directory`.

    A batch is one of the methods called as a kind is, which returns how many calls were made, between
    `prepare` and `check`, which are not measured. aiofiles and ringloop run the same program, `coroutine`,
    unless they are overridden.
    `CALLS` is how many make a batch; `AIOFILES_CALLS`, where that would take it too long, how many with it.
    """

    CALLS = 1_000
    AIOFILES_CALLS: int | None = None
    TAKES_SECONDS = False  # then one batch is enough

    def __init__(self, directory: Path, kind: str) -> None:
        self.directory = directory
        self.calls = self.AIOFILES_CALLS if self.AIOFILES_CALLS and kind == AIOFILES else self.CALLS

    def prepare(self) -> None:
        """Brings the files into the state that each batch begins with."""

    def check(self) -> None:
        """Raises ValueError if the batch did not come to what it should."""

    def close(self) -> None:
        """Lets go of what the object holds."""

    def blocking(self) -> int:
        """By the standard library, in a loop."""
        raise NotImplementedError

    def threads(self) -> int:
        """By the standard library, in a pool of threads."""
        raise NotImplementedError

    async def aiofiles(self) -> int:
        """By aiofiles."""
        import aiofiles
        import aiofiles.os

        return await self.coroutine(aiofiles)

    async def ringloop(self) -> int:
        """By ringloop."""
        import ringloop

        return await self.coroutine(ringloop)

    async def coroutine(self, library: ModuleType) -> int:
        """By the functions `open` and `os.…` of `library`."""
        raise NotImplementedError
