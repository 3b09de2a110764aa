"""Random programs of operations have the same outcome on every driver, and as the blocking calls in threads.

A program is a list of steps upon one small world: calls, waits that another step ends, cancellations, batches
and chains, on files, a pipe, a pair of sockets, and descriptors that are closed or of the wrong kind. It runs
on a ring, on epoll, and under asyncio's own loop, where every operation is the blocking system call: in a
thread, or here once it cannot block. What each step gave is compared (results and errno, never messages), and
the tree that is left.
"""

import asyncio
import contextlib
import errno
import os
import select
import shutil
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import hypothesis
from hypothesis import strategies as st

import ringloop
from operations.world import World
from support.loops import FACTORIES, ORACLE, LoopFactory, names_available

CLOSED = 1 << 20  # the number of no descriptor
LOOPS = names_available()
TIMEOUT_S = 20.0  # of a wait that a step has ended


class Call(NamedTuple):
    """An operation that ends by itself, and its arguments; a `Named` is put in when the program runs."""

    op: str
    args: tuple[Any, ...]


class Named(NamedTuple):
    """A descriptor or a path of the world."""

    kind: str
    name: str


class Start(NamedTuple):
    """A wait on an end that has nothing yet."""

    end: str
    op: str


class Feed(NamedTuple):
    """Sends to an end, which ends the wait there, if there is one."""

    end: str
    data: bytes


class Shut(NamedTuple):
    """Closes what feeds the end, which ends the wait there, if there is one."""

    end: str


class Cancel(NamedTuple):
    """Cancels the wait on an end, if there is one."""

    end: str


class Batch(NamedTuple):
    """Calls that do not see each other, side by side."""

    calls: tuple[Call, ...]


class Chain(NamedTuple):
    """Opens a file and works on it; the steps after the first that fails do not run, if `strict`."""

    path: Named
    flags: int
    calls: tuple[Call, ...]
    strict: bool


Step = Call | Start | Feed | Shut | Cancel | Batch | Chain
THE_FD = Named("chained", "")

# ---- what programs are made of: calls with one fault at most, as nobody promises which of two is found

files = st.sampled_from([Named("fd", name) for name in ("file", "read only", "folder", "path only")])
ends = st.sampled_from(["pipe", "socket"])
any_fd = st.one_of(
    files, st.sampled_from([Named("fd", "closed"), Named("fd", "pipe's end"), Named("fd", "peer")])
)
paths = st.sampled_from(
    [Named("path", n) for n in ("file", "folder", "folder/inner", "link", "none", "new", "file/below", "")]
)
lengths = st.sampled_from([0, 1, 7, 999, 1000, 1001, 70000])
offsets = st.sampled_from([0, 1, 990, 1000, 5000, -1])
data = st.sampled_from([b"", b"a", b"some bytes", b"x" * 5000])
modes = st.sampled_from([0o600, 0o755])


def calls_of(op: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    return st.tuples(*arguments).map(lambda args: Call(op, args))


looking = st.one_of(
    calls_of("read", files, lengths, offsets.filter(lambda offset: offset >= 0)),
    calls_of("statx", paths),
    calls_of("statx", any_fd),
    calls_of("getxattr", paths, st.sampled_from(["user.color", "user.none"])),
    calls_of("readlink", paths),
    calls_of("access", paths, st.sampled_from([os.F_OK, os.R_OK, os.X_OK])),
    calls_of("fadvise", files, st.just(0), lengths, st.just(os.POSIX_FADV_RANDOM)),
    calls_of("nop"),
)
changing = st.one_of(
    calls_of("read", files, lengths, offsets),
    calls_of("write", files, data, offsets),
    calls_of("writev", files, st.lists(data, max_size=3), offsets),
    calls_of("fsync", any_fd),
    calls_of("fdatasync", any_fd),
    calls_of("ftruncate", any_fd, st.sampled_from([0, 10, 3000])),
    calls_of("fallocate", files, st.just(0), offsets, lengths),
    calls_of("renameat", paths, paths),
    calls_of("unlinkat", paths),
    calls_of("mkdirat", paths, modes),
    calls_of("symlinkat", paths, paths),
    calls_of("linkat", paths, paths),
    calls_of("chmod", paths, modes),
    calls_of("setxattr", paths, st.just("user.color"), data.filter(lambda value: len(value) < 100)),
    calls_of("write", st.just(Named("fd", "closed")), data, st.just(-1)),
    calls_of("poll", any_fd, st.sampled_from([select.POLLOUT, select.POLLIN | select.POLLOUT])).filter(
        lambda call: call.args[0].name in ("file", "peer", "closed")
    ),
    calls_of("shutdown", any_fd, st.just(socket.SHUT_RD)).filter(lambda call: call.args[0].name != "peer"),
    calls_of("timeout", st.sampled_from([0.0, 0.001])),
    calls_of("copy_file_range", files, st.just(Named("fd", "copy")), lengths, st.sampled_from([None, 5])),
    calls_of("openat", paths, st.sampled_from([os.O_RDONLY, os.O_RDWR | os.O_CREAT, os.O_DIRECTORY])),
)
upon_the_fd = st.one_of(
    calls_of("read", st.just(THE_FD), lengths, offsets),
    calls_of("write", st.just(THE_FD), data, offsets),
    calls_of("ftruncate", st.just(THE_FD), st.just(20)),
    calls_of("fsync", st.just(THE_FD)),
    calls_of("statx", paths),
)
steps = st.one_of(
    looking,
    changing,
    changing,
    st.builds(Start, st.just("pipe"), st.sampled_from(["read", "poll"])),
    st.builds(Start, st.just("socket"), st.sampled_from(["recv", "recvmsg", "poll"])),
    st.builds(Feed, ends, data.filter(bool)),
    st.builds(Shut, ends),
    st.builds(Cancel, ends),
    st.builds(Batch, st.lists(looking, max_size=5).map(tuple)),
    st.builds(
        Chain,
        paths,
        st.sampled_from([os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT]),
        st.lists(upon_the_fd, max_size=4).map(tuple),
        st.booleans(),
    ),
)
programs = st.lists(steps, max_size=12)


# ---- running one


class Running:
    """A program that runs, in a world of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        read_end, write_end = world.pipe()
        receiver, sender = world.sockets()
        self.readers = {"pipe": read_end, "socket": receiver.fileno()}
        self.feeders = {"pipe": write_end, "socket": sender.fileno()}
        self.fds = {
            "file": world.open(),
            "read only": world.open(flags=os.O_RDONLY),
            "folder": world.open("folder", os.O_RDONLY),
            "path only": world.open(flags=os.O_PATH),
            "copy": world.keep(os.open(world.path("copy"), os.O_RDWR | os.O_CREAT)),
            "closed": CLOSED,
            "pipe's end": read_end,
            "peer": sender.fileno(),
        }
        self.waits: dict[str, asyncio.Future[Any]] = {}
        self.shut: set[str] = set()

    def put_in(self, argument: Any) -> Any:
        if isinstance(argument, Named):
            return self.fds[argument.name] if argument.kind == "fd" else self.world.path(argument.name)
        return argument

    def submitted(self, call: Call) -> Any:
        return ringloop.submit(call.op, *map(self.put_in, call.args))

    async def outcome(self, awaitable: Any) -> Any:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                value = await awaitable
        except OSError as error:
            assert not isinstance(error, TimeoutError) or error.errno, "a wait did not end"
            return "OSError", error.errno
        except (ValueError, TypeError, OverflowError) as error:
            return type(error).__name__
        return self.world.told(value)

    async def polled(self, awaitable: Any) -> Any:
        """A poll's events. io_uring tells of POLLRDHUP to those who did not ask, too (IO_POLL_UNMASK)."""
        events = await self.outcome(awaitable)
        return events & ~select.POLLRDHUP if isinstance(events, int) else events

    async def end_of_wait(self, end: str) -> Any:
        wait = self.waits.pop(end, None)
        return None if wait is None else await self.polled(wait)

    async def step(self, step: Step) -> Any:
        match step:
            case Call("openat"):
                return await self.opened(step)
            case Call():
                return await self.called(step) if self.is_valid(step) else None
            case Start(end, op):
                return await self.start(end, op)
            case Feed(end, data):
                if end in self.shut:
                    return None
                os.write(self.feeders[end], data)
                return await self.end_of_wait(end)
            case Shut(end):
                return await self.close_feeder(end)
            case Cancel(end):
                return await self.cancelled(end)
            case Batch(calls):
                return await self.batched(calls)
            case Chain():
                return await self.chained(step)

    def is_valid(self, call: Call) -> bool:
        """Not what would meet a wait of the program's own, or a number that was closed."""
        return not (self.shut and Named("fd", "peer") in call.args)

    async def called(self, call: Call) -> Any:
        told = self.polled if call.op == "poll" else self.outcome
        return await told(self.submitted(call))

    async def opened(self, call: Call) -> Any:
        fd = await self.outcome(self.submitted(call))
        if isinstance(fd, int):
            os.close(fd)
            return "opened"
        return fd

    async def start(self, end: str, op: str) -> Any:
        """Begins a wait; one that cannot wait, since there is something, is over with this step."""
        if end in self.waits:
            return None
        fd = self.readers[end]
        arguments: dict[str, tuple[Any, ...]] = {
            "read": (fd, 100, -1),
            "recv": (fd, 100),
            "recvmsg": (fd, 100),
            "poll": (fd, select.POLLIN),
        }
        self.waits[end] = self.wait(op, arguments[op])
        return await self.end_of_wait(end) if is_ready(fd, select.POLLIN) else None

    def wait(self, op: str, arguments: tuple[Any, ...]) -> asyncio.Future[Any]:
        return ringloop.submit(op, *arguments)

    async def close_feeder(self, end: str) -> Any:
        if end in self.shut:
            return None
        self.shut.add(end)
        if end == "socket":
            # Its descriptor is `peer`, which calls go on to use.
            with_socket(self.feeders[end], lambda one: one.shutdown(socket.SHUT_WR))
        else:
            os.close(self.feeders[end])
        return await self.end_of_wait(end)

    async def cancelled(self, end: str) -> Any:
        wait = self.waits.pop(end, None)
        if wait is None:
            return None
        assert wait.cancel()
        try:
            return await wait
        except asyncio.CancelledError:
            return "cancelled"

    async def batched(self, calls: tuple[Call, ...]) -> list[Any]:
        operations = [self.submitted(call) for call in calls if self.is_valid(call)]
        return [await self.outcome(operation) for operation in operations]

    async def chained(self, step: Chain) -> list[Any]:
        chain = ringloop.chain()
        fd = chain.open(self.world.path(step.path.name), step.flags)
        chained = [fd]
        for call in step.calls:
            arguments = [fd if argument is THE_FD else self.put_in(argument) for argument in call.args]
            more = {"after": chained[-1]} if step.strict else {}
            chained.append(getattr(chain, call.op)(*arguments, **more))
        outcomes = [await self.outcome(chain)]
        for one in chained:
            error = one.exception()
            if isinstance(error, OSError):
                outcomes.append(error.errno)
            elif error is not None:
                outcomes.append(type(error).__name__)
            else:
                outcomes.append("an fd" if one is fd else self.world.told(one.result()))
        if outcomes[0] == chained[-1] or not step.calls:
            outcomes[0] = None
        return outcomes


def is_ready(fd: int, events: int) -> int:
    poll = select.poll()
    poll.register(fd, events)
    return dict(poll.poll(0)).get(fd, 0)


def with_socket(fd: int, call: Callable[[socket.socket], Any]) -> Any:
    with socket.socket(fileno=os.dup(fd)) as one:
        return call(one)


class Blocking(Running):
    """The same by blocking calls. What waits is called when it does not block any more."""

    WAITS: ClassVar[dict[str, Callable[..., Any]]] = {
        "read": lambda fd, length, _: os.read(fd, length),
        "recv": lambda fd, length: with_socket(fd, lambda one: one.recv(length)),
        "recvmsg": lambda fd, length: with_socket(fd, lambda one: one.recvmsg(length)),
        "poll": is_ready,
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.blocked: dict[asyncio.Future[Any], Callable[[], Any]] = {}

    def wait(self, op: str, arguments: tuple[Any, ...]) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        self.blocked[future] = partial(self.WAITS[op], *arguments)
        return future

    async def end_of_wait(self, end: str) -> Any:
        future = self.waits.get(end)
        if future is not None:
            try:
                future.set_result(self.blocked[future]())
            except OSError as error:
                future.set_exception(error)
        return await super().end_of_wait(end)

    async def called(self, call: Call) -> Any:
        match call:
            case Call("timeout"):
                return None
            case Call("poll", (fd, events)):
                ready = is_ready(self.put_in(fd), events)
                return ("OSError", errno.EBADF) if ready & select.POLLNVAL else ready
        return await super().called(call)


async def run_program(
    kind: type[Running], program: list[Step], root: Path
) -> tuple[list[Any], dict[str, Any]]:
    with contextlib.ExitStack() as stack:
        running = kind(World(root, stack))
        outcomes = [await running.step(step) for step in program]
        for end in list(running.waits):
            outcomes.append(await running.cancelled(end))
        return outcomes, running.world.state()


@hypothesis.settings(
    max_examples=100, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(program=programs)
def test_same_outcome(program: list[Step], tmp_path: Path, watch: Any) -> None:
    outcomes = []
    for name in LOOPS:
        factory: LoopFactory = watch.factory(FACTORIES[name])
        root = tmp_path / "world"
        try:
            with asyncio.Runner(loop_factory=factory) as runner:
                kind = Blocking if name == ORACLE else Running
                outcomes.append(runner.run(run_program(kind, program, root)))
        finally:
            shutil.rmtree(root)
    reference = outcomes[0]
    for name, outcome in zip(LOOPS, outcomes, strict=True):
        assert outcome == reference, f"on {name}"
