"""Reading: pause and resume, changing the protocol in mid-stream, a BufferedProtocol's buffers."""

import array
import asyncio
import contextlib
import itertools
import random
import socket
from typing import Any

import pytest

from network.peers import Background, Pair, bounded_pair, tcp_pair
from network.recorders import AnyRecorder, BufferedRecorder, Recorder, connection, settle

STREAM = random.Random(20).randbytes(3 * 1024 * 1024)
PAIRS_OF_KINDS = list(itertools.product((Recorder, BufferedRecorder), repeat=2))


async def test_paused_reading_delivers_nothing_and_loses_nothing(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol) as (transport, peer):
        assert transport.is_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        peer.sendall(b"one")
        await settle()
        peer.sendall(b"two")
        await settle()
        assert protocol.events == [("connection_made",)]
        transport.resume_reading()
        assert transport.is_reading()
        await protocol.until_received(6)
        assert protocol.trace == [("connection_made",), ("data_received", b"onetwo")]


async def test_pausing_and_resuming_twice_is_as_once(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol) as (transport, peer):
        transport.resume_reading()
        transport.pause_reading()
        transport.pause_reading()
        transport.resume_reading()
        assert transport.is_reading()
        transport.resume_reading()
        peer.sendall(b"data")
        await protocol.until_received(4)
        transport.pause_reading()
        peer.sendall(b"more")
        await settle()
        assert protocol.received == b"data"


async def test_resuming_in_the_iteration_that_paused_keeps_the_order(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol) as (transport, peer):
        for number in range(300):
            peer.sendall(b"%3d" % number)
            transport.pause_reading()
            transport.resume_reading()
            if number % 7 == 0:
                await asyncio.sleep(0)
        await protocol.until_received(900)
        assert protocol.received == b"".join(b"%3d" % number for number in range(300))


async def test_pausing_inside_connection_made_holds_everything_back(kind: type[AnyRecorder]) -> None:
    protocol = kind(connection_made=lambda self: self.transport.pause_reading())
    async with connection(protocol) as (transport, peer):
        peer.sendall(b"early")
        await settle()
        assert protocol.events == [("connection_made",)]
        transport.resume_reading()
        await protocol.until_received(5)


async def test_pausing_inside_data_received_holds_the_next_data_back(kind: type[AnyRecorder]) -> None:
    """With megabytes waiting in the kernel, each resume brings exactly one more call."""
    protocol = kind(data_received=lambda self: self.transport.pause_reading())
    async with connection(protocol) as (transport, peer):
        sending = Background(peer.sendall, STREAM)
        calls = 0
        while len(protocol.received) < len(STREAM):
            transport.resume_reading()
            await protocol.until(lambda: protocol.names.count("data_received") > calls)  # noqa: B023
            calls += 1
            await settle(1)
            assert protocol.names.count("data_received") == calls
        assert protocol.received == STREAM
        sending.finish()


async def test_pausing_at_random_loses_nothing(kind: type[AnyRecorder]) -> None:
    chance = random.Random(7)

    def maybe_pause(self: AnyRecorder) -> None:
        if chance.random() < 0.4:
            self.transport.pause_reading()
            delay = chance.randrange(3)
            if delay == 0:
                self.transport.resume_reading()
            elif delay == 1:
                loop.call_soon(self.transport.resume_reading)
            else:
                loop.call_soon(loop.call_soon, self.transport.resume_reading)

    loop = asyncio.get_running_loop()
    protocol = kind(data_received=maybe_pause)
    async with connection(protocol) as (_, peer):

        def send_in_pieces() -> None:
            pieces = random.Random(8)
            position = 0
            while position < len(STREAM):
                size = pieces.choice((1, 10, 1000, 5000, 70_000))
                peer.sendall(STREAM[position : position + size])
                position += size

        sending = Background(send_in_pieces)
        await protocol.until_received(len(STREAM))
        assert protocol.received == STREAM
        sending.finish()


async def test_is_reading_is_false_once_closing() -> None:
    async with connection(Recorder()) as (transport, _):
        transport.close()
        assert not transport.is_reading()
        transport.resume_reading()
        assert not transport.is_reading()


async def test_pause_stops_the_sender_by_backpressure() -> None:
    """What a paused transport takes from its peer is bounded by the kernel's buffers."""
    protocol = Recorder()
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.pause_reading()
        await settle()
        peer.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 64 * 1024 * 1024:
                sent += peer.send(bytes(64 * 1024))
        assert sent < 64 * 1024 * 1024
        await settle()
        assert protocol.received == b""
        transport.resume_reading()
        await protocol.until_received(sent)


@pytest.mark.parametrize("first, second", PAIRS_OF_KINDS)
async def test_set_protocol_takes_effect_in_mid_stream(
    first: type[AnyRecorder], second: type[AnyRecorder]
) -> None:
    old, new = first(), second()
    async with connection(old) as (transport, peer):
        assert transport.get_protocol() is old
        peer.sendall(b"for the first")
        await old.until_received(13)
        transport.set_protocol(new)
        assert transport.get_protocol() is new
        peer.sendall(b"for the second")
        await new.until_received(14)
        peer.shutdown(socket.SHUT_WR)
        await new.until("connection_lost")
        assert old.trace == [("connection_made",), ("data_received", b"for the first")]
        assert new.trace == [
            ("data_received", b"for the second"),
            ("eof_received",),
            ("connection_lost", None),
        ]


@pytest.mark.parametrize("first, second", PAIRS_OF_KINDS)
async def test_set_protocol_inside_data_received_gives_the_rest_to_the_next(
    first: type[AnyRecorder], second: type[AnyRecorder]
) -> None:
    """Every call hands over to another protocol: together they get the stream, each call whole."""
    chain: list[AnyRecorder] = []

    def hand_over(self: AnyRecorder) -> None:
        fresh = (first, second)[len(chain) % 2](data_received=hand_over)
        chain.append(fresh)
        chain[0].transport.set_protocol(fresh)

    chain.append(first(data_received=hand_over))
    async with connection(chain[0], bounded_pair) as (_, peer):
        sending = Background(peer.sendall, STREAM)
        async with asyncio.timeout(20):
            while sum(len(protocol.received) for protocol in chain) < len(STREAM):
                await chain[-1].until("data_received")
        assert b"".join(protocol.received for protocol in chain) == STREAM
        assert all(protocol.names.count("data_received") <= 1 for protocol in chain)
        sending.finish()


async def test_data_that_waits_while_paused_goes_to_the_protocol_set_meanwhile(
    kind: type[AnyRecorder],
) -> None:
    old, new = kind(), kind()
    async with connection(old) as (transport, peer):
        transport.pause_reading()
        peer.sendall(b"waiting")
        await settle()
        transport.set_protocol(new)
        transport.resume_reading()
        await new.until_received(7)
        assert old.received == b""


async def test_set_protocol_after_close_gets_connection_lost() -> None:
    old, new = Recorder(), Recorder()
    async with connection(old) as (transport, _):
        transport.close()
        transport.set_protocol(new)
        await new.until("connection_lost")
        assert old.names == ["connection_made"]


@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
async def test_a_stream_is_cut_to_the_size_of_the_buffer(size: int) -> None:
    protocol = BufferedRecorder(buffer_bytes=size)
    data = STREAM[: min(size * 50, len(STREAM))]
    async with connection(protocol) as (_, peer):
        sending = Background(peer.sendall, data)
        await protocol.until_received(len(data))
        assert protocol.received == data
        assert all(len(event[1]) <= size for event in protocol.events[1:])
        assert protocol.size_hints == {-1}
        sending.finish()


@pytest.mark.parametrize("kind_of_buffer", ["bytearray", "memoryview", "array", "part", "alternating"])
async def test_any_writable_buffer_may_be_lent(kind_of_buffer: str) -> None:
    class Lender(BufferedRecorder):
        """Lends a buffer of the kind; `position` is where the transport's bytes start in it."""

        def get_buffer(self, sizehint: int) -> Any:
            self.buffer = bytearray(64)
            self.lent: Any = {
                "bytearray": lambda: self.buffer,
                "memoryview": lambda: memoryview(self.buffer),
                "array": lambda: array.array("B", bytes(64)),
                "part": lambda: memoryview(self.buffer)[10:20],
                "alternating": lambda: memoryview(bytearray(1 + len(self.events) % 5)),
            }[kind_of_buffer]()
            return self.lent

        def buffer_updated(self, nbytes: int) -> None:
            self.happened("data_received", bytes(memoryview(self.lent)[:nbytes]))

    protocol = Lender()
    async with connection(protocol) as (_, peer):
        for start in range(0, 3000, 100):
            peer.sendall(STREAM[start : start + 100])
            await protocol.until_received(start + 50)
        await protocol.until_received(3000)
        assert protocol.received == STREAM[:3000]


async def test_the_lent_buffer_may_be_resized_in_buffer_updated() -> None:
    """The transport holds no export of a bytearray when it calls buffer_updated()."""

    class Resizing(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(100)
            self.received = b""
            self.done = asyncio.get_running_loop().create_future()

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.received += self.buffer[:nbytes]
            del self.buffer[: len(self.buffer) // 2]
            self.buffer.extend(bytes(150))
            if len(self.received) == 100_000:
                self.done.set_result(None)

    protocol = Resizing()
    async with connection(protocol) as (_, peer):
        sending = Background(peer.sendall, STREAM[:100_000])
        await protocol.done
        assert protocol.received == STREAM[:100_000]
        sending.finish()


async def test_no_buffer_is_held_while_nothing_arrives() -> None:
    """Between callbacks the protocol's bytearray can be resized: no receive in flight holds it."""
    protocol = BufferedRecorder()
    async with connection(protocol) as (transport, peer):
        peer.sendall(b"first")
        await protocol.until_received(5)
        await settle()
        transport.pause_reading()
        await settle()
        protocol.buffer.extend(bytes(10))
        transport.resume_reading()
        peer.sendall(b"second")
        await protocol.until_received(11)


async def test_every_buffer_updated_is_preceded_by_a_get_buffer() -> None:
    calls: list[str] = []

    class Counting(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            calls.append("get")
            return super().get_buffer(sizehint)

        def buffer_updated(self, nbytes: int) -> None:
            calls.append("updated")
            super().buffer_updated(nbytes)

    protocol = Counting(buffer_bytes=100)
    async with connection(protocol) as (_, peer):
        peer.sendall(STREAM[:5000])
        await protocol.until_received(5000)
    for before, call in itertools.pairwise(["", *calls]):
        assert call == "get" or before == "get"


def wide_pair() -> Pair:
    """A TCP pair whose kernel buffers hold some MiB each way."""
    pair = tcp_pair()
    for sock in pair:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 8 << 20)
    return pair


@pytest.mark.parametrize("pauses_at", [0, 1, 2, 3])
async def test_no_delivery_is_larger_than_asyncios(pauses_at: int) -> None:
    """Protocols that bound what they keep count on it: before they have it they cannot pause."""

    def maybe_pause(protocol: Any) -> None:
        if protocol.names.count("data_received") == pauses_at:
            protocol.transport.pause_reading()

    protocol = Recorder(data_received=maybe_pause)
    async with connection(protocol, wide_pair) as (transport, peer):
        transport.pause_reading()
        sending = Background(lambda: peer.sendall(STREAM))
        await settle()
        transport.resume_reading()
        if pauses_at:
            await protocol.until(lambda: not transport.is_reading())
            await settle()
            assert protocol.names.count("data_received") == pauses_at
            transport.resume_reading()
        await protocol.until_received(len(STREAM))
        sending.finish()
    assert protocol.received == STREAM
    assert max(len(event[1]) for event in protocol.events if event[0] == "data_received") <= 256 * 1024
