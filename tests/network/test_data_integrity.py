"""No byte lost, doubled, changed or out of order: large and small, slow readers, many connections."""

import asyncio
import hashlib
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from network.peers import Background, bounded_pair, receive_exactly, tcp_pair
from network.recorders import connection, server, settle

EXCHANGE = 16 * 1024 * 1024
OURS, THEIRS = (random.Random(seed).randbytes(EXCHANGE) for seed in (1, 2))
SIZES = sorted(
    {max(1, (1 << power) + extra) for power in range(21) for extra in (-1, 0, 1)}
)  # 1 byte to 1 MiB + 1
CHUNKS = (1, 2, 17, 100, 1000, 1460, 4096, 8191, 16_384, 65_535, 65_536, 100_000, 262_144, 1_000_000)


def digest(data: Any) -> str:
    """A short stand-in for megabytes, for a failure's message."""
    return f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}"


def in_chunks(data: bytes, seed: int) -> Iterator[bytes]:
    """The data cut at random places: many small pieces, some large ones, each in runs."""
    choice = random.Random(seed)
    position = 0
    while position < len(data):
        size = choice.choice(CHUNKS)
        for _ in range(choice.randrange(1, 10)):
            if position < len(data):
                yield data[position : position + size]
                position += size


class Peer:
    """The other end of an exchange: two threads, one sends THEIRS in random chunks, one receives OURS."""

    def __init__(self, sock: socket.socket, seed: int) -> None:
        def send() -> None:
            for chunk in in_chunks(THEIRS, seed):
                sock.sendall(chunk)

        def receive() -> str:
            choice = random.Random(seed + 1)
            received = bytearray()
            while len(received) < EXCHANGE:
                data = sock.recv(choice.choice(CHUNKS))
                if not data:
                    break
                received += data
            return digest(received)

        self._threads = Background(send), Background(receive)

    async def received(self) -> str:
        """The digest of what arrived, once everything was sent and received."""
        return (await asyncio.gather(*(asyncio.to_thread(thread.finish) for thread in self._threads)))[1]


class Exchange(asyncio.Protocol):
    """Writes OURS in random chunks as far as flow control allows, collects what comes."""

    def __init__(self, seed: int) -> None:
        self.received = bytearray()
        self.done = asyncio.get_running_loop().create_future()
        self._chunks = in_chunks(OURS, seed)
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.pump()

    def pump(self) -> None:
        """Writes until told to pause; a few chunks per iteration, so that both directions get their turn."""
        for _ in range(20):
            if self._paused:
                return
            chunk = next(self._chunks, None)
            if chunk is None:
                return
            if len(chunk) % 3 == 1:
                self.transport.writelines([chunk[:5], chunk[5:]])
            else:
                self.transport.write(chunk)
        asyncio.get_running_loop().call_soon(self.pump)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.pump()

    def data_received(self, data: bytes) -> None:
        self.received += data
        if len(self.received) >= EXCHANGE and not self.done.done():
            self.done.set_result(None)


class BufferedExchange(Exchange, asyncio.BufferedProtocol):
    """The same over buffers of changing sizes."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._sizes = random.Random(seed)

    def get_buffer(self, sizehint: int) -> memoryview:
        self._buffer = memoryview(bytearray(self._sizes.choice(CHUNKS[3:])))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._buffer[:nbytes]))


@pytest.mark.parametrize("seed", [11, 12])
@pytest.mark.parametrize("kind", [Exchange, BufferedExchange])
async def test_16_mib_each_way_through_a_transport(kind: type[Exchange], seed: int) -> None:
    protocol = kind(seed)
    async with connection(protocol) as (_, sock):
        peer = Peer(sock, seed)
        await protocol.done
        assert await peer.received() == digest(OURS)
        assert digest(protocol.received) == digest(THEIRS)


async def test_16_mib_each_way_through_a_transport_that_pauses_at_random() -> None:
    chance = random.Random(13)

    class Pausing(Exchange):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if chance.random() < 0.2:
                self.transport.pause_reading()
                loop.call_later(chance.choice((0, 0, 0, 0.001)), self.transport.resume_reading)

    loop = asyncio.get_running_loop()
    protocol = Pausing(13)
    async with connection(protocol, bounded_pair) as (_, sock):
        peer = Peer(sock, 13)
        await protocol.done
        assert await peer.received() == digest(OURS)
        assert digest(protocol.received) == digest(THEIRS)


async def test_16_mib_each_way_through_streams() -> None:
    ours, sock = tcp_pair()
    reader, writer = await asyncio.open_connection(sock=ours)
    peer = Peer(sock, 14)

    async def send() -> None:
        for chunk in in_chunks(OURS, 14):
            writer.write(chunk)
            await writer.drain()

    async def receive() -> bytearray:
        choice = random.Random(14)
        received = bytearray()
        while len(received) < EXCHANGE:
            if choice.random() < 0.5:
                received += await reader.read(choice.choice(CHUNKS))
            else:
                received += await reader.readexactly(min(choice.choice(CHUNKS), EXCHANGE - len(received)))
        return received

    _, received = await asyncio.gather(send(), receive())
    assert digest(received) == digest(THEIRS)
    assert await peer.received() == digest(OURS)
    writer.close()
    await writer.wait_closed()
    sock.close()


@pytest.mark.parametrize("into", [False, True], ids=["sock_recv", "sock_recv_into"])
async def test_16_mib_each_way_through_sock_calls(into: bool) -> None:
    ours, sock = tcp_pair()
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    peer = Peer(sock, 15)

    async def send() -> None:
        for chunk in in_chunks(OURS, 15):
            await loop.sock_sendall(ours, chunk)

    async def receive() -> bytearray:
        choice = random.Random(15)
        received = bytearray()
        buffer = bytearray(max(CHUNKS))
        while len(received) < EXCHANGE:
            size = choice.choice(CHUNKS)
            if into:
                count = await loop.sock_recv_into(ours, memoryview(buffer)[:size])
                received += buffer[:count]
            else:
                received += await loop.sock_recv(ours, size)
        return received

    with ours, sock:
        _, received = await asyncio.gather(send(), receive())
        assert digest(received) == digest(THEIRS)
        assert await peer.received() == digest(OURS)


class Echo(asyncio.Protocol):
    """Sends back what it receives and stops reading while it cannot write."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


class BufferedEcho(Echo, asyncio.BufferedProtocol):
    """The same from one buffer, which the write must be done with, or have copied, when it returns."""

    def __init__(self) -> None:
        self._buffer = bytearray(100_000)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(memoryview(self._buffer)[:nbytes]))


ECHOES: list[type[Echo]] = [Echo, BufferedEcho]


def converse(sock: socket.socket, sizes: list[int]) -> list[int]:
    """Sends a message of each size and reads it back; the sizes that did not come back as sent."""
    wrong = []
    for size in sizes:
        start = (size * 7919) % (EXCHANGE - size)
        message = OURS[start : start + size]
        sending = Background(sock.sendall, message) if size > 32 * 1024 else None
        if sending is None:
            sock.sendall(message)
        if receive_exactly(sock, size) != message:
            wrong.append(size)
        if sending is not None:
            sending.finish()
    return wrong


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("make_pair", [tcp_pair, bounded_pair])
async def test_messages_of_every_size_are_echoed(echo: type[Echo], make_pair: Callable[[], Any]) -> None:
    """One byte to one MiB, each power of two and its neighbours: every buffer size is crossed."""
    async with connection(echo(), make_pair) as (_, peer):
        assert await asyncio.to_thread(converse, peer, SIZES) == []


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("seed", [21, 22])
async def test_small_and_large_messages_take_turns(echo: type[Echo], seed: int) -> None:
    """Runs of small messages, large ones, mixed: a transport that adapts loses nothing as it changes."""
    choice = random.Random(seed)
    sizes: list[int] = []
    for _ in range(12):
        range_of_sizes = choice.choice((SIZES[:20], SIZES[-12:], SIZES))
        sizes += choice.choices(range_of_sizes, k=choice.randrange(1, 25))
    async with connection(echo()) as (_, peer):
        assert await asyncio.to_thread(converse, peer, sizes) == []


@pytest.mark.parametrize("echo", ECHOES)
async def test_a_flood_of_one_byte_messages_is_echoed_in_order(echo: type[Echo]) -> None:
    message = OURS[:5000]

    def flood() -> bytes:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for position in range(len(message)):
            peer.send(message[position : position + 1])
        return receive_exactly(peer, len(message))

    async with connection(echo()) as (_, peer):
        assert await asyncio.to_thread(flood) == message


@pytest.mark.parametrize("echo", ECHOES)
async def test_a_client_that_does_not_read_is_made_to_wait_and_loses_nothing(echo: type[Echo]) -> None:
    """What the server holds for it is bounded: its sends block long before 16 MiB are on the way."""
    protocol = echo()
    async with connection(protocol, bounded_pair) as (transport, peer):
        peer.setblocking(False)
        sent = 0
        stuck = 0
        while stuck < 5:
            try:
                sent += peer.send(OURS[sent : sent + 64 * 1024])
                stuck = 0
            except BlockingIOError:
                stuck += 1
            await settle(1)
        assert sent < EXCHANGE // 4
        assert transport.get_write_buffer_size() <= 2 * 1024 * 1024
        peer.settimeout(20)
        assert await asyncio.to_thread(receive_exactly, peer, sent) == OURS[:sent]
        assert await asyncio.to_thread(converse, peer, [1, 1000, 100_000]) == []


async def test_a_slow_reader_gets_everything_in_order() -> None:
    """The reader takes a few KiB at a time, each time only when the loop has nothing else to do."""
    size = 1024 * 1024

    class Flood(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            for start in range(0, size, 10_000):
                transport.write(OURS[start : min(start + 10_000, size)])
            transport.close()

    async with connection(Flood(), bounded_pair) as (_, peer):
        received = bytearray()
        while data := await asyncio.to_thread(peer.recv, 7000):
            received += data
        assert digest(received) == digest(OURS[:size])


@pytest.mark.parametrize("echo", ECHOES)
async def test_100_connections_with_mixed_sizes_at_once(echo: type[Echo]) -> None:
    async def client(number: int, address: tuple[str, int]) -> bool:
        choice = random.Random(number)
        reader, writer = await asyncio.open_connection(*address)
        good = True
        for _ in range(10):
            size = choice.choice(
                (choice.randrange(1, 100), choice.randrange(1, 20_000), choice.randrange(1, 300_000))
            )
            start = choice.randrange(EXCHANGE - size)
            message = OURS[start : start + size]
            writer.write(message)
            good = good and await reader.readexactly(size) == message
        writer.close()
        await writer.wait_closed()
        return good

    async with server(echo, backlog=100) as (_, address):
        results = await asyncio.gather(*(client(number, address) for number in range(100)))
        assert all(results)
        await settle()
