"""What an act is given: files that are there, room for those that it makes, and a dice."""

import asyncio
import contextlib
import itertools
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Seconds. None is long enough to be sure of anything: they only spread what happens.
NAPS = (0, 0, 0, 0.0001, 0.001, 0.005)
BIG_BYTES = 3 << 20
TEXT_LINES = 30_000
SMALL_FILES_MAX_BYTES = 9000


@dataclass
class Stage:
    """A directory with what the acts read: the same for all plays of a process."""

    directory: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.big.write_bytes(random.Random(0).randbytes(BIG_BYTES))
        self.text.write_text("a line of text, ünï\n" * TEXT_LINES, encoding="utf-8")
        self.large.mkdir()
        # Long names: what the kernel tells of these does not fit into one buffer.
        for number in range(600):
            os.close(os.open(self.large / f"{number:05}".ljust(240, "x"), os.O_CREAT | os.O_WRONLY))
        for number in range(12):
            directory = self.tree / str(number)
            directory.mkdir(parents=True)
            for name in range(4):
                (directory / str(name)).write_bytes(bytes((number * 5 + name) * 137 % SMALL_FILES_MAX_BYTES))

    @property
    def big(self) -> Path:
        return self.directory / "big"

    @property
    def text(self) -> Path:
        return self.directory / "text"

    @property
    def large(self) -> Path:
        """A directory with many entries."""
        return self.directory / "large"

    @property
    def tree(self) -> Path:
        """A directory of directories with files."""
        return self.directory / "tree"

    @property
    def missing(self) -> Path:
        return self.directory / "missing"

    def new_path(self) -> Path:
        """Where nothing is yet."""
        return self.directory / f"new{next(self._numbers)}"


class Dice(random.Random):
    """A seeded source of decisions."""

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    async def nap(self) -> None:
        await asyncio.sleep(self.choice(NAPS))

    @contextlib.asynccontextmanager
    async def meanwhile(
        self, probability: float, action: Callable[[], Awaitable[object] | None]
    ) -> AsyncIterator[None]:
        """Perhaps does `action` at some moment of the block, or soon after it."""
        if not self.chance(probability):
            yield
            return
        task = asyncio.create_task(self._later(action))
        try:
            yield
        finally:
            await task

    async def _later(self, action: Callable[[], Awaitable[object] | None]) -> None:
        await self.nap()
        done = action()
        if done is not None:
            await done


async def give_up_after(seconds: float, call: Awaitable[Any]) -> None:
    """Waits for the call, and cancels it when the time is over.

    `asyncio.timeout` knows the task that it stands in: where the collector closes such a coroutine before the
    one that awaits it, the task may die within, and with it the outer coroutine: CPython 3.11 crashes then.
    """
    task = asyncio.ensure_future(call)
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]


Act = Callable[[Stage, Dice], Awaitable[None]]
