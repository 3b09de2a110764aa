"""`ringloop.submit`: a future that starts at once, its cancelling, other threads, the end of the loop."""

import asyncio
import contextvars
import fcntl
import gc
import mmap
import os
import select
import socket
import struct
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import ringloop
from operations.world import World
from support import leaks
from support.loops import LoopFactory
from support.marks import needs_io_uring, ringloop_only
from support.waiting import until_asleep, wait_until

pytestmark = ringloop_only

SETUP, SETUP_ENTRIES, PARAMS_BYTES = 425, 4, 120


def on_ringloop(main: Callable[[], Any]) -> Any:
    with asyncio.Runner(loop_factory=ringloop.new_event_loop, debug=True) as runner:
        return runner.run(main())


def blocked(world: World) -> dict[str, tuple[Any, ...]]:
    """For every operation that can be cancelled while it runs, arguments with which it waits."""
    empty, full = world.pipe()[0], world.pipe()
    left, _ = world.sockets()
    fifo = world.path("fifo")
    os.mkfifo(fifo)
    fcntl.flock(world.open(), fcntl.LOCK_EX)
    epoll = world.stack.enter_context(select.epoll())
    fcntl.fcntl(full[1], fcntl.F_SETPIPE_SZ, 4096)
    os.write(full[1], bytes(4096))
    sleeper = os.posix_spawn("/bin/sleep", ["sleep", "1000"], os.environ)
    world.stack.callback(os.waitpid, sleeper, 0)
    world.stack.callback(os.kill, sleeper, 9)
    sender, _ = world.sockets()
    sender.setblocking(False)
    while True:
        try:
            sender.send(bytes(65536))
        except BlockingIOError:
            break
    return {
        "openat": (fifo, os.O_RDONLY),
        "openat2": (fifo, os.O_RDONLY),
        "read": (empty, 10),
        "readinto": (empty, bytearray(10)),
        "readv": (empty, [bytearray(10)]),
        "write": (full[1], b"x"),
        "writev": (full[1], [b"x"]),
        "splice": (empty, world.pipe()[1], 10),
        "tee": (empty, world.pipe()[1], 10),
        "accept": (world.listener(),),
        "send": (sender, bytes(1 << 20)),
        "recv": (left, 10),
        "recv_into": (left, bytearray(10)),
        "sendmsg": (sender, [b"x"]),
        "recvmsg": (left, 10),
        "poll": (empty, select.POLLIN),
        "timeout": (1000,),
        "futex_wait": (bytearray(4), 0),
        "waitid": (os.P_PID, sleeper, os.WEXITED),
        "epoll_wait": (epoll,),
        "flock": (world.open(), fcntl.LOCK_EX),
        "sendfile": (world.sockets()[0], full[1], None, 10),
    }


def test_every_interruptible_operation_is_cancelled_while_it_waits(world: World) -> None:
    async def main() -> None:
        cases = blocked(world)
        # connect waits for nobody on this machine; sendfile refuses pipes at once.
        del cases["sendfile"]
        missing = {
            one.name for one in ringloop.capabilities().values() if one.cancelled == "while it runs"
        } - set(cases)
        assert missing == {"connect", "sendfile"}
        before = in_flight()
        for name, arguments in cases.items():
            operation = ringloop.submit(name, *arguments)
            await until_asleep()
            assert not operation.done(), name
            assert operation.cancel("enough"), name
            with pytest.raises(asyncio.CancelledError, match="enough"):
                await operation
            await only_in_flight(before)

    on_ringloop(main)


def in_flight() -> int:
    return asyncio.get_running_loop()._counters()["in_flight"]  # type: ignore[attr-defined]


async def only_in_flight(count: int) -> None:
    """Waits until no more than `count` operations are in flight."""
    while in_flight() > count:
        await asyncio.sleep(0)


def test_a_lent_buffer_is_locked_until_the_kernel_is_done(world: World) -> None:
    async def main() -> None:
        buffer = bytearray(10)
        operation = ringloop.submit("readinto", world.pipe()[0], buffer)
        with pytest.raises(BufferError):
            buffer.append(1)
        assert operation.cancel()
        assert not operation.done()
        with pytest.raises(asyncio.CancelledError):
            await operation
        buffer.append(1)

    on_ringloop(main)


def test_a_timeout_around_it_is_not_swallowed(world: World) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await ringloop.submit("read", world.pipe()[0], 1)

    on_ringloop(main)


def test_it_is_a_future(world: World) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        operation = ringloop.submit("timeout", 0.001)
        assert isinstance(operation, ringloop.Operation)
        assert asyncio.isfuture(operation)
        assert not asyncio.iscoroutine(operation)
        assert operation.get_loop() is loop
        assert weakref.ref(operation)() is operation
        seen = []
        context = contextvars.copy_context()
        context.run(variable.set, "inside")
        operation.add_done_callback(lambda _: seen.append(variable.get()), context=context)
        operation.add_done_callback(seen.append)
        assert operation.remove_done_callback(seen.append) == 1
        with pytest.raises(RuntimeError, match="does not support"):
            operation.set_result(1)
        with pytest.raises(RuntimeError, match="does not support"):
            operation.set_exception(ValueError())
        assert await operation is None
        await asyncio.sleep(0)
        assert seen == ["inside"]
        assert operation.done()
        assert operation.exception() is None
        assert not operation.cancel()
        assert await asyncio.gather(*(ringloop.submit("nop") for _ in range(3))) == [None] * 3

    on_ringloop(main)


def test_an_fd_that_nobody_collects_is_closed(world: World) -> None:
    async def main() -> None:
        before, running = leaks.open_fds(), in_flight()
        path = world.path("file")
        for _ in range(20):
            # Cancelled too late, never awaited, awaited by a task that was cancelled as it woke up.
            late = ringloop.submit("open", path, os.O_RDONLY)
            late.cancel()
            await ringloop.submit("open", path, os.O_RDONLY)
            task = asyncio.ensure_future(waiter(ringloop.submit("open", path, os.O_RDONLY)))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            del late, task
        await only_in_flight(running)
        gc.collect()
        mine = {fd for fd, target in leaks.open_fds().items() if target == path} - set(before)
        assert len(mine) == 20  # those that were awaited
        for fd in mine:
            os.close(fd)

    async def waiter(operation: Any) -> None:
        os.close(await operation)

    on_ringloop(main)


def test_another_thread_waits(world: World) -> None:
    async def main() -> None:
        end, other = world.pipe()
        operation = ringloop.submit("read", end, 10)
        with pytest.raises(RuntimeError, match="await it"):
            operation.wait()
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(operation.wait, 0.001)
        waiting = asyncio.ensure_future(asyncio.to_thread(operation.wait))
        os.write(other, b"news")
        assert await waiting == b"news"
        cancelled = ringloop.submit("timeout", 1000)
        waiting = asyncio.ensure_future(asyncio.to_thread(cancelled.wait))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    on_ringloop(main)


def test_a_thread_that_waits_hears_of_the_loops_end() -> None:
    loop = ringloop.new_event_loop()
    heard: list[BaseException] = []

    async def begin() -> ringloop.Operation:
        return ringloop.submit("timeout", 1000)

    operation = loop.run_until_complete(begin())

    def wait() -> None:
        try:
            operation.wait()
        except RuntimeError as error:
            heard.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    loop.close()
    thread.join()
    assert [str(error) for error in heard] == ["Event loop is closed"]


def test_no_loop_in_this_thread(world: World) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        ringloop.submit("nop")

    async def main() -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            await asyncio.to_thread(ringloop.submit, "nop")

    on_ringloop(main)


def test_what_is_wrong_is_said() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="no operation 'fly'"):
            ringloop.submit("fly")
        with pytest.raises(TypeError, match=r"read\(\) missing required argument: 'length'"):
            ringloop.submit("read", 1)
        with pytest.raises(TypeError, match="takes 3 arguments but 4"):
            ringloop.submit("read", 1, 2, 3, 4)
        with pytest.raises(TypeError, match="unexpected keyword argument 'size'"):
            ringloop.submit("read", 1, 2, size=3)
        with pytest.raises(ValueError, match="null byte"):
            ringloop.submit("open", "a\0b", 0)
        with pytest.raises(OverflowError):
            ringloop.submit("listen", 0, 1 << 40)
        for operation in (("read", 0.0, 1), ("read", 0, 1.5), ("read", 0, 1, 0.5), ("open", "a", 0.0)):
            with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
                ringloop.submit(*operation)
        with pytest.raises(BufferError, match="not writable"):
            ringloop.submit("readinto", 0, b"constant")

    on_ringloop(main)


def test_a_run_ends_and_goes_on(world: World) -> None:
    """What is in flight between two runs completes in the second."""
    end, other = world.pipe()
    loop = ringloop.new_event_loop()

    async def begin() -> ringloop.Operation:
        return ringloop.submit("read", end, 10)

    async def finish(operation: ringloop.Operation) -> Any:
        os.write(other, b"late")
        return await operation

    operation = loop.run_until_complete(begin())
    assert loop.run_until_complete(finish(operation)) == b"late"
    loop.close()


def test_a_thousand_in_flight_when_the_loop_closes(world: World, loop_factory: LoopFactory) -> None:
    threads = leaks.thread_count()
    loop = ringloop.new_event_loop()
    end = world.pipe()[0]
    fcntl.flock(world.open(), fcntl.LOCK_EX)
    locked = world.open()

    async def begin() -> list[ringloop.Operation]:
        operations = [ringloop.submit("read", end, 10) for _ in range(700)]
        operations += [ringloop.submit("poll", end, select.POLLIN) for _ in range(200)]
        operations += [ringloop.submit("flock", locked, fcntl.LOCK_EX) for _ in range(100)]
        await asyncio.sleep(0)
        return operations

    operations = loop.run_until_complete(begin())
    loop.close()
    counters: dict[str, int] = loop._counters()
    assert (counters["in_flight"], counters["in_line"], counters["ready"]) == (0, 0, 0)
    assert len(operations) == 1000
    wait_until(lambda: leaks.thread_count() <= threads, "the workers have ended")


@needs_io_uring
def test_message_between_rings() -> None:
    async def main() -> None:
        params = bytearray(PARAMS_BYTES)
        ring = await ringloop.syscall(SETUP, SETUP_ENTRIES, params)
        words = struct.unpack_from("=30I", params)
        head, tail, cqes = words[20], words[21], words[25]
        try:
            with mmap.mmap(ring, cqes + 16 * 8) as memory:
                if not ringloop.capabilities()["msg_ring"].served:
                    with pytest.raises(OSError, match="Invalid argument"):
                        await ringloop.submit("msg_ring", ring, 42)
                    return
                assert await ringloop.submit("msg_ring", ring, 42) is None
                (end,) = struct.unpack_from("=I", memory, tail)
                assert end - struct.unpack_from("=I", memory, head)[0] == 1
                assert struct.unpack_from("=Qi", memory, cqes) == (0, 42)
        finally:
            os.close(ring)

    on_ringloop(main)


def test_a_futex_is_waited_for_and_woken() -> None:
    async def main() -> None:
        word = mmap.mmap(-1, 4)
        waiting = ringloop.submit("futex_wait", word, 0)
        while await ringloop.submit("futex_wake", word) == 0:
            await asyncio.sleep(0)
        await waiting
        del waiting
        word.close()

    on_ringloop(main)


async def test_others_run_while_what_is_cached_is_submitted(tmp_path: Path) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    for _ in range(2_000):
        await ringloop.submit("stat", str(tmp_path))
    counting.cancel()
    assert turns > 2


@ringloop_only
def test_buffers_are_counted_once() -> None:
    """A sequence that grows while it is looked at does not show the kernel what is behind it."""

    class Growing:
        lengths = iter([1, 500, 500, 500])

        def __len__(self) -> int:
            return next(self.lengths)

        def __getitem__(self, index: int) -> bytes:
            if index >= 1:
                raise IndexError
            return b"x"

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert await ringloop.submit("sendmsg", ours, Growing()) == 1
            assert theirs.recv(10) == b"x"

    on_ringloop(main)


@pytest.mark.parametrize("name", ["openat", "openat2"])
@ringloop_only
def test_an_fd_that_was_opened_for_a_cancelled_operation_is_closed(tmp_path: Path, name: str) -> None:
    """At once, also if somebody still has the operation."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        await until_asleep()
        others = loop._counters()["in_flight"]
        operation = ringloop.submit(name, fifo, os.O_RDONLY)
        await until_asleep()
        other = os.open(fifo, os.O_WRONLY)
        operation.cancel()
        while loop._counters()["in_flight"] > others:
            await asyncio.sleep(0)
        await until_asleep()
        os.close(other)
        assert str(fifo) not in leaks.open_fds().values()
        assert operation.cancelled()

    on_ringloop(main)


def test_an_fd_that_a_thread_opened_after_its_loop_was_closed_is_closed(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    loop = asyncio.new_event_loop()
    loop.set_default_executor(executor := ThreadPoolExecutor(1))

    async def begin() -> Any:
        return ringloop.submit("open", fifo, os.O_RDONLY)

    operation = loop.run_until_complete(begin())
    loop.close()
    del operation
    other = os.open(fifo, os.O_WRONLY)
    executor.shutdown()
    os.close(other)
    gc.collect()
    assert str(fifo) not in leaks.open_fds().values()


@ringloop_only
def test_a_close_that_is_under_way_when_a_run_ends_is_made_in_the_next(tmp_path: Path) -> None:
    path = tmp_path / "file"
    loop = ringloop.new_event_loop()

    async def begin() -> Any:
        return ringloop.submit("close", os.open(path, os.O_RDWR | os.O_CREAT))

    for _ in range(100):
        assert loop.run_until_complete(loop.run_until_complete(begin())) is None
        assert str(path) not in leaks.open_fds().values()
    loop.close()


@pytest.mark.parametrize(
    "asked",
    [("chown", 1 << 32, 1 << 32), ("chmod", 1 << 32 | 0o4755), ("access", 1 << 32), ("chmod", -(1 << 32))],
)
async def test_what_has_more_bits_than_the_kernel_reads_is_refused(
    world: World, asked: tuple[Any, ...]
) -> None:
    name, *arguments = asked
    path = world.path("file")
    before = os.stat(path)
    with pytest.raises(OverflowError, match="32 bits"):
        await ringloop.submit(name, path, *arguments)
    after = os.stat(path)
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)


@pytest.mark.parametrize("sizes", [(-1, 0), (10, -1)])
async def test_lengths_of_a_message_are_not_negative(world: World, sizes: tuple[int, int]) -> None:
    ours, _ = world.sockets()
    with pytest.raises(ValueError, match="negative"):
        await ringloop.submit("recvmsg", ours, *sizes)
