"""Connections that end in an error: resets while reading and writing, a peer gone, one that times out."""

import asyncio
import contextlib
import errno
import socket
import struct
from typing import Any

import pytest

from network.peers import (
    TCP_CLOSE,
    TIMEOUT,
    Background,
    bounded_pair,
    close_with_reset,
    receive_all,
    tcp_pair,
    tcp_state,
    unix_pair,
)
from network.recorders import AnyRecorder, Recorder, connection, drive, settle, until_closed
from support.compare import outcome
from support.waiting import until_asleep, wait_until

BIG = bytes(range(256)) * (4 * 1024)  # 1 MiB: more than the kernel's buffers of `bounded_pair` take


def until_reset_arrived(transport: asyncio.Transport) -> None:
    """Blocks, loop and all, until the kernel has seen the peer's RST for the transport's socket."""
    sock = transport.get_extra_info("socket")
    wait_until(lambda: tcp_state(sock) == TCP_CLOSE, "the reset has arrived")


async def test_a_reset_while_reading(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol) as (transport, peer):
        peer.sendall(b"data")
        await protocol.until_received(4)
        close_with_reset(peer)
        await protocol.until("connection_lost")
        assert protocol.trace[-1] == ("connection_lost", "ConnectionResetError")
        assert isinstance(protocol.error, ConnectionResetError)
        assert protocol.error.errno == errno.ECONNRESET
        assert str(protocol.error) == "[Errno 104] Connection reset by peer"
        assert transport.is_closing()
        assert "eof_received" not in protocol.names


async def test_data_that_came_before_the_reset_is_delivered_first(kind: type[AnyRecorder]) -> None:
    ours, peer = tcp_pair()
    protocol = kind()
    peer.sendall(b"last words")
    close_with_reset(peer)
    wait_until(lambda: tcp_state(ours) == TCP_CLOSE, "the reset has arrived")
    await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
    await until_closed(ours)
    assert protocol.trace == [
        ("connection_made",), ("data_received", b"last words"), ("connection_lost", "ConnectionResetError"),
    ]  # fmt: skip


async def test_a_reset_while_much_is_buffered(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.write(BIG)
        close_with_reset(peer)
        await protocol.until("connection_lost")
        assert protocol.trace == [
            ("connection_made",), ("pause_writing",), ("connection_lost", "ConnectionResetError"),
        ]  # fmt: skip
        assert transport.get_write_buffer_size() == 0


def close_with_all_read(peer: socket.socket) -> None:
    peer.setblocking(False)
    with peer, contextlib.suppress(BlockingIOError):
        while True:
            peer.recv(len(BIG))


ENDS = {
    "reset": (bounded_pair, close_with_reset),
    "unread": (unix_pair, socket.socket.close),
    "all read": (unix_pair, close_with_all_read),
}


@pytest.mark.parametrize("asleep", [False, True], ids=["at once", "asleep"])
@pytest.mark.parametrize("ends", ENDS)
def test_a_peer_ends_with_which_much_was_exchanged(
    ends: str, asleep: bool, kind: type[AnyRecorder], same_as_asyncio: Any
) -> None:
    """A send that waits takes the socket's error, and recv(2) then looks as at the end of a stream."""
    pair, end = ENDS[ends]

    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            protocol = kind()
            async with connection(protocol, pair) as (transport, peer):
                sending = Background(peer.sendall, BIG)
                await protocol.until_received(len(BIG))
                sending.finish()
                transport.write(BIG * 2)
                if asleep:
                    await until_asleep()
                end(peer)
                await protocol.until("connection_lost")
                return protocol.trace[2:]

        return drive(loop_factory, main)

    same_as_asyncio(scenario)


def test_a_reset_while_much_is_buffered_and_reading_is_paused(
    kind: type[AnyRecorder], same_as_asyncio: Any
) -> None:
    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            protocol = kind()
            async with connection(protocol, bounded_pair) as (transport, peer):
                transport.pause_reading()
                transport.write(BIG)
                await settle()
                close_with_reset(peer)
                await protocol.until("connection_lost")
                return protocol.trace

        return drive(loop_factory, main)

    trace = same_as_asyncio(scenario)
    assert trace[-1][0] == "connection_lost"
    assert trace[-1][1] is not None


async def test_a_reset_is_not_noticed_while_reading_is_paused(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol) as (transport, peer):
        transport.pause_reading()
        await settle()
        close_with_reset(peer)
        until_reset_arrived(transport)
        await settle()
        assert protocol.names == ["connection_made"]
        transport.resume_reading()
        await protocol.until("connection_lost")
        assert protocol.trace == [("connection_made",), ("connection_lost", "ConnectionResetError")]


@pytest.mark.parametrize("call", ["write", "writelines", "write_eof", "close", "abort"])
def test_a_call_after_a_reset_that_the_loop_has_not_seen(
    call: str, kind: type[AnyRecorder], same_as_asyncio: Any
) -> None:
    arguments: tuple[Any, ...] = {"write": (b"x",), "writelines": ([b"x"],)}.get(call, ())

    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            protocol = kind()
            async with connection(protocol) as (transport, peer):
                await settle()
                close_with_reset(peer)
                until_reset_arrived(transport)
                said = outcome(getattr(transport, call), *arguments)
                closing = transport.is_closing()
                await protocol.until("connection_lost")
                await settle()
                return said, closing, protocol.trace

        return drive(loop_factory, main)

    _, _, trace = same_as_asyncio(scenario)
    assert [event[0] for event in trace] == ["connection_made", "connection_lost"]


def test_writing_to_a_peer_that_has_closed(kind: type[AnyRecorder], same_as_asyncio: Any) -> None:
    """Its EOF was kept open; the first write draws a reset, the second finds the connection broken."""

    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            protocol = kind(eof_received=lambda self: True)
            async with connection(protocol) as (transport, peer):
                peer.close()
                await protocol.until("eof_received")
                transport.write(b"first")
                until_reset_arrived(transport)
                await settle()
                before = protocol.trace
                transport.write(b"second")
                await protocol.until("connection_lost")
                return before, protocol.trace, str(protocol.error)

        return drive(loop_factory, main)

    _, trace, _ = same_as_asyncio(scenario)
    assert trace[-1][1] in ("BrokenPipeError", "ConnectionResetError")


async def test_a_fatal_write_error_is_an_oserror_and_not_reported(kind: type[AnyRecorder]) -> None:
    """The exception handler is not bothered (`watch` would tell): the protocol's connection_lost() is."""
    protocol = kind()
    async with connection(protocol) as (transport, peer):
        close_with_reset(peer)
        until_reset_arrived(transport)
        transport.write(b"x")
        transport.write(b"y")
        await protocol.until("connection_lost")
        assert isinstance(protocol.error, OSError)


async def test_a_connection_that_times_out_is_lost_with_timeouterror(kind: type[AnyRecorder]) -> None:
    """TCP_USER_TIMEOUT bounds how long a peer's receive window may stay closed."""
    protocol = kind()
    async with connection(protocol, bounded_pair) as (transport, peer):
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 50)
        transport.write(BIG)
        await protocol.until("connection_lost")
        assert isinstance(protocol.error, TimeoutError)
        assert protocol.error.errno == errno.ETIMEDOUT
        peer.close()


async def test_our_own_abort_may_send_a_reset() -> None:
    """SO_LINGER set on the transport's socket is honoured: close() is the last thing done to it."""
    protocol = Recorder()
    async with connection(protocol) as (transport, peer):
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        await until_closed(sock)
        peer.settimeout(TIMEOUT)
        with pytest.raises(ConnectionResetError):
            receive_all(peer)


async def test_one_connections_reset_leaves_the_others_alone() -> None:
    """Half of 100 connections are reset at once while all send."""

    def echo(self: Recorder) -> None:
        self.transport.write(self.events[-1][1])

    loop = asyncio.get_running_loop()
    pairs = [tcp_pair() for _ in range(100)]
    protocols = [Recorder(data_received=echo) for _ in pairs]
    for protocol, (ours, peer) in zip(protocols, pairs, strict=True):
        await loop.create_connection(lambda: protocol, sock=ours)  # noqa: B023
        peer.sendall(b"one")
    for _, peer in pairs[::2]:
        close_with_reset(peer)
    for _, peer in pairs[1::2]:
        peer.sendall(b"two")
    for protocol in protocols[1::2]:
        await protocol.until_received(6)
    for protocol in protocols[::2]:
        await protocol.until("connection_lost")
        assert protocol.trace[-1] == ("connection_lost", "ConnectionResetError")
    for ours, peer in pairs[1::2]:
        peer.shutdown(socket.SHUT_WR)
        await until_closed(ours)
        assert receive_all(peer) == b"onetwo"
        peer.close()
    for ours, _ in pairs[::2]:
        await until_closed(ours)
