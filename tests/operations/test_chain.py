"""`ringloop.chain`: a result feeds the next step; failures, cancelling, and no fd left behind."""

import asyncio
import contextlib
import errno
import gc
import os
from pathlib import Path
from typing import Any

import pytest

import ringloop
from operations.world import CONTENT, World, is_ringloop, mounts_learnt
from support import leaks
from support.marks import ringloop_only
from support.turns import turn
from support.waiting import wait_until


async def test_open_read_close(world: World) -> None:
    async with ringloop.chain() as c:
        fd = c.open(world.path("file"), os.O_RDONLY)
        data = c.read(fd, 10, 5)
        c.close(fd)
        with pytest.raises(asyncio.InvalidStateError):
            data.result()
    assert data.done()
    assert data.result() == CONTENT[5:15]
    assert data.exception() is None


async def test_a_short_read_is_no_failure(world: World) -> None:
    c = ringloop.chain()
    src = c.open(world.path("file"), os.O_RDONLY)
    dst = c.open(world.path("new"), os.O_WRONLY | os.O_CREAT)
    status = c.stat(src.then(lambda fd: fd))
    data = c.read(src, 1 << 16)
    c.write(dst, data)
    c.close(src)
    c.close(dst)
    await c
    assert Path(world.path("new")).read_bytes() == CONTENT
    assert status.result().st_size == len(CONTENT)


async def test_a_value_of_a_result(world: World) -> None:
    async with ringloop.chain() as c:
        status = c.stat(world.path("file"))
        fd = c.open(world.path("file"), os.O_RDONLY)
        last = c.read(fd, 100, status.then(lambda status: status.st_size).then(lambda size: size - 3))
    assert last.result() == CONTENT[-3:]


async def test_what_depends_on_a_failure_is_not_run(world: World) -> None:
    c = ringloop.chain()
    fd = c.open(world.path("folder"), os.O_RDONLY)
    data = c.read(fd, 10)
    copy = c.write(fd, data)
    renamed = c.rename(world.path("file"), world.path("other"), after=data)
    rescued = c.on_failure(data, "unlink", world.path("link"))
    unneeded = c.on_failure(fd, "unlink", world.path("file"))
    closed = c.close(fd)
    with pytest.raises(IsADirectoryError) as raised:
        await c
    assert raised.value.__notes__ == ["in <step 2 read> of a chain"]
    for step in (copy, renamed):
        error = step.exception()
        assert isinstance(error, OSError)
        assert error.errno == errno.ECANCELED
        assert error.__cause__ is raised.value
    assert closed.exception() is None
    assert rescued.exception() is None
    assert not os.path.lexists(world.path("link"))
    assert unneeded.done()
    assert os.path.exists(world.path("file"))


async def test_what_is_left_open_is_closed(world: World) -> None:
    for _ in range(200):
        async with ringloop.chain() as c:
            c.open(world.path("file"), os.O_RDONLY)
            c.pipe()
            c.socket(2, 1)
        c = ringloop.chain()
        c.fd(c.open(world.path("file"), os.O_RDONLY))
        c.open(world.path("none"), os.O_RDONLY)
        with pytest.raises(FileNotFoundError):
            await c


async def test_an_fd_is_taken_out(world: World) -> None:
    async with ringloop.chain() as c:
        fd = c.fd(c.open(world.path("file"), os.O_RDONLY))
    taken = fd.result()
    assert os.pread(taken, 3, 0) == b"012"
    assert not os.get_inheritable(taken)
    os.close(taken)


async def test_cancelled_in_the_middle(world: World) -> None:
    loop: Any = asyncio.get_running_loop()
    if not is_ringloop(loop):
        return
    await mounts_learnt(world)
    before = loop._counters()["in_flight"]
    end, other = world.pipe()
    c = ringloop.chain()
    fd = c.open(world.path("file"), os.O_RDONLY)
    first = c.read(fd, 3, 0)
    waits = c.read(end, 10)
    never = c.unlink(world.path("file"))
    task = asyncio.ensure_future(c.run())
    while not first.done():
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert first.result() == b"012"
    for step in (waits, never):
        assert isinstance(step.exception(), asyncio.CancelledError)
    assert os.path.exists(world.path("file"))
    assert world.path("file") not in leaks.open_fds().values()
    assert loop._counters()["in_flight"] <= before
    os.write(other, b"kept")
    assert os.read(end, 10) == b"kept"


async def test_the_task_sleeps_between_the_steps(world: World) -> None:
    steps = 0

    class Counted:
        def __init__(self, waiting: Any) -> None:
            self.waiting = waiting

        def __await__(self) -> Any:
            nonlocal steps
            for step in self.waiting.__await__():
                steps += 1
                yield step

    c = ringloop.chain()
    for _ in range(10):
        c.getcwd()
    await Counted(c)
    assert steps == 1
    assert c.nop


async def test_misuse_is_refused() -> None:
    c = ringloop.chain()
    with pytest.raises(AttributeError, match="no operation 'fly'"):
        c.fly()
    step = c.getcwd()
    with pytest.raises(ValueError, match="another chain"):
        ringloop.chain().open(step, 0)
    assert await c == os.getcwd()
    with pytest.raises(RuntimeError, match="runs once"):
        await c
    with pytest.raises(RuntimeError, match="runs already"):
        c.getcwd()
    assert await ringloop.chain() is None


async def test_a_block_that_raises_runs_nothing(world: World) -> None:
    async def fail() -> None:
        async with ringloop.chain() as c:
            c.unlink(world.path("file"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert os.path.exists(world.path("file"))


async def test_cancelled_when_all_is_done(world: World) -> None:
    """The task is woken and cancelled in the same pass: nobody takes what was left open for him."""
    for count in range(30):
        c = ringloop.chain()
        c.fd(c.open(world.path("file"), os.O_RDONLY))
        last = c.stat(world.path("file"))
        c.nop()
        task = asyncio.ensure_future(c.run())
        for _ in range(count % 5):
            await asyncio.sleep(0)
        while count % 2 and not last.done():
            await asyncio.sleep(0)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            os.close(c._steps[0].result())
    assert world.path("file") not in leaks.open_fds().values()


async def open_read_close(world: World) -> None:
    async with ringloop.chain() as c:
        fd = c.open(world.path("file"), os.O_RDONLY)
        c.read(fd, 100, 0)
        c.close(fd)


@pytest.mark.parametrize("ends", ["cancel", "close"])
async def test_given_up_at_any_time(world: World, ends: str) -> None:
    for count in range(40):
        tasks = [asyncio.ensure_future(open_read_close(world)) for _ in range(5)]
        for _ in range(count % 8):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if ends == "close":
            coroutine = open_read_close(world)
            with contextlib.suppress(StopIteration):
                coroutine.send(None)
            coroutine.close()
    # As soon as the kernel, or a thread, is done with it.
    path = world.path("file")
    await asyncio.to_thread(wait_until, lambda: path not in leaks.open_fds().values(), "the file is closed")


async def test_given_up_before_the_executor_is_shut_down(world: World) -> None:
    path = world.path("fifo")
    os.mkfifo(path)

    async def open_and_close() -> None:
        async with ringloop.chain() as c:
            c.close(c.open(path, os.O_RDONLY))

    coroutine = open_and_close()
    coroutine.send(None)  # a thread, or a worker, waits for the writer
    coroutine.close()
    shutdown = asyncio.ensure_future(asyncio.get_running_loop().shutdown_default_executor())
    await asyncio.sleep(0)
    writer = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # who waits goes on
    await shutdown
    os.close(writer)
    while path in leaks.open_fds().values():
        await asyncio.sleep(0)


@ringloop_only
def test_closed_with_its_loop(world: World) -> None:
    for count in range(20):
        loop = ringloop.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # tasks are destroyed
        tasks = [loop.create_task(open_read_close(world)) for _ in range(10)]
        turn(loop, 1 + count % 7)
        loop.close()
        del tasks
        gc.collect()
        assert world.path("file") not in leaks.open_fds().values()


async def test_closed_by_name(world: World) -> None:
    async with ringloop.chain() as c:
        fd = c.open(world.path("file"), os.O_RDONLY)
        c.close(fd=fd)
    assert world.path("file") not in leaks.open_fds().values()


async def test_a_function_that_meets_a_cancelled_future_fails_its_step(world: World) -> None:
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.cancel()
    c = ringloop.chain()
    status = c.stat(world.path("file"))
    step = c.write(1, status.then(lambda _: cancelled.result()))
    with pytest.raises(asyncio.CancelledError):
        await c
    assert isinstance(step.exception(), asyncio.CancelledError)
