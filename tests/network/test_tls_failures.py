"""TLS that does not come about, or breaks: the same errors, reports and log records as asyncio's."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import trustme

from network.peers import Background, Pair, close_with_reset, receive_all, tcp_pair
from network.recorders import Recorder, drive, server, until_closed
from network.tls import (
    NAME,
    VERSIONS,
    asking_for_client_certificate,
    client_context,
    handshake_of_client,
    server_context,
    tls_connection,
)  # fmt: skip
from support.compare import normalised, outcome, take_log
from support.waiting import until_asleep

Scenario = Callable[[], Any]


def reported(watch: Any) -> list[tuple[Any, ...]]:
    """What the exception handler was told, in a form that compares; for a transport, of what class."""
    return [
        (context["message"], repr(context.get("exception")), "transport" in context, "protocol" in context)
        for context in watch.take()
    ]


@pytest.fixture
def compare(same_as_asyncio, watch, caplog):
    """`compare(main)`: what the coroutine function returns, reports and logs, on asyncio and the other."""

    def scenario(main: Scenario, debug: bool) -> Callable[[Any], Any]:
        def once(loop_factory):
            with asyncio.Runner(loop_factory=loop_factory, debug=debug) as runner:
                result = runner.run(main())
            slow = [record for record in caplog.records if "Executing" in record.getMessage()]
            for record in slow:
                caplog.records.remove(record)
            return result, reported(watch), [entry for entry in take_log(caplog) if entry[0] != "DEBUG"]

        return once

    def compare(main: Scenario, *, debug: bool = False) -> Any:
        return same_as_asyncio(scenario(main, debug))

    return compare


async def attempt(protocol: asyncio.BaseProtocol, sock: socket.socket, **keywords: Any) -> tuple[str, ...]:
    """What create_connection with TLS on this socket raises; closes the connection if it does not."""
    keywords = {"ssl": client_context(), "server_hostname": NAME, **keywords}
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: protocol, sock=sock, **keywords
        )
    except (OSError, ValueError) as error:
        return type(error).__name__, normalised(str(error))
    transport.abort()
    return ("connected",)


def accept_in_vain(sock: socket.socket, context: ssl.SSLContext) -> str:
    """A server's handshake that fails; the error's type."""
    with sock, pytest.raises(OSError) as failure:  # noqa: PT011 - its type is the result
        context.wrap_socket(sock, server_side=True)
    return type(failure.value).__name__


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("what", ["authority", "name", "version", "certificate"])
def test_a_client_refuses_a_server(compare, what: str, debug: bool) -> None:
    async def main() -> Any:
        asking, serving, name = client_context(), server_context(), NAME
        if what == "authority":
            asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            trustme.CA().configure_trust(asking)
        elif what == "name":
            name = "other.test"
        elif what == "version":
            serving = server_context(VERSIONS["TLS 1.2"])
            asking.minimum_version = VERSIONS["TLS 1.3"]
        else:
            serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ours, theirs = tcp_pair()
        vain = Background(accept_in_vain, theirs, serving)
        protocol = Recorder()
        raised = await attempt(protocol, ours, ssl=asking, server_hostname=name)
        await until_closed(ours)
        return raised, protocol.trace, await asyncio.to_thread(vain.finish)

    (raised, trace, _), *_ = compare(main, debug=debug)
    assert raised[0] in ("SSLCertVerificationError", "SSLError")
    assert trace == []


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("what", ["plain text", "end", "reset", "end in the middle", "no certificate"])
def test_a_server_refuses_a_client(compare, what: str, debug: bool) -> None:
    def offend(address: tuple[str, int]) -> None:
        peer = socket.create_connection(address, 20)
        with peer:
            if what == "plain text":
                peer.sendall(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n")
                receive_all(peer)
            elif what == "end":
                peer.shutdown(socket.SHUT_WR)
                receive_all(peer)
            elif what == "reset":
                close_with_reset(peer)
            elif what == "end in the middle":
                peer.sendall(b"\x16\x03\x01\x01\x00\x01")
                peer.shutdown(socket.SHUT_WR)
                receive_all(peer)
            else:
                with (
                    contextlib.suppress(ssl.SSLError, ConnectionResetError),
                    handshake_of_client(peer) as tls,
                ):
                    tls.recv(1)

    async def main() -> Any:
        context = server_context()
        if what == "no certificate":
            asking_for_client_certificate(context)
        protocol = Recorder()
        async with server(lambda: protocol, ssl=context) as (serving, address):
            await asyncio.to_thread(offend, address)
            refused = await attempt(Recorder(), socket.create_connection(address), ssl=client_context())
            serving.close()
            await until_no_tasks_but(asyncio.current_task())
        return protocol.trace, refused[0]

    compare(main, debug=debug)


async def until_no_tasks_but(task: Any) -> None:
    """Waits until no other task is left: servers' handshakes have ended."""
    async with asyncio.timeout(20):
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)


@pytest.mark.parametrize("how", ["end", "reset", "plain text", "end in the middle"])
def test_a_peer_that_leaves_the_handshake(compare, how: str) -> None:
    def offend(sock: socket.socket) -> None:
        assert sock.recv(1, socket.MSG_PEEK)
        if how == "reset":
            close_with_reset(sock)
            return
        with sock:
            receive_hello(sock)
            if how == "plain text":
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            elif how == "end in the middle":
                sock.sendall(b"\x16\x03\x03\x00\x7a\x02")

    async def main() -> Any:
        ours, theirs = tcp_pair()
        offender = Background(offend, theirs)
        protocol = Recorder()
        raised = await attempt(protocol, ours)
        await asyncio.to_thread(offender.finish)
        await until_closed(ours)
        return raised, protocol.trace

    (raised, trace), *_ = compare(main)
    assert raised[0] != "connected"
    assert trace == []


def receive_hello(sock: socket.socket) -> None:
    """Takes the client's first record, so that closing the socket sends no reset."""
    head = sock.recv(5, socket.MSG_WAITALL)
    sock.recv(int.from_bytes(head[3:], "big"), socket.MSG_WAITALL)


@pytest.mark.parametrize("debug", [False, True])
def test_a_handshake_takes_too_long(compare, debug: bool) -> None:
    async def main() -> Any:
        ours, theirs = tcp_pair()
        with theirs:
            raised = await attempt(Recorder(), ours, ssl_handshake_timeout=0.01)
            await until_closed(ours)
            return raised

    (raised, *_) = compare(main, debug=debug)
    assert "longer than 0.01 seconds" in raised[1]


@pytest.mark.parametrize("debug", [False, True])
def test_a_servers_handshake_takes_too_long(compare, debug: bool) -> None:
    async def main() -> Any:
        protocol = Recorder()
        async with server(lambda: protocol, ssl=server_context(), ssl_handshake_timeout=0.01) as (_, address):
            peer = socket.create_connection(address, 20)
            with peer:
                data = await asyncio.to_thread(receive_all, peer)
            await until_no_tasks_but(asyncio.current_task())
            return data, protocol.trace

    assert compare(main, debug=debug)[0] == (b"", [])


def test_arguments_that_do_not_go_together(compare) -> None:
    context = client_context()
    cases: list[dict[str, Any]] = [
        {"ssl": context, "ssl_handshake_timeout": 0},
        {"ssl": context, "ssl_handshake_timeout": -1},
        {"ssl": context, "ssl_shutdown_timeout": 0},
        {"ssl": None, "server_hostname": "a", "ssl_handshake_timeout": 1},
        {"ssl": None, "server_hostname": None, "ssl_shutdown_timeout": 1},
        {"ssl": server_context()},
        {"ssl": "context"},
    ]

    async def main() -> list[Any]:
        results = []
        for keywords in cases:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                try:
                    results.append(await attempt(Recorder(), ours, **keywords))
                except (AttributeError, TypeError) as error:
                    results.append((type(error).__name__, str(error)))
        return results

    assert "connected" not in str(compare(main)[0])


def test_start_tls_refuses(compare) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        ours, theirs = tcp_pair()
        with theirs:
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            results = []
            for arguments in [
                (transport, protocol, None),
                (transport, protocol, ssl),
                (asyncio.Transport(), protocol, client_context()),
                (None, protocol, client_context()),
            ]:
                try:
                    await loop.start_tls(*arguments)  # type: ignore[arg-type]
                except TypeError as error:
                    results.append(normalised(str(error)))
            try:
                await loop.start_tls(transport, protocol, server_context(), server_hostname="x")
            except ssl.SSLError as error:
                results.append(str(error))
            transport.abort()
            await protocol.until("connection_lost")
            await until_closed(ours)
        return results

    compare(main)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_start_tls_on_a_transport_that_ends(compare, end: str) -> None:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        ours, theirs = tcp_pair()
        with theirs:
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            getattr(transport, end)()
            result = await loop.start_tls(transport, protocol, client_context(), server_hostname=NAME)
            await until_closed(ours)
            return result, protocol.trace

    compare(main)


def test_start_tls_fails(compare) -> None:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        ours, theirs = tcp_pair()
        vain = Background(accept_in_vain, theirs, server_context())
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        try:
            await loop.start_tls(transport, protocol, client_context(), server_hostname="other.test")
        except ssl.SSLError as error:
            message = normalised(str(error))
        await until_closed(ours)
        return message, protocol.trace, await asyncio.to_thread(vain.finish)

    compare(main)


@pytest.mark.parametrize("by", ["create_connection", "start_tls", "connect_accepted_socket"])
def test_a_cancelled_handshake_leaves_nothing(compare, by: str) -> None:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        ours, theirs = tcp_pair()
        protocol = Recorder()
        waiting: Any
        if by == "create_connection":
            waiting = loop.create_connection(
                lambda: protocol, sock=ours, ssl=client_context(), server_hostname=NAME
            )
        elif by == "connect_accepted_socket":
            waiting = loop.connect_accepted_socket(lambda: protocol, ours, ssl=server_context())
        else:
            transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
            waiting = loop.start_tls(transport, protocol, client_context(), server_hostname=NAME)
        task = asyncio.ensure_future(waiting)
        await until_asleep()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until_closed(ours)
        with theirs:
            received = await asyncio.to_thread(receive_all, theirs)
        return protocol.trace, bool(received)

    compare(main)


def run_that_ends(peers: list[socket.socket], *, asleep: bool) -> Scenario:
    """A main that returns with a server's handshake under way, begun just now or long ago."""

    async def main() -> None:
        made = await asyncio.get_running_loop().create_server(Recorder, "127.0.0.1", 0, ssl=server_context())
        peers.append(socket.create_connection(made.sockets[0].getsockname(), 20))
        while len(asyncio.all_tasks()) == 1:
            await asyncio.sleep(0)
        if asleep:
            await until_asleep()
        made.close()

    return main


@pytest.mark.parametrize("debug", [False, True])
def test_a_run_that_ends_ends_a_servers_handshakes(compare, debug: bool) -> None:
    peers: list[socket.socket] = []
    compare(run_that_ends(peers, asleep=True), debug=debug)
    for peer in peers:
        with peer:
            assert peer.recv(1) == b""


@pytest.mark.beyond_asyncio("a task that is cancelled before its first step keeps the connection open")
def test_a_run_that_ends_at_once_ends_a_servers_handshakes(loop_factory) -> None:
    peers: list[socket.socket] = []
    drive(loop_factory, run_that_ends(peers, asleep=False))
    with peers[0] as peer:
        assert peer.recv(1) == b""


@pytest.mark.parametrize("callback", ["connection_made", "data_received", "eof_received", "connection_lost"])
def test_an_error_in_a_protocols_callback(compare, callback: str) -> None:
    def fail(_: Any) -> None:
        raise ZeroDivisionError(callback)

    def peer_of(sock: socket.socket) -> str:
        with contextlib.suppress(OSError):
            peer = server_context().wrap_socket(sock, server_side=True)
            with peer:
                peer.sendall(b"data")
                peer.unwrap()
        return "done"

    async def main() -> Any:
        protocol = Recorder(**{callback: fail})
        ours, theirs = tcp_pair()
        talking = Background(peer_of, theirs)
        made = await attempt_and_keep(protocol, ours)
        await until_closed(ours)
        theirs.close()
        return made, protocol.trace, await asyncio.to_thread(talking.finish)

    compare(main)


async def attempt_and_keep(protocol: asyncio.BaseProtocol, sock: socket.socket) -> str:
    """As `attempt`, but the connection goes on; a handshake that never tells its end is given up."""
    making = asyncio.ensure_future(
        asyncio.get_running_loop().create_connection(
            lambda: protocol, sock=sock, ssl=client_context(), server_hostname=NAME
        )
    )
    await asyncio.wait([making, asyncio.ensure_future(until_closed(sock))], return_when="FIRST_COMPLETED")
    if not making.done():
        making.cancel()
        await asyncio.wait([making])
        return "never told"
    return "made" if making.exception() is None else repr(making.exception())


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("method", ["getpeercert", "cipher"])
def test_an_object_of_the_users_fails_in_the_handshake(compare, method: str, debug: bool) -> None:
    def fail(self: ssl.SSLObject, *arguments: Any) -> None:
        raise ValueError(method)

    async def main() -> Any:
        context = client_context()
        context.sslobject_class = type("Failing", (ssl.SSLObject,), {method: fail})
        ours, theirs = tcp_pair()
        vain = Background(accept_until_the_end, theirs)
        protocol = Recorder()
        raised = await attempt(protocol, ours, ssl=context)
        await asyncio.to_thread(vain.finish)
        return raised, protocol.trace

    (raised, *_), *_ = compare(main, debug=debug)
    assert raised == ("ValueError", method)


def accept_until_the_end(sock: socket.socket) -> None:
    """A server's handshake, and whatever comes of it."""
    with sock, contextlib.suppress(OSError):
        server_context().wrap_socket(sock, server_side=True).recv(1)


def test_a_record_that_was_tampered_with(compare) -> None:
    async def main() -> Any:
        protocol = Recorder()
        pair: Pair = tcp_pair()
        raw = socket.socket(fileno=socket.dup(pair[1].fileno()))
        async with tls_connection(protocol, lambda: pair):
            with raw:
                raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
                await protocol.until("connection_lost")
        return protocol.trace, repr(protocol.error)

    (trace, error), *_ = compare(main)
    assert trace[-1] == ("connection_lost", "SSLError")
    assert "SSL" in error


def test_writes_to_a_lost_connection_are_counted(compare) -> None:
    async def main() -> Any:
        protocol = Recorder()
        async with tls_connection(protocol) as (transport, _):
            transport.abort()
            await protocol.until("connection_lost")
            outcomes = [outcome(transport.write, b"lost") for _ in range(7)]
            return outcomes, [outcome(transport.write, what) for what in ("text", 5, None)]

    compare(main)
