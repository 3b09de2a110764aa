"""A socket that its owner closes before or while a transport has it, or before a call on it."""

import asyncio
import socket
import tempfile
from typing import Any

import pytest

from network.datagram_recorders import endpoint, udp_peer
from network.peers import tcp_pair, unix_pair
from network.recorders import settle
from support.waiting import until_asleep


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
