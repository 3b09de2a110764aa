"""asyncio's streams on top: open_connection, start_server, StreamReader and StreamWriter."""

import asyncio
import random
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from network.peers import (
    Background,
    Proxy,
    bounded_pair,
    close_with_reset,
    receive_all,
    receive_exactly,
    refused_address,
    tcp_pair,
)
from network.recorders import drive, settle

BIG = random.Random(40).randbytes(1024 * 1024)  # more than the kernel's buffers of `bounded_pair` take

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def streams(
    make_pair: Callable[[], Any] = tcp_pair, **keywords: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, socket.socket]]:
    """A reader and a writer of the running loop, and the blocking socket at the other end. Closes all."""
    ours, peer = make_pair()
    reader, writer = await asyncio.open_connection(sock=ours, **keywords)
    with peer:
        try:
            yield reader, writer, peer
        finally:
            if ours.fileno() != -1:
                writer.transport.abort()
            while ours.fileno() != -1:
                await asyncio.sleep(0)


@asynccontextmanager
async def serving(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any], **keywords: Any
) -> AsyncIterator[tuple[str, int]]:
    """A stream server on a free port; its address."""
    made = await asyncio.start_server(handle, "127.0.0.1", 0, **keywords)
    try:
        yield made.sockets[0].getsockname()
    finally:
        made.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends back what it reads, then closes."""
    while data := await reader.read(64 * 1024):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def test_lines_exact_counts_and_the_rest() -> None:
    async with streams() as (reader, _, peer):
        peer.sendall(b"first\nsecond\n12345rest|more|and the end")
        assert await reader.readline() == b"first\n"
        assert await reader.readline() == b"second\n"
        assert await reader.readexactly(5) == b"12345"
        assert await reader.readuntil(b"|") == b"rest|"
        assert await reader.read(2) == b"mo"
        peer.shutdown(socket.SHUT_WR)
        assert not reader.at_eof()
        assert await reader.read() == b"re|and the end"
        assert reader.at_eof()
        assert await reader.read() == b""
        assert await reader.read(10) == b""
        assert await reader.readline() == b""


async def test_a_line_that_arrives_byte_by_byte() -> None:
    async with streams() as (reader, _, peer):
        task = asyncio.create_task(reader.readline())
        for byte in b"slowly\n":
            peer.sendall(bytes([byte]))
            await settle(1)
        assert await task == b"slowly\n"


async def test_iteration_gives_lines() -> None:
    async with streams() as (reader, _, peer):
        peer.sendall(b"1\n2\n3\nunfinished")
        peer.shutdown(socket.SHUT_WR)
        assert [line async for line in reader] == [b"1\n", b"2\n", b"3\n", b"unfinished"]


async def test_an_early_end_tells_what_was_there() -> None:
    async with streams() as (reader, _, peer):
        peer.sendall(b"too short")
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(100)
        assert (caught.value.partial, caught.value.expected) == (b"too short", 100)
    async with streams() as (reader, _, peer):
        peer.sendall(b"no separator")
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readuntil(b"\r\n")
        assert (caught.value.partial, caught.value.expected) == (b"no separator", None)


def test_a_line_beyond_the_limit_is_refused_in_asyncios_words(same_as_asyncio: Any) -> None:
    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            said: list[Any] = []
            async with streams(limit=64) as (reader, _, peer):
                peer.sendall(b"x" * 100 + b"|next\n")
                await settle()
                try:
                    await reader.readuntil(b"|")
                except asyncio.LimitOverrunError as error:
                    said.append((str(error), error.consumed))
                said.append(await reader.readexactly(101))
                said.append(await reader.readline())
                peer.sendall(b"y" * 200 + b"\n")
                await settle()
                try:
                    await reader.readline()
                except ValueError as error:
                    said.append(str(error))
            return said

        return drive(loop_factory, main)

    said = same_as_asyncio(scenario)
    assert said[1:3] == [b"x" * 100 + b"|", b"next\n"]


@pytest.mark.parametrize("wrong", ["read twice", "negative", "empty separator"])
def test_wrong_reads_are_refused_in_asyncios_words(wrong: str, same_as_asyncio: Any) -> None:
    def scenario(loop_factory: Any) -> Any:
        async def main() -> str:
            async with streams() as (reader, _, _peer):
                first = asyncio.create_task(reader.read(1))
                await settle(1)
                try:
                    if wrong == "read twice":
                        await reader.read(1)
                    elif wrong == "negative":
                        await reader.readexactly(-1)
                    else:
                        await reader.readuntil(b"")
                except (RuntimeError, ValueError) as error:
                    return str(error)
                finally:
                    first.cancel()
                    await asyncio.wait([first])
            return "no error"

        return drive(loop_factory, main)

    assert same_as_asyncio(scenario) != "no error"


async def test_a_small_limit_pauses_the_transport_and_loses_nothing() -> None:
    """The reader holds at most about twice its limit: a fast sender is made to wait."""
    async with streams(bounded_pair, limit=1024) as (reader, _, peer):
        sending = Background(peer.sendall, BIG)
        received = bytearray()
        chunk = random.Random(41)
        while len(received) < len(BIG):
            received += await reader.read(chunk.choice((1, 100, 700, 5000)))
        assert received == BIG
        sending.finish()


async def test_drain_waits_for_a_slow_peer() -> None:
    async with streams(bounded_pair) as (_, writer, peer):
        writer.write(BIG)
        task = asyncio.create_task(writer.drain())
        await settle()
        assert not task.done()
        assert await asyncio.to_thread(receive_exactly, peer, len(BIG)) == BIG
        await task
        await writer.drain()


async def test_many_tasks_drain_one_writer() -> None:
    """Each is woken when the peer has read."""
    async with streams(bounded_pair) as (_, writer, peer):
        writer.write(BIG)
        tasks = [asyncio.create_task(writer.drain()) for _ in range(10)]
        await settle()
        assert not any(task.done() for task in tasks)
        assert await asyncio.to_thread(receive_exactly, peer, len(BIG)) == BIG
        await asyncio.gather(*tasks)


async def test_a_reset_ends_drain_and_read() -> None:
    async with streams(bounded_pair) as (reader, writer, peer):
        writer.write(BIG)
        draining = asyncio.create_task(writer.drain())
        reading = asyncio.create_task(reader.read(10))
        await settle(1)
        close_with_reset(peer)
        with pytest.raises(ConnectionResetError):
            await draining
        with pytest.raises(ConnectionResetError):
            await reading
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()


def test_the_end_of_a_reset_stream_is_as_asyncios(same_as_asyncio: Any) -> None:
    """What each call says, and what the reader still holds, after a reset behind some data."""

    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            said: list[Any] = []
            async with streams() as (reader, writer, peer):
                peer.sendall(b"before")
                await settle()
                close_with_reset(peer)
                while not writer.transport.is_closing():
                    await asyncio.sleep(0)
                await settle()
                calls: list[Callable[[], Any]] = [
                    lambda: reader.read(3), writer.drain, writer.wait_closed, lambda: reader.readline(),
                ]  # fmt: skip
                for call in calls:
                    try:
                        said.append(await call())
                    except OSError as error:
                        said.append((type(error).__name__, str(error)))
                said.append((reader.at_eof(), type(reader.exception()).__name__, writer.is_closing()))
            return said

        return drive(loop_factory, main)

    same_as_asyncio(scenario)


async def test_writer_methods_and_attributes() -> None:
    async with streams() as (reader, writer, peer):
        assert isinstance(writer.transport, asyncio.Transport)
        assert writer.get_extra_info("peername") == peer.getsockname()
        assert writer.can_write_eof()
        writer.writelines([b"one ", b"two "])
        writer.write(b"three")
        writer.write_eof()
        assert await asyncio.to_thread(receive_all, peer) == b"one two three"
        peer.sendall(b"answer")
        assert await reader.readexactly(6) == b"answer"
        assert not writer.is_closing()
        writer.close()
        assert writer.is_closing()
        await writer.wait_closed()
        await writer.wait_closed()


async def test_close_sends_what_is_written_and_wait_closed_waits_for_it() -> None:
    async with streams(bounded_pair) as (_, writer, peer):
        writer.write(BIG)
        writer.close()
        task = asyncio.create_task(writer.wait_closed())
        await settle()
        assert not task.done()
        assert await asyncio.to_thread(receive_all, peer) == BIG
        await task


async def test_a_refused_connection() -> None:
    with refused_address() as address, pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


async def test_a_server_greets_first() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\n")
        writer.write(await reader.readline())
        writer.close()

    async with serving(greet) as address:
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.readline() == b"220 ready\n"
        writer.write(b"EHLO\n")
        assert await reader.read() == b"EHLO\n"
        writer.close()
        await writer.wait_closed()


async def test_200_clients_at_once() -> None:
    async def client(number: int, address: tuple[str, int]) -> bytes:
        reader, writer = await asyncio.open_connection(*address)
        message = b"%d " % number * (1 + number * 31 % 2000)
        writer.write(message)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert answer == message
        return answer

    async with serving(echo, backlog=200) as address:
        answers = await asyncio.gather(*(client(number, address) for number in range(200)))
    assert len(answers) == 200


def test_an_error_in_the_client_callback_is_reported_in_asyncios_words(
    same_as_asyncio: Any, watch: Any
) -> None:
    def scenario(loop_factory: Any) -> Any:
        async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            await reader.readline()
            raise ZeroDivisionError("in the callback")

        async def main() -> Any:
            async with serving(fail) as address:
                with socket.create_connection(address, 20) as client:
                    client.sendall(b"go\n")
                    if sys.version_info >= (3, 12):
                        assert await asyncio.to_thread(receive_all, client) == b""
                    while not (reports := watch.take()):
                        await asyncio.sleep(0)
                for writer in writers:
                    writer.transport.abort()
                await settle()
            return [(report["message"], str(report["exception"])) for report in reports]

        writers: list[asyncio.StreamWriter] = []
        return drive(loop_factory, main)

    assert same_as_asyncio(scenario) == [("Unhandled exception in client_connected_cb", "in the callback")]


async def test_a_plain_function_may_be_the_client_callback() -> None:
    def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"plain")
        writer.close()

    async with serving(answer) as address:
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.read() == b"plain"
        writer.close()
        await writer.wait_closed()


async def test_a_proxy_that_resets_in_mid_stream_is_an_error_at_both_ends() -> None:
    begun = asyncio.Event()
    ended = asyncio.get_running_loop().create_future()

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        try:
            await reader.read()
        except ConnectionResetError as error:
            ended.set_result(error)
        writer.close()

    async with serving(collect) as address:
        with Proxy(address) as proxy:
            reader, writer = await asyncio.open_connection(*proxy.address)
            writer.write(BIG)
            await writer.drain()
            await begun.wait()
            await asyncio.to_thread(proxy.reset)
            with pytest.raises(ConnectionResetError):
                await reader.read()
            assert isinstance(await ended, ConnectionResetError)


async def test_a_cancelled_read_loses_nothing() -> None:
    async with streams() as (reader, _, peer):
        for number in range(50):
            task = asyncio.create_task(reader.readexactly(8))
            await asyncio.sleep(0)
            peer.sendall(b"%04d" % number)
            if number % 2:
                await settle(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            peer.sendall(b"%04d" % number)
            assert await reader.readexactly(8) == b"%04d" % number * 2


async def test_reads_and_drains_under_timeouts() -> None:
    async with streams(bounded_pair) as (reader, writer, peer):
        for call in (lambda: reader.read(1), lambda: reader.readline(), lambda: reader.readexactly(1)):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await call()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(call(), 0.01)
        writer.write(BIG)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await writer.drain()
        assert await asyncio.to_thread(receive_exactly, peer, len(BIG)) == BIG
        await writer.drain()
        peer.sendall(b"x")
        assert await reader.read(1) == b"x"
