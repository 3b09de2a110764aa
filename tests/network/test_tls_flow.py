"""Bytes over TLS: none lost or changed in either direction, flow control, and how a connection ends."""

import asyncio
import contextlib
import gc
import random
import socket
import ssl
import warnings
from typing import Any

import pytest

from network.peers import Background, bounded_pair, receive_exactly, tcp_pair
from network.recorders import AnyRecorder, Recorder, Tally, server, settle, until_closed
from network.test_data_integrity import digest, in_chunks
from network.tls import (
    NAME,
    VERSIONS,
    both_ends,
    client_context,
    handshake_of_client,
    server_context,
    tls_connection,
)  # fmt: skip
from support.leaks import open_fds, resident_bytes
from support.loops import new_event_loop, ringloop_names
from support.marks import ringloop_only

SENT_BYTES = 4 * 1024 * 1024
OURS, THEIRS = (random.Random(seed).randbytes(SENT_BYTES) for seed in (3, 4))
HANDSHAKES = 2000


class Exchange(Tally):
    """Writes OURS in random chunks as flow control allows; echoes nothing, collects everything."""

    def __init__(self, seed: int) -> None:
        super().__init__(SENT_BYTES)
        self.chunks = in_chunks(OURS, seed)
        self.choice = random.Random(seed)
        self.may_write = asyncio.Event()
        self.may_write.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.writing = asyncio.ensure_future(self.write_all())

    def pause_writing(self) -> None:
        self.may_write.clear()

    def resume_writing(self) -> None:
        self.may_write.set()

    async def write_all(self) -> None:
        """Everything, now by write, now by writelines; reading is paused now and then."""
        for chunk in self.chunks:
            await self.may_write.wait()
            if self.choice.random() < 0.3:
                self.transport.writelines([chunk[:7], memoryview(chunk)[7:], b""])
            else:
                self.transport.write(bytearray(chunk) if self.choice.random() < 0.3 else chunk)
            if self.choice.random() < 0.02:
                self.transport.pause_reading()
                await asyncio.sleep(0)
                self.transport.resume_reading()


class BufferedExchange(Exchange, asyncio.BufferedProtocol):
    """The same over buffers of changing sizes."""

    def get_buffer(self, sizehint: int) -> memoryview:
        self.buffer = memoryview(bytearray(self.choice.choice([1, 100, 4096, 70_000])))
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self.buffer[:nbytes]))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("version", VERSIONS.values(), ids=list(VERSIONS))
@pytest.mark.parametrize("kind", [Exchange, BufferedExchange])
async def test_both_directions_at_once(kind: type[Exchange], version: ssl.TLSVersion, seed: int) -> None:
    protocols: list[Exchange] = []

    def make() -> Exchange:
        protocols.append(kind(seed + len(protocols)))
        return protocols[-1]

    loop = asyncio.get_running_loop()
    async with server(make, ssl=server_context(version)) as (_, address):
        await loop.create_connection(make, *address, ssl=client_context(), server_hostname=NAME)
        while len(protocols) < 2:
            await asyncio.sleep(0)
        for protocol in protocols:
            await protocol.complete
            await protocol.writing
        for protocol in protocols:
            assert digest(protocol.received) == digest(OURS)
            protocol.transport.abort()
        for protocol in protocols:
            await protocol.lost


async def test_a_slow_foreign_peer_gets_everything(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with tls_connection(protocol, bounded_pair) as (transport, peer):
        transport.write(OURS[: SENT_BYTES // 2])
        transport.write(OURS[SENT_BYTES // 2 :])
        assert "pause_writing" in protocol.names
        assert transport.get_write_buffer_size() > 0
        peer.setblocking(True)
        assert digest(await asyncio.to_thread(receive_exactly, peer, SENT_BYTES)) == digest(OURS)
        await protocol.until("resume_writing")
        sending = Background(peer.sendall, THEIRS)
        await protocol.until_received(SENT_BYTES)
        await asyncio.to_thread(sending.finish)
        assert digest(protocol.received) == digest(THEIRS)


async def test_what_is_buffered_is_sent_before_the_end() -> None:
    protocol = Recorder()
    async with tls_connection(protocol, bounded_pair) as (transport, peer):
        transport.write(OURS)
        transport.close()
        assert transport.is_closing()
        transport.write(b"too late")

        def receive() -> tuple[str, bytes]:
            received = digest(receive_exactly(peer, SENT_BYTES))
            return received, peer.recv(10)

        assert await asyncio.to_thread(receive) == (digest(OURS), b"")
        peer.unwrap()
        await protocol.until("connection_lost")
        assert protocol.error is None


async def test_paused_reading_delivers_nothing(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with tls_connection(protocol) as (transport, peer):
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        peer.sendall(b"one")
        await settle()
        assert protocol.received == b""
        transport.resume_reading()
        transport.resume_reading()
        await protocol.until_received(3)
        protocol.on["data_received"] = lambda self: self.transport.pause_reading()
        peer.sendall(b"two")
        await protocol.until_received(6)
        peer.sendall(b"three")
        await settle()
        assert protocol.received == b"onetwo"
        protocol.on.clear()
        transport.resume_reading()
        await protocol.until_received(11)


async def test_a_peer_may_not_send_without_bound_to_a_paused_reader() -> None:
    protocol = Recorder()
    async with tls_connection(protocol, bounded_pair) as (transport, peer):
        transport.pause_reading()
        sending = Background(peer.sendall, THEIRS)
        for _ in range(20):
            await settle()
        assert transport.get_read_buffer_size() < SENT_BYTES // 2  # type: ignore[attr-defined]
        assert sending.is_alive()
        transport.resume_reading()
        await protocol.until_received(SENT_BYTES)
        await asyncio.to_thread(sending.finish)
        assert digest(protocol.received) == digest(THEIRS)


def test_limits(same_as_asyncio) -> None:
    def scenario(loop_factory):
        async def main() -> Any:
            seen: list[Any] = []
            async with tls_connection(Recorder()) as (transport, _):
                for kind in ("write", "read"):
                    change = getattr(transport, f"set_{kind}_buffer_limits")
                    ask = getattr(transport, f"get_{kind}_buffer_limits")
                    seen.append(ask())
                    for limits in ({"high": 1000}, {"low": 100}, {"high": 5, "low": 5}, {"high": 0}, {}):
                        change(**limits)
                        seen.append(ask())
                    for limits in ({"high": 1, "low": 2}, {"high": -1}):
                        with pytest.raises(ValueError, match="must be") as error:
                            change(**limits)
                        seen.append(str(error.value))
                    seen.append(getattr(transport, f"get_{kind}_buffer_size")())
                seen.append(transport.can_write_eof())
                with pytest.raises(NotImplementedError):
                    transport.write_eof()
            return seen

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(main())

    same_as_asyncio(scenario)


def say_goodbye(peer: ssl.SSLSocket) -> None:
    """Ends by close_notify, and does not mind data that comes after it."""
    with contextlib.suppress(ssl.SSLError):
        peer.unwrap()


ENDS = {
    "close_notify": say_goodbye,
    "end without close_notify": lambda peer: peer.close(),
    "half close without close_notify": lambda peer: peer.shutdown(socket.SHUT_WR),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("then", ["nothing", "write", "paused", "keep open"])
def test_how_the_peer_ends(same_as_asyncio, watch, caplog, how: str, then: str) -> None:
    on = {}
    if then == "write":
        on["eof_received"] = lambda self: self.transport.write(b"after the end")
    elif then == "keep open":
        on["eof_received"] = lambda self: True

    def scenario(loop_factory):
        async def main() -> Any:
            protocol = Recorder(**on)
            async with tls_connection(protocol) as (transport, peer):
                if then == "paused":
                    transport.pause_reading()
                peer.sendall(b"last words")
                ending = Background(ENDS[how], peer)
                if then == "paused":
                    await settle()
                    transport.resume_reading()
                await protocol.until("connection_lost")
                await asyncio.to_thread(ending.finish)
                return protocol.trace, repr(protocol.error), transport.is_closing()

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            result = runner.run(main())
        return result, [repr(context["exception"]) for context in watch.take()], list(caplog.messages)

    caplog.set_level("WARNING")

    def once(loop_factory):
        caplog.clear()
        return scenario(loop_factory)

    (trace, *_), *_ = same_as_asyncio(once)
    assert trace[1] == ("data_received", b"last words")


def test_a_peer_that_does_not_answer_the_end(same_as_asyncio, watch) -> None:
    def scenario(loop_factory):
        async def main() -> Any:
            protocol = Recorder()
            async with tls_connection(protocol, ssl_shutdown_timeout=0.01) as (transport, _):
                transport.close()
                await protocol.until("connection_lost")
            return protocol.trace, repr(protocol.error), [repr(each["exception"]) for each in watch.take()]

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(main())

    trace, error, _ = same_as_asyncio(scenario)
    assert trace[-1] == ("connection_lost", "TimeoutError")
    assert "shutdown timed out" in error


async def test_abort_loses_what_is_buffered() -> None:
    protocol = Recorder()
    async with tls_connection(protocol, bounded_pair) as (transport, _):
        transport.write(OURS)
        transport.abort()
        transport.abort()
        assert transport.is_closing()
        await protocol.until("connection_lost")
        assert protocol.error is None
        assert protocol.names[-1] == "connection_lost"


async def test_data_that_comes_while_closing_is_still_delivered() -> None:
    protocol = Recorder()
    async with tls_connection(protocol) as (transport, peer):
        peer.sendall(b"on its way")
        await protocol.until_received(10)
        transport.close()

        def answer() -> None:
            assert peer.recv(10) == b""
            peer.unwrap()

        await asyncio.to_thread(answer)
        await protocol.until("connection_lost")
        assert protocol.names.count("connection_lost") == 1
        assert protocol.error is None


async def test_a_protocol_may_be_changed(kind: type[AnyRecorder]) -> None:
    first, second = Recorder(), kind()
    async with tls_connection(first) as (transport, peer):
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        second.connection_made(transport)
        peer.sendall(b"for the second")
        await second.until_received(14)
        assert first.received == b""


async def test_a_transport_that_is_forgotten_says_so() -> None:
    ours, theirs = tcp_pair()
    with theirs:
        handshake = Background(handshake_of_client, theirs)
        transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(
            Recorder, ours, ssl=server_context()
        )
        (await asyncio.to_thread(handshake.finish)).close()
        await protocol.until("connection_lost")
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            del transport, protocol
            gc.collect()
        assert not seen
    await until_closed(ours)


async def test_both_ends_close_at_once() -> None:
    client, accepted = Recorder(), Recorder()
    async with both_ends(client, accepted) as (ours, theirs):
        ours.close()
        theirs.close()
        await client.until("connection_lost")
        await accepted.until("connection_lost")
        assert (client.error, accepted.error) == (None, None)


async def shake_hands(count: int) -> tuple[int, int, int]:
    """Makes and ends so many connections; how much memory, how many objects and fds that has cost.

    After a quarter of them, for caches are filled by then.
    """
    loop = asyncio.get_running_loop()
    serving, asking = server_context(), client_context()

    async def converse(address: tuple[str, int]) -> None:
        protocol = Recorder()
        transport, _ = await loop.create_connection(
            lambda: protocol, *address, ssl=asking, server_hostname=NAME
        )
        transport.close()
        await protocol.until("connection_lost")

    async def many(address: tuple[str, int], count: int) -> None:
        for _ in range(count // 20):
            await asyncio.gather(*(converse(address) for _ in range(20)))
        await settle()
        gc.collect()

    async with server(asyncio.Protocol, ssl=serving) as (_, address):
        await many(address, count // 4)
        resident, objects, fds = resident_bytes(), len(gc.get_objects()), len(open_fds())
        await many(address, count * 3 // 4)
        return resident_bytes() - resident, len(gc.get_objects()) - objects, len(open_fds()) - fds


@ringloop_only
@pytest.mark.timeout(300)  # seconds of a processor, which may be shared
def test_handshakes_leave_nothing(watch) -> None:
    with asyncio.Runner(loop_factory=watch.factory(lambda: new_event_loop(ringloop_names()[0]))) as runner:
        resident, objects, fds = runner.run(shake_hands(HANDSHAKES))
    assert objects < 500
    assert fds <= 2
    assert resident < HANDSHAKES * 4 * 1024, "more than 4 KiB for each is not returned"
