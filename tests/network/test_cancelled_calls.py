"""One call that waits, interrupted before, after and in the pass that brings its result: nothing is lost.

Each entry of CALLS says what the call waits for, how that comes about, and what has to be there afterwards,
whether the call was interrupted or not.
"""

import asyncio
import random
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import pytest

from network.peers import TIMEOUT, Background, bounded_pair, listener, receive_all, tcp_pair
from network.recorders import Recorder, settle, until_closed
from network.recorders import server as serving
from support.leaks import open_fds

BIG = random.Random(51).randbytes(1024 * 1024)  # more than the kernel's buffers of `bounded_pair` take


class Call:
    """A call that waits; `bring` lets its result come, which is `expected`.

    Interrupted or not, `check` finds everything: by default the call, made again, gives the result.
    """

    def __init__(
        self,
        call: Callable[[], Awaitable[Any]],
        bring: Callable[[], object],
        expected: Any,
        check: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        self._call = call
        self.bring = bring
        self.expected = expected
        self.check = check or self.make

    async def make(self) -> Any:
        """Makes the call."""
        return await self._call()

    async def begin(self) -> "asyncio.Task[Any]":
        """A task in which the call waits."""
        task = asyncio.get_running_loop().create_task(self.make())
        await settle(1)
        assert not task.done()
        return task


Scene = Callable[[], AbstractAsyncContextManager[Call]]
CALLS: list[Any] = []


def scene(*marks: pytest.MarkDecorator) -> Callable[[Any], Scene]:
    """Enters the scene of the call after which it is named."""

    def enter(function: Any) -> Scene:
        made: Scene = asynccontextmanager(function)
        CALLS.append(pytest.param(made, id=function.__name__, marks=marks))
        return made

    return enter


LOSES_BYTES = pytest.mark.beyond_asyncio(
    "it receives before the task runs, and drops that if it is cancelled"
)
LOSES_CLIENTS = pytest.mark.beyond_asyncio(
    "it accepts before the task runs, and drops that if it is cancelled"
)
OLD_WAIT_CLOSED = pytest.mark.beyond_asyncio("wait_closed() waits since 3.12.1", before=(3, 12, 1))


@contextmanager
def receiver() -> Iterator[tuple[socket.socket, Callable[[], object]]]:
    """A non-blocking socket, and what lets b"data" come to it."""
    ours, peer = tcp_pair()
    with ours, peer:
        ours.setblocking(False)
        yield ours, lambda: peer.sendall(b"data")


@scene(LOSES_BYTES)
async def sock_recv() -> AsyncIterator[Call]:
    with receiver() as (sock, bring):
        yield Call(lambda: asyncio.get_running_loop().sock_recv(sock, 100), bring, b"data")


@scene(LOSES_BYTES)
async def sock_recv_into() -> AsyncIterator[Call]:
    buffer = bytearray(100)
    with receiver() as (sock, bring):

        async def call() -> bytes:
            count = await asyncio.get_running_loop().sock_recv_into(sock, buffer)
            return bytes(buffer[:count])

        yield Call(call, bring, b"data")


@scene(LOSES_BYTES)
async def sock_recvfrom() -> AsyncIterator[Call]:
    with receiver() as (sock, bring):
        yield Call(lambda: asyncio.get_running_loop().sock_recvfrom(sock, 100), bring, (b"data", None))


@scene(LOSES_BYTES)
async def sock_recvfrom_into() -> AsyncIterator[Call]:
    with receiver() as (sock, bring):
        loop = asyncio.get_running_loop()
        yield Call(lambda: loop.sock_recvfrom_into(sock, bytearray(100)), bring, (4, None))


@scene(LOSES_CLIENTS)
async def sock_accept() -> AsyncIterator[Call]:
    with listener() as ours, socket.socket() as client:
        ours.setblocking(False)

        async def call() -> Any:
            connection, address = await asyncio.get_running_loop().sock_accept(ours)
            connection.close()
            return address == client.getsockname()

        yield Call(call, lambda: client.connect(ours.getsockname()), True)


@scene()
async def sock_sendall() -> AsyncIterator[Call]:
    """What arrives is the beginning of what was to be sent."""
    ours, peer = bounded_pair()
    with ours, peer:
        ours.setblocking(False)
        threads: list[Background] = []

        async def check() -> bool:
            ours.shutdown(socket.SHUT_WR)
            received = await asyncio.to_thread(threads[0].finish)
            return bool(received) and BIG.startswith(received)

        yield Call(
            lambda: asyncio.get_running_loop().sock_sendall(ours, BIG),
            lambda: threads.append(Background(receive_all, peer)),
            True,
            check,
        )


@scene()
async def sock_sendto() -> AsyncIterator[Call]:
    """Cancelled, it has sent nothing or all; whole datagrams arrive, each once."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer,
    ):
        ours.setblocking(False)
        peer.setblocking(False)
        peer.bind("")  # to a free address in the abstract namespace
        ours.connect(peer.getsockname())
        count = 0
        try:
            while True:
                ours.send(b"%d" % count)
                count += 1
        except BlockingIOError:
            pass
        received: list[bytes] = []

        async def check() -> bool:
            try:
                while True:
                    received.append(peer.recv(100))
            except BlockingIOError:
                sent = [b"%d" % number for number in range(count)]
                return received in (sent, [*sent, b"last"])

        yield Call(
            lambda: asyncio.get_running_loop().sock_sendto(ours, b"last", peer.getsockname()),
            lambda: received.append(peer.recv(100)),
            True,
            check,
        )


@asynccontextmanager
async def streams(
    make_pair: Any = tcp_pair,
) -> AsyncIterator[tuple[Any, asyncio.StreamWriter, socket.socket]]:
    """A reader and a writer, and the blocking socket at the other end."""
    ours, peer = make_pair()
    reader, writer = await asyncio.open_connection(sock=ours)
    with peer:
        yield reader, writer, peer
    if ours.fileno() != -1:
        writer.transport.abort()
    await until_closed(ours)


def stream_reads() -> dict[str, tuple[Any, ...]]:
    """A StreamReader's methods and arguments with which they give one line."""
    return {"read": (100,), "readline": (), "readexactly": (9,), "readuntil": (b"\n",)}


@pytest.mark.parametrize("how", ["cancel", "timeout"])
@pytest.mark.parametrize("method", stream_reads())
async def test_a_stream_keeps_what_an_interrupted_read_has_not_taken(method: str, how: str) -> None:
    async def line() -> AsyncIterator[Call]:
        async with streams() as (reader, _, peer):
            read = getattr(reader, method)
            yield Call(
                lambda: read(*stream_reads()[method]), lambda: peer.sendall(b"one line\n"), b"one line\n"
            )

    await interrupt_everywhere(asynccontextmanager(line), how)


@scene()
async def drain() -> AsyncIterator[Call]:
    """What was written arrives whole, whoever stops waiting for it."""
    async with streams(bounded_pair) as (_, writer, peer):
        writer.write(BIG)
        threads: list[Background] = []

        async def check() -> bytes:
            await writer.drain()
            writer.close()
            received: bytes = await asyncio.to_thread(threads[0].finish)
            return received

        yield Call(writer.drain, lambda: threads.append(Background(receive_all, peer)), BIG, check)


@scene()
async def wait_closed() -> AsyncIterator[Call]:
    """A closing connection flushes all, whoever stops waiting for its end."""
    async with streams(bounded_pair) as (_, writer, peer):
        writer.write(BIG)
        writer.close()
        threads: list[Background] = []

        async def check() -> bytes:
            await until_closed(writer.get_extra_info("socket"))
            received: bytes = await asyncio.to_thread(threads[0].finish)
            return received

        yield Call(writer.wait_closed, lambda: threads.append(Background(receive_all, peer)), BIG, check)


@scene(OLD_WAIT_CLOSED)
async def server_wait_closed() -> AsyncIterator[Call]:
    protocol = Recorder(connection_lost=lambda self: self.transport.close())
    async with serving(lambda: protocol) as (server, address):
        with socket.create_connection(address, TIMEOUT) as client:
            await protocol.until("connection_made")
            server.close()
            yield Call(server.wait_closed, client.close, None)


@contextmanager
def slow(function: str, answer: Any) -> Iterator[Callable[[], object]]:
    """Lets that function of the socket module give `answer`, but not before what is yielded was called."""
    go_on = threading.Event()

    def wait(*args: Any, **keywords: Any) -> Any:
        assert go_on.wait(TIMEOUT)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, function, wait)
        try:
            yield go_on.set
        finally:
            go_on.set()


@scene()
async def getaddrinfo() -> AsyncIterator[Call]:
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]
    with slow("getaddrinfo", answer) as bring:
        yield Call(lambda: asyncio.get_running_loop().getaddrinfo("name", 80), bring, answer)


@scene()
async def getnameinfo() -> AsyncIterator[Call]:
    with slow("getnameinfo", ("name", "http")) as bring:
        loop = asyncio.get_running_loop()
        yield Call(lambda: loop.getnameinfo(("127.0.0.1", 80)), bring, ("name", "http"))


@scene()
async def run_in_executor() -> AsyncIterator[Call]:
    go_on = threading.Event()
    yield Call(lambda: asyncio.get_running_loop().run_in_executor(None, go_on.wait, TIMEOUT), go_on.set, True)


async def interrupted(call: Call, how: str, passes: int) -> bool:
    """Begins the call, lets its result come, interrupts it `passes` later; whether it was still waiting."""
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(None)

    async def limited() -> Any:
        async with limit:
            return await call.make()

    task = await call.begin() if how == "cancel" else loop.create_task(limited())
    await settle(1)
    call.bring()
    for _ in range(passes):
        await asyncio.sleep(0)
    if how == "cancel":
        in_time = task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == in_time
    else:
        if not task.done():
            limit.reschedule(loop.time())
        await asyncio.wait([task])
        in_time = limit.expired()
        assert isinstance(task.exception(), TimeoutError) == in_time
    if not in_time and call.check == call.make:
        assert task.result() == call.expected
    return in_time


async def interrupt_everywhere(made: Scene, how: str) -> None:
    """Interrupts the call ever later, until its result was faster."""
    await asyncio.to_thread(int)  # the executor's first thread stays
    before = open_fds()
    for passes in (*range(40), *(2**power for power in range(6, 20))):
        async with made() as call:
            in_time = await interrupted(call, how, passes)
            if in_time or call.check != call.make:
                assert await call.check() == call.expected
        assert open_fds().keys() == before.keys()
        if not in_time:
            return
    raise AssertionError("the call did not end")


@pytest.mark.parametrize("how", ["cancel", "timeout"])
@pytest.mark.parametrize("made", CALLS)
async def test_interrupted_after_its_result_has_begun_to_come(made: Scene, how: str) -> None:
    await interrupt_everywhere(made, how)


@pytest.mark.parametrize("first", ["result", "cancel"])
@pytest.mark.parametrize("made", CALLS)
async def test_cancelled_in_the_pass_that_brings_the_result(made: Scene, first: str) -> None:
    """What brings the result and a bell that has the call cancelled come to the loop together."""
    loop = asyncio.get_running_loop()
    bell, rope = socket.socketpair()
    answers: list[bool] = []

    def ring() -> None:
        loop.remove_reader(bell)
        answers.append(task.cancel())

    with bell, rope:
        async with made() as call:
            task = await call.begin()
            loop.add_reader(bell, ring)
            await settle(1)
            for step in (call.bring, lambda: rope.send(b"x"))[:: 1 if first == "result" else -1]:
                step()
            await asyncio.wait([task])
            while not answers:
                await asyncio.sleep(0)
            assert task.cancelled() == answers[0]
            if answers[0] or call.check != call.make:
                assert await call.check() == call.expected


@pytest.mark.parametrize("made", CALLS)
async def test_a_result_that_comes_after_the_cancel_is_for_the_next(made: Scene) -> None:
    async with made() as call:
        task = await call.begin()
        assert task.cancel()
        call.bring()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await call.check() == call.expected
