"""Random chains have the same outcome on every driver, and as one blocking call after the other in threads.

Of files that the kernel makes when they are read, so that all is submitted, of stored ones, and of a pipe
that has enough for all reads; with failures, results that are used in several ways, and steps that depend on
others.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ringloop
from operations.world import World, is_ringloop
from support import leaks
from support.loops import FACTORIES, ORACLE, names_available

CHAINS = 400
MADE = ["/proc/self/cmdline", "/proc/version", "/proc/self", "/proc/sys/kernel/ostype"]
READING = os.O_RDONLY
FLAGS = [READING, READING, READING, READING | os.O_NOFOLLOW | os.O_NONBLOCK, os.O_RDWR, os.O_WRONLY]


class Author:
    """Writes a chain of up to eight steps."""

    def __init__(self, dice: random.Random, chain: Any, world: World, ends: dict[str, int]) -> None:
        self.dice = dice
        self.chain = chain
        self.ends = ends
        self.paths = [*MADE, world.path("file"), world.path("none"), world.path("folder")]
        self.steps: list[Any] = []
        self.fds: list[Any] = []
        self.texts: list[Any] = []

    def chance(self, probability: float) -> bool:
        return self.dice.random() < probability

    def write(self) -> list[Any]:
        kinds = [self.open, self.open, self.read, self.read, self.pull, self.push, self.close, self.look]
        for _ in range(self.dice.randrange(1, 9)):
            after = {"after": self.dice.choice(self.steps)} if self.steps and self.chance(0.3) else {}
            step = self.dice.choice([*kinds, self.change, self.rescue])(after)
            self.steps.append(step or self.chain.nop(**after))
        return self.steps

    def open(self, after: Any) -> Any:
        step = self.chain.open(self.dice.choice(self.paths), self.dice.choice(FLAGS), **after)
        self.fds.append(step)
        return self.chain.fd(step) if self.chance(0.1) else step

    def fd(self) -> Any:
        fd = self.dice.choice(self.fds)
        return fd.then(lambda number: number) if self.chance(0.1) else fd

    def read(self, after: Any) -> Any:
        if not self.fds:
            return None
        length = self.dice.choice([0, 1, 5, 10, 5000])
        if self.texts and self.chance(0.2):
            length = self.dice.choice(self.texts).then(len)
        step = self.chain.read(self.fd(), length, self.dice.choice([-1, 0, 3]), **after)
        self.texts.append(step)
        return step

    def pull(self, after: Any) -> Any:
        step = self.chain.read(self.ends["out"], self.dice.choice([1, 3, 8, 40]), **after)
        self.texts.append(step)
        return step

    def push(self, after: Any) -> Any:
        if not self.texts:
            return None
        text = self.dice.choice(self.texts)
        text = text.then(lambda read: read * 2) if self.chance(0.2) else text
        return self.chain.write(self.ends["in"], text, **after)

    def close(self, after: Any) -> Any:
        closable = [fd for fd in self.fds if not fd.is_kept]
        if not closable:
            return None
        fd = self.dice.choice(closable)
        self.fds.remove(fd)
        return self.chain.close(fd, **after)

    def look(self, after: Any) -> Any:
        return self.chain.stat(self.dice.choice(self.paths), **after)

    def change(self, after: Any) -> Any:
        if not self.fds:
            return None
        name, *arguments = self.dice.choice(
            [("fsync",), ("fdatasync",), ("ftruncate", 5), ("fadvise", 0, 0, 1), ("getdents64",)]
        )
        return getattr(self.chain, name)(self.fd(), *arguments, **after)

    def rescue(self, _: Any) -> Any:
        if not self.steps:
            return None
        op = self.dice.choice([("nop",), ("stat", "/"), ("stat", "/none")])
        return self.chain.on_failure(self.dice.choice(self.steps), *op)


def told(step: Any) -> Any:
    """How a step ended, as every machine tells it."""
    error = step.exception()
    if error is not None:
        return step.op, type(error).__name__, getattr(error, "errno", None)
    result = step.result()
    if step.is_kept and result is not None:
        with contextlib.suppress(OSError):  # the chain failed, and closed it
            result = Path(f"/proc/self/fd/{result}").readlink().name
            os.close(step.result())
    return step.op, result.st_mode if isinstance(result, os.stat_result) else result


async def outcome(seed: int, folder: Path) -> Any:
    with contextlib.ExitStack() as stack:
        world = World(folder, stack)
        source, feed = world.pipe(bytes(range(250)) * 3)
        sink, into = world.pipe()
        os.set_blocking(sink, False)
        chain = ringloop.chain()
        steps = Author(random.Random(seed), chain, world, {"out": source, "in": into}).write()
        end: Any = None
        try:
            await asyncio.wait_for(chain.run(), 20)
        except Exception as error:
            end = type(error).__name__, error.__notes__
            for step in steps:  # what was to be taken out is closed
                step.is_kept = False
        outcomes = [told(step) for step in steps]
        os.close(feed)
        written = os.read(sink, 1 << 16) if os.write(into, b"end") else b""
        return end, outcomes, written, os.read(source, 1 << 16), (folder / "file").read_bytes()


def run_on(name: str, folder: Path) -> list[Any]:
    async def main() -> list[Any]:
        outcomes = []
        for seed in range(CHAINS):
            outcomes.append(await outcome(seed, folder / f"{seed}"))
        loop: Any = asyncio.get_running_loop()
        if is_ringloop(loop):
            assert loop._counters()["slots_taken"] == 0
        return outcomes

    with asyncio.Runner(loop_factory=FACTORIES[name]) as runner:
        return runner.run(main())


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return run_on(ORACLE, tmp_path_factory.mktemp("expected"))


@pytest.fixture
def no_fds_left() -> Iterator[None]:
    fds = leaks.open_fds()
    yield
    leaks.assert_no_new_fds(fds)


@pytest.mark.parametrize("name", [name for name in names_available() if name != ORACLE])
def test_as_in_threads(name: str, expected: list[Any], tmp_path: Path, no_fds_left: None) -> None:
    found = run_on(name, tmp_path)
    different = [seed for seed in range(CHAINS) if found[seed] != expected[seed]]
    assert not different, [(seed, found[seed], expected[seed]) for seed in different[:3]]
