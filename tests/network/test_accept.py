"""Accepting: factories that fail, no descriptors left, a thousand clients, clients that leave at once."""

import asyncio
import errno
import gc
import json
import socket
import warnings
from typing import Any

import pytest

from network.peers import Background, close_with_reset, how_it_ends, many_fds, receive_all, receive_exactly
from network.recorders import Recorder, drive, server, settle
from support.waiting import wait_until


class Echo(asyncio.Protocol):
    """Sends back what it receives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@pytest.mark.parametrize("debug", [False, True])
def test_a_failing_protocol_factory_costs_only_that_client(
    debug: bool, same_as_asyncio: Any, watch: Any
) -> None:
    """Debug mode reports it; the socket is closed (by asyncio when it is collected, which warns)."""

    def scenario(loop_factory: Any) -> Any:
        failures = [ZeroDivisionError("no protocol today")]
        protocol = Recorder()

        def factory() -> Recorder:
            if failures:
                raise failures.pop()
            return protocol

        async def main() -> Any:
            asyncio.get_running_loop().set_debug(debug)
            async with server(factory) as (_, address):
                with socket.create_connection(address, 20) as unlucky, socket.create_connection(address, 20):
                    await protocol.until("connection_made")
                    reports = [
                        (
                            context["message"],
                            str(context["exception"]),
                            sorted(set(context) - {"source_traceback"}),
                        )
                        for context in watch.take()
                    ]
                    gc.collect()
                    ending = await asyncio.to_thread(how_it_ends, unlucky)
                await protocol.until("connection_lost")
                return reports, ending

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            return drive(loop_factory, main)

    reports, ending = same_as_asyncio(scenario)
    assert ending == "eof"
    assert [report[:2] for report in reports] == [
        ("Error on transport creation for incoming connection", "no protocol today")
    ] * debug


async def test_a_factory_that_fails_every_time_does_not_stop_the_server() -> None:
    calls = []

    def factory() -> asyncio.Protocol:
        calls.append(1)
        raise RuntimeError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        async with server(factory) as (made, address):
            for _ in range(20):
                with socket.create_connection(address, 20):
                    pass
            while len(calls) < 20:
                await asyncio.sleep(0)
            assert made.is_serving()
        gc.collect()


async def test_clients_that_reset_before_they_are_accepted_do_no_harm() -> None:
    lost: list[Recorder] = []
    survivor = Recorder(data_received=lambda self: self.transport.write(b"yes"))

    def factory() -> Recorder:
        return Recorder(connection_lost=lost.append) if resetting else survivor

    async with server(factory) as (_, address):
        resetting = True
        for _ in range(50):
            close_with_reset(socket.create_connection(address, 20))
        while len(lost) < 50:
            await asyncio.sleep(0)
        resetting = False
        with socket.create_connection(address, 20) as client:
            client.sendall(b"are you there?")
            assert await asyncio.to_thread(receive_exactly, client, 3) == b"yes"
        await survivor.until("connection_lost")
    assert all(protocol.names[0] == "connection_made" for protocol in lost)
    assert {protocol.trace[-1][1] for protocol in lost} <= {"ConnectionResetError", None}


async def test_a_thousand_clients_at_once() -> None:
    """All connected before one byte is sent; each gets its own bytes back."""
    count = 1000
    with many_fds(4 * count):
        async with server(Echo, backlog=count) as (_, address):

            def clients() -> int:
                socks = [socket.create_connection(address, 20) for _ in range(count)]
                for number, sock in enumerate(socks):
                    sock.sendall(b"%06d" % number)
                answers = [receive_exactly(sock, 6) for sock in socks]
                assert answers == [b"%06d" % number for number in range(count)]
                for sock in socks:
                    sock.shutdown(socket.SHUT_WR)
                rest = sum(len(receive_all(sock)) for sock in socks)
                for sock in socks:
                    sock.close()
                return rest

            assert await asyncio.to_thread(clients) == 0


async def test_clients_beyond_a_small_backlog_are_served_too() -> None:
    async with server(Echo, backlog=2) as (_, address):

        def client() -> bytes:
            with socket.create_connection(address, 20) as sock:
                sock.sendall(b"hello")
                return receive_exactly(sock, 5)

        answers = await asyncio.gather(*(asyncio.to_thread(client) for _ in range(10)))
    assert answers == [b"hello"] * 10


async def test_short_connections_one_after_another_leave_nothing() -> None:
    """Sockets are closed as they end, not at the end: 300 connections with room for few (see `watch`)."""
    async with server(Echo) as (_, address):

        def one_after_another() -> None:
            for number in range(300):
                with socket.create_connection(address, 20) as sock:
                    sock.sendall(b"%d" % number)
                    sock.shutdown(socket.SHUT_WR)
                    assert receive_all(sock) == b"%d" % number

        await asyncio.to_thread(one_after_another)
        await settle()


async def test_accepted_data_is_not_delivered_before_the_protocol_is_made() -> None:
    """100 clients that speak before the loop has looked: connection_made comes first for each."""
    protocols: list[Recorder] = []

    def factory() -> Recorder:
        protocols.append(Recorder(data_received=lambda self: self.transport.close()))
        return protocols[-1]

    async with server(factory) as (_, address):
        clients = [socket.create_connection(address, 20) for _ in range(100)]
        for client in clients:
            client.sendall(b"first")
        while len(protocols) < 100:
            await asyncio.sleep(0)
        for protocol in protocols:
            await protocol.until("connection_lost")
            assert protocol.trace == [
                ("connection_made",),
                ("data_received", b"first"),
                ("connection_lost", None),
            ]
        for client in clients:
            client.close()


def test_a_server_in_a_thread_serves_blocking_clients(loop: asyncio.AbstractEventLoop) -> None:
    made = loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0))
    address = made.sockets[0].getsockname()
    running = Background(loop.run_forever)
    with socket.create_connection(address, 20) as client:
        client.sendall(b"over threads")
        assert receive_exactly(client, 12) == b"over threads"
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b""
    loop.call_soon_threadsafe(made.close)
    wait_until(lambda: not made.is_serving(), "the server has closed")
    loop.call_soon_threadsafe(loop.stop)
    running.finish()


EMFILE_SCRIPT = """
    import asyncio, json, logging, os, resource, socket

    logging.basicConfig(level=logging.ERROR, format="%(name)s %(levelname)s %(message)s")
    logging.Formatter().formatException((OSError, OSError(), None))  # imports what takes an fd later
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    class Greeter(asyncio.Protocol):
        def connection_made(self, transport):
            transport.write(b"hello")
            transport.close()

    async def main():
        loop = asyncio.get_running_loop()
        contexts = []
        refused = loop.create_future()

        def handler(loop, context):
            contexts.append(context)
            loop.default_exception_handler(context)
            if not refused.done():
                refused.set_result(None)

        loop.set_exception_handler(handler)
        server = await loop.create_server(Greeter, "127.0.0.1", 0, backlog=1)
        client = socket.socket()
        client.settimeout(20)
        hogs = []
        try:
            while True:
                hogs.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        client.connect(server.sockets[0].getsockname())
        await asyncio.wait_for(refused, 20)
        for fd in hogs:
            os.close(fd)
        hello = await asyncio.wait_for(loop.run_in_executor(None, client.recv, 100), 20)
        client.close()
        server.close()
        context = contexts[0]
        told = {
            "message": context["message"],
            "errno": context["exception"].errno,
            "keys": sorted(context),
            "socket": type(context["socket"]).__name__,
            "hello": hello.decode(),
        }
        print(json.dumps(told))

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
"""


def test_accepting_resumes_after_running_out_of_file_descriptors(run_child: Any) -> None:
    child = run_child(EMFILE_SCRIPT)
    told = json.loads(child.stdout)
    assert told == {
        "message": "socket.accept() out of system resource",
        "errno": errno.EMFILE,
        "keys": ["exception", "message", "socket"],
        "socket": "TransportSocket",
        "hello": "hello",
    }
    lines = child.stderr.splitlines()
    assert lines[0] == "asyncio ERROR socket.accept() out of system resource"
    assert lines[1].startswith("socket: <asyncio.TransportSocket fd=")
    assert "OSError: [Errno 24] Too many open files" in lines


async def test_a_server_and_its_clients_in_one_loop() -> None:
    """Both ends are transports of the same loop: 100 connections with one message each way."""
    loop = asyncio.get_running_loop()
    async with server(Echo) as (_, address):
        protocols = [Recorder() for _ in range(100)]
        for protocol in protocols:
            await loop.create_connection(lambda: protocol, *address)  # noqa: B023
            protocol.transport.write(b"ping")
        for protocol in protocols:
            await protocol.until_received(4)
            protocol.transport.close()
            await protocol.until("connection_lost")
        await settle()
