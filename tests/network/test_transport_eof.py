"""The ends of the two directions: write_eof(), eof_received() and connections that are open one way."""

import asyncio
import socket
from typing import Any

import pytest

from network.peers import bounded_pair, receive_all, receive_exactly, tcp_pair, unix_pair
from network.recorders import AnyRecorder, Recorder, connection, drive, settle, until_closed

BIG = bytes(range(256)) * (4 * 1024)  # 1 MiB: more than the kernel's buffers of `bounded_pair` take


async def test_write_eof_ends_one_direction_and_leaves_the_other_open(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol) as (transport, peer):
        assert transport.can_write_eof() is True
        transport.write(b"all I have")
        transport.write_eof()
        assert await asyncio.to_thread(receive_all, peer) == b"all I have"
        assert not transport.is_closing()
        peer.sendall(b"an answer")
        peer.shutdown(socket.SHUT_WR)
        await protocol.until("connection_lost")
        assert protocol.trace == [
            ("connection_made",), ("data_received", b"an answer"),
            ("eof_received",), ("connection_lost", None),
        ]  # fmt: skip


async def test_write_eof_comes_after_what_is_buffered(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.write(BIG)
        transport.write_eof()
        assert transport.get_write_buffer_size() > 0
        assert await asyncio.to_thread(receive_all, peer) == BIG
        assert not transport.is_closing()
        peer.sendall(b"thanks")
        await protocol.until_received(6)


async def test_write_eof_may_be_repeated_and_follow_close() -> None:
    protocol = Recorder()
    async with connection(protocol) as (transport, peer):
        transport.write_eof()
        transport.write_eof()
        assert await asyncio.to_thread(receive_all, peer) == b""
        transport.close()
        transport.write_eof()
        await protocol.until("connection_lost")
        transport.write_eof()
        assert protocol.names == ["connection_made", "connection_lost"]


async def test_write_eof_then_close_sends_what_is_buffered() -> None:
    protocol = Recorder()
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.write(BIG)
        transport.write_eof()
        transport.close()
        assert await asyncio.to_thread(receive_all, peer) == BIG
        await protocol.until("connection_lost")
        assert protocol.trace[-1] == ("connection_lost", None)


@pytest.mark.parametrize("answer", [None, False, 0, ""], ids=repr)
async def test_a_false_answer_to_eof_received_closes(answer: Any, kind: type[AnyRecorder]) -> None:
    protocol = kind(eof_received=lambda self: answer)
    async with connection(protocol) as (transport, peer):
        peer.shutdown(socket.SHUT_WR)
        await protocol.until("connection_lost")
        assert transport.is_closing()
        assert protocol.names == ["connection_made", "eof_received", "connection_lost"]
        assert await asyncio.to_thread(receive_all, peer) == b""


async def test_closing_on_eof_sends_what_is_buffered(kind: type[AnyRecorder]) -> None:
    protocol = kind(data_received=lambda self: self.transport.write(BIG))
    async with connection(protocol, bounded_pair) as (_, peer):
        peer.sendall(b"?")
        peer.shutdown(socket.SHUT_WR)
        await protocol.until("eof_received")
        assert await asyncio.to_thread(receive_all, peer) == BIG
        await protocol.until("connection_lost")
        assert protocol.trace[-1] == ("connection_lost", None)


@pytest.mark.parametrize("answer", [True, 1, "yes"], ids=repr)
async def test_a_true_answer_to_eof_received_keeps_the_other_direction(
    answer: Any, kind: type[AnyRecorder]
) -> None:
    protocol = kind(eof_received=lambda self: answer)
    async with connection(protocol) as (transport, peer):
        peer.shutdown(socket.SHUT_WR)
        await protocol.until("eof_received")
        await settle()
        assert not transport.is_closing()
        transport.write(b"still here")
        assert await asyncio.to_thread(receive_exactly, peer, 10) == b"still here"
        await settle()
        assert protocol.names == ["connection_made", "eof_received"]
        transport.close()
        assert await asyncio.to_thread(receive_all, peer) == b""
        await protocol.until("connection_lost")
        assert protocol.names == ["connection_made", "eof_received", "connection_lost"]


async def test_a_connection_ended_both_ways_but_kept_open_stays_until_closed() -> None:
    protocol = Recorder(eof_received=lambda self: True)
    async with connection(protocol) as (transport, peer):
        transport.write_eof()
        peer.shutdown(socket.SHUT_WR)
        await protocol.until("eof_received")
        assert await asyncio.to_thread(receive_all, peer) == b""
        await settle()
        assert not transport.is_closing()
        transport.close()
        await protocol.until("connection_lost")
        assert protocol.trace[-1] == ("connection_lost", None)


async def test_eof_waits_while_reading_is_paused(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol) as (transport, peer):
        transport.pause_reading()
        peer.sendall(b"last words")
        peer.shutdown(socket.SHUT_WR)
        await settle()
        assert protocol.names == ["connection_made"]
        transport.resume_reading()
        await protocol.until("connection_lost")
        assert protocol.trace == [
            ("connection_made",), ("data_received", b"last words"),
            ("eof_received",), ("connection_lost", None),
        ]  # fmt: skip


async def test_data_and_eof_that_came_before_the_transport_are_delivered_in_order(
    kind: type[AnyRecorder],
) -> None:
    ours, peer = tcp_pair()
    with peer:
        peer.sendall(b"gone already")
        peer.shutdown(socket.SHUT_WR)
        protocol = kind()
        await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
        await until_closed(ours)
        assert protocol.trace == [
            ("connection_made",), ("data_received", b"gone already"),
            ("eof_received",), ("connection_lost", None),
        ]  # fmt: skip


@pytest.mark.parametrize("last", ["pause_reading", "write_eof", "close", "abort"])
def test_calls_from_inside_eof_received(last: str, kind: type[AnyRecorder], same_as_asyncio: Any) -> None:
    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            def at_eof(self: AnyRecorder) -> bool:
                self.transport.write(b"final")
                getattr(self.transport, last)()
                return last in ("pause_reading", "write_eof")

            protocol = kind(eof_received=at_eof)
            async with connection(protocol) as (transport, peer):
                peer.shutdown(socket.SHUT_WR)
                await protocol.until("eof_received")
                await settle()
                state = protocol.trace, transport.is_closing(), transport.is_reading()
                transport.close()
                return state, await asyncio.to_thread(receive_all, peer)

        return drive(loop_factory, main)

    _, received = same_as_asyncio(scenario)
    assert received == b"final"


async def test_the_end_is_told_once_however_often_the_kernel_tells_of_it() -> None:
    """It tells of the last bytes, and again of what the peer did while the protocol was given those."""
    loop = asyncio.get_running_loop()
    pairs = [socket.socketpair() for _ in range(300)]

    def end_in_two_steps(protocol: Any) -> None:
        if protocol.received.endswith(b"last words") and not others:
            peer.shutdown(socket.SHUT_RDWR)
            # More than a submission queue holds: the kernel is asked for completions in between.
            for one, other in pairs:
                loop.add_reader(one, print)
                others.append(other)

    others: list[socket.socket] = []
    protocol = Recorder(data_received=end_in_two_steps, eof_received=lambda _: True)
    async with connection(protocol, unix_pair) as (transport, peer):
        await asyncio.to_thread(peer.sendall, BIG)  # much at once is received in another way
        await protocol.until(lambda: len(protocol.received) == len(BIG))
        peer.sendall(b"last words")
        peer.shutdown(socket.SHUT_WR)
        await protocol.until("eof_received")
        await settle()
        assert protocol.names.count("eof_received") == 1
        for one, other in pairs:
            loop.remove_reader(one)
            one.close()
            other.close()
        transport.close()
        await protocol.until("connection_lost")
