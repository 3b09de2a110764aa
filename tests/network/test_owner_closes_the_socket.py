"""A socket that its owner closes before or while a transport has it, or before a call on it."""

import asyncio
import contextlib
import errno
import os
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from network.datagram_recorders import endpoint, udp_peer
from network.peers import receive_all, tcp_pair, unix_pair
from network.recorders import Recorder, settle
from network.test_transport_write_habit import acquire
from support.waiting import until_asleep

EBADF = f"[Errno {errno.EBADF}] {os.strerror(errno.EBADF)}"


@contextlib.contextmanager
def replaced(ours: socket.socket, how: str = "close") -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ends a socket, and gives its number to another: that one and its peer. Neither blocks."""
    number = ours.fileno()
    first, peer = unix_pair()
    with first, peer:
        peer.setblocking(False)
        getattr(ours, how)()
        os.dup2(first.fileno(), number)
        with socket.socket(fileno=number) as sock:
            sock.setblocking(False)
            yield sock, peer


def nothing_came(sock: socket.socket) -> bool:
    try:
        sock.recv(1)
    except BlockingIOError:
        return True
    return False


async def ended(protocol: Recorder) -> None:
    """Waits for connection_lost, which told that the socket is closed."""
    await protocol.until("connection_lost")
    assert str(protocol.error) == EBADF


@pytest.mark.parametrize("how", ["close", "detach"])
@pytest.mark.parametrize("write", ["write", "writelines"])
async def test_what_is_written_reaches_nobody_else(how: str, write: str) -> None:
    ours, peer = unix_pair()
    protocol = Recorder()
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
    with peer, replaced(ours, how) as (_, far):
        if write == "write":
            transport.write(b"one")
        else:
            transport.writelines([b"o", b"ne"])
        await ended(protocol)
        assert nothing_came(far)
        assert receive_all(peer) == b""


async def test_what_comes_for_another_is_not_taken() -> None:
    ours, peer = unix_pair()
    protocol = Recorder()
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
    await settle()
    transport.pause_reading()
    await settle()
    with peer, replaced(ours) as (sock, far):
        far.send(b"for another")
        transport.resume_reading()
        await ended(protocol)
        assert sock.recv(100) == b"for another"
        assert protocol.received == b""


async def test_the_end_is_not_written_for_another() -> None:
    ours, peer = unix_pair()
    protocol = Recorder()
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
    with peer, replaced(ours) as (sock, far):
        with pytest.raises(OSError, match="Bad file descriptor"):
            transport.write_eof()
        sock.send(b"still writable")
        assert far.recv(100) == b"still writable"
        transport.abort()
        await protocol.until("connection_lost")


async def test_what_was_written_before_the_close_arrives() -> None:
    """Also what is held back to the end of the iteration, for a protocol that writes often."""
    ours, peer = unix_pair()
    protocol = Recorder()
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
    with peer:
        await acquire(transport, peer)
        transport.pause_reading()
        await settle()
        transport.write(b"one")
        transport.write(b"two")
        ours.close()
        await settle()
        assert receive_all(peer) == b"onetwo"
        assert ours.fileno() == -1
        transport.abort()
        await protocol.until("connection_lost")


async def test_datagrams_reach_nobody_else() -> None:
    ours, peer = udp_peer(), udp_peer()
    async with endpoint(sock=ours) as (transport, protocol):
        await settle()
        number = ours.fileno()
        # Of the same kind, which could send it as well.
        other = udp_peer()
        with peer, other:
            peer.setblocking(False)
            ours.close()
            os.dup2(other.fileno(), number)
            with socket.socket(fileno=number):
                transport.sendto(b"one", peer.getsockname())
                assert protocol.events[1:] == [("error_received", "OSError", errno.EBADF)]
                assert nothing_came(peer)


async def test_a_file_is_not_sent_to_a_closed_socket() -> None:
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    sock.close()
    with tempfile.TemporaryFile() as file:
        file.write(b"data")
        file.seek(0)
        with pytest.raises(OSError, match=r"^\[Errno 9\] Bad file descriptor$"):
            await loop.sock_sendfile(sock, file)


async def test_datagrams_for_a_socket_closed_under_its_transport_are_nobodys() -> None:
    ours, peer = udp_peer(), udp_peer()
    address = ours.getsockname()
    with peer:
        async with endpoint(sock=ours) as (transport, protocol):
            await settle()
            ours.close()
            peer.sendto(b"lost", address)
            await settle()
            await until_asleep()
            assert protocol.names == ["connection_made"]
            assert not transport.is_closing()


@pytest.mark.beyond_asyncio("it makes a transport of it, whose first read fails in the next pass")
@pytest.mark.parametrize("kind", ["tcp", "unix", "datagrams"])
async def test_a_factory_that_closes_the_socket_is_told_so(kind: str) -> None:
    loop = asyncio.get_running_loop()
    if kind == "datagrams":
        ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    else:
        ours, peer = tcp_pair() if kind == "tcp" else unix_pair()

    def factory() -> asyncio.DatagramProtocol:
        ours.close()
        return asyncio.DatagramProtocol()

    make: Any = loop.create_datagram_endpoint if kind == "datagrams" else loop.create_connection
    with peer:
        with pytest.raises(ValueError, match=r"^Invalid file descriptor: -1$"):
            await make(factory, sock=ours)
        assert ours.fileno() == -1
