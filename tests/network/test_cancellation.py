"""Cancelled and timed out at every await: whatever was begun is undone, and the loop goes on.

Each conversation below is begun again and again, and ended a pass of the loop later each time, until it runs
to its end undisturbed: so every await of it is interrupted, in every state that the kernel may be in.
"""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
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
        assert await reader.readexactly(60_000) == b"hello\n" * 10_000
        writer.write_eof()
        assert await reader.read() == b""
    finally:
        writer.close()
    await writer.wait_closed()


async def by_name(address: Address) -> None:
    """Connects by a name that a thread resolves."""
    _, writer = await asyncio.open_connection("localhost", address[1], family=socket.AF_INET)
    writer.close()
    await writer.wait_closed()


async def by_happy_eyeballs(address: Address) -> None:
    """Connects to an address that refuses, one that is silent, and a good one, all at once."""
    loop = asyncio.get_running_loop()
    with refused_address() as refused, blackhole() as silent:
        infos = [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", target)
            for target in (refused, silent, address)
        ]

        async def getaddrinfo(*args: Any, **keywords: Any) -> Any:
            return infos

        loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign,assignment]
        try:
            transport, _ = await loop.create_connection(Recorder, "name", 80, happy_eyeballs_delay=0)
        finally:
            del loop.getaddrinfo
        transport.close()


async def over_sock_calls(address: Address) -> None:
    """Connects, sends, receives by `sock_*`."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
        await loop.sock_sendall(sock, b"hello" * 20_000)
        received = 0
        while received < 100_000:
            received += len(await loop.sock_recv(sock, 30_000))


async def as_a_server(address: Address) -> None:
    """Serves one client of its own over a listener by `sock_accept`, and another by create_server."""
    loop = asyncio.get_running_loop()
    with listener() as own:
        own.setblocking(False)
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, own.getsockname())
            accepted, _ = await loop.sock_accept(own)
            accepted.close()
    made = await loop.create_server(Echo, "127.0.0.1", 0)
    async with made:
        await over_streams(made.sockets[0].getsockname())


async def over_a_given_socket(address: Address) -> None:
    """Makes a transport of a connected socket."""
    with socket.create_connection(address, TIMEOUT) as sock:
        sock.setblocking(False)
        transport, _ = await asyncio.get_running_loop().create_connection(Recorder, sock=sock)
        transport.abort()
        await until_closed(sock)


CONVERSATIONS: list[Callable[[Address], Awaitable[None]]] = [
    over_streams, by_name, by_happy_eyeballs, over_sock_calls, as_a_server, over_a_given_socket,
]  # fmt: skip


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
        task = asyncio.create_task(
            loop.create_connection(lambda: made.append(Recorder()) or made[-1], *silent)
        )
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
