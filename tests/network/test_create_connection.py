"""create_connection: every keyword, what it resolves, what it binds, and its errors in asyncio's words."""

import asyncio
import contextlib
import errno
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from network.peers import (
    TIMEOUT,
    blackhole,
    echo,
    link_local_addresses,
    listener,
    refused_address,
    serving,
    tcp_pair,
    without_class,
)
from network.recorders import Recorder, drive, until_closed

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]


def info(address: tuple[Any, ...]) -> AddressInfo:
    """An entry of getaddrinfo()'s answer for a stream to `address`."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    if family == socket.AF_INET6:
        address = (*address, 0, 0)[:4]
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address


def resolve_to(monkeypatch: pytest.MonkeyPatch, **names: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Patches socket.getaddrinfo as tests of applications do; the list of what it was asked fills up."""
    asked: list[tuple[Any, ...]] = []

    def getaddrinfo(
        host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        asked.append((host, port, family, type, proto, flags))
        return [info(address) for address in names[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


async def error_of(*args: Any, **keywords: Any) -> tuple[str, Any, str]:
    """How create_connection fails: the exception's type, errno and text."""
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_connection(Recorder, *args, **keywords)
    except Exception as error:
        return type(error).__name__, getattr(error, "errno", None), without_class(str(error))
    transport.abort()
    return "connected", None, ""


async def ping(*args: Any, **keywords: Any) -> asyncio.Transport:
    """Connects to an echoing server, checks that it answers, closes; the transport."""
    protocol = Recorder()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(lambda: protocol, *args, **keywords)
    transport.write(b"ping")
    await protocol.until_received(4)
    transport.close()
    await protocol.until("connection_lost")
    return transport


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_connects_to_an_address_or_a_name(host: str) -> None:
    with serving(echo, host="127.0.0.1" if host == "localhost" else host) as (_, port):
        await ping(host, port)


@pytest.mark.parametrize("port_as", [int, str])
async def test_the_port_may_be_a_number_or_digits(port_as: Any) -> None:
    with serving(echo) as (host, port):
        await ping(host, port_as(port))


async def test_a_numeric_address_is_not_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolve_to(monkeypatch)
    with serving(echo) as (host, port):
        await ping(host, port)
    assert asked == []


@pytest.mark.parametrize(
    "keywords",
    [{}, {"family": socket.AF_INET}, {"proto": socket.IPPROTO_TCP}, {"flags": socket.AI_CANONNAME}],
    ids=repr,
)
def test_names_are_resolved_by_a_patched_getaddrinfo(
    keywords: dict[str, Any], same_as_asyncio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scenario(loop_factory: Any) -> Any:
        with serving(echo) as address, monkeypatch.context() as patch:
            asked = resolve_to(patch, **{"some.example": [address]})
            drive(loop_factory, lambda: ping("some.example", 4711, **keywords))
        return asked

    (question,) = same_as_asyncio(scenario)
    assert question[:2] == ("some.example", 4711)


async def test_the_loops_getaddrinfo_may_be_replaced() -> None:
    loop = asyncio.get_running_loop()
    with serving(echo) as address:

        async def getaddrinfo(host: Any, port: Any, **keywords: Any) -> Any:
            assert (host, port) == ("some.example", 80)
            return [info(address)]

        loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign,assignment]
        await ping("some.example", 80)


async def test_a_given_socket_is_used_and_made_non_blocking() -> None:
    with serving(echo) as address:
        sock = socket.create_connection(address)
        name = sock.getsockname()
        transport = await ping(sock=sock)
        assert transport.get_extra_info("sockname") == name


async def test_the_protocol_factory_is_called_once_after_connecting() -> None:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    with serving(echo) as address:
        transport, protocol = await asyncio.get_running_loop().create_connection(factory, *address)
        assert made == [protocol]
        transport.close()
        await made[0].until("connection_lost")
    with refused_address() as address, pytest.raises(ConnectionRefusedError):
        await asyncio.get_running_loop().create_connection(factory, *address)
    assert len(made) == 1


async def test_an_error_of_the_protocol_factory_is_raised() -> None:
    ours, peer = tcp_pair()
    with ours, peer, pytest.raises(ZeroDivisionError):
        await asyncio.get_running_loop().create_connection(lambda: 1 / 0, sock=ours)  # type: ignore[arg-type]


async def test_an_error_in_connection_made_is_reported_and_the_connection_stands(watch: Any) -> None:
    def fail(self: Recorder) -> None:
        raise ZeroDivisionError

    protocol = Recorder(connection_made=fail)
    with serving(echo) as address:
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, *address)
        transport.write(b"hi")
        await protocol.until_received(2)
        transport.close()
        await protocol.until("connection_lost")
    (context,) = watch.take()
    assert context["message"].startswith("Exception in callback")
    assert isinstance(context["exception"], ZeroDivisionError)


async def test_a_servers_banner_comes_after_the_await() -> None:
    """Whoever sets up the protocol after the await loses nothing, however early the server speaks."""
    with serving(lambda connection: connection.sendall(b"220 welcome\r\n"), clients=50) as address:
        for _ in range(50):
            first, second = Recorder(), Recorder()
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda first=first: first, *address
            )
            assert first.names == ["connection_made"]
            transport.set_protocol(second)
            await second.until_received(13)
            await second.until("connection_lost")
            assert first.names == ["connection_made"]


def wrong_calls() -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Calls that fail before anything is connected."""
    return {
        "nothing": ((), {}),
        "host and sock": (("127.0.0.1", 1), {"sock": "tcp"}),
        "port and sock": ((None, 1), {"sock": "tcp"}),
        "server_hostname": (("127.0.0.1", 1), {"server_hostname": "x"}),
        "server_hostname, ssl=False": (("127.0.0.1", 1), {"server_hostname": "x", "ssl": False}),
        "ssl_handshake_timeout": (("127.0.0.1", 1), {"ssl_handshake_timeout": 1}),
        "ssl_shutdown_timeout": (("127.0.0.1", 1), {"ssl_shutdown_timeout": 1}),
        "ssl without host": ((), {"ssl": True, "sock": "tcp"}),
        "datagram socket": ((), {"sock": "udp"}),
        "SSL socket": ((), {"sock": "ssl"}),
        "bad family": (("127.0.0.1", 1), {"family": 1 << 20}),
        "address of another family": (("127.0.0.1", 1), {"family": socket.AF_INET6}),
        "bad port": (("127.0.0.1", 1 << 20), {}),
        "unknown keyword": (("127.0.0.1", 1), {"no_such": 1}),
        "bad service": (("127.0.0.1", "no such service"), {}),
    }


@contextlib.contextmanager
def with_socket(keywords: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The keywords with `sock` replaced by a socket of the kind that it names, closed afterwards."""
    kind = keywords.get("sock")
    with socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as sock:
        if kind == "ssl":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            with context.wrap_socket(sock) as wrapped:
                yield {**keywords, "sock": wrapped}
        else:
            yield keywords if kind is None else {**keywords, "sock": sock}


@pytest.mark.parametrize("which", wrong_calls())
def test_wrong_calls_fail_in_asyncios_words(which: str, same_as_asyncio: Any) -> None:
    args, keywords = wrong_calls()[which]

    def scenario(loop_factory: Any) -> Any:
        with with_socket(keywords) as complete:
            kind, number, text = drive(loop_factory, lambda: error_of(*args, **complete))
            fd = complete["sock"].fileno() if "sock" in complete else -1
        return kind, number, text.replace(f"fd={fd}", "fd=N")

    assert same_as_asyncio(scenario)[0] != "connected"


async def test_a_refused_connection_names_the_address() -> None:
    with refused_address() as (host, port), pytest.raises(ConnectionRefusedError) as caught:
        await asyncio.get_running_loop().create_connection(Recorder, host, port)
    assert caught.value.errno == errno.ECONNREFUSED
    assert str(caught.value) == f"[Errno 111] Connect call failed ('127.0.0.1', {port})"


async def test_each_address_is_tried_until_one_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with refused_address() as first, refused_address("::1") as second, serving(echo) as third:
        resolve_to(monkeypatch, name=[first, second, third])
        transport = await ping("name", 80)
        assert transport.get_extra_info("peername") == third


@contextlib.contextmanager
def refusals(count: int, host: str = "127.0.0.1") -> Iterator[list[tuple[str, int]]]:
    """`count` different addresses that refuse."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(refused_address(host)) for _ in range(count)]


@pytest.mark.parametrize("delay", [None, 0.0, 1000.0])
def test_several_failures_are_told_together(
    delay: float | None, same_as_asyncio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refusals(3) as addresses:
        resolve_to(monkeypatch, name=addresses)

        def scenario(loop_factory: Any) -> Any:
            return drive(loop_factory, lambda: error_of("name", 80, happy_eyeballs_delay=delay))

        kind, _, text = same_as_asyncio(scenario)
        assert kind == "OSError"
        assert text == "Multiple exceptions: " + ", ".join(
            f"[Errno 111] Connect call failed {address}" for address in addresses
        )


async def test_equal_failures_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with refused_address() as address:
        resolve_to(monkeypatch, name=[address, address])
        assert await error_of("name", 80) == (
            "ConnectionRefusedError", errno.ECONNREFUSED, f"[Errno 111] Connect call failed {address}",
        )  # fmt: skip


@pytest.mark.beyond_asyncio("all_errors is new in 3.12", before=(3, 12))
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("delay", [None, 0.0])
async def test_all_errors_raises_a_group(
    count: int, delay: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refusals(count) as addresses:
        resolve_to(monkeypatch, name=addresses)
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.get_running_loop().create_connection(
                Recorder, "name", 80, all_errors=True, happy_eyeballs_delay=delay
            )
    assert caught.value.message == "create_connection failed"
    assert [str(error) for error in caught.value.exceptions] == [
        f"[Errno 111] Connect call failed {address}" for address in addresses
    ]
    assert all(isinstance(error, ConnectionRefusedError) for error in caught.value.exceptions)


@pytest.mark.parametrize("empty", ["host", "local_addr"])
async def test_a_name_without_addresses(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, host=[] if empty == "host" else [("127.0.0.1", 1)], local_addr=[])
    keywords = {"local_addr": ("local_addr", 0)} if empty == "local_addr" else {}
    assert await error_of("host", 80, **keywords) == ("OSError", None, "getaddrinfo() returned empty list")


async def test_an_unknown_name_raises_gaierror(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*args: Any, **keywords: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert await error_of("no.such.name", 80) == (
        "gaierror", socket.EAI_NONAME, "[Errno -2] Name or service not known",
    )  # fmt: skip


async def test_local_addr_is_where_the_connection_comes_from() -> None:
    with serving(echo, clients=2) as address:
        transport = await ping(*address, local_addr=("127.0.0.5", 0))
        assert transport.get_extra_info("sockname")[0] == "127.0.0.5"
        with refused_address("127.0.0.6") as taken:
            pass
        transport = await ping(*address, local_addr=taken)
        assert transport.get_extra_info("sockname") == taken


def local_address_problems(taken: int) -> dict[str, tuple[Any, ...]]:
    """Local addresses that cannot be bound to."""
    return {
        "not of this machine": ("203.0.113.7", 0),
        "taken": ("127.0.0.1", taken),
        "of another family": ("::1", 0),
    }


@pytest.mark.parametrize("which", local_address_problems(0))
def test_a_local_addr_that_cannot_be_bound_is_told_in_asyncios_words(
    which: str, same_as_asyncio: Any
) -> None:
    def scenario(loop_factory: Any) -> Any:
        with listener() as server, listener() as other:
            taken = other.getsockname()[1]
            local = local_address_problems(taken)[which]
            said = drive(loop_factory, lambda: error_of(*server.getsockname(), local_addr=local))
            return said[0], said[1], said[2].replace(str(taken), "PORT")

    assert same_as_asyncio(scenario)[0] == "OSError"


async def test_the_first_local_address_that_fits_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a local name's addresses those of another family are passed over, those that cannot be bound too."""
    resolve_to(monkeypatch, local=[("::1", 0), ("203.0.113.7", 0), ("127.0.0.9", 0)])
    with serving(echo) as address:
        transport = await ping(*address, local_addr=("local", 0))
        assert transport.get_extra_info("sockname")[0] == "127.0.0.9"


@pytest.mark.parametrize("interleave", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("delay", [None, 0.0])
def test_interleave_orders_the_attempts(
    interleave: int | None, delay: float | None, same_as_asyncio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text of all failures lists the addresses in the order in which they were tried."""
    with refusals(3) as fours, refusals(2, "::1") as sixes:
        resolve_to(monkeypatch, name=fours + sixes)

        def scenario(loop_factory: Any) -> Any:
            keywords = {} if interleave is None else {"interleave": interleave}
            return drive(loop_factory, lambda: error_of("name", 80, happy_eyeballs_delay=delay, **keywords))

        text = same_as_asyncio(scenario)[2]
    order = [(host, str(port)) for host, port in fours + sixes]
    tried = re.findall(r"\('([^']+)', (\d+)", text)
    expected = {
        0: [0, 1, 2, 3, 4], 1: [0, 3, 1, 4, 2], 2: [0, 1, 3, 2, 4], 3: [0, 1, 2, 3, 4],
    }[(0 if delay is None else 1) if interleave is None else interleave]  # fmt: skip
    assert tried == [order[index] for index in expected]


async def test_happy_eyeballs_passes_by_an_address_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with blackhole("::1") as silent, serving(echo) as good:
        resolve_to(monkeypatch, name=[silent, good])
        transport = await ping("name", 80, happy_eyeballs_delay=0.01)
        assert transport.get_extra_info("peername") == good


async def test_happy_eyeballs_does_not_wait_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    with refused_address() as first, refused_address("::1") as second, serving(echo) as good:
        resolve_to(monkeypatch, name=[first, second, good])
        transport = await ping("name", 80, happy_eyeballs_delay=1000)
        assert transport.get_extra_info("peername") == good


async def test_happy_eyeballs_closes_the_sockets_that_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two silent addresses and a good one: after the connection only the winner's socket is open (see
    `watch`).
    """
    with blackhole() as first, blackhole("::1") as second, serving(echo) as good:
        resolve_to(monkeypatch, name=[first, second, good])
        await ping("name", 80, happy_eyeballs_delay=0.001)


async def test_without_happy_eyeballs_a_silent_address_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with blackhole() as silent, listener() as never:
        resolve_to(monkeypatch, name=[silent, never.getsockname()])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.get_running_loop().create_connection(Recorder, "name", 80)
        never.setblocking(False)
        with pytest.raises(BlockingIOError):
            never.accept()


@pytest.mark.parametrize("host", ["::1%1", *link_local_addresses()])
def test_an_ipv6_zone_is_kept(host: str, same_as_asyncio: Any) -> None:
    def scenario(loop_factory: Any) -> Any:
        address = socket.getaddrinfo(host, 0, socket.AF_INET6, socket.SOCK_STREAM)[0][4]
        with socket.socket(socket.AF_INET6) as server:
            server.bind(address)
            server.listen()
            server.settimeout(TIMEOUT)

            async def main() -> Any:
                transport, _ = await asyncio.get_running_loop().create_connection(
                    Recorder, host, server.getsockname()[1]
                )
                connection, peer = server.accept()
                with connection:
                    zones = (
                        transport.get_extra_info("peername")[2:],
                        transport.get_extra_info("sockname")[2:],
                        peer[2:],
                    )
                    transport.close()
                    await until_closed(transport.get_extra_info("socket"))
                return zones

            return drive(loop_factory, main)

    zones = same_as_asyncio(scenario)
    if host.startswith("fe80"):
        assert zones[0][1] == socket.if_nametoindex(host.partition("%")[2])


async def test_many_connections_at_once() -> None:
    with serving(echo, clients=200) as address:
        transports = await asyncio.gather(*(ping(*address) for _ in range(200)))
    assert len({transport.get_extra_info("sockname") for transport in transports}) == 200
