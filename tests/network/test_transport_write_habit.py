"""Protocols that write several times in an iteration, for many iterations: a head, then a body.

ringloop then sends what is written in an iteration together, at its end. Nothing that can be seen by the
transport's methods may differ from a transport that sends at once, and nothing may be lost or change places.
"""

import asyncio
import contextlib
import os
import pickle
import socket
from asyncio import trsock
from collections.abc import AsyncIterator
from typing import Any

import pytest

from network.peers import bounded_pair, close_with_reset, receive_all, receive_exactly, unix_pair
from network.recorders import Recorder, connection
from support.loops import DRIVERS
from support.marks import ringloop_only
from support.turns import turn

TURNS = 40
PAIR = b"head", b"body"


async def acquire(transport: asyncio.Transport, peer: socket.socket) -> None:
    """Writes twice an iteration until that is a habit, and reads it all at the other end."""
    for _ in range(TURNS):
        transport.write(PAIR[0])
        transport.write(PAIR[1])
        await asyncio.sleep(0)
    transport.set_write_buffer_limits()
    assert receive_exactly(peer, TURNS * 8) == b"headbody" * TURNS


@contextlib.asynccontextmanager
async def habitual(protocol: Any = None, pair: Any = unix_pair) -> AsyncIterator[Any]:
    """A connection with the habit."""
    async with connection(protocol or Recorder(), pair) as (transport, peer):
        await acquire(transport, peer)
        yield transport, peer


async def test_the_order_is_kept_whatever_the_number_and_the_sizes() -> None:
    async with habitual(pair=bounded_pair) as (transport, peer):
        written = bytearray()
        reading = asyncio.create_task(asyncio.to_thread(receive_all, peer))
        for turn in range(300):
            for number in range(turn % 7):
                piece = b"%d-%d;" % (turn, number) * (1 + turn * number * 20)
                transport.write(piece if number % 2 else bytearray(piece))
                written += piece
            await asyncio.sleep(0)
        transport.write_eof()
        assert await reading == written


async def test_the_write_buffer_is_empty_after_writes_that_the_socket_takes() -> None:
    async with habitual() as (transport, peer):
        transport.write(b"one")
        transport.write(b"two")
        assert transport.get_write_buffer_size() == 0
        assert receive_exactly(peer, 6) == b"onetwo"


@pytest.mark.parametrize("end", ["close", "abort", "write_eof"])
async def test_what_was_written_arrives_before_the_end(end: str) -> None:
    async with habitual() as (transport, peer):
        transport.write(b"one")
        transport.write(b"two")
        getattr(transport, end)()
        assert receive_exactly(peer, 6) == b"onetwo"


async def test_a_mutable_buffer_may_change_after_the_write() -> None:
    async with habitual() as (transport, peer):
        data = bytearray(b"before")
        transport.write(data)
        data[:] = b"after!"
        transport.write(b".")
        await asyncio.sleep(0)
        assert receive_exactly(peer, 7) == b"before."


async def test_a_limit_of_zero_does_not_pause_for_what_the_socket_takes() -> None:
    protocol = Recorder()
    async with habitual(protocol) as (transport, peer):
        transport.set_write_buffer_limits(high=0)
        for _ in range(TURNS):
            transport.write(PAIR[0])
            transport.write(PAIR[1])
            await asyncio.sleep(0)
        assert receive_exactly(peer, TURNS * 8) == b"headbody" * TURNS
        assert protocol.names == ["connection_made"]


async def test_more_than_the_socket_takes_pauses_inside_the_write_and_arrives() -> None:
    protocol = Recorder()
    big = bytes(range(256)) * 8192
    async with habitual(protocol, bounded_pair) as (transport, peer):
        transport.write(b"head")
        transport.write(big)
        assert protocol.names == ["connection_made", "pause_writing"]
        reading = asyncio.create_task(asyncio.to_thread(receive_exactly, peer, 4 + len(big)))
        await protocol.until("resume_writing")
        assert await reading == b"head" + big


@pytest.mark.parametrize("end", ["stop", "interrupt"])
def test_what_is_written_in_the_last_iteration_goes_out(loop: asyncio.AbstractEventLoop, end: str) -> None:
    own, peer = unix_pair()
    own.setblocking(False)
    with peer:
        transport: Any = loop.run_until_complete(loop.connect_accepted_socket(Recorder, own))[0]
        loop.run_until_complete(acquire(transport, peer))

        def write_and_end() -> None:
            transport.write(b"one")
            transport.write(b"two")
            if end == "interrupt":
                raise KeyboardInterrupt
            loop.stop()

        loop.call_soon(write_and_end)
        with contextlib.suppress(KeyboardInterrupt):
            loop.run_forever()
        assert receive_exactly(peer, 6) == b"onetwo"
        transport.write(b"three")
        assert receive_exactly(peer, 5) == b"three"
        transport.close()
        turn(loop, 3)


async def test_a_peer_that_is_gone_is_told_once() -> None:
    protocol = Recorder()
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.pause_reading()
        await acquire(transport, peer)
        close_with_reset(peer)
        transport.write(b"one")
        transport.write(b"two")
        await protocol.until("connection_lost")
        assert protocol.names == ["connection_made", "connection_lost"]
        assert isinstance(protocol.error, ConnectionError)


@ringloop_only
async def test_writes_of_an_iteration_are_one_packet(loop_name: str) -> None:
    if loop_name not in DRIVERS:
        pytest.skip("asyncio sends each write by itself")
    async with habitual() as (transport, peer):
        arrived = []
        asyncio.get_running_loop().add_reader(peer, lambda: arrived.append(peer.recv(100)))
        transport.write(b"one")
        transport.write(b"two")
        while not arrived:
            await asyncio.sleep(0)
        asyncio.get_running_loop().remove_reader(peer)
        assert arrived == [b"onetwo"]


@pytest.mark.parametrize("use", ["shut down", "duplicate", "descriptor"])
async def test_what_was_written_arrives_before_what_is_done_by_the_socket_object(use: str) -> None:
    async with habitual() as (transport, peer):
        for number in (b"1", b"2"):
            transport.write(b"head" + number)
            transport.write(b"body" + number)
            if number == b"1":
                await asyncio.sleep(0)
        sock = transport.get_extra_info("socket")
        wanted = b"head1body1head2body2"
        if use == "shut down":
            sock.shutdown(socket.SHUT_WR)
            assert receive_all(peer) == wanted
            return
        if use == "duplicate":
            with sock.dup() as other:
                other.send(b"more")
        else:
            os.write(sock.fileno(), b"more")
        assert receive_exactly(peer, len(wanted) + 4) == wanted + b"more"


def shut_down(sock: Any) -> bytes:
    sock.shutdown(socket.SHUT_WR)
    return b""


def duplicate(sock: Any) -> bytes:
    with sock.dup() as other:
        other.send(b"more")
    return b"more"


def use_the_descriptor(sock: Any) -> bytes:
    os.write(sock.fileno(), b"more")
    return b"more"


def set_an_option(sock: Any) -> bytes:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return b""


def read_an_option(sock: Any) -> bytes:
    sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return b""


@pytest.mark.parametrize(
    "use",
    [shut_down, duplicate, use_the_descriptor, set_an_option, read_an_option],
    ids=lambda use: use.__name__,
)
async def test_what_was_written_arrives_before_what_a_kept_socket_object_does(use: Any) -> None:
    """One that was asked for before, as of `connection_made`."""
    protocol = Recorder(connection_made=lambda self: kept.append(self.transport.get_extra_info("socket")))
    kept: list[Any] = []
    async with habitual(protocol) as (transport, peer):
        assert transport.get_extra_info("socket") is kept[0]
        transport.write(b"one")
        transport.write(b"two")
        more = use(kept[0])
        wanted = b"onetwo" + more
        # Before the iteration ends.
        assert receive_exactly(peer, len(wanted)) == wanted


async def test_the_socket_object_is_one_of_asyncios() -> None:
    async with connection(Recorder(), unix_pair) as (transport, _):
        sock = transport.get_extra_info("socket")
        assert isinstance(sock, trsock.TransportSocket)
        assert repr(sock).startswith(f"<asyncio.TransportSocket fd={sock.fileno()}, family=")
        with pytest.raises(TypeError, match="annot "):
            pickle.dumps(sock)
        assert (sock.family, sock.type, sock.proto) == (socket.AF_UNIX, socket.SOCK_STREAM, 0)
    assert sock.fileno() == -1


@ringloop_only
def test_the_habit_stays_though_the_socket_object_was_asked_for(loop_name: str, run: Any) -> None:
    """Web servers ask for that of every connection, to set an option."""
    if loop_name not in DRIVERS:
        pytest.skip("asyncio sends each write by itself")

    async def main() -> None:
        async with habitual() as (transport, peer):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            transport.write(b"one")
            transport.write(b"two")
            peer.setblocking(False)
            with pytest.raises(BlockingIOError):
                peer.recv(1)
            transport.get_write_buffer_size()
            assert peer.recv(100) == b"onetwo"

    run(main())
