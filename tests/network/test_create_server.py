"""create_server: every keyword, the sockets it makes, and its errors in asyncio's words."""

import asyncio
import contextlib
import errno
import re
import socket
import ssl
from asyncio.trsock import TransportSocket
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from network.peers import listener, receive_exactly, tcp_state, without_class
from network.recorders import Recorder, drive, server, until_closed
from support.leaks import open_fds


class Greeter(asyncio.Protocol):
    """Says hello to everyone and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"hello")
        transport.close()


async def greeting(address: Any) -> bytes:
    """What a client of the address is told."""

    def ask() -> bytes:
        with socket.create_connection(address[:2], 20) as sock:
            return receive_exactly(sock, 5)

    return await asyncio.to_thread(ask)


async def error_of(*args: Any, **keywords: Any) -> tuple[str, Any, str]:
    """How create_server fails: the exception's type, errno and text, with ports of this moment left out."""
    try:
        made = await asyncio.get_running_loop().create_server(Greeter, *args, **keywords)
    except Exception as error:
        return (
            type(error).__name__,
            getattr(error, "errno", None),
            re.sub(r"\b\d{5}\b|fd=\d+", "N", without_class(str(error))),
        )
    made.close()
    return "served", None, ""


def options(made: asyncio.Server, level: int, option: int) -> set[int]:
    """The option's values on the server's sockets, as truth values."""
    return {int(bool(sock.getsockopt(level, option))) for sock in made.sockets}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_serves_on_an_address_or_a_name(host: str) -> None:
    async with server(Greeter, host) as (made, _):
        assert made.is_serving()
        for sock in made.sockets:
            assert await greeting(sock.getsockname()) == b"hello"


@pytest.mark.parametrize("host", [None, ""])
async def test_no_host_serves_all_addresses_of_both_families(host: str | None) -> None:
    made = await asyncio.get_running_loop().create_server(Greeter, host, 0)
    families = {sock.family for sock in made.sockets}
    assert families == {socket.AF_INET, socket.AF_INET6}
    for sock in made.sockets:
        loopback = "127.0.0.1" if sock.family == socket.AF_INET else "::1"
        assert await greeting((loopback, sock.getsockname()[1])) == b"hello"
    made.close()


async def test_several_hosts_are_served_each_once() -> None:
    hosts = ["127.0.0.1", "::1", "127.0.0.1", "127.0.0.2"]
    made = await asyncio.get_running_loop().create_server(Greeter, hosts, 0)
    assert sorted(sock.getsockname()[0] for sock in made.sockets) == ["127.0.0.1", "127.0.0.2", "::1"]
    for sock in made.sockets:
        assert await greeting(sock.getsockname()) == b"hello"
    made.close()


async def test_several_hosts_share_a_given_port() -> None:
    with listener() as probe:
        port = probe.getsockname()[1]
    made = await asyncio.get_running_loop().create_server(Greeter, ("127.0.0.1", "127.0.0.2"), port)
    assert {sock.getsockname()[1] for sock in made.sockets} == {port}
    made.close()


async def test_port_0_takes_a_free_port() -> None:
    async with server(Greeter) as (_, first), server(Greeter) as (_, second):
        assert first[1] != 0
        assert first != second


async def test_sockets_are_transport_sockets_until_close() -> None:
    async with server(Greeter) as (made, _):
        assert type(made.sockets) is tuple
        (sock,) = made.sockets
        assert type(sock) is TransportSocket
        assert sock.gettimeout() == 0
        assert made.get_loop() is asyncio.get_running_loop()
        fd = sock.fileno()
        assert f"fd={fd}" in repr(made)
        made.close()
        assert made.sockets == ()
        assert not made.is_serving()
        assert repr(made) == f"<{type(made).__name__} sockets=()>"


async def test_it_is_an_asyncio_server() -> None:
    async with server(Greeter) as (made, _):
        assert isinstance(made, asyncio.AbstractServer)
        assert isinstance(made, asyncio.Server)


async def test_socket_options_by_default() -> None:
    made = await asyncio.get_running_loop().create_server(Greeter, ["127.0.0.1", "::1"], 0)
    assert options(made, socket.SOL_SOCKET, socket.SO_REUSEADDR) == {1}
    assert options(made, socket.SOL_SOCKET, socket.SO_REUSEPORT) == {0}
    assert options(made, socket.SOL_SOCKET, socket.SO_KEEPALIVE) == {0}
    six = [sock for sock in made.sockets if sock.family == socket.AF_INET6]
    assert [sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) for sock in six] == [1]
    made.close()


@pytest.mark.parametrize("wanted", [True, False])
async def test_reuse_address(wanted: bool) -> None:
    async with server(Greeter, reuse_address=wanted) as (made, _):
        assert options(made, socket.SOL_SOCKET, socket.SO_REUSEADDR) == {int(wanted)}


async def test_reuse_port_lets_two_servers_share_a_port() -> None:
    loop = asyncio.get_running_loop()
    async with server(Greeter, reuse_port=True) as (made, address):
        assert options(made, socket.SOL_SOCKET, socket.SO_REUSEPORT) == {1}
        second = await loop.create_server(Greeter, *address, reuse_port=True)
        assert await greeting(address) == b"hello"
        second.close()


@pytest.mark.beyond_asyncio("keep_alive is new in 3.13", before=(3, 13))
@pytest.mark.parametrize("wanted", [True, False, None])
async def test_keep_alive_is_set_on_what_is_accepted(wanted: bool | None) -> None:
    protocol = Recorder()
    async with server(lambda: protocol, keep_alive=wanted) as (made, address):
        assert options(made, socket.SOL_SOCKET, socket.SO_KEEPALIVE) == {int(bool(wanted))}
        with socket.create_connection(address):
            await protocol.until("connection_made")
            accepted = protocol.transport.get_extra_info("socket")
            assert bool(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) == bool(wanted)
        await protocol.until("connection_lost")


async def test_start_serving_false_waits_for_start_serving() -> None:
    async with server(Greeter, start_serving=False) as (made, address):
        assert not made.is_serving()
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(address)
        await made.start_serving()
        assert made.is_serving()
        await made.start_serving()
        assert await greeting(address) == b"hello"


async def test_serve_forever_starts_serving() -> None:
    async with server(Greeter, start_serving=False) as (made, address):
        serving = asyncio.create_task(made.serve_forever())
        while not made.is_serving():
            await asyncio.sleep(0)
        assert await greeting(address) == b"hello"
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving


@pytest.mark.parametrize("backlog", [1, 7, 100])
async def test_backlog_is_the_kernels_limit(backlog: int) -> None:
    """struct tcp_info of a listening socket has the queue's limit as tcpi_sacked, the 8th 32-bit field."""
    async with server(Greeter, backlog=backlog) as (made, _):
        (sock,) = made.sockets
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)
        assert tcp_state(sock) == 10  # TCP_LISTEN
        assert int.from_bytes(info[28:32], "little") == backlog


async def test_a_given_socket_is_used() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = sock.getsockname()
        made = await asyncio.get_running_loop().create_server(Greeter, sock=sock)
        assert [used.fileno() for used in made.sockets] == [sock.fileno()]
        assert sock.gettimeout() == 0
        assert await greeting(address) == b"hello"
        made.close()
        assert sock.fileno() == -1


async def test_a_given_socket_may_listen_already_and_have_clients_waiting() -> None:
    sock = listener()
    with socket.create_connection(sock.getsockname(), 20) as client:
        made = await asyncio.get_running_loop().create_server(Greeter, sock=sock)
        assert await asyncio.to_thread(receive_exactly, client, 5) == b"hello"
        made.close()


async def test_a_unix_listener_is_taken_as_a_given_socket(tmp_path: Any) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "socket"))
    made = await asyncio.get_running_loop().create_server(Greeter, sock=sock)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(tmp_path / "socket"))
        assert await asyncio.to_thread(receive_exactly, client, 5) == b"hello"
    made.close()


def wrong_calls() -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Calls that fail."""
    return {
        "nothing": ((), {}),
        "host and sock": (("127.0.0.1", 0), {"sock": "tcp"}),
        "port and sock": ((None, 0), {"sock": "tcp"}),
        "datagram socket": ((), {"sock": "udp"}),
        "SSL socket": ((), {"sock": "ssl"}),
        "ssl=True": (("127.0.0.1", 0), {"ssl": True}),
        "ssl=False": (("127.0.0.1", 0), {"ssl": False}),
        "ssl_handshake_timeout": (("127.0.0.1", 0), {"ssl_handshake_timeout": 1}),
        "ssl_shutdown_timeout": (("127.0.0.1", 0), {"ssl_shutdown_timeout": 1}),
        "not of this machine": (("203.0.113.7", 0), {}),
        "one of two not of this machine": ((["127.0.0.1", "203.0.113.7"], 0), {}),
        "address of another family": (("127.0.0.1", 0), {"family": socket.AF_INET6}),
        "bad port": (("127.0.0.1", 1 << 20), {}),
        "no hosts": (([], 0), {}),
        "unknown keyword": (("127.0.0.1", 0), {"no_such": 1}),
    }


@contextlib.contextmanager
def with_socket(keywords: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The keywords with `sock` replaced by a socket of the kind that it names, closed afterwards."""
    kind = keywords.get("sock")
    with socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as sock:
        if kind == "ssl":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            with context.wrap_socket(sock, server_side=True) as wrapped:
                yield {**keywords, "sock": wrapped}
        else:
            yield keywords if kind is None else {**keywords, "sock": sock}


@pytest.mark.parametrize("which", wrong_calls())
def test_wrong_calls_fail_in_asyncios_words(which: str, same_as_asyncio: Any) -> None:
    args, keywords = wrong_calls()[which]

    def scenario(loop_factory: Any) -> Any:
        with with_socket(keywords) as complete:
            return drive(loop_factory, lambda: error_of(*args, **complete))

    same_as_asyncio(scenario)


def test_a_taken_port_is_told_in_asyncios_words(same_as_asyncio: Any) -> None:
    def scenario(loop_factory: Any) -> Any:
        with listener() as taken:
            return drive(loop_factory, lambda: error_of(*taken.getsockname()))

    kind, number, text = same_as_asyncio(scenario)
    assert (kind, number) == ("OSError", errno.EADDRINUSE)
    assert text == "[Errno 98] error while attempting to bind on address ('127.0.0.1', N): " + (
        "address already in use" if "[errno" not in text else "[errno 98] address already in use"
    )


async def test_a_failed_bind_closes_all_sockets() -> None:
    with listener("127.0.0.2") as taken:
        before = open_fds()
        kind, _, _ = await error_of(["127.0.0.1", "127.0.0.2", "127.0.0.3"], taken.getsockname()[1])
        assert kind == "OSError"
        assert open_fds().keys() == before.keys()


async def test_names_are_resolved_by_a_patched_getaddrinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int, *args: Any, **keywords: Any) -> Any:
        address = {"first.example": "127.0.0.3", "second.example": "127.0.0.4"}[host]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    hosts = ["first.example", "second.example"]
    made = await asyncio.get_running_loop().create_server(Greeter, hosts, 0)
    assert sorted(sock.getsockname()[0] for sock in made.sockets) == ["127.0.0.3", "127.0.0.4"]
    made.close()


async def test_a_name_without_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **keywords: [])
    assert await error_of("name", 80) == ("OSError", None, "getaddrinfo('name') returned empty list")


async def test_connect_accepted_socket_serves_a_socket_accepted_elsewhere() -> None:
    protocol = Recorder(data_received=lambda self: self.transport.write(b"pong"))
    with listener() as outside, socket.create_connection(outside.getsockname(), 20) as client:
        client.sendall(b"ping")
        accepted, address = outside.accept()
        loop = asyncio.get_running_loop()
        transport, same = await loop.connect_accepted_socket(lambda: protocol, accepted)
        assert same is protocol
        assert protocol.events == [("connection_made",)]
        assert isinstance(transport, asyncio.Transport)
        assert transport.get_extra_info("peername") == address
        assert accepted.gettimeout() == 0
        assert await asyncio.to_thread(receive_exactly, client, 4) == b"pong"
    await protocol.until("connection_lost")
    await until_closed(accepted)
    assert protocol.trace == [
        ("connection_made",), ("data_received", b"ping"), ("eof_received",), ("connection_lost", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "keywords",
    [{"sock": "udp"}, {"sock": "ssl"}, {"sock": "tcp", "ssl_handshake_timeout": 1},
     {"sock": "tcp", "ssl_shutdown_timeout": 1}, {"sock": "tcp", "no_such": 1}],
    ids=repr,
)  # fmt: skip
def test_connect_accepted_socket_fails_in_asyncios_words(
    keywords: dict[str, Any], same_as_asyncio: Any
) -> None:
    async def error_of(**complete: Any) -> Any:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(Greeter, **complete)
        except Exception as error:
            return type(error).__name__, re.sub(r"fd=\d+", "fd=N", without_class(str(error)))

    def scenario(loop_factory: Any) -> Any:
        with with_socket(keywords) as complete:
            return drive(loop_factory, lambda: error_of(**complete))

    assert same_as_asyncio(scenario) is not None


async def test_what_has_no_file_number_cannot_listen() -> None:
    stand_in = mock.Mock(family=socket.AF_INET, type=socket.SOCK_STREAM, proto=0)
    with pytest.raises(ValueError, match="Invalid file object: <Mock "):
        await asyncio.get_running_loop().create_server(asyncio.Protocol, sock=stand_in)
