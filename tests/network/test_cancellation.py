"""Cancelled and timed out at every await: whatever was begun is undone, and the loop goes on.

Each conversation below is begun again and again, and ended a pass of the loop later each time, until it runs
to its end undisturbed: so every await of it is interrupted, in every state that the kernel may be in.
"""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from network.peers import TIMEOUT, blackhole, listener, refused_address, tcp_pair
from network.recorders import Recorder, settle, until_closed
from support.leaks import open_fds

# After how many passes of the loop to interrupt: each of the first 60, then ever wider apart.
PASSES = [*range(60), *(int(60 * 1.1**power) for power in range(100))]

Address = tuple[str, int]


class Echo(asyncio.Protocol):
    """Sends back what it receives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def over_streams(address: Address) -> None:
    """Connects, has something echoed, closes."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(b"hello\n" * 10_000)
        await writer.drain()
        assert await reader.readline() == b"hello\n"
        assert await reader.readuntil(b"o") == b"hello"
        assert await reader.readexactly(1) == b"\n"
        assert await reader.readexactly(59_988) == b"hello\n" * 9_998
        writer.write(b"bye")
        writer.write_eof()
        assert await reader.read(2)
        assert await reader.read() in (b"e", b"ye")
    finally:
        writer.close()
    await writer.wait_closed()


async def by_name(address: Address) -> None:
    """Connects by a name that a thread resolves."""
    _, writer = await asyncio.open_connection("localhost", address[1], family=socket.AF_INET)
    writer.close()
    await writer.wait_closed()


@contextmanager
def resolving_to(*targets: Address) -> Iterator[None]:
    """The running loop's getaddrinfo gives these."""
    loop = asyncio.get_running_loop()

    async def getaddrinfo(*args: Any, **keywords: Any) -> Any:
        await asyncio.sleep(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", target) for target in targets]

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]
    try:
        yield
    finally:
        del loop.getaddrinfo


async def by_one_address_after_the_other(address: Address) -> None:
    """Connects to two addresses that refuse and then a good one, from a local address."""
    loop = asyncio.get_running_loop()
    with refused_address() as first, refused_address() as second:
        with resolving_to(first, second, address):
            transport, _ = await loop.create_connection(Recorder, "name", 80, local_addr=("127.0.0.1", 0))
        transport.close()


async def by_happy_eyeballs(address: Address) -> None:
    """Connects to an address that refuses, one that is silent, and a good one, all at once."""
    loop = asyncio.get_running_loop()
    with refused_address() as refused, blackhole() as silent:
        with resolving_to(refused, silent, address):
            transport, _ = await loop.create_connection(Recorder, "name", 80, happy_eyeballs_delay=0)
        transport.close()


async def by_a_race_of_equals(address: Address) -> None:
    """Connects to the same address three times, all at once."""
    loop = asyncio.get_running_loop()
    with resolving_to(address, address, address):
        transport, _ = await loop.create_connection(Recorder, "name", 80, happy_eyeballs_delay=0)
    transport.close()


async def from_a_race_without_winner(address: Address) -> None:
    """Connects to two addresses that refuse, all at once."""
    loop = asyncio.get_running_loop()
    with (
        refused_address() as first,
        refused_address() as second,
        resolving_to(first, second),
        pytest.raises(OSError, match=r"^Multiple exceptions: "),
    ):
        await loop.create_connection(Recorder, "name", 80, happy_eyeballs_delay=0)


async def over_sock_calls(address: Address) -> None:
    """Connects, sends, receives by `sock_*`."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
        await loop.sock_sendall(sock, b"hello" * 20_000)
        received = 0
        while received < 50_000:
            received += len(await loop.sock_recv(sock, 10_000))
        buffer = bytearray(10_000)
        while received < 100_000:
            received += await loop.sock_recv_into(sock, buffer)


async def over_datagrams(address: Address) -> None:
    """Sends datagrams to itself, receives them in both ways."""
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        loop.call_later(0.001, lambda: sock.fileno() == -1 or sock.sendto(b"first", sock.getsockname()))
        assert await loop.sock_recvfrom(sock, 100) == (b"first", sock.getsockname())
        assert await loop.sock_sendto(sock, b"second", sock.getsockname()) == 6
        assert await loop.sock_recvfrom_into(sock, bytearray(100)) == (6, sock.getsockname())


async def over_threads_and_timers(address: Address) -> None:
    """Waits for threads of the executor, and for time."""
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, int) == 0
    assert await loop.getaddrinfo(*address, type=socket.SOCK_STREAM)
    assert await loop.getnameinfo(address, socket.NI_NUMERICHOST) == await loop.getnameinfo(address, 1)
    assert await asyncio.sleep(0.0005, "slept") == "slept"


async def as_a_server(address: Address) -> None:
    """Serves one client of its own by create_server."""
    made = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    async with made:
        await over_streams(made.sockets[0].getsockname())


async def as_a_server_for_ever(address: Address) -> None:
    """Serves by serve_forever until the first client, of its own, has come."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def greet(protocol: Recorder) -> None:
        protocol.transport.close()
        made.close()

    made = await loop.create_server(
        lambda: Recorder(connection_made=greet), "127.0.0.1", 0, start_serving=False
    )
    with socket.socket() as client:
        client.setblocking(False)
        try:
            await made.start_serving()
            loop.call_later(0.0005, lambda: made.sockets and client.connect_ex(made.sockets[0].getsockname()))
            await made.serve_forever()
        except asyncio.CancelledError:
            if task.cancelling():
                raise
        finally:
            made.close()


async def over_sock_accept(address: Address) -> None:
    """Accepts a client that comes while it waits, by `sock_accept`."""
    loop = asyncio.get_running_loop()
    with listener() as own, socket.socket() as client:
        own.setblocking(False)
        client.setblocking(False)
        loop.call_later(0.001, lambda: client.fileno() == -1 or client.connect_ex(own.getsockname()))
        accepted, _ = await loop.sock_accept(own)
        accepted.close()


async def over_a_given_socket(address: Address) -> None:
    """Makes a transport of a connected socket."""
    with socket.create_connection(address, TIMEOUT) as sock:
        sock.setblocking(False)
        transport, _ = await asyncio.get_running_loop().create_connection(Recorder, sock=sock)
        transport.abort()
        await until_closed(sock)


CONVERSATIONS = [
    over_streams,
    over_sock_calls,
    over_datagrams,
    over_threads_and_timers,
    over_a_given_socket,
    by_name,
    by_one_address_after_the_other,
    pytest.param(
        as_a_server_for_ever,
        marks=pytest.mark.beyond_asyncio("it loses a connection accepted as the server closes"),
    ),
    pytest.param(over_sock_accept, marks=pytest.mark.beyond_asyncio("it loses an accepted socket")),
    pytest.param(as_a_server, marks=pytest.mark.beyond_asyncio("it loses the server that it has begun")),
    pytest.param(by_happy_eyeballs, marks=pytest.mark.beyond_asyncio("it loses the winner's socket")),
    pytest.param(by_a_race_of_equals, marks=pytest.mark.beyond_asyncio("it loses the winner's socket")),
    from_a_race_without_winner,
]


@asynccontextmanager
async def echo_server() -> AsyncIterator[Address]:
    """An echo server that must have no client left at its end."""
    made = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    yield made.sockets[0].getsockname()
    made.close()


async def until_fds_are(before: dict[int, str]) -> None:
    """Waits until all that was opened is closed: the other end of a connection hears of it later."""
    async with asyncio.timeout(TIMEOUT):
        while open_fds().keys() - before.keys():
            await settle(1)


@pytest.mark.parametrize("conversation", CONVERSATIONS)
async def test_cancelled_at_every_await(conversation: Callable[[Address], Any]) -> None:
    async with echo_server() as address:
        await asyncio.wait_for(asyncio.to_thread(int), TIMEOUT)  # the executor's first thread stays
        before = open_fds()
        for passes in PASSES:
            task = asyncio.create_task(conversation(address))
            for _ in range(passes):
                await asyncio.sleep(0)
            cancelled = task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() == cancelled
            await until_fds_are(before)
            if not cancelled:
                task.result()
                return
        raise AssertionError("the conversation did not end")


@pytest.mark.parametrize("conversation", CONVERSATIONS)
async def test_timed_out_at_every_await(conversation: Callable[[Address], Any]) -> None:
    loop = asyncio.get_running_loop()

    async def limited(limit: asyncio.Timeout) -> None:
        async with limit:
            await conversation(address)

    async with echo_server() as address:
        await asyncio.wait_for(asyncio.to_thread(int), TIMEOUT)
        before = open_fds()
        for passes in PASSES[1:]:
            limit = asyncio.timeout(None)
            task = asyncio.create_task(limited(limit))
            for _ in range(passes):
                await asyncio.sleep(0)
            if not task.done():
                limit.reschedule(loop.time())
            await asyncio.wait([task])
            await until_fds_are(before)
            if task.exception() is None:
                return
            assert isinstance(task.exception(), TimeoutError)
        raise AssertionError("the conversation did not end")


async def test_cancelled_while_the_name_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread resolves on; its answer, late, finds nobody and does no harm."""
    begun, go_on = threading.Event(), threading.Event()

    def getaddrinfo(*args: Any, **keywords: Any) -> Any:
        begun.set()
        assert go_on.wait(TIMEOUT)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(loop.create_connection(Recorder, "name", 80))
    await asyncio.to_thread(begun.wait, TIMEOUT)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await loop.shutdown_default_executor()
    await settle()


async def test_cancelled_while_connecting_sends_no_protocol_anything() -> None:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    with blackhole() as silent:
        before = open_fds()
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(loop.create_connection(factory, *silent))
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert open_fds().keys() == before.keys()
        assert made == []


async def test_cancelled_when_connected_but_not_yet_told_closes_the_transport() -> None:
    """connection_made was called and the awaiter not resumed: the protocol hears of the end."""
    protocol = Recorder(connection_made=lambda self: task.cancel())
    ours, peer = tcp_pair()
    with peer:
        task = asyncio.create_task(asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours))
        with pytest.raises(asyncio.CancelledError):
            await task
        await protocol.until("connection_lost")
        await until_closed(ours)
        assert protocol.trace == [("connection_made",), ("connection_lost", None)]


async def test_500_connects_cancelled_together_leave_nothing() -> None:
    loop = asyncio.get_running_loop()
    with blackhole() as silent:
        before = open_fds()
        tasks = [asyncio.create_task(loop.create_connection(Recorder, *silent)) for _ in range(500)]
        await settle(1)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} == {asyncio.CancelledError}
        assert open_fds().keys() == before.keys()
