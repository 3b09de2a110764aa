"""Thousands of tasks that do cached calls at once: each has its turn, and none costs the others time."""

import asyncio
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import ringloop
from support.marks import ringloop_only

TASKS = 3000


class Counted:
    """Awaits something, and counts the steps that takes."""

    steps = 0

    def __init__(self, awaited: Any) -> None:
        self.awaited = awaited

    def __await__(self) -> Generator[Any, Any, Any]:
        awaiting = self.awaited.__await__()
        while True:
            Counted.steps += 1
            try:
                waited_for = awaiting.send(None)
            except StopIteration as done:
                return done.value
            yield waited_for


async def until_known(path: Path) -> None:
    """Until what the loop must know of the mounts is known: then calls are done at once.

    Skips where the file's system has nothing that can be read so.
    """
    if not isinstance(asyncio.get_running_loop(), ringloop.Loop):
        return
    while not (operation := ringloop.submit("stat", path)).done():
        await operation
    file = await ringloop.open(path, "rb")
    reading = file.read()
    try:
        reading.send(None)
    except StopIteration:
        await file.close()
    else:
        reading.close()
        await file.close()
        pytest.skip("nothing here is read at once")


@ringloop_only
def test_each_is_asked_few_times(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()

    async def main() -> None:
        await until_known(path)
        Counted.steps = 0
        await asyncio.gather(*(asyncio.wait_for(Counted(ringloop.os.stat(path)), 60) for _ in range(TASKS)))

    ringloop.run(main())
    # The call, and once more when its turn has come; a few in vain, where turns took longer than before.
    assert Counted.steps < 3 * TASKS


async def test_files_are_not_all_open_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"data")
    await until_known(path)
    now_open = most_open = 0

    async def one() -> None:
        nonlocal now_open, most_open
        async with ringloop.open(path, "rb") as file:
            now_open += 1
            most_open = max(most_open, now_open)
            assert await file.read() == b"data"
            now_open -= 1

    if not isinstance(asyncio.get_running_loop(), ringloop.Loop):
        return
    await asyncio.gather(*(one() for _ in range(TASKS)))
    assert most_open < 100


async def test_one_that_is_cancelled_in_line_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"data")
    await until_known(path)
    tasks = [asyncio.ensure_future(ringloop.os.stat(path)) for _ in range(TASKS)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    kinds = {type(result) for result in done[1::2]}
    assert kinds == {os.stat_result}
    assert {type(result) for result in done[::2]} <= {os.stat_result, asyncio.CancelledError}


@ringloop_only
def test_a_loop_that_stops_meanwhile_goes_on_later(tmp_path: Path) -> None:
    done = []

    async def one(number: int) -> None:
        await ringloop.os.stat(tmp_path)
        done.append(number)

    with asyncio.Runner(loop_factory=ringloop.new_event_loop) as runner:
        loop = runner.get_loop()
        tasks = [loop.create_task(one(number)) for number in range(TASKS)]
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert len(done) < TASKS
        loop.run_until_complete(asyncio.wait(tasks))
    assert sorted(done) == list(range(TASKS))


@ringloop_only
def test_a_loop_that_is_closed_meanwhile_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        for _ in range(TASKS):
            waiting.add(asyncio.ensure_future(ringloop.os.stat(tmp_path)))
        await asyncio.sleep(0)

    waiting: set[asyncio.Future[Any]] = set()
    ringloop.run(main())
    assert all(task.done() for task in waiting)
