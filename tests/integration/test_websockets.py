"""websockets, its server and its clients in one loop, in plain and over TLS."""

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from integration.load import Rounds
from network.tls import client_context, server_context

pytestmark = pytest.mark.integration

WAYS = ("plain", "tls")
CLIENTS = 100
MEBIBYTE = 1024 * 1024

Handler = Callable[[ServerConnection], Awaitable[None]]


async def echo(connection: ServerConnection) -> None:
    """Sends back each message in its own kind."""
    async for message in connection:
        await connection.send(message)


@contextlib.asynccontextmanager
async def serving(handler: Handler, way: str, **options: Any) -> AsyncIterator[tuple[Server, str]]:
    """A server of the running loop, and its address."""
    context = server_context(name="localhost") if way == "tls" else None
    async with serve(handler, "127.0.0.1", 0, ssl=context, max_size=None, **options) as server:
        scheme = "ws" if context is None else "wss"
        yield server, f"{scheme}://localhost:{server.sockets[0].getsockname()[1]}/"


def connection_to(address: str, **options: Any) -> connect:
    """What opens a connection by `async with` or `await`."""
    context = client_context() if address.startswith("wss") else None
    return connect(address, ssl=context, host="127.0.0.1", max_size=None, proxy=None, **options)


@pytest.mark.parametrize("compression", ["deflate", None])
@pytest.mark.parametrize("way", WAYS)
async def test_messages_of_all_sizes_come_back(way: str, compression: str | None) -> None:
    rng = random.Random(5)
    sizes = (0, 1, 125, 126, 65_535, 65_536, 5 * MEBIBYTE)
    async with (
        serving(echo, way, compression=compression) as (_, address),
        connection_to(address, compression=compression) as client,
    ):
        for size in sizes:
            await client.send(data := rng.randbytes(size))
            assert await client.recv() == data
            await client.send(text := "ä€𝄞x" * (size // 10))
            assert await client.recv() == text
        await client.send(data[start : start + 99_999] for start in range(0, len(data), 99_999))
        assert b"".join([part async for part in client.recv_streaming()]) == data


@pytest.mark.parametrize("way", WAYS)
async def test_many_messages_keep_their_order_both_ways(way: str) -> None:
    async def speak(client: ClientConnection) -> None:
        for number in range(5000):
            await client.send(str(number))

    async with serving(echo, way) as (_, address), connection_to(address) as client:
        speaking = asyncio.create_task(speak(client))
        assert [await client.recv() for _ in range(5000)] == [str(number) for number in range(5000)]
        await speaking


@pytest.mark.parametrize("way", WAYS)
async def test_pings_are_answered(way: str) -> None:
    async with serving(echo, way, ping_interval=0.01) as (_, address), connection_to(address) as client:
        for number in range(100):
            pong = await client.ping(b"%d" % number)
            assert await pong >= 0
        first, second = await client.ping(b"first"), await client.ping(b"second")
        await asyncio.gather(first, second)
        await client.send("still here")
        assert await client.recv() == "still here"


async def broadcast_to_all(way: str, messages: int) -> None:
    """Messages to all clients at once; each hears all of them in order, then that it was the end."""
    all_in = asyncio.Event()

    async def enter(connection: ServerConnection) -> None:
        inside.add(connection)
        if len(inside) == CLIENTS:
            all_in.set()
        await connection.wait_closed()

    async def listen(address: str) -> list[Any]:
        async with connection_to(address) as client:
            return [message async for message in client]

    inside: set[ServerConnection] = set()
    said = [b"%d" % number * 500 for number in range(messages)]
    async with serving(enter, way) as (server, address):
        listeners = [asyncio.create_task(listen(address)) for _ in range(CLIENTS)]
        await all_in.wait()
        for message in said:
            broadcast(inside, message)
            await asyncio.sleep(0)
        server.close()
        assert await asyncio.gather(*listeners) == [said] * CLIENTS


@pytest.mark.parametrize("way", WAYS)
async def test_a_broadcast_reaches_100_clients(way: str) -> None:
    await broadcast_to_all(way, messages=50)


@pytest.mark.parametrize("way", WAYS)
async def test_close_codes_and_reasons_are_heard(way: str) -> None:
    async def close_as_told(connection: ServerConnection) -> None:
        code = int(await connection.recv())
        if code:
            await connection.close(code, f"as told: {code}")
        else:
            raise ZeroDivisionError

    async with serving(close_as_told, way) as (_, address):
        kinds = {1000: ConnectionClosedOK, 1001: ConnectionClosedOK, 4321: ConnectionClosedError}
        for code, expected in kinds.items():
            async with connection_to(address) as client:
                await client.send(str(code))
                with pytest.raises(expected):
                    await client.recv()
                assert (client.close_code, client.close_reason) == (code, f"as told: {code}")
        async with connection_to(address) as client:
            await client.send("0")
            with pytest.raises(ConnectionClosedError):
                await client.recv()
            assert client.close_code == 1011


@pytest.mark.parametrize("way", WAYS)
async def test_a_connection_that_breaks_off_is_1006_at_the_other_end(way: str) -> None:
    async def break_off(connection: ServerConnection) -> None:
        await connection.recv()
        connection.transport.abort()

    async with serving(break_off, way) as (_, address), connection_to(address) as client:
        await client.send("go")
        with pytest.raises(ConnectionClosedError):
            await client.recv()
        assert client.close_code == 1006


@pytest.mark.parametrize("way", WAYS)
async def test_a_cancelled_receive_loses_nothing(way: str) -> None:
    async def answer_two(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)
            await connection.send(message[::-1])

    async with serving(answer_two, way) as (_, address), connection_to(address) as client:
        for number in range(50):
            receiving = asyncio.create_task(client.recv())
            await asyncio.sleep(0)
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            await client.send(f"message {number}")
            assert await client.recv() == f"message {number}"
            assert await client.recv() == f"message {number}"[::-1]


@pytest.mark.parametrize("way", WAYS)
async def test_a_slow_reader_holds_the_writer_back(way: str) -> None:
    may_read, sent = asyncio.Event(), 0

    async def count_when_allowed(connection: ServerConnection) -> None:
        await may_read.wait()
        total = 0
        async for message in connection:
            total += len(message)
            if total == 64 * MEBIBYTE:
                await connection.send(str(total))

    async def send_all(client: ClientConnection) -> None:
        nonlocal sent
        for _ in range(64):
            await client.send(bytes(MEBIBYTE))
            sent += 1

    async with (
        serving(count_when_allowed, way, compression=None) as (_, address),
        connection_to(address, compression=None) as client,
    ):
        sending = asyncio.create_task(send_all(client))
        while not client.transport.get_write_buffer_size():
            await asyncio.sleep(0)
        assert sent < 64
        may_read.set()
        await sending
        assert await client.recv() == str(64 * MEBIBYTE)


async def test_what_is_refused_is_told() -> None:
    async def refuse(connection: ServerConnection, request: Any) -> Any:
        return connection.respond(403, "not for you\n")

    async with serving(echo, "plain", process_request=refuse) as (_, address):
        with pytest.raises(InvalidStatus) as raised:
            await connection_to(address)
        assert (raised.value.response.status_code, raised.value.response.body) == (403, b"not for you\n")
    with pytest.raises(ConnectionRefusedError):
        await connection_to(address)
    async with serving(echo, "tls") as (_, address):
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(address, ssl=ssl.create_default_context(), host="127.0.0.1", proxy=None)


async def test_load(rounds: Rounds) -> None:
    async def converse(address: str, seed: int) -> None:
        rng = random.Random(seed)
        async with connection_to(address) as client:
            for _ in range(20):
                await client.send(data := rng.randbytes(rng.choice((10, 1000, 100_000))))
                assert await client.recv() == data

    async def one_round(number: int) -> None:
        way = WAYS[number % 2]
        async with serving(echo, way) as (_, address):
            await asyncio.gather(*(converse(address, number + client) for client in range(30)))
        await broadcast_to_all(way, messages=20)

    await rounds.run(one_round)
