"""Directories whose entries are read in several goes: ends in the middle, and others' turns meanwhile."""

import asyncio
import gc
import os
import random
import time
from pathlib import Path

import pytest

import ringloop
import ringloop.os
from support import leaks
from support.marks import ringloop_only

# Each takes some 280 bytes where it is read, up to 1 MiB at a time.
NAMES = [f"{number:05}".ljust(250, "x") for number in range(8_000)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("large")
    for name in NAMES:
        os.close(os.open(directory / name, os.O_CREAT | os.O_WRONLY))
    return directory


async def test_every_entry_is_given_once(large: Path) -> None:
    assert sorted([entry.name async for entry in ringloop.os.scandir(large)]) == NAMES


async def test_a_walk_ends_in_the_middle_of_a_read(large: Path) -> None:
    """Its memory and its file descriptor are the worker's until that is done."""

    async def walk() -> int:
        async with ringloop.os.scandir(large) as entries:
            return len([entry async for entry in entries])

    for _ in range(40):
        walks = [asyncio.create_task(walk()) for _ in range(4)]
        await asyncio.sleep(random.random() * 0.01)
        for task in walks:
            task.cancel()
        ended = await asyncio.gather(*walks, return_exceptions=True)
        assert all(end == len(NAMES) or isinstance(end, asyncio.CancelledError) for end in ended)


async def test_closed_while_it_is_read(large: Path) -> None:
    for _ in range(20):
        entries = ringloop.os.scandir(large)
        begins = asyncio.ensure_future(entries)
        await asyncio.sleep(random.random() * 0.002)
        await entries.close()
        assert await begins is entries
        assert [entry async for entry in entries] == []


@ringloop_only
def test_what_a_cancelled_read_brought_is_not_lost(large: Path) -> None:
    async def main() -> None:
        entries = ringloop.os.scandir(large)
        names: list[str] = []

        async def take() -> None:
            async for entry in entries:
                names.append(entry.name)

        for count in range(60):
            taking = asyncio.create_task(take())
            for _ in range(count % 4):
                await asyncio.sleep(0)
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
        await take()
        assert sorted(names) == NAMES

    ringloop.run(main())


@ringloop_only
def test_a_cancelled_read_leaves_no_fd_to_the_caller(large: Path) -> None:
    async def main() -> None:
        while not any(path.endswith("/mountinfo") for path in leaks.open_fds().values()):
            await ringloop.os.stat(large)  # the loop learns of the mounts
        before = leaks.open_fds()
        for count in range(20):
            entries = ringloop.os.scandir(large)
            begins = asyncio.ensure_future(entries)
            for _ in range(count % 4):
                await asyncio.sleep(0)
            begins.cancel()
            await asyncio.gather(begins, return_exceptions=True)
            await entries.close()
            leaks.assert_no_new_fds(before)

    ringloop.run(main())


@ringloop_only
def test_nobody_may_read_what_is_being_read(large: Path) -> None:
    async def main() -> None:
        async with ringloop.os.scandir(large) as entries:
            pass
        entries = ringloop.os.scandir(large)
        first = asyncio.ensure_future(entries)
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="read already"):
            await entries
        assert len([entry async for entry in await first]) == len(NAMES)

    ringloop.run(main())


@ringloop_only
def test_others_have_a_turn_while_entries_are_taken(large: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        passes = 0

        def count() -> None:
            nonlocal passes
            passes += 1
            loop.call_soon(count)

        async with ringloop.os.scandir(large) as entries:
            # Nothing more is read for the first thousand.
            loop.call_soon(count)
            for _ in range(1_000):
                await anext(entries)
                time.sleep(0.0001)
        assert passes >= 5

    ringloop.run(main())


def test_an_iterator_that_is_read_does_not_warn(large: Path) -> None:
    """Nobody could have closed it: the worker's end does."""

    async def main() -> None:
        for _ in range(10):
            begins = asyncio.ensure_future(ringloop.os.scandir(large))
            await asyncio.sleep(0)
            begins.cancel()
            await asyncio.gather(begins, return_exceptions=True)
        del begins
        gc.collect()

    ringloop.run(main())
