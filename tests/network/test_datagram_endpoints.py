"""create_datagram_endpoint: every keyword, the socket it makes, and its errors in asyncio's words."""

import asyncio
import gc
import logging
import pickle
import re
import socket
import struct
import sys
import warnings
import weakref
from asyncio.trsock import TransportSocket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from network.datagram_recorders import DatagramRecorder, endpoint, udp_peer
from network.peers import Background, without_class
from network.recorders import drive, settle, until_closed
from network.unix_peers import abstract_name, directory
from support.compare import normalised
from support.leaks import open_fds


@pytest.fixture
def path() -> Iterator[Path]:
    """A path where no file is yet."""
    with directory() as where:
        yield where / "s"


def option(transport: asyncio.BaseTransport, name: int) -> int:
    return int(bool(transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, name)))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_a_local_address(host: str) -> None:
    async with endpoint(local_addr=(host, 0)) as (transport, protocol):
        assert protocol.names == ["connection_made"]
        sock = transport.get_extra_info("socket")
        assert type(sock) is TransportSocket
        assert sock.type == socket.SOCK_DGRAM
        assert sock.gettimeout() == 0
        assert transport.get_extra_info("sockname") == sock.getsockname()
        assert transport.get_extra_info("sockname")[1] != 0
        assert transport.get_extra_info("peername") is None
        assert transport.get_extra_info("no such thing", 3) == 3


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_remote_address(host: str) -> None:
    with udp_peer(host) as peer:
        address = peer.getsockname()[:2]
        async with endpoint(remote_addr=address, local_addr=(host, 0)) as (transport, _):
            assert transport.get_extra_info("peername") == peer.getsockname()
            assert transport.get_extra_info("sockname")[0] == host


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
async def test_a_family_alone(family: int) -> None:
    async with endpoint(family=family) as (transport, _):
        assert transport.get_extra_info("socket").family == family
        with udp_peer("127.0.0.1" if family == socket.AF_INET else "::1") as peer:
            transport.sendto(b"hello", peer.getsockname())
            assert peer.recv(100) == b"hello"


@pytest.mark.parametrize("wanted", [True, False, None])
async def test_allow_broadcast(wanted: bool | None) -> None:
    async with endpoint(local_addr=("127.0.0.1", 0), allow_broadcast=wanted) as (transport, protocol):
        assert option(transport, socket.SO_BROADCAST) == int(bool(wanted))
        transport.sendto(b"to all", ("127.255.255.255", 9))
        assert [event[0] for event in protocol.events[1:]] == ([] if wanted else ["error_received"])


async def test_allow_broadcast_leaves_the_remote_address_unconnected() -> None:
    """So that answers may come from anywhere, while everything goes to that address."""
    with udp_peer() as peer:
        keywords = {"remote_addr": peer.getsockname(), "allow_broadcast": True}
        async with endpoint(local_addr=("127.0.0.1", 0), **keywords) as (transport, protocol):
            assert transport.get_extra_info("peername") is None
            transport.sendto(b"hello")
            assert peer.recv(100) == b"hello"
            with pytest.raises(ValueError, match="Invalid address"):
                transport.sendto(b"hello", ("127.0.0.1", 9))
            with udp_peer() as other:
                other.sendto(b"from elsewhere", transport.get_extra_info("sockname"))
                await protocol.until("datagram_received")


async def test_reuse_port_shares_a_port() -> None:
    async with endpoint(local_addr=("127.0.0.1", 0), reuse_port=True) as (first, _):
        address = first.get_extra_info("sockname")
        assert option(first, socket.SO_REUSEPORT) == 1
        async with endpoint(local_addr=address, reuse_port=True) as (second, _):
            assert second.get_extra_info("sockname") == address
        with pytest.raises(OSError, match="Address already in use"):
            await asyncio.get_running_loop().create_datagram_endpoint(DatagramRecorder, local_addr=address)


async def test_proto_and_flags() -> None:
    keywords = {"proto": socket.IPPROTO_UDP, "flags": socket.AI_NUMERICHOST}
    async with endpoint(local_addr=("127.0.0.1", 0), **keywords) as (transport, _):
        assert transport.get_extra_info("socket").proto == socket.IPPROTO_UDP
    with pytest.raises(socket.gaierror):
        await asyncio.get_running_loop().create_datagram_endpoint(
            DatagramRecorder, local_addr=("localhost", 0), flags=socket.AI_NUMERICHOST
        )


async def test_the_callers_socket_object_is_the_one_used() -> None:
    sock = udp_peer()
    async with endpoint(sock=sock) as (transport, protocol):
        assert transport.get_extra_info("socket").fileno() == sock.fileno()
        assert sock.gettimeout() == 0
        transport.close()
        await protocol.until("connection_lost")
        await until_closed(sock)


async def test_a_unix_path_in_place_of_a_stale_socket(path: Path) -> None:
    for _ in range(2):  # the first leaves its file
        async with endpoint(local_addr=str(path), family=socket.AF_UNIX) as (transport, protocol):
            assert transport.get_extra_info("sockname") == str(path)
            keywords = {"remote_addr": str(path), "family": socket.AF_UNIX}
            async with endpoint(local_addr=abstract_name(), **keywords) as (other, asking):
                assert other.get_extra_info("peername") == str(path)
                other.sendto(b"hello")
                await protocol.until("datagram_received")
                transport.sendto(b"answer", protocol.events[-1][2])
                await asking.until("datagram_received")
                assert asking.datagrams == [b"answer"]
    path.unlink()
    path.write_text("precious")
    with pytest.raises(OSError, match="Address already in use"):
        await asyncio.get_running_loop().create_datagram_endpoint(
            DatagramRecorder, local_addr=str(path), family=socket.AF_UNIX
        )


def test_errors_are_asyncios(same_as_asyncio: Any) -> None:
    def scenario(loop_factory: Any) -> list[Any]:
        async def attempt(*args: Any, **keywords: Any) -> tuple[Any, ...]:
            try:
                loop = asyncio.get_running_loop()
                transport, protocol = await loop.create_datagram_endpoint(DatagramRecorder, *args, **keywords)
            except Exception as error:
                text = without_class(normalised(str(error)))
                return type(error).__name__, getattr(error, "errno", None), re.sub(r"fd=\d+|\d{5}", "N", text)
            transport.close()
            await protocol.until("connection_lost")
            return ("made",)

        async def main() -> list[Any]:
            with socket.socket() as tcp, udp_peer() as udp, udp_peer() as free:
                here = ("127.0.0.1", 0)
                return [
                    await attempt(),
                    await attempt(family=socket.AF_UNSPEC),
                    await attempt(sock=tcp),
                    await attempt(sock=udp, local_addr=here, allow_broadcast=True),
                    await attempt(sock=udp, remote_addr=here, family=socket.AF_INET, flags=1, proto=2),
                    await attempt(sock=udp, reuse_port=True),
                    await attempt(udp.getsockname()),
                    await attempt(here, ("::1", 9)),
                    await attempt("127.0.0.1"),
                    await attempt(("127.0.0.1", 0, 0)),
                    await attempt(("127.0.0.1", 0), family=socket.AF_INET6),
                    await attempt(("192.0.2.1", 0)),
                    await attempt(remote_addr=("255.255.255.255", 9)),
                    await attempt(3, family=socket.AF_UNIX),
                    await attempt(b"path", family=socket.AF_UNIX),
                    await attempt("/no such directory/s", family=socket.AF_UNIX),
                    await attempt(remote_addr="/no such directory/s", family=socket.AF_UNIX),
                    await attempt(here, reuse_address=True),
                    await attempt(here, reuse_address=False),
                    await attempt(here, no_such_keyword=True),
                    await attempt(here, proto=socket.IPPROTO_TCP),
                    await attempt((free.getsockname()[0], 0)),
                ]

        fds = open_fds()
        outcomes: list[Any] = drive(loop_factory, main)
        gc.collect()
        assert open_fds() == fds
        return outcomes

    outcomes = same_as_asyncio(scenario)
    assert outcomes[0][0] == "ValueError"
    assert outcomes[-1] == ("made",)


def test_debug_mode_logs_what_was_made_and_done(
    same_as_asyncio: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def scenario(loop_factory: Any) -> list[str]:
        async def main() -> None:
            asyncio.get_running_loop().set_debug(True)
            async with endpoint(local_addr=("127.0.0.1", 0)) as (transport, _):
                transport.pause_reading()  # type: ignore[attr-defined]
                transport.resume_reading()  # type: ignore[attr-defined]
                async with endpoint(remote_addr=transport.get_extra_info("sockname")):
                    pass

        caplog.clear()
        with caplog.at_level(logging.DEBUG, "asyncio"):
            drive(loop_factory, main)
        texts = [record.getMessage() for record in caplog.records if "atagram" in record.getMessage()]
        return [
            re.sub(r"<.*?>+|\d{5}", "…", re.sub(r"<\w*DatagramT[^>]*<[^>]*>>", "…", text)) for text in texts
        ]

    assert len(same_as_asyncio(scenario)) == 4


async def test_what_is_for_streams_alone_raises() -> None:
    async with endpoint() as (transport, _):
        some: Any = transport
        for call in (
            lambda: some.write(b"x"),
            lambda: some.writelines([b"x"]),
            some.can_write_eof,
            some.write_eof,
        ):
            with pytest.raises(NotImplementedError):
                call()


async def test_it_is_an_asyncio_transport() -> None:
    async with endpoint() as (transport, protocol):
        assert isinstance(transport, (asyncio.Transport, asyncio.BaseTransport))
        if sys.version_info >= (3, 12) or not type(transport).__name__.startswith("_"):
            assert isinstance(transport, asyncio.DatagramTransport)
        assert protocol.transport is transport
        assert transport.get_protocol() is protocol
        assert not isinstance(transport, asyncio.SubprocessTransport)
        assert {transport: 1}[transport] == 1
        assert weakref.ref(transport)() is transport
        with pytest.raises((TypeError, pickle.PicklingError)):
            pickle.dumps(transport)


async def test_attributes_and_methods_can_be_set() -> None:
    sent: list[Any] = []
    async with endpoint() as (transport, _):
        transport.sendto = lambda *args: sent.append(args)  # type: ignore[method-assign]
        transport.sendto(b"to the list", ("127.0.0.1", 9))
        assert sent == [(b"to the list", ("127.0.0.1", 9))]


async def test_repr_tells_the_fd_and_the_state() -> None:
    async with endpoint() as (transport, protocol):
        fd = transport.get_extra_info("socket").fileno()
        await settle(1)
        pattern = rf"<\w*DatagramTransport fd={fd} read=polling write=<idle, bufsize=0>>"
        assert re.fullmatch(pattern, repr(transport))
        transport.close()
        assert " closing " in repr(transport)
        await protocol.until("connection_lost")
        await settle(1)
        assert " closed " in repr(transport)


def test_one_left_open_at_loop_close_warns_and_closes_its_socket(loop: asyncio.AbstractEventLoop) -> None:
    sock = udp_peer()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        transport, protocol = loop.run_until_complete(
            loop.create_datagram_endpoint(DatagramRecorder, sock=sock)
        )
        name = type(transport).__name__
        loop.close()
        del transport, protocol
        gc.collect()
    assert sock.fileno() == -1
    (warning,) = [entry for entry in caught if "transport" in str(entry.message)]
    assert warning.category is ResourceWarning
    assert str(warning.message).startswith(f"unclosed transport <{name} ")


async def test_one_that_nobody_holds_lives_on_and_lets_go_at_its_end() -> None:
    def answer(protocol: DatagramRecorder) -> None:
        protocol.endpoint.sendto(b"still here", protocol.events[-1][2])
        protocol.endpoint.close()

    protocol = DatagramRecorder(datagram_received=answer)
    reference = weakref.ref(protocol)
    waiting = [protocol]
    sock = udp_peer()
    del protocol
    await asyncio.get_running_loop().create_datagram_endpoint(waiting.pop, sock=sock)
    gc.collect()
    with udp_peer() as peer:
        peer.sendto(b"?", sock.getsockname())
        assert await asyncio.to_thread(peer.recv, 100) == b"still here"
    await until_closed(sock)
    await settle(1)
    gc.collect()
    assert reference() is None


def test_a_loop_runs_again_on_another_thread_with_its_endpoints(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """What comes between the runs is delivered in the next one."""
    transport, protocol = loop.run_until_complete(
        loop.create_datagram_endpoint(DatagramRecorder, local_addr=("127.0.0.1", 0))
    )

    async def rest() -> None:
        await protocol.until(lambda: len(protocol.datagrams) == 3)
        transport.close()
        await protocol.until("connection_lost")

    with udp_peer() as peer:
        for number in range(3):
            peer.sendto(bytes([number]), transport.get_extra_info("sockname"))
        Background(lambda: loop.run_until_complete(rest())).finish()
    assert protocol.datagrams == [b"\0", b"\1", b"\2"]


async def test_a_raw_family_is_left_to_the_socket_module() -> None:
    """A netlink socket: a family whose addresses only the socket module knows."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 0)
    sock.bind((0, 0))
    protocol = DatagramRecorder()
    async with endpoint(protocol, sock=sock) as (transport, _):
        # A message of type 0 that asks for an acknowledgement.
        transport.sendto(struct.pack("=IHHII", 16, 0, 5, 7, 0), (0, 0))
        transport.sendto(struct.pack("=IHHII", 16, 0, 5, 8, 0), (0, 0))
        await protocol.until(lambda: len(protocol.datagrams) == 2)
        assert [struct.unpack("=I", data[8:12])[0] for data in protocol.datagrams] == [7, 8]
        assert {event[2] for event in protocol.events[1:]} == {(0, 0)}
