"""The end of a server: close() at once, wait_closed(), its clients, serve_forever() and `async with`."""

import asyncio
import os
import socket
from typing import Any

import pytest

from network.peers import how_it_ends, listener, receive_all, receive_exactly
from network.recorders import Recorder, drive, server, settle

BIG = bytes(range(256)) * (16 * 1024)  # 4 MiB

OLD_WAIT_CLOSED = pytest.mark.beyond_asyncio("wait_closed() waits since 3.12.1", before=(3, 12, 1))
NO_CLIENTS_CALLS = pytest.mark.beyond_asyncio(
    "close_clients() and abort_clients() are new in 3.13", before=(3, 13)
)


async def connected(address: Any, protocol: Recorder) -> socket.socket:
    """A blocking client of the address, accepted for the protocol."""
    client = socket.create_connection(address, 20)
    await protocol.until("connection_made")
    return client


async def test_the_port_is_free_as_soon_as_close_returns() -> None:
    async with server(Recorder) as (made, address):
        made.close()
        with socket.socket() as again:  # without SO_REUSEADDR
            again.bind(address)
            again.listen()


async def test_a_client_is_refused_as_soon_as_close_returns() -> None:
    async with server(Recorder) as (made, address):
        made.close()
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(address)


async def test_a_port_is_served_again_right_after_close() -> None:
    """Twenty times in a row, each with a client that is still connected to the one before."""
    loop = asyncio.get_running_loop()
    address = ("127.0.0.1", 0)
    clients, protocols = [], []
    for _ in range(20):
        protocol = Recorder()
        made = await loop.create_server(lambda: protocol, *address)  # noqa: B023
        address = made.sockets[0].getsockname()
        clients.append(await connected(address, protocol))
        protocols.append(protocol)
        made.close()
    for client, protocol in zip(clients, protocols, strict=True):
        client.close()
        await protocol.until("connection_lost")


async def test_a_client_that_waited_unaccepted_is_turned_away() -> None:
    """It was in the kernel's queue when the server closed, and the loop has not looked since."""
    made_protocols: list[Recorder] = []

    def factory() -> Recorder:
        made_protocols.append(Recorder())
        return made_protocols[-1]

    async with server(factory) as (made, address):
        await settle()
        clients = [socket.create_connection(address, 20) for _ in range(10)]
        made.close()
        await settle()
        for client in clients:
            with client:
                assert await asyncio.to_thread(how_it_ends, client) in ("eof", "reset")
        assert made_protocols == []


@pytest.mark.parametrize("callback", ["connection_made", "data_received", "eof_received", "connection_lost"])
async def test_close_from_inside_a_clients_callback(callback: str) -> None:
    protocol = Recorder(**{callback: lambda self: made.close()})
    async with server(lambda: protocol) as (made, address):
        client = await connected(address, protocol)
        with client:
            client.sendall(b"x")
        await protocol.until("connection_lost")
        assert made.sockets == ()
        with socket.socket() as late, pytest.raises(ConnectionRefusedError):
            late.connect(address)


async def test_close_leaves_clients_connected() -> None:
    protocol = Recorder(data_received=lambda self: self.transport.write(b"still here"))
    async with server(lambda: protocol) as (made, address):
        with await connected(address, protocol) as client:
            made.close()
            made.close()
            client.sendall(b"?")
            assert await asyncio.to_thread(receive_exactly, client, 10) == b"still here"
        await protocol.until("connection_lost")


async def test_start_serving_after_close_fails_as_asyncios() -> None:
    async with server(Recorder) as (made, _):
        made.close()
        with pytest.raises(RuntimeError, match=r"server <.*> is closed"):
            await made.serve_forever()


@OLD_WAIT_CLOSED
async def test_wait_closed_waits_for_close_and_for_the_last_client() -> None:
    first, second = Recorder(), Recorder()
    protocols = [first, second]
    async with server(lambda: protocols.pop(0)) as (made, address):
        client = await connected(address, first)
        other = await connected(address, second)
        waiting = [asyncio.create_task(made.wait_closed()) for _ in range(2)]
        await settle()
        assert not any(task.done() for task in waiting)
        made.close()
        await settle()
        assert not any(task.done() for task in waiting)
        client.close()
        await first.until("connection_lost")
        await settle()
        assert not any(task.done() for task in waiting)
        other.close()
        assert [await task for task in waiting] == [None, None]
        assert second.names[-1] == "connection_lost"
        assert await made.wait_closed() is None


@OLD_WAIT_CLOSED
async def test_wait_closed_waits_for_close_without_clients_too() -> None:
    async with server(Recorder) as (made, _):
        waiting = asyncio.create_task(made.wait_closed())
        await settle()
        assert not waiting.done()
        made.close()
        await waiting


@OLD_WAIT_CLOSED
async def test_a_cancelled_wait_closed_disturbs_nobody() -> None:
    protocol = Recorder()
    async with server(lambda: protocol) as (made, address):
        client = await connected(address, protocol)
        made.close()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await made.wait_closed()
        waiting = asyncio.create_task(made.wait_closed())
        await settle()
        assert not waiting.done()
        client.close()
        await waiting


async def test_wait_closed_returns_at_once_when_all_is_over() -> None:
    protocol = Recorder()
    async with server(lambda: protocol) as (made, address):
        (await connected(address, protocol)).close()
        await protocol.until("connection_lost")
        await settle()
        made.close()
        await made.wait_closed()
        await made.wait_closed()


@OLD_WAIT_CLOSED
async def test_async_with_closes_and_waits() -> None:
    protocol = Recorder()
    loop = asyncio.get_running_loop()
    made = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
    async with made as entered:
        assert entered is made
        client = await connected(made.sockets[0].getsockname(), protocol)
        loop.call_soon(client.close)
    assert made.sockets == ()
    assert protocol.names[-1] == "connection_lost"


async def test_async_with_closes_after_an_error() -> None:
    made = await asyncio.get_running_loop().create_server(Recorder, "127.0.0.1", 0)
    with pytest.raises(ZeroDivisionError):
        async with made:
            raise ZeroDivisionError
    assert made.sockets == ()


@NO_CLIENTS_CALLS
async def test_close_clients_sends_what_is_buffered() -> None:
    protocols = [Recorder(), Recorder()]
    waiting = list(protocols)
    async with server(lambda: waiting.pop(0)) as (made, address):
        clients = [await connected(address, protocol) for protocol in protocols]
        for protocol in protocols:
            protocol.transport.write(BIG)
        made.close()
        made.close_clients()
        assert all(protocol.transport.is_closing() for protocol in protocols)
        for client in clients:
            with client:
                assert await asyncio.to_thread(receive_all, client) == BIG
        await made.wait_closed()
        assert [protocol.trace[-1] for protocol in protocols] == [("connection_lost", None)] * 2


@NO_CLIENTS_CALLS
async def test_abort_clients_drops_what_is_buffered() -> None:
    protocols = [Recorder(), Recorder()]
    waiting = list(protocols)
    async with server(lambda: waiting.pop(0)) as (made, address):
        clients = [await connected(address, protocol) for protocol in protocols]
        for protocol in protocols:
            sock = protocol.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
            protocol.transport.write(BIG)
        made.close()
        made.abort_clients()
        await made.wait_closed()
        for client in clients:
            with client:
                assert len(await asyncio.to_thread(receive_all, client)) < len(BIG)


@NO_CLIENTS_CALLS
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
async def test_ending_clients_of_an_open_server_leaves_it_open(method: str) -> None:
    protocols = [Recorder(), Recorder()]
    waiting = list(protocols)
    async with server(lambda: waiting.pop(0)) as (made, address):
        with await connected(address, protocols[0]) as client:
            getattr(made, method)()
            assert await asyncio.to_thread(how_it_ends, client) == "eof"
        with await connected(address, protocols[1]):
            assert not protocols[1].transport.is_closing()
        await protocols[1].until("connection_lost")
        getattr(made, method)()


@NO_CLIENTS_CALLS
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
@pytest.mark.parametrize("callback", ["connection_made", "data_received", "eof_received", "connection_lost"])
async def test_ending_clients_from_inside_their_callbacks(method: str, callback: str) -> None:
    protocol = Recorder(**{callback: lambda self: getattr(made, method)()})
    async with server(lambda: protocol) as (made, address):
        with await connected(address, protocol) as client:
            if callback != "connection_made":
                client.sendall(b"x")
        await protocol.until("connection_lost")
        assert protocol.trace[-1] == ("connection_lost", None)


@NO_CLIENTS_CALLS
async def test_a_client_lost_before_wait_closed_is_forgotten() -> None:
    protocol = Recorder()
    async with server(lambda: protocol) as (made, address):
        with await connected(address, protocol):
            protocol.transport.abort()
            await protocol.until("connection_lost")
        await settle()
        made.close()
        made.close_clients()
        await made.wait_closed()


def test_serve_forever_and_its_errors(same_as_asyncio: Any) -> None:
    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            said: list[Any] = []
            made = await asyncio.get_running_loop().create_server(Recorder, "127.0.0.1", 0)
            serving = asyncio.create_task(made.serve_forever())
            await asyncio.sleep(0)
            try:
                await made.serve_forever()
            except RuntimeError as error:
                said.append(str(error).partition(" <")[0] + str(error).rpartition(">")[2])
            said.append((serving.done(), made.is_serving()))
            serving.cancel()
            said.append(await asyncio.gather(serving, return_exceptions=True))
            said[-1] = [type(result).__name__ for result in said[-1]]
            said.append((made.is_serving(), made.sockets))
            try:
                await made.serve_forever()
            except RuntimeError as error:
                said.append(str(error).partition(" <")[0] + str(error).rpartition(">")[2])
            return said

        return drive(loop_factory, main)

    assert same_as_asyncio(scenario) == [
        "server is already being awaited on serve_forever()", (False, True), ["CancelledError"], (False, ()),
        "server is closed",
    ]  # fmt: skip


async def test_close_ends_serve_forever() -> None:
    async with server(Recorder) as (made, _):
        serving = asyncio.create_task(made.serve_forever())
        await settle(1)
        made.close()
        with pytest.raises(asyncio.CancelledError):
            await serving


async def test_a_cancelled_serve_forever_has_closed_the_port() -> None:
    async with server(Recorder) as (made, address):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await made.serve_forever()
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(address)


def test_nobody_is_accepted_once_the_loop_is_closed(loop: asyncio.AbstractEventLoop) -> None:
    """The socket of a server left open listens on, but no armed accept takes clients from it."""
    with listener() as sock:
        loop.run_until_complete(loop.create_server(Recorder, sock=sock))
        loop.run_until_complete(settle())
        loop.close()
        with socket.create_connection(sock.getsockname(), 20):
            accepted, _ = sock.accept()
            accepted.close()


@pytest.mark.beyond_asyncio("it raises ValueError, and leaves the others open")
@pytest.mark.parametrize("how", ["close", "detach"])
async def test_a_listening_socket_that_its_owner_has_ended(how: str) -> None:
    """No more of it is the server's, and no more than that ends with it."""
    loop = asyncio.get_running_loop()
    ours = listener()
    address = ours.getsockname()
    made = await loop.create_server(Recorder, sock=ours)
    number = ours.fileno()
    kept = socket.socket(fileno=os.dup(number)) if how == "detach" else listener()
    with kept, listener() as another:
        getattr(ours, how)()
        os.dup2(another.fileno(), number)
        protocol = Recorder()
        second = await loop.create_server(lambda: protocol, sock=socket.socket(fileno=number))
        made.close()
        await made.wait_closed()
        assert not made.is_serving()
        if how == "detach":
            # Nobody but its owner accepts from it.
            with socket.create_connection(address, 20), kept.accept()[0]:
                pass
        else:
            with socket.socket() as again:
                again.bind(address)
        client = await connected(second.sockets[0].getsockname(), protocol)
        second.close()
        client.close()
        await protocol.until("connection_lost")
