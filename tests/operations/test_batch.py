"""`ringloop.batch`: all results, right and with their cookies; bounded; ends."""

import asyncio
import errno
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ringloop
from operations.world import CONTENT, World, is_ringloop, mounts_learnt
from support import leaks
from support.marks import ringloop_only
from support.waiting import until_asleep

COUNT = 10_000


async def test_ten_thousand_reads_in_order(world: World) -> None:
    fd = world.open()
    results = await ringloop.batch(("read", fd, 3, number % 1000) for number in range(COUNT))
    assert results == [CONTENT[number % 1000 : number % 1000 + 3] for number in range(COUNT)]


def knows_nowait(fd: int) -> bool:
    """Whether the file system has a read that does not wait."""
    try:
        os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
    except OSError as exc:
        return exc.errno != errno.EOPNOTSUPP
    return True


@ringloop_only
def test_a_ring_does_many_cached_reads_by_one_system_call(world: World) -> None:
    fd = world.open()

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        await mounts_learnt(world)
        before = loop._counters()
        await ringloop.batch(("read", fd, 3, number % 1000) for number in range(COUNT))
        after = loop._counters()
        if loop.driver == "io_uring" and knows_nowait(fd):
            assert after["submitted"] - before["submitted"] > 9 * COUNT // 10
            assert after["enters"] - before["enters"] < COUNT // 8
        else:
            assert after["submitted"] - before["submitted"] < COUNT // 10

    ringloop.run(main())


@pytest.mark.parametrize("length", [0, 1, 4096, 16384, 16385, 70000])
async def test_reads_are_as_long_as_the_file_goes(world: World, length: int) -> None:
    content = os.urandom(60_000)
    Path(world.path("large")).write_bytes(content)
    fd = world.open("large")
    memory = world.keep(os.memfd_create("large"))
    os.write(memory, content)
    offsets = [0, 1, 4095, 40_000, 59_999, 60_000, 70_000] * 3
    operations = [("read", of, length, offset) for offset in offsets for of in (fd, memory)]
    results = await ringloop.batch(operations)
    assert results == [content[offset : offset + length] for offset in offsets for _ in (fd, memory)]


async def test_reads_at_the_files_position_follow_each_other(world: World) -> None:
    fd = world.open()
    results = await ringloop.batch([("read", fd, 10, None)] * 100, limit=1)
    assert b"".join(results) == CONTENT


async def test_ten_thousand_stats_with_cookies(world: World) -> None:
    path = world.path("file")
    cookies = [object() for _ in range(COUNT)]
    expected = os.stat(path)
    seen = []
    async for cookie, result in ringloop.batch([("stat", path)] * COUNT, cookies=cookies):
        assert result == expected
        seen.append(cookie)
    assert set(seen) == set(cookies)
    assert len(seen) == COUNT


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_no_more_than_the_limit_are_taken_ahead(world: World, limit: int) -> None:
    taken = given = 0

    def source() -> Iterator[tuple[Any, ...]]:
        nonlocal taken
        for _ in range(300):
            taken += 1
            assert taken - given <= limit
            yield "fsync", fd

    fd = world.open()
    async for _, result in ringloop.batch(source(), limit=limit):
        given += 1
        assert result is None
    assert taken == given == 300


async def test_failures_are_values(world: World) -> None:
    fd = world.open()
    results = await ringloop.batch(
        [("read", fd, 2, 0), ("stat", world.path("none")), ("read", fd), ("fly",), ("read", fd, 2, 2)]
    )
    assert results[0] == b"01"
    assert isinstance(results[1], FileNotFoundError)
    assert results[1].filename == world.path("none")
    assert isinstance(results[2], TypeError)
    assert isinstance(results[3], ValueError)
    assert results[4] == b"23"


async def test_nothing_outstanding_ends_at_once() -> None:
    batch = ringloop.batch()
    assert await batch == []
    with pytest.raises(StopAsyncIteration):
        await anext(batch)
    batch.add("getcwd", cookie="where")
    assert await anext(batch) == ("where", os.getcwd())
    with pytest.raises(StopAsyncIteration):
        await anext(batch)
    batch.cancel()
    with pytest.raises(RuntimeError, match="cancelled"):
        batch.add("nop")


async def test_cookies_must_be_as_many() -> None:
    with pytest.raises(ValueError, match=r"zip\(\)"):
        await ringloop.batch([("getcwd",)] * 3, cookies=[1, 2])
    with pytest.raises(ValueError, match="limit"):
        ringloop.batch(limit=0)


async def test_cancel_ends_what_is_in_flight(world: World) -> None:
    if not is_ringloop(asyncio.get_running_loop()):
        return
    end, _ = world.pipe()
    batch = ringloop.batch([("read", end, 1)] * 20, cookies=range(20), limit=10)
    batch.add("getcwd")
    waiting = asyncio.ensure_future(anext(batch))
    await asyncio.sleep(0)
    batch.cancel()
    outcomes = [await waiting, *[outcome async for outcome in batch]]
    assert sorted(cookie for cookie, _ in outcomes) == list(range(10))
    assert all(isinstance(result, asyncio.CancelledError) for _, result in outcomes)


async def test_a_cancelled_task_leaves_nothing_in_flight(world: World) -> None:
    loop: Any = asyncio.get_running_loop()
    if not is_ringloop(loop):
        return
    await mounts_learnt(world)
    before = loop._counters()["in_flight"]
    end, _ = world.pipe()
    for use in (collect_all, iterate):
        task = asyncio.ensure_future(use(ringloop.batch([("read", end, 1)] * 50)))
        await until_asleep()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert loop._counters()["in_flight"] <= before


async def collect_all(batch: ringloop.Batch) -> None:
    await batch


async def iterate(batch: ringloop.Batch) -> None:
    async with batch:
        async for _ in batch:
            raise AssertionError("nothing can come")


async def test_fds_that_nobody_takes_are_closed(world: World) -> None:
    path = world.path("file")
    async with ringloop.batch([("open", path, os.O_RDONLY)] * 30) as batch:
        _, fd = await anext(batch)
        os.close(fd)
    del batch
    gc.collect()
    assert path not in leaks.open_fds().values()


async def test_others_run_while_cached_data_is_read(world: World) -> None:
    fd = world.open()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    await ringloop.batch([("read", fd, 1, 0)] * 2000)
    counting.cancel()
    assert turns >= 2000 // 256


async def test_a_source_that_fails_is_told_after_what_came_before(world: World) -> None:
    def source() -> Iterator[tuple[Any, ...]]:
        for _ in range(5_000):
            yield ("stat", world.path("file"))
        raise ValueError("no more")

    batch = ringloop.batch(source())
    for _ in range(5_000):
        await anext(batch)
    with pytest.raises(ValueError, match="no more"):
        await anext(batch)
    with pytest.raises(StopAsyncIteration):
        await anext(batch)


async def test_fds_of_a_list_that_nobody_gets_are_closed(world: World) -> None:
    path = world.path("file")

    def source() -> Iterator[tuple[Any, ...]]:
        yield from [("open", path, os.O_RDONLY)] * 50
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        await ringloop.batch(source(), limit=20)
    assert path not in leaks.open_fds().values()
    if not is_ringloop(asyncio.get_running_loop()):
        return  # where nothing waits for a peer
    ours, _ = world.sockets()
    batch = ringloop.batch([*[("open", path, os.O_RDONLY)] * 50, ("recv", ours, 1)], limit=20)
    waiting = asyncio.ensure_future(batch)
    await until_asleep()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert path not in leaks.open_fds().values()
