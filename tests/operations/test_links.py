"""What of a chain is submitted as one: files in slots, failures, cancelling, and nothing left behind."""

import asyncio
import contextlib
import errno
import os
import random
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

import ringloop
from operations.world import CONTENT, World, is_ringloop
from ringloop import _links, operations
from support import leaks
from support.child import run_child
from support.marks import needs_io_uring, ringloop_only
from support.turns import turn

# The kernel makes it when it is read: nothing of it is ever in memory before, and all is submitted.
MADE = "/proc/self/status"
BEGIN = b"Name:\t"


def has_slots() -> bool:
    """Whether the running loop's driver has them."""
    loop = asyncio.get_running_loop()
    slot = _links.take_slot(loop) if is_ringloop(loop) else 0
    if slot:
        _links.give_slot(loop, slot)
    return bool(slot)


def slots_taken(loop: Any) -> int:
    taken: int = loop._counters()["slots_taken"]
    return taken


def numbers(chain: Any) -> list[list[int]]:
    """The segments, by the steps' numbers."""
    return [[step.number for step in segment] for segment in chain.segments]


def made(length: int = len(BEGIN), path: str = MADE) -> tuple[Any, Any]:
    """A chain of which all is submitted, and its read."""
    c = ringloop.chain()
    fd = c.open(path, os.O_RDONLY)
    data = c.read(fd, length)
    c.close(fd)
    return c, data


# --- what is submitted as one


async def test_a_file_is_opened_read_and_closed_in_one_submission() -> None:
    c, data = made()
    await c
    assert data.result() == BEGIN
    if has_slots():
        assert numbers(c) == [[1, 2, 3]]
        assert slots_taken(asyncio.get_running_loop()) == 0
    else:
        assert numbers(c) == [[1], [2], [3]]


async def test_a_short_read_ends_the_segment_and_no_more() -> None:
    c, data = made(1 << 16)
    assert await c is None
    assert data.result().startswith(BEGIN)
    assert numbers(c)[-1] == [3]


async def test_what_is_in_memory_is_one_segment(world: World) -> None:
    if not is_ringloop(asyncio.get_running_loop()):
        return
    while True:
        c, data = made(10, world.path("file"))
        await c
        assert data.result() == CONTENT[:10]
        if numbers(c) == [[1, 2, 3]]:
            break


async def test_memory_that_a_read_fills_is_written(world: World) -> None:
    end, _ = world.pipe(b"twelve bytes")
    out, into = world.pipe()
    c = ringloop.chain()
    data = c.read(end, 12)
    written = c.write(into, data)
    c.nop()
    await c
    assert written.result() == 12
    assert os.read(out, 100) == b"twelve bytes"
    if is_ringloop(asyncio.get_running_loop()):
        assert numbers(c) == [[1, 2, 3]]


async def test_of_a_short_read_no_more_is_written_than_it_gave(world: World) -> None:
    end, _ = world.pipe(b"four")
    out, into = world.pipe()
    c = ringloop.chain()
    written = c.write(into, c.read(end, 4096))
    await c
    assert written.result() == 4
    assert os.read(out, 5000) == b"four"
    assert numbers(c) == [[1], [2]]


async def test_a_value_begins_a_segment(world: World) -> None:
    end, _ = world.pipe(b"123")
    out, into = world.pipe()
    c = ringloop.chain()
    number = c.read(end, 3)
    c.nop()
    c.write(into, number.then(lambda text: text * 2))
    c.nop()
    await c
    assert os.read(out, 100) == b"123123"
    if is_ringloop(asyncio.get_running_loop()):
        assert numbers(c) == [[1, 2], [3, 4]]


async def test_a_function_is_called_once_in_the_turn_of_its_step(world: World) -> None:
    end, _ = world.pipe(b"12345")
    seen = []

    def length(text: bytes) -> int:
        seen.append((text, data.done()))
        return len(text)

    c = ringloop.chain()
    first = c.read(end, 2)
    data = c.read(end, 1)
    c.nop()
    last = c.read(end, first.then(length))
    await c
    assert last.result() == b"45"
    assert seen == [(b"12", True)]


async def test_a_failure_is_named_and_the_rest_is_done(world: World) -> None:
    c = ringloop.chain()
    fd = c.open("/proc/self", os.O_RDONLY)
    data = c.read(fd, 10)
    copy = c.write(1, data)
    other = c.stat(world.path("file"))
    closed = c.close(fd)
    with pytest.raises(IsADirectoryError) as raised:
        await c
    assert raised.value.__notes__ == ["in <step 2 read> of a chain"]
    assert copy.exception().errno == errno.ECANCELED
    assert other.result().st_size == len(CONTENT)
    assert closed.exception() is None


async def test_one_that_the_kernel_refuses_cancels_none_of_the_others() -> None:
    """It is found before any of the links begins: they are done one by one then, with the same results."""
    c = ringloop.chain()
    fd = c.open(MADE, os.O_RDONLY)
    data = c.read(fd, len(BEGIN))
    refused = c.readv(fd, [bytearray(10)], 0, 1 << 30)
    again = c.read(fd, len(BEGIN), 0)
    with pytest.raises(OSError, match="not supported") as raised:
        await c
    assert raised.value.errno == errno.EOPNOTSUPP
    assert refused.exception() is raised.value
    assert data.result() == again.result() == BEGIN


async def test_many_steps_are_several_submissions(world: World) -> None:
    end, _ = world.pipe(bytes(range(100)))
    c = ringloop.chain()
    reads = [c.read(end, 1) for _ in range(100)]
    c.nop()
    await c
    assert b"".join(step.result() for step in reads) == bytes(range(100))


async def test_an_fd_is_taken_out_and_another_hidden(world: World) -> None:
    c = ringloop.chain()
    kept = c.fd(c.open(MADE, os.O_RDONLY))
    hidden = c.open(MADE, os.O_RDONLY)
    data = c.read(hidden, 3)
    await c
    assert os.read(kept.result(), 3) == data.result()
    assert not os.get_inheritable(kept.result())
    assert hidden.result() == -1
    os.close(kept.result())


async def test_two_files_at_a_time() -> None:
    c = ringloop.chain()
    first = c.open(MADE, os.O_RDONLY)
    second = c.open("/proc/self/cmdline", os.O_RDONLY)
    status = c.read(first, len(BEGIN))
    line = c.read(second, 1)
    await c
    assert status.result() == BEGIN
    assert line.result() == Path("/proc/self/cmdline").read_bytes()[:1]
    if has_slots():
        assert numbers(c) == [[1, 2, 3, 4]]


async def test_more_chains_than_slots() -> None:
    chains = [made() for _ in range(300)]
    await asyncio.gather(*(c.run() for c, _ in chains))
    assert {data.result() for _, data in chains} == {BEGIN}
    loop = asyncio.get_running_loop()
    if has_slots():
        assert slots_taken(loop) == 0
        assert [[1, 2, 3]] in [numbers(c) for c, _ in chains]
        assert [[1], [2], [3]] in [numbers(c) for c, _ in chains]


async def test_every_operation_takes_a_slot_that_is_said_to(world: World) -> None:
    """It fails, if at all, as with an fd that is open for reading: not with EBADF as without a file."""
    arguments: dict[str, tuple[Any, ...]] = {
        "read": (3,),
        "readinto": (bytearray(3),),
        "write": (b"abc",),
        "readv": ([bytearray(3)],),
        "writev": ([b"abc"],),
        "fallocate": (0, 0, 10),
        "ftruncate": (10,),
        "fadvise": (0, 0, os.POSIX_FADV_RANDOM),
        "sync_file_range": (0, 0, 0),
        "fgetxattr": ("user.none",),
        "fsetxattr": ("user.none", b""),
        "connect": ("/nothing",),
        "bind": ("/nothing",),
        "shutdown": (0,),
        "send": (b"abc",),
        "recv": (3,),
        "recv_into": (bytearray(3),),
        "sendmsg": ([b"abc"],),
        "recvmsg": (3,),
        "poll": (1,),
    }
    if not has_slots():
        return
    for entry in filter(operations.takes_slot, operations.ENTRIES.values()):
        if "ring" not in " ".join(ringloop.capabilities()[entry.name].served):
            continue
        outcomes = []
        for is_value in (False, True):  # which no slot can be
            c = ringloop.chain()
            fd = c.open(MADE, os.O_RDONLY)
            used = fd.then(lambda number: number) if is_value else fd
            step = getattr(c, entry.name)(used, *arguments.get(entry.name, ()))
            c.nop()
            with contextlib.suppress(OSError):
                await c
            assert (numbers(c)[0] == [1]) is is_value
            failure = step.exception()
            outcomes.append(failure.errno if failure else step.result())
        assert outcomes[0] == outcomes[1], (entry.name, outcomes)


# --- what several steps close


def closed_twice(c: Any, fd: Any) -> Any:
    c.read(fd, 10)
    return c.close(fd)


def closed_after_a_failure(c: Any, fd: Any) -> Any:
    failing = c.ftruncate(fd, 0)
    return c.on_failure(failing, "close", fd)


@pytest.mark.parametrize("path", [MADE, "file"])
@pytest.mark.parametrize("steps", [closed_twice, closed_after_a_failure])
@pytest.mark.parametrize("use", ["close", "read", "fsync"])
async def test_what_was_closed_is_no_other_file(world: World, use: str, steps: Any, path: str) -> None:
    """Neither the standard input, whose number is 0, nor the file of another who has the slot."""
    before = os.fstat(0)
    c = ringloop.chain()
    fd = c.open(path if path == MADE else world.path(path), os.O_RDONLY)
    closing = steps(c, fd)
    again = getattr(c, use)(fd, *([5] if use == "read" else []))
    with pytest.raises(OSError, match=r"step 2|step 4"):
        await c
    assert closing.exception() is None
    assert isinstance(failure := again.exception(), OSError)
    assert failure.errno == errno.EBADF
    assert os.fstat(0).st_ino == before.st_ino
    if is_ringloop(loop := asyncio.get_running_loop()):
        assert slots_taken(loop) == 0


async def test_an_attribute_is_not_set_before_its_value_was_read(world: World) -> None:
    """The kernel copies it when it takes the submission."""
    end, feed = world.pipe()
    path = world.path("file")
    try:
        os.setxattr(path, "user.a", b"")
    except OSError:
        pytest.skip("the file system has no attributes of users")
    c = ringloop.chain()
    fd = c.open(path, os.O_RDONLY)
    data = c.read(end, 5)
    c.fsetxattr(fd, "user.a", data)
    c.close(fd)
    running = asyncio.ensure_future(c.run())
    for _ in range(20):
        await asyncio.sleep(0)
    os.write(feed, b"value")
    await running
    assert os.getxattr(path, "user.a") == b"value"


# --- cancelling, and loops that end


async def wait_between_others(op: str, fd: int) -> None:
    c = ringloop.chain()
    c.nop()
    getattr(c, op)(fd, 1)
    c.nop()
    await c


async def give_up(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("behind", [0, 1, 5])
async def test_cancelled_while_a_link_waits(world: World, behind: int) -> None:
    loop: Any = asyncio.get_running_loop()
    if not is_ringloop(loop):
        return
    end, feed = world.pipe(b"x" * behind)
    c = ringloop.chain()
    fd = c.open(MADE, os.O_RDONLY)
    reads = [c.read(end, 1) for _ in range(behind + 1)]
    never = c.read(end, 1)
    c.close(fd)
    task = asyncio.ensure_future(c.run())
    for _ in range(20):
        await asyncio.sleep(0)
    while not loop._counters()["in_flight"]:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(reads[-1].exception(), asyncio.CancelledError)
    assert isinstance(never.exception(), asyncio.CancelledError)
    assert slots_taken(loop) == 0
    assert MADE not in leaks.open_fds().values()
    os.write(feed, b"kept")
    assert os.read(end, 100)[-4:] == b"kept"


async def test_links_that_wait_for_peers_keep_nobody_from_going_on(world: World) -> None:
    loop: Any = asyncio.get_running_loop()
    if not is_ringloop(loop):
        return
    ours, _ = world.sockets()

    async def wait() -> None:
        c = ringloop.chain()
        c.recv(ours, 1)
        c.nop()
        await c

    ways = wait, lambda: wait_between_others("recv", ours)
    waiting = [asyncio.ensure_future(way()) for way in ways for _ in range(400)]
    while loop._counters()["in_flight"] < 400:
        await asyncio.sleep(0)
    c, data = made()
    await c
    assert data.result() == BEGIN
    await give_up(waiting)


async def test_links_count_in_the_bound_until_the_last(world: World) -> None:
    loop: Any = asyncio.get_running_loop()
    if not is_ringloop(loop):
        return
    end, _ = world.pipe()
    waiting = [asyncio.ensure_future(wait_between_others("read", end)) for _ in range(2000)]
    for _ in range(100):
        await asyncio.sleep(0)
    # Of 512 chains what is left of each, the loop's own, and what stands for the others' turn.
    assert loop._counters()["in_flight"] < 2 * 512 + 10
    await give_up(waiting)
    assert loop._counters()["in_flight"] < 10


async def test_one_cancelled_again_and_again_leaves_no_timer(world: World) -> None:
    loop: Any = asyncio.get_running_loop()
    if not is_ringloop(loop):
        return
    end, _ = world.pipe()
    c = ringloop.chain()
    c.read(end, 1)
    c.read(end, 1)
    task = asyncio.ensure_future(c.run())
    for _ in range(20):
        await asyncio.sleep(0)
    before = loop._counters()["timers"]
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    assert task.cancelled()
    assert loop._counters()["timers"] <= before


@ringloop_only
@pytest.mark.parametrize("turns", range(1, 7))
def test_a_loop_closes_under_links_that_wait(world: World, turns: int) -> None:
    """What begins while the loop ends is ended as well."""
    for fed in range(4):
        end, _ = world.pipe(b"x" * fed)
        loop = ringloop.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # tasks are destroyed

        async def wait(end: int) -> None:
            c = ringloop.chain()
            fd = c.open(MADE, os.O_RDONLY)
            c.read(fd, 3)
            for _ in range(4):
                c.read(end, 1)
            c.close(fd)
            await c

        task = loop.create_task(wait(end))
        turn(loop, turns)
        loop.close()
        del task
    assert MADE not in leaks.open_fds().values()


@ringloop_only
def test_a_chain_goes_on_in_the_next_run(world: World) -> None:
    end, feed = world.pipe()
    loop = ringloop.new_event_loop()
    c = ringloop.chain()
    fd = c.open(MADE, os.O_RDONLY)
    first = c.read(fd, 3)
    waits = c.read(end, 4)
    last = c.read(fd, 3)
    c.close(fd)
    task = loop.create_task(c.run())
    for _ in range(10):
        loop.run_until_complete(asyncio.sleep(0))
    os.write(feed, b"here")
    loop.run_until_complete(task)
    assert first.result() + last.result() == BEGIN
    assert waits.result() == b"here"
    assert loop._counters()["slots_taken"] == 0
    loop.close()


@ringloop_only
def test_given_up_while_links_wait(world: World) -> None:
    end, _ = world.pipe()
    loop = ringloop.new_event_loop()

    async def main() -> None:
        c = ringloop.chain()
        fd = c.open(MADE, os.O_RDONLY)
        c.read(fd, 3)
        c.read(end, 1)
        c.close(fd)
        running = c.run()
        running.send(None)
        for _ in range(20):
            await asyncio.sleep(0)
        running.close()
        while slots_taken(asyncio.get_running_loop()) or MADE in leaks.open_fds().values():
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.close()


async def test_ten_thousand_chains_leave_nothing(world: World) -> None:
    """With failures and cancellations at random, 10,000 on a ring and fewer where threads serve."""
    loop: Any = asyncio.get_running_loop()
    chooser = random.Random(8)
    end, _ = world.pipe()
    paths = [
        MADE,
        "/proc/self",
        "/proc/self/none",
        world.path("file"),
        world.path("none"),
        world.path("folder"),
    ]

    async def one() -> None:
        c = ringloop.chain()
        fd = c.open(chooser.choice(paths), os.O_RDONLY)
        data = c.read(fd, chooser.choice([0, 3, 1 << 16]))
        if chooser.random() < 0.2:
            c.readv(fd, [bytearray(3)], 0, 1 << 30)  # refused before anything begins
        if chooser.random() < 0.2:
            c.on_failure(data, "nop")
        if chooser.random() < 0.1:
            c.read(end, 1)  # waits until it is cancelled
            task = asyncio.current_task()
            assert task
            loop.call_later(0.001, task.cancel)
        if chooser.random() < 0.5:
            c.close(fd)
        with contextlib.suppress(OSError):
            await c

    async def several(count: int) -> None:
        for _ in range(count):
            task = asyncio.ensure_future(one())
            for _ in range(chooser.randrange(4)):
                await asyncio.sleep(0)
            if chooser.random() < 0.3:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    if not is_ringloop(loop):
        return
    await asyncio.gather(*(several(100) for _ in range(100 if loop.driver == "io_uring" else 10)))
    assert slots_taken(loop) == 0


# --- a kernel that takes a part


@needs_io_uring
@pytest.mark.parametrize("signals", [False, True], ids=["undisturbed", "signals"])
def test_links_of_which_the_kernel_takes_a_part(signals: bool, tmp_path: Path) -> None:
    """As when it has no memory for all: the others must not begin by themselves, nor for a signal."""
    library = tmp_path / "short_kernel.so"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    source = Path(__file__).with_name("short_kernel.c")
    subprocess.run([*compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    before = os.environ.get("LD_PRELOAD")
    run_child(
        """
        import asyncio, os, ringloop, signal

        loop = None
        watched, _ = os.pipe()

        def handle(*_):
            if loop is not None and loop.is_running():
                loop.remove_reader(watched)
                loop.add_reader(watched, int)

        async def main():
            global loop
            loop = asyncio.get_running_loop()
            end, into = os.pipe()
            for _ in range(50):
                c = ringloop.chain()
                fd = c.open("/proc/self/status", os.O_RDONLY)
                data = c.read(fd, 6)
                c.write(into, data)
                c.close(fd)
                await c
                assert os.read(end, 100) == b"Name:\\t", data.result()
                assert [len(segment) for segment in c.segments] == [1, 1, 1, 1], c.segments
            assert loop._counters()["slots_taken"] == 0
            loop.remove_reader(watched)

        signal.signal(signal.SIGUSR1, handle)
        ringloop.run(main())
        """,
        loop_name="ringloop",
        env={
            "LD_PRELOAD": str(library) if before is None else f"{before}:{library}",
            **({"SHORT_KERNEL_SIGNALS": "1"} if signals else {}),
        },
    )
