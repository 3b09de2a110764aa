"""Datagram transports: sending, receiving, errors, and their end. As asyncio's, on both loops."""

import asyncio
import errno
import logging
import socket
from typing import Any

import pytest

from network.datagram_recorders import DatagramRecorder, endpoint, named_unix_pair, udp_peer
from network.recorders import drive, settle, until_closed
from network.unix_peers import abstract_name, directory
from support.compare import take_log
from support.leaks import open_fds

HOSTS = pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
MANY = 5000


def address_of(transport: Any) -> Any:
    return transport.get_extra_info("sockname")


@HOSTS
async def test_receives_with_the_senders_address(host: str) -> None:
    async with endpoint(local_addr=(host, 0)) as (transport, protocol):
        with udp_peer(host) as peer:
            peer.sendto(b"hello", address_of(transport))
            await protocol.until("datagram_received")
            assert protocol.events == [
                ("connection_made",),
                ("datagram_received", b"hello", peer.getsockname()),
            ]


@HOSTS
async def test_sends_to_an_address(host: str) -> None:
    async with endpoint(local_addr=(host, 0)) as (transport, _):
        with udp_peer(host) as peer:
            transport.sendto(b"hello", peer.getsockname())
            transport.sendto(b"again", peer.getsockname()[:2])
            transport.sendto(bytearray(b"bytearray"), peer.getsockname())
            transport.sendto(memoryview(b"memoryview")[2:], peer.getsockname())
            for expected in (b"hello", b"again", b"bytearray", b"moryview"):
                assert peer.recvfrom(100) == (expected, address_of(transport))


@HOSTS
async def test_a_connected_endpoint_sends_to_its_peer_alone(host: str) -> None:
    with udp_peer(host) as peer:
        async with endpoint(remote_addr=peer.getsockname()[:2]) as (transport, protocol):
            assert transport.get_extra_info("peername") == peer.getsockname()
            transport.sendto(b"to the peer")
            transport.sendto(b"by its name", peer.getsockname())
            with pytest.raises(ValueError, match="Invalid address: must be None or "):
                transport.sendto(b"elsewhere", (host, 9))
            assert peer.recv(100) == b"to the peer"
            assert peer.recv(100) == b"by its name"
            peer.sendto(b"answer", address_of(transport))
            await protocol.until("datagram_received")
            assert protocol.events[-1] == ("datagram_received", b"answer", peer.getsockname())


async def test_an_empty_datagram_is_received() -> None:
    async with endpoint() as (transport, protocol):
        with udp_peer() as peer:
            for data in (b"", b"x", b""):
                peer.sendto(data, address_of(transport))
            await protocol.until(lambda: len(protocol.datagrams) == 3)
            assert protocol.datagrams == [b"", b"x", b""]


def test_an_empty_datagram_is_sent_as_asyncio_does(same_as_asyncio: Any) -> None:
    """Not by every maintenance release."""

    def scenario(loop_factory: Any) -> list[bytes]:
        async def main() -> list[bytes]:
            async with endpoint() as (transport, _):
                with udp_peer() as peer:
                    transport.sendto(b"", peer.getsockname())
                    transport.sendto(b"end", peer.getsockname())
                    received = [peer.recv(100)]
                    while received[-1] != b"end":
                        received.append(peer.recv(100))
            return received

        result: list[bytes] = drive(loop_factory, main)
        return result

    assert same_as_asyncio(scenario)[-1] == b"end"


@HOSTS
async def test_the_largest_datagrams(host: str) -> None:
    largest = 65507 if host == "127.0.0.1" else 65527
    data = bytes(range(256)) * 256
    async with (
        endpoint(local_addr=(host, 0)) as (transport, protocol),
        endpoint(local_addr=(host, 0)) as (other, sending),
    ):
        other.sendto(data[:largest], address_of(transport)[:2])
        await protocol.until("datagram_received")
        assert protocol.datagrams == [data[:largest]]
        other.sendto(data + data, address_of(transport)[:2])
        assert sending.events[-1] == ("error_received", "OSError", errno.EMSGSIZE)


async def test_a_name_is_resolved_by_the_socket() -> None:
    async with endpoint() as (transport, _):
        with udp_peer() as peer:
            transport.sendto(b"by name", ("localhost", peer.getsockname()[1]))
            assert peer.recv(100) == b"by name"


async def test_thousands_arrive_once_and_in_order() -> None:
    """Over Unix sockets, where the kernel loses none: each waits for room."""
    ours, peer = named_unix_pair()
    with peer:
        async with endpoint(sock=ours) as (transport, protocol):
            sent = [number.to_bytes(4, "little") + bytes(number % 700) for number in range(MANY)]

            def send_all() -> None:
                for data in sent:
                    peer.send(data)

            def receive_all() -> list[bytes]:
                return [peer.recv(4096) for _ in range(MANY)]

            await asyncio.gather(
                asyncio.to_thread(send_all),
                protocol.until(lambda: len(protocol.events) > MANY),
            )
            assert protocol.datagrams == sent
            for data in sent:
                transport.sendto(data)
            assert await asyncio.to_thread(receive_all) == sent


async def test_thousands_are_echoed_over_udp() -> None:
    """At most a hundred on the way at a time: less than the sockets hold."""

    def answer(protocol: DatagramRecorder) -> None:
        _, data, address = protocol.events[-1]
        protocol.endpoint.sendto(data, address)

    def refill(protocol: DatagramRecorder) -> None:
        send_next(protocol)

    def send_next(protocol: DatagramRecorder) -> None:
        if (number := next(numbers, None)) is not None:
            protocol.endpoint.sendto(number.to_bytes(4, "little") * 100)

    numbers = iter(range(MANY))
    async with endpoint(DatagramRecorder(datagram_received=answer)) as (echoing, _):
        asking = DatagramRecorder(datagram_received=refill)
        async with endpoint(asking, remote_addr=address_of(echoing)):
            for _ in range(100):
                send_next(asking)
            await asking.until(lambda: len(asking.events) > MANY)
            assert asking.datagrams == [number.to_bytes(4, "little") * 100 for number in range(MANY)]


async def test_many_peers_are_told_apart() -> None:
    async with endpoint() as (transport, protocol):
        peers = [udp_peer(host) for _ in range(200) for host in ("127.0.0.1", "127.0.0.2")]
        for count, peer in enumerate(peers + peers, 1):
            peer.sendto(repr(peer.getsockname()).encode(), address_of(transport))
            if count % 50 == 0:  # no more on the way than the socket holds
                await protocol.until(lambda: len(protocol.datagrams) == count)  # noqa: B023
        assert {event[2] for event in protocol.events[1:]} == {peer.getsockname() for peer in peers}
        for _, data, address in protocol.events[1:]:
            assert data == repr(address).encode()
        for peer in peers:
            peer.close()


async def test_a_refused_datagram_is_told_to_error_received() -> None:
    with udp_peer() as peer:
        address = peer.getsockname()
    async with endpoint(remote_addr=address) as (transport, protocol):
        transport.sendto(b"to nobody")
        await protocol.until("error_received")
        assert protocol.events[-1] == ("error_received", "ConnectionRefusedError", errno.ECONNREFUSED)
        assert not transport.is_closing()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.settimeout(20)
            again.bind(address)
            transport.sendto(b"to somebody")
            assert again.recvfrom(100) == (b"to somebody", address_of(transport))
            again.sendto(b"answer", address_of(transport))
            await protocol.until("datagram_received")


async def test_what_the_protocol_raises_does_not_end_the_transport(watch: Any) -> None:
    def fail(protocol: DatagramRecorder) -> None:
        raise LookupError(protocol.events[-1][1])

    async with endpoint(DatagramRecorder(datagram_received=fail)) as (transport, protocol):
        with udp_peer() as peer:
            for data in (b"1", b"2", b"3"):
                peer.sendto(data, address_of(transport))
            await protocol.until(lambda: len(protocol.datagrams) == 3)
            await settle(1)
            assert not transport.is_closing()
    contexts = watch.take()
    assert [str(context["exception"]) for context in contexts] == ["b'1'", "b'2'", "b'3'"]
    assert all(context["message"].startswith("Exception in callback ") for context in contexts)


@pytest.mark.parametrize(
    "address",
    [
        *(None, 3, "text", (), ("127.0.0.1",), ("127.0.0.1", "9"), ("127.0.0.1", 70000), ("127.0.0.1", -1)),
        *(("a\0b", 9), ("127.0.0.1", 9, 0), (b"127.0.0.1", 9), ("\udc80", 9)),
    ],
    ids=repr,
)
def test_bad_addresses_are_answered_as_asyncio_does(same_as_asyncio: Any, watch: Any, address: Any) -> None:
    """Most of them end the transport."""

    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            async with endpoint() as (transport, protocol):
                try:
                    transport.sendto(b"x", address)
                except Exception as error:
                    raised = repr(error)
                else:
                    raised = ""
                closing = transport.is_closing()
                if closing:
                    await protocol.until("connection_lost")
                    await settle(1)
                return raised, closing, protocol.events, repr(protocol.error)

        result = drive(loop_factory, main)
        return result, [(each["message"], repr(each["exception"])) for each in watch.take()]

    same_as_asyncio(scenario)


@pytest.mark.parametrize("data", [3, "text", None, [b"x"]], ids=repr)
async def test_only_bytes_are_sent(data: Any) -> None:
    async with endpoint() as (transport, _):
        message = f"data argument must be a bytes-like object, not {type(data).__name__!r}"
        with pytest.raises(TypeError, match=message):
            transport.sendto(data, ("127.0.0.1", 9))


@pytest.mark.parametrize("ending", ["close", "abort"])
async def test_its_end(ending: str) -> None:
    async with endpoint() as (transport, protocol):
        sock = transport.get_extra_info("socket")
        address = address_of(transport)
        getattr(transport, ending)()
        assert transport.is_closing()
        assert protocol.names == ["connection_made"]
        getattr(transport, ending)()
        with udp_peer() as peer:
            peer.sendto(b"too late", address)
        await protocol.until("connection_lost")
        assert protocol.events == [("connection_made",), ("connection_lost", None)]
        await until_closed(sock)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.bind(address)
        assert transport.get_extra_info("sockname") == address
        assert transport.get_protocol() is None


@pytest.mark.parametrize("ending", ["close", "abort"])
async def test_the_port_is_free_in_the_turn_after_connection_lost(ending: str) -> None:
    async with endpoint() as (transport, protocol):
        address = address_of(transport)
        await settle(1)
        getattr(transport, ending)()
        await protocol.until("connection_lost")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.bind(address)


@pytest.mark.parametrize("ending", ["close", "abort"])
async def test_nothing_is_received_after_an_end_inside_the_callback(ending: str) -> None:
    """Though more was there, and the loop may have received it already."""
    protocol = DatagramRecorder(datagram_received=lambda self: getattr(self.transport, ending)())
    async with endpoint(protocol) as (transport, _):
        with udp_peer() as peer:
            for _ in range(20):
                peer.sendto(b"x", address_of(transport))
            await protocol.until("connection_lost")
            await settle()
    assert protocol.names == ["connection_made", "datagram_received", "connection_lost"]


async def test_no_error_is_received_after_an_end() -> None:
    with udp_peer() as peer:
        address = peer.getsockname()
    async with endpoint(remote_addr=address) as (transport, protocol):
        transport.sendto(b"to nobody")
        transport.close()
        await protocol.until("connection_lost")
        await settle()
    assert protocol.names == ["connection_made", "connection_lost"]


async def test_a_send_between_close_and_its_end_goes_out() -> None:
    async with endpoint() as (transport, _):
        with udp_peer() as peer:
            transport.close()
            transport.sendto(b"after close", peer.getsockname())
            assert peer.recv(100) == b"after close"


def test_sends_of_a_closed_connected_endpoint_are_logged(
    same_as_asyncio: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def scenario(loop_factory: Any) -> Any:
        async def main() -> None:
            with udp_peer() as peer:
                async with endpoint(remote_addr=peer.getsockname()) as (transport, protocol):
                    transport.abort()
                    for _ in range(4):
                        transport.sendto(b"x")
                    await protocol.until("connection_lost")
                    for _ in range(4):
                        transport.sendto(b"x")
                    peer.settimeout(0)
                    with pytest.raises(BlockingIOError):
                        peer.recv(1)

        with caplog.at_level(logging.WARNING, "asyncio"):
            drive(loop_factory, main)
        return take_log(caplog)

    assert len(same_as_asyncio(scenario)) == 4


@pytest.mark.beyond_asyncio("it raises AttributeError, for lack of a socket and a loop")
async def test_sends_of_a_closed_endpoint_without_peer_are_dropped() -> None:
    async with endpoint() as (transport, protocol):
        transport.close()
        await protocol.until("connection_lost")
        await settle(1)
        transport.sendto(b"x", ("127.0.0.1", 9))


async def test_pause_and_resume_reading() -> None:
    """Not documented for datagram transports, but asyncio's have it."""
    protocol = DatagramRecorder(datagram_received=lambda self: self.transport.pause_reading())
    async with endpoint(protocol) as (transport, _), endpoint() as (other, _):
        for number in range(5):
            other.sendto(bytes([number]), address_of(transport))
        for count in range(1, 6):
            await protocol.until(lambda: len(protocol.datagrams) == count)  # noqa: B023
            await settle()
            assert not protocol.transport.is_reading()
            assert protocol.datagrams == [bytes([number]) for number in range(count)]
            protocol.transport.resume_reading()


async def test_another_protocol_gets_what_comes_next() -> None:
    second = DatagramRecorder()
    protocol = DatagramRecorder(datagram_received=lambda self: self.transport.set_protocol(second))
    async with endpoint(protocol) as (transport, _):
        with udp_peer() as peer:
            for data in (b"1", b"2", b"3"):
                peer.sendto(data, address_of(transport))
            await second.until(lambda: len(second.datagrams) == 2)
        assert protocol.datagrams == [b"1"]
        assert second.datagrams == [b"2", b"3"]
        assert transport.get_protocol() is second
        transport.set_protocol(protocol)


async def test_the_first_datagram_waits_for_the_awaiter_of_the_endpoint() -> None:
    """What is set up right after the await is there when a datagram that came before it is delivered."""
    sock = udp_peer()
    with udp_peer() as peer:
        peer.sendto(b"early", sock.getsockname())
        order = []
        protocol = DatagramRecorder(datagram_received=lambda self: order.append("datagram_received"))
        async with endpoint(protocol, sock=sock):
            order.append("awaited")
            await protocol.until("datagram_received")
    assert order == ["awaited", "datagram_received"]


def test_unix_datagrams_tell_their_senders_as_asyncio_does(same_as_asyncio: Any) -> None:
    names = abstract_name(), abstract_name()
    large = bytes(100_000)

    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            protocol = DatagramRecorder()
            async with endpoint(protocol, local_addr=names[0], family=socket.AF_UNIX) as (transport, _):
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
                    peer.settimeout(20)
                    peer.sendto(b"without a name", names[0])
                    peer.bind(names[1])
                    peer.sendto(b"with a name", names[0])
                    await protocol.until(lambda: len(protocol.datagrams) == 2)
                    transport.sendto(b"answer", protocol.events[-1][2])
                    answer = peer.recvfrom(100)
                with directory() as where, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                    other.bind(str(where / "s"))
                    other.sendto(large, names[0])
                    await protocol.until(lambda: len(protocol.datagrams) == 3)
                    data, sender = protocol.events.pop()[1:]
                    assert (data, sender) == (large, str(where / "s"))
                transport.sendto(b"to nobody", names[1])
                transport.sendto(b"to nobody", b"\0no such name")
                return answer, protocol.events

        return drive(loop_factory, main)

    same_as_asyncio(scenario)


@pytest.mark.beyond_asyncio("it asks for an address, and ends the transport")
async def test_a_peer_without_a_name_needs_no_address() -> None:
    ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    peer.settimeout(20)
    with peer:
        async with endpoint(sock=ours) as (transport, protocol):
            count = 0
            while count < 10_000 and not transport.get_write_buffer_size():  # type: ignore[attr-defined]
                transport.sendto(b"%d" % count)
                count += 1
            transport.sendto(b"last")
            received = await asyncio.to_thread(lambda: [peer.recv(100) for _ in range(count + 1)])
            assert received == [*(b"%d" % number for number in range(count)), b"last"]
            peer.send(b"answer")
            await protocol.until("datagram_received")
            assert protocol.events[-1] == ("datagram_received", b"answer", None)


async def test_fds_are_where_they_were_after_many_endpoints() -> None:
    fds = open_fds()
    for ending in ("close", "abort") * 50:
        async with endpoint() as (transport, protocol):
            transport.sendto(b"x", address_of(transport))
            await protocol.until("datagram_received")
            getattr(transport, ending)()
    await settle(1)
    assert open_fds() == fds
