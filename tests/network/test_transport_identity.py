"""What a stream transport is to code that looks at it: type, attributes, extra info, repr, warnings."""

import asyncio
import copy
import gc
import io
import logging
import pickle
import re
import socket
import warnings
import weakref
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any

import pytest

from network.peers import bounded_pair, how_it_ends, tcp_pair, unix_pair
from network.recorders import AnyRecorder, Recorder, connection, drive, server, settle, until_closed

BIG = bytes(1024 * 1024)  # more than the kernel's buffers of `bounded_pair` take


async def test_it_is_an_asyncio_transport(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol) as (transport, _):
        for base in (asyncio.Transport, asyncio.ReadTransport, asyncio.WriteTransport, asyncio.BaseTransport):
            assert isinstance(transport, base)
        assert issubclass(type(transport), object)
        assert not isinstance(transport, (asyncio.DatagramTransport, asyncio.SubprocessTransport))
        assert isinstance(protocol.transport, asyncio.Transport)


async def test_private_attributes_that_others_read() -> None:
    async with connection(Recorder()) as (transport, _):
        some: Any = transport
        for change, paused, closing in (
            (None, False, False),
            (transport.pause_reading, True, False),
            (transport.resume_reading, False, False),
            (transport.close, False, True),
        ):
            if change is not None:
                change()
            assert (bool(some._paused), bool(some._closing)) == (paused, closing)


async def test_accepted_transports_are_asyncio_transports_too() -> None:
    protocol = Recorder()
    async with server(lambda: protocol) as (_, address):
        with socket.create_connection(address):
            await protocol.until("connection_made")
            assert isinstance(protocol.transport, asyncio.Transport)
        await protocol.until("connection_lost")


async def test_extra_info_of_a_tcp_connection() -> None:
    async with connection(Recorder()) as (transport, peer):
        sock = transport.get_extra_info("socket")
        assert isinstance(sock, TransportSocket)
        assert sock.getsockname() == transport.get_extra_info("sockname") == peer.getpeername()
        assert sock.getpeername() == transport.get_extra_info("peername") == peer.getsockname()
        assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_STREAM)
        assert sock.gettimeout() == 0


async def test_extra_info_of_an_ipv6_connection() -> None:
    async with connection(Recorder(), lambda: tcp_pair("::1")) as (transport, peer):
        assert transport.get_extra_info("sockname") == peer.getpeername()
        assert transport.get_extra_info("peername") == peer.getsockname()
        assert len(transport.get_extra_info("peername")) == 4


async def test_extra_info_of_an_accepted_connection() -> None:
    protocol = Recorder()
    async with server(lambda: protocol) as (_, address):
        with socket.create_connection(address) as client:
            await protocol.until("connection_made")
            assert protocol.transport.get_extra_info("peername") == client.getsockname()
            assert protocol.transport.get_extra_info("sockname") == client.getpeername() == address
            assert isinstance(protocol.transport.get_extra_info("socket"), TransportSocket)
        await protocol.until("connection_lost")


async def test_extra_info_that_is_not_there() -> None:
    default = object()
    async with connection(Recorder()) as (transport, _):
        for name in ("pipe", "sslcontext", "cipher", "peercert", "no such thing"):
            assert transport.get_extra_info(name) is None
            assert transport.get_extra_info(name, default) is default
        assert transport.get_extra_info("peername", default) is not default


async def test_extra_info_stays_after_the_end() -> None:
    protocol = Recorder()
    async with connection(protocol) as (transport, peer):
        address = peer.getsockname()
        transport.abort()
        await protocol.until("connection_lost")
        await settle(1)
        assert transport.get_extra_info("peername") == address
        assert transport.get_extra_info("socket").fileno() == -1


async def test_the_callers_socket_object_is_the_one_used() -> None:
    """The transport keeps the object itself: closing the transport closes it, and nothing else does."""
    ours, peer = tcp_pair()
    with peer:
        fd = ours.fileno()
        transport, _ = await asyncio.get_running_loop().create_connection(Recorder, sock=ours)
        assert ours.fileno() == fd == transport.get_extra_info("socket").fileno()
        assert ours.gettimeout() == 0
        transport.close()
        await until_closed(ours)


async def test_a_connected_unix_socket_is_taken_as_any_other(kind: type[AnyRecorder]) -> None:
    protocol = kind(data_received=lambda self: self.transport.write(b"pong"))
    async with connection(protocol, unix_pair) as (transport, peer):
        assert transport.get_extra_info("socket").family == socket.AF_UNIX
        assert transport.get_extra_info("sockname") == ""
        peer.sendall(b"ping")
        await protocol.until_received(4)
        assert peer.recv(10) == b"pong"


async def test_nagles_algorithm_is_off_at_both_ends() -> None:
    protocol = Recorder()
    loop = asyncio.get_running_loop()
    async with server(lambda: protocol) as (_, address):
        transport, _ = await loop.create_connection(Recorder, *address)
        await protocol.until("connection_made")
        for end in (transport, protocol.transport):
            assert end.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        transport.close()
        await protocol.until("connection_lost")


async def test_attributes_and_methods_can_be_set_on_a_transport() -> None:
    written: list[bytes] = []
    async with connection(Recorder()) as (transport, _):
        transport.note = "anything"  # type: ignore[attr-defined]
        transport.write = written.append  # type: ignore[method-assign,assignment]
        transport.is_closing = lambda: True  # type: ignore[method-assign]
        transport.write(b"to the list")
        assert transport.is_closing()
        assert written == [b"to the list"]
        assert transport.note == "anything"  # type: ignore[attr-defined]
        del transport.is_closing
        assert not transport.is_closing()


async def test_a_replaced_write_is_what_a_streamwriter_calls() -> None:
    written: list[bytes] = []
    ours, peer = tcp_pair()
    with peer:
        _, writer = await asyncio.open_connection(sock=ours)
        writer.transport.write = written.append  # type: ignore[method-assign,assignment]
        writer.write(b"to the list")
        await writer.drain()
        assert written == [b"to the list"]
        writer.close()
        await writer.wait_closed()


async def test_a_transport_is_hashable_equal_to_itself_and_weakly_referable() -> None:
    async with connection(Recorder()) as (first, _), connection(Recorder()) as (second, _):
        assert {first: 1, second: 2}[first] == 1
        assert first != second
        assert weakref.ref(first)() is first


@pytest.mark.parametrize("protocol_number", range(pickle.HIGHEST_PROTOCOL + 1))
async def test_a_transport_cannot_be_pickled(protocol_number: int) -> None:
    async with connection(Recorder()) as (transport, _):
        with pytest.raises((TypeError, pickle.PicklingError)):
            pickle.dump(transport, io.BytesIO(), protocol_number)


@pytest.mark.beyond_asyncio("its transports can be copied, and the copy closes the original's socket")
@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
async def test_a_transport_cannot_be_copied(copier: Callable[[Any], Any]) -> None:
    async with connection(Recorder()) as (transport, _):
        with pytest.raises(TypeError):
            copier(transport)


async def test_repr_tells_the_fd_and_the_state() -> None:
    protocol = Recorder()
    async with connection(protocol, bounded_pair) as (transport, _):
        fd = transport.get_extra_info("socket").fileno()
        assert re.fullmatch(rf"<\w+ .*fd={fd}\b.*>", repr(transport))
        assert "clos" not in repr(transport)
        transport.write(BIG)
        assert f"bufsize={transport.get_write_buffer_size()}" in repr(transport)
        transport.close()
        assert "closing" in repr(transport)
        transport.abort()
        await protocol.until("connection_lost")
        await settle(1)
        assert "closed" in repr(transport)


def test_a_transport_left_open_at_loop_close_warns_and_closes_its_socket(
    kind: type[AnyRecorder], loop: asyncio.AbstractEventLoop
) -> None:
    ours, peer = tcp_pair()
    with peer, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        transport, _ = loop.run_until_complete(loop.create_connection(kind, sock=ours))
        name = type(transport).__name__
        loop.close()
        del transport, _
        gc.collect()
        assert ours.fileno() == -1
        assert how_it_ends(peer) == "eof"
    (warning,) = [entry for entry in caught if "transport" in str(entry.message)]
    assert warning.category is ResourceWarning
    assert str(warning.message).startswith(f"unclosed transport <{name} ")
    assert type(warning.source).__name__ == name


async def test_a_paused_transport_that_nobody_holds_warns_and_closes_its_socket() -> None:
    ours, peer = tcp_pair()
    with peer:
        transport, _ = await asyncio.get_running_loop().create_connection(Recorder, sock=ours)
        transport.pause_reading()
        await settle()
        del transport, _
        with pytest.warns(ResourceWarning, match=r"^unclosed transport <\w+ "):
            gc.collect()
        assert ours.fileno() == -1
        assert await asyncio.to_thread(how_it_ends, peer) == "eof"


async def test_a_reading_transport_that_nobody_holds_lives_on() -> None:
    protocol = Recorder(data_received=lambda self: self.transport.write(b"still here"))
    ours, peer = tcp_pair()
    with peer:
        protocol_reference = weakref.ref(protocol)
        waiting = [protocol]
        del protocol
        await asyncio.get_running_loop().create_connection(waiting.pop, sock=ours)
        gc.collect()
        peer.sendall(b"?")
        assert await asyncio.to_thread(peer.recv, 100) == b"still here"
        assert protocol_reference() is not None
    await until_closed(ours)


async def test_a_lost_connection_lets_go_of_protocol_and_transport() -> None:
    """The protocol goes as soon as its owner lets go, the transport at the latest with the collector."""
    protocol = Recorder()
    ours, peer = tcp_pair()
    waiting = [protocol]
    transport, _ = await asyncio.get_running_loop().create_connection(waiting.pop, sock=ours)
    references = weakref.ref(transport), weakref.ref(protocol)
    peer.close()
    await protocol.until("connection_lost")
    await until_closed(ours)
    await settle(1)
    gc.disable()
    try:
        protocol._transport = None
        del protocol, _
        assert references[1]() is None
    finally:
        gc.enable()
    del transport
    gc.collect()
    assert references[0]() is None


def test_debug_mode_logs_what_a_transport_does(
    same_as_asyncio: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def scenario(loop_factory: Any) -> Any:
        async def main() -> None:
            asyncio.get_running_loop().set_debug(True)
            protocol = Recorder()
            async with connection(protocol) as (transport, peer):
                name = type(transport).__name__
                transport.pause_reading()
                transport.resume_reading()
                peer.shutdown(socket.SHUT_WR)
                await protocol.until("connection_lost")
            names.append(name)

        names: list[str] = []
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "asyncio"):
            drive(loop_factory, main)
        messages = [record.getMessage() for record in caplog.records]
        return [
            re.sub(r"<[^<>]*(<[^<>]*>)?[^<>]*>", "<…>", message)
            for message in messages
            if any(word in message for word in ("pauses reading", "resumes reading", "received EOF"))
        ]

    messages = same_as_asyncio(scenario)
    assert messages == ["<…> pauses reading", "<…> resumes reading", "<…> received EOF"]
