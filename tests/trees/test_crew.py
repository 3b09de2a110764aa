"""A crew's end: no task of it is left, however it ends."""

import asyncio

import pytest

from ringloop._crew import Crew

TASKS = 4


async def test_a_second_cancel_does_not_leave_a_task_behind() -> None:
    """Each of them ends in its own time, with what it still has to do."""
    crew = Crew(TASKS)
    begun, may_end = asyncio.Barrier(TASKS + 1), asyncio.Event()
    ended = 0

    async def job() -> None:
        nonlocal ended
        try:
            await begun.wait()
            await asyncio.Event().wait()
        finally:
            await may_end.wait()
            ended += 1

    async def first() -> None:
        crew.add([job] * TASKS)

    running = asyncio.create_task(crew.run(first))
    await begun.wait()
    for _ in range(3):
        running.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
    assert not running.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == TASKS
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_is_brought_up_while_it_ends_is_ended_as_well() -> None:
    crew = Crew(TASKS)
    begun = asyncio.Event()

    async def endless() -> None:
        await asyncio.Event().wait()

    async def first() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            crew.add([endless] * TASKS)

    running = asyncio.create_task(crew.run(first))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert asyncio.all_tasks() == {asyncio.current_task()}
