"""sock_recv, sock_sendall and their kin: results and errors as asyncio's, over TCP, Unix and UDP sockets."""

import array
import asyncio
import contextlib
import errno
import random
import socket
import ssl
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from network.peers import (
    Background,
    bounded_pair,
    close_with_reset,
    listener,
    receive_all,
    receive_exactly,
    refused_address,
    tcp_pair,
    unix_pair,
)
from network.recorders import Recorder, connection, drive
from support.compare import normalised

BIG = random.Random(30).randbytes(1024 * 1024)  # more than the kernel's buffers of `bounded_pair` take


@contextlib.contextmanager
def sockets(make_pair: Any = tcp_pair) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A non-blocking socket for the loop and the blocking one at its other end."""
    ours, peer = make_pair()
    ours.setblocking(False)
    with ours, peer:
        yield ours, peer


@contextlib.contextmanager
def udp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two UDP sockets on loopback: the loop's, non-blocking, and a blocking one."""
    with socket.socket(type=socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as peer:
        for sock in (ours, peer):
            sock.bind(("127.0.0.1", 0))
        ours.setblocking(False)
        peer.settimeout(20)
        yield ours, peer


async def started(coroutine: Any) -> "asyncio.Task[Any]":
    """A task of the coroutine that has run as far as it can without anything coming."""
    task = asyncio.get_running_loop().create_task(coroutine)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    return task


@pytest.mark.parametrize("make_pair", [tcp_pair, unix_pair])
async def test_recv_takes_what_is_there_and_waits_for_what_is_not(make_pair: Any) -> None:
    loop = asyncio.get_running_loop()
    with sockets(make_pair) as (ours, peer):
        peer.sendall(b"at once")
        assert await loop.sock_recv(ours, 100) == b"at once"
        waiting = await started(loop.sock_recv(ours, 100))
        peer.sendall(b"later")
        assert await waiting == b"later"
        peer.sendall(b"in parts")
        assert await loop.sock_recv(ours, 2) == b"in"
        assert await loop.sock_recv(ours, 100) == b" parts"
        waiting = await started(loop.sock_recv(ours, 100))
        peer.shutdown(socket.SHUT_WR)
        assert await waiting == b""
        assert await loop.sock_recv(ours, 100) == b""


@pytest.mark.parametrize("kind", ["bytearray", "memoryview", "array", "part"])
async def test_recv_into_fills_any_writable_buffer(kind: str) -> None:
    loop = asyncio.get_running_loop()
    memory = bytearray(16)
    buffer: Any = {
        "bytearray": memory, "memoryview": memoryview(memory), "array": array.array("B", bytes(16)),
        "part": memoryview(memory)[4:8],
    }[kind]  # fmt: skip
    with sockets() as (ours, peer):
        peer.sendall(b"1234")
        assert await loop.sock_recv_into(ours, buffer) == 4
        assert bytes(memoryview(buffer)[:4]) == b"1234"
        waiting = await started(loop.sock_recv_into(ours, buffer))
        peer.sendall(b"abcd")
        assert await waiting == 4
        assert bytes(memoryview(buffer)[:4]) == b"abcd"
        peer.shutdown(socket.SHUT_WR)
        assert await loop.sock_recv_into(ours, buffer) == 0


async def test_zero_length_calls() -> None:
    loop = asyncio.get_running_loop()
    with sockets() as (ours, peer):
        peer.sendall(b"x")
        assert await loop.sock_recv(ours, 0) == b""
        assert await loop.sock_recv_into(ours, bytearray()) == 0
        assert await loop.sock_sendall(ours, b"") is None
        assert await loop.sock_recv(ours, 10) == b"x"
        # Nobody is asked for nothing, and so nothing is waited for.
        assert await loop.sock_recv(ours, 0) == b""
        assert await loop.sock_recv_into(ours, bytearray()) == 0


async def test_zero_bytes_of_a_datagram_leave_it_there() -> None:
    loop = asyncio.get_running_loop()
    with udp_pair() as (ours, peer):
        peer.sendto(b"datagram", ours.getsockname())
        assert await loop.sock_recv(ours, 0) == b""
        assert await loop.sock_recv_into(ours, bytearray()) == 0
        assert await loop.sock_recv(ours, 100) == b"datagram"


async def test_data_and_addresses_of_datagrams() -> None:
    loop = asyncio.get_running_loop()
    with udp_pair() as (ours, peer):
        assert await loop.sock_sendto(ours, b"question", peer.getsockname()) == 8
        assert await asyncio.to_thread(peer.recvfrom, 100) == (b"question", ours.getsockname())
        peer.sendto(b"answer", ours.getsockname())
        assert await loop.sock_recvfrom(ours, 100) == (b"answer", peer.getsockname())
        waiting = await started(loop.sock_recvfrom(ours, 100))
        peer.sendto(b"later", ours.getsockname())
        assert await waiting == (b"later", peer.getsockname())


async def test_a_stand_in_for_a_socket_may_change_its_methods() -> None:
    loop = asyncio.get_running_loop()
    with udp_pair() as (ours, peer):
        stand_in = mock.Mock(ours, gettimeout=ours.gettimeout, fileno=ours.fileno)
        stand_in.sendto.side_effect = BlockingIOError
        loop.call_soon(setattr, stand_in, "sendto", ours.sendto)
        assert await loop.sock_sendto(stand_in, b"question", peer.getsockname()) == 8
        assert await asyncio.to_thread(peer.recv, 100) == b"question"


async def test_datagrams_into_a_buffer() -> None:
    loop = asyncio.get_running_loop()
    buffer = bytearray(10)
    with udp_pair() as (ours, peer):
        peer.sendto(b"12345", ours.getsockname())
        assert await loop.sock_recvfrom_into(ours, buffer) == (5, peer.getsockname())
        assert buffer == b"12345" + bytes(5)
        waiting = await started(loop.sock_recvfrom_into(ours, buffer, 3))
        peer.sendto(b"abcde", ours.getsockname())
        assert await waiting == (3, peer.getsockname())
        assert buffer == b"abc45" + bytes(5)


async def test_empty_datagrams_are_datagrams() -> None:
    loop = asyncio.get_running_loop()
    with udp_pair() as (ours, peer):
        assert await loop.sock_sendto(ours, b"", peer.getsockname()) == 0
        assert await asyncio.to_thread(peer.recvfrom, 100) == (b"", ours.getsockname())
        peer.sendto(b"", ours.getsockname())
        assert await loop.sock_recvfrom(ours, 100) == (b"", peer.getsockname())


async def test_a_datagram_larger_than_the_buffer_is_cut() -> None:
    loop = asyncio.get_running_loop()
    with udp_pair() as (ours, peer):
        peer.sendto(b"0123456789", ours.getsockname())
        peer.sendto(b"next", ours.getsockname())
        assert (await loop.sock_recvfrom(ours, 4))[0] == b"0123"
        assert (await loop.sock_recvfrom(ours, 4))[0] == b"next"


async def test_a_hundred_datagrams_in_order() -> None:
    loop = asyncio.get_running_loop()
    with udp_pair() as (ours, peer):
        for number in range(100):
            peer.sendto(b"%d" % number, ours.getsockname())
            assert (await loop.sock_recvfrom(ours, 100))[0] == b"%d" % number


async def test_recv_and_recvfrom_serve_each_others_sockets() -> None:
    loop = asyncio.get_running_loop()
    with udp_pair() as (ours, peer), sockets() as (stream, other):
        peer.sendto(b"datagram", ours.getsockname())
        assert await loop.sock_recv(ours, 100) == b"datagram"
        other.sendall(b"stream")
        assert await loop.sock_recvfrom(stream, 100) == (b"stream", None)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_sendall_sends_all_to_a_slow_reader(kind: Any) -> None:
    loop = asyncio.get_running_loop()
    with sockets(bounded_pair) as (ours, peer):
        sending = await started(loop.sock_sendall(ours, kind(BIG)))
        assert await asyncio.to_thread(receive_exactly, peer, len(BIG)) == BIG
        assert await sending is None


@pytest.mark.beyond_asyncio("it counts items where it should count bytes, and never ends")
async def test_sendall_takes_a_view_of_wider_items() -> None:
    loop = asyncio.get_running_loop()
    with sockets(bounded_pair) as (ours, peer):
        reading = Background(receive_exactly, peer, len(BIG))
        await loop.sock_sendall(ours, memoryview(BIG).cast("I"))
        assert await asyncio.to_thread(reading.finish) == BIG


async def test_the_buffer_is_the_callers_again_when_sendall_returns() -> None:
    loop = asyncio.get_running_loop()
    data = bytearray(BIG)
    with sockets(bounded_pair) as (ours, peer):
        reading = Background(receive_exactly, peer, 2 * len(BIG))
        await loop.sock_sendall(ours, data)
        data[:] = bytes(len(data))
        await loop.sock_sendall(ours, data)
        data.clear()
        assert await asyncio.to_thread(reading.finish) == BIG + bytes(len(BIG))


async def test_the_buffer_cannot_be_resized_while_sendall_waits() -> None:
    loop = asyncio.get_running_loop()
    data = bytearray(BIG)
    with sockets(bounded_pair) as (ours, peer):
        sending = await started(loop.sock_sendall(ours, data))
        with pytest.raises(BufferError):
            data.clear()
        assert await asyncio.to_thread(receive_exactly, peer, len(BIG)) == BIG
        await sending
        data.clear()
        cancelled = await started(loop.sock_sendall(ours, bytearray(BIG)))
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled


async def test_receiving_and_sending_on_one_socket_at_once() -> None:
    loop = asyncio.get_running_loop()
    with sockets(bounded_pair) as (ours, peer):
        receiving = await started(loop.sock_recv(ours, 100))
        sending = await started(loop.sock_sendall(ours, BIG))
        peer.sendall(b"in between")
        assert await receiving == b"in between"
        assert not sending.done()
        assert await asyncio.to_thread(receive_exactly, peer, len(BIG)) == BIG
        await sending


async def test_accept_takes_waiting_and_later_clients() -> None:
    loop = asyncio.get_running_loop()
    with listener() as server:
        server.setblocking(False)
        with socket.create_connection(server.getsockname(), 20) as client:
            connection_, address = await loop.sock_accept(server)
            with connection_:
                assert address == client.getsockname()
                assert connection_.gettimeout() == 0
                assert type(connection_) is socket.socket
                await loop.sock_sendall(connection_, b"hello")
                assert client.recv(10) == b"hello"
        waiting = await started(loop.sock_accept(server))
        with socket.create_connection(server.getsockname(), 20) as client:
            connection_, address = await waiting
            connection_.close()
            assert address == client.getsockname()


async def test_connect_and_talk() -> None:
    loop = asyncio.get_running_loop()
    with listener() as server, socket.socket() as sock:
        sock.setblocking(False)
        assert await loop.sock_connect(sock, server.getsockname()) is None
        connection_, _ = server.accept()
        with connection_:
            await loop.sock_sendall(sock, b"hello")
            assert connection_.recv(10) == b"hello"


async def test_connect_resolves_names_through_getaddrinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    with listener() as server, socket.socket() as sock:
        asked: list[Any] = []

        def getaddrinfo(*args: Any, **keywords: Any) -> Any:
            asked.append(args[0])
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", server.getsockname())]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("some.example", 80))
        assert asked == ["some.example"]
        assert sock.getpeername() == server.getsockname()


async def test_connect_to_a_unix_path(tmp_path: Any) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as sock:
        server.bind(path)
        server.listen()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, path)
        assert sock.getpeername() == path


async def test_a_refused_connect_names_the_address() -> None:
    with refused_address() as address, socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(ConnectionRefusedError) as caught:
            await asyncio.get_running_loop().sock_connect(sock, address)
        assert str(caught.value) == f"[Errno {errno.ECONNREFUSED}] Connect call failed {address}"


async def test_a_reset_ends_a_waiting_recv() -> None:
    loop = asyncio.get_running_loop()
    with sockets() as (ours, peer):
        waiting = await started(loop.sock_recv(ours, 10))
        close_with_reset(peer)
        with pytest.raises(ConnectionResetError) as caught:
            await waiting
        assert caught.value.errno == errno.ECONNRESET


async def test_a_reset_ends_a_waiting_sendall() -> None:
    loop = asyncio.get_running_loop()
    with sockets(bounded_pair) as (ours, peer):
        waiting = await started(loop.sock_sendall(ours, BIG))
        close_with_reset(peer)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await waiting


CALLS: dict[str, tuple[Any, ...]] = {
    "sock_recv": (10,), "sock_recv_into": (bytearray(10),), "sock_recvfrom": (10,),
    "sock_recvfrom_into": (bytearray(10),), "sock_sendall": (b"data",), "sock_accept": (),
    "sock_sendto": (b"data", ("127.0.0.1", 9)), "sock_connect": (("127.0.0.1", 9),),
}  # fmt: skip


def bad_sockets() -> dict[str, Any]:
    """Sockets that the calls cannot work on, and what is no socket."""

    def closed() -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        sock.close()
        return sock

    def unconnected() -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        return sock

    def blocking() -> socket.socket:
        return socket.socket()

    def with_timeout() -> socket.socket:
        sock = socket.socket()
        sock.settimeout(3)
        return sock

    def with_tls() -> socket.socket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        return context.wrap_socket(socket.socket())

    return {
        "closed": closed, "unconnected": unconnected, "tls": with_tls,
        "blocking": blocking, "timeout": with_timeout,
    }  # fmt: skip


async def said_by(name: str, sock: Any, *args: Any) -> tuple[str, str, str]:
    """What the call did, as `support.compare.outcome` tells it."""
    try:
        value = await getattr(asyncio.get_running_loop(), name)(sock, *args)
    except Exception as error:
        return "raised", type(error).__name__, normalised(str(error))
    return "returned", type(value).__name__, repr(value)


@pytest.mark.parametrize("which", ["closed", "unconnected", "tls"])
@pytest.mark.parametrize("name", CALLS)
def test_bad_sockets_are_refused_in_asyncios_words(name: str, which: str, same_as_asyncio: Any) -> None:
    if (name, which) == ("sock_sendto", "unconnected"):
        which = "closed"  # a datagram to nowhere is no error

    def scenario(loop_factory: Any) -> Any:
        sock = bad_sockets()[which]()
        with sock:
            return drive(loop_factory, lambda: said_by(name, sock, *CALLS[name]))

    said = same_as_asyncio(scenario)
    assert said[0] == "raised"
    if which == "tls":
        assert said == ("raised", "TypeError", "Socket cannot be of type SSLSocket")


@pytest.mark.parametrize("which", ["blocking", "timeout"])
@pytest.mark.parametrize("name", CALLS)
async def test_debug_mode_refuses_blocking_sockets(name: str, which: str) -> None:
    asyncio.get_running_loop().set_debug(True)
    with bad_sockets()[which]() as sock:
        said = await said_by(name, sock, *CALLS[name])
    assert said == ("raised", "ValueError", "the socket must be non-blocking")


BAD_ARGUMENTS: list[tuple[str, tuple[Any, ...]]] = [
    ("sock_recv", (-1,)), ("sock_recv", ("10",)), ("sock_recv", (None,)), ("sock_recv", (1 << 70,)),
    ("sock_recv_into", (b"read-only",)), ("sock_recv_into", ("text",)), ("sock_recv_into", (10,)),
    ("sock_recvfrom", (-1,)), ("sock_recvfrom_into", (bytearray(5), 10)), ("sock_sendall", ("text",)),
    ("sock_recvfrom_into", (bytearray(5), -1)), ("sock_recvfrom_into", (b"read-only",)),
    ("sock_sendall", (None,)), ("sock_sendall", (5,)), ("sock_sendto", ("text", ("127.0.0.1", 9))),
    ("sock_sendto", (b"x", "nowhere")), ("sock_connect", (None,)), ("sock_connect", ("127.0.0.1",)),
    ("sock_connect", (("127.0.0.1", "no service"),)),
]  # fmt: skip


@pytest.mark.parametrize("name, arguments", BAD_ARGUMENTS, ids=repr)
def test_bad_arguments_are_refused_in_asyncios_words(
    name: str, arguments: tuple[Any, ...], same_as_asyncio: Any
) -> None:
    def scenario(loop_factory: Any) -> Any:
        with sockets() as (ours, peer):
            peer.sendall(b"something to receive")
            return drive(loop_factory, lambda: said_by(name, ours, *arguments))

    assert same_as_asyncio(scenario)[0] == "raised"


@pytest.mark.parametrize("name", ["sock_recv", "sock_recv_into", "sock_sendall"])
async def test_a_socket_that_a_transport_owns_is_refused(name: str) -> None:
    """Like asyncio's, the calls look at that only where they would have to wait."""
    async with connection(Recorder(), bounded_pair) as (transport, _):
        sock = transport.get_extra_info("socket")
        raw = sock._sock
        data = BIG if name == "sock_sendall" else CALLS[name][0]
        with pytest.raises(RuntimeError, match=r"^File descriptor \d+ is used by transport <\w+ .*>$"):
            await getattr(asyncio.get_running_loop(), name)(raw, data)


async def test_an_accepting_and_a_connecting_socket_of_a_transport_are_refused() -> None:
    loop = asyncio.get_running_loop()
    async with connection(Recorder()) as (transport, _):
        fd = transport.get_extra_info("socket").fileno()
        for call in (loop.add_reader, loop.add_writer):
            with pytest.raises(RuntimeError, match=f"^File descriptor {fd} is used by transport "):
                call(fd, print)
        for remove in (loop.remove_reader, loop.remove_writer):
            with pytest.raises(RuntimeError, match=f"^File descriptor {fd} is used by transport "):
                remove(fd)


async def test_a_socket_is_free_again_when_its_transport_is_lost() -> None:
    """The fd's number may be another socket's by then, and works as any other."""
    protocol = Recorder()
    loop = asyncio.get_running_loop()
    async with connection(protocol) as (transport, _):
        transport.abort()
        await protocol.until("connection_lost")
    with sockets() as (ours, peer):
        waiting = await started(loop.sock_recv(ours, 10))
        peer.sendall(b"fine")
        assert await waiting == b"fine"


async def test_large_receives_give_what_is_there() -> None:
    """A receive of megabytes costs memory only for what came."""
    loop = asyncio.get_running_loop()
    with sockets() as (ours, peer):
        sending = Background(lambda: (peer.sendall(BIG), peer.shutdown(socket.SHUT_WR)))
        received = bytearray()
        while data := await loop.sock_recv(ours, 64 * 1024 * 1024):
            received += data
        assert received == BIG
        sending.finish()
        await loop.sock_sendall(ours, b"done")
        ours.shutdown(socket.SHUT_WR)
        assert receive_all(peer) == b"done"
