"""What a protocol raises, or lacks, where a completion calls it: told, and the loop goes on.

The tests of a callback that a transport calls are in test_transport_callbacks.py.
"""

import asyncio
import gc
import socket
import warnings
from typing import Any

import pytest

from network.datagram_recorders import DatagramRecorder, endpoint, named_unix_pair
from network.peers import bounded_pair, close_with_reset, how_it_ends, receive_all
from network.recorders import AnyRecorder, Recorder, connection, server, settle, until_closed
from network.test_datagram_flow_control import fill
from network.tls import server_context
from support.watch import Watch

BIG = bytes(range(256)) * (4 * 1024)  # 1 MiB: more than the kernel's buffers of `bounded_pair` take


def fail(protocol: object) -> None:
    raise RuntimeError("boom")


def take_boom(watch: Watch) -> None:
    """The exception handler was called once, for what `fail` raised in a callback of the loop."""
    (context,) = watch.take()
    assert context["message"].startswith("Exception in callback")
    assert str(context["exception"]) == "boom"


@pytest.mark.parametrize("debug", [False, True])
async def test_connection_lost_after_a_queue_was_sent(
    debug: bool, kind: type[AnyRecorder], watch: Watch
) -> None:
    asyncio.get_running_loop().set_debug(debug)
    protocol = kind(connection_lost=fail)
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.write(BIG)
        transport.close()
        assert await asyncio.to_thread(receive_all, peer) == BIG
        await protocol.until("connection_lost")
    take_boom(watch)


@pytest.mark.parametrize("debug", [False, True])
async def test_connection_lost_after_queued_datagrams(debug: bool, watch: Watch) -> None:
    asyncio.get_running_loop().set_debug(debug)
    ours, peer = named_unix_pair()
    with peer:
        async with endpoint(DatagramRecorder(connection_lost=fail), sock=ours) as (transport, protocol):
            count = fill(transport)
            transport.close()
            for _ in range(count):
                await asyncio.to_thread(peer.recv, 2000)
            await protocol.until("connection_lost")
            await until_closed(ours)
    take_boom(watch)


async def test_a_reset_behind_the_last_byte_before_an_eof() -> None:
    """A peer that has everything may be gone when the writing half is to be closed."""
    loop = asyncio.get_running_loop()
    protocol = Recorder()
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.write(BIG)
        transport.write_eof()
        peer.setblocking(False)
        count = 0
        while count < len(BIG):
            # In the loop's own thread: so it has not looked at its last send when the reset comes.
            try:
                count += len(peer.recv(len(BIG)))
            except BlockingIOError:
                await asyncio.sleep(0)
        close_with_reset(peer)
        await protocol.until("connection_lost")
        assert protocol.names.count("connection_lost") == 1
        assert isinstance(protocol.error, OSError)
        assert transport.is_closing()
    assert loop.is_running()


@pytest.mark.parametrize("lacking", ["pause_writing", "resume_writing"])
async def test_a_protocol_that_lacks_a_method_of_flow_control(lacking: str, watch: Watch) -> None:
    class Like:
        """No asyncio.Protocol."""

        def __init__(self) -> None:
            self.lost = asyncio.get_running_loop().create_future()

        def connection_made(self, transport: asyncio.Transport) -> None:
            pass

        def connection_lost(self, error: Exception | None) -> None:
            self.lost.set_result(error)

    setattr(Like, "pause_writing" if lacking == "resume_writing" else "resume_writing", lambda self: None)
    protocol: Any = Like()
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.write(BIG)
        transport.write_eof()
        assert await asyncio.to_thread(receive_all, peer) == BIG
        peer.close()
        transport.abort()
        assert await protocol.lost is None
    (context,) = watch.take()
    assert context["message"] == f"protocol.{lacking}() failed"
    assert isinstance(context["exception"], AttributeError)
    assert context["protocol"] is protocol


@pytest.mark.beyond_asyncio("its connection is closed when it is collected, which from 3.13 on fails")
@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    "what, tls",
    [("makes no protocol", False), ("closes the server", False), ("closes the server", True)],
    ids=["none", "plain", "tls"],
)
async def test_a_factory(what: str, tls: bool, debug: bool, watch: Watch) -> None:
    """Debug mode reports it; the connection is closed, and nothing else ends."""
    called = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().set_debug(debug)

    def factory() -> Any:
        called.set_result(None)
        if what == "makes no protocol":
            return None
        made.close()
        return Recorder()

    with warnings.catch_warnings():
        # Of asyncio's transport for TLS, which nobody was told of.
        warnings.simplefilter("ignore", ResourceWarning)
        async with server(factory, ssl=server_context() if tls else None) as (made, address):
            with socket.create_connection(address, 20) as client:
                await called
                await settle()
                reports = [context["message"] for context in watch.take()]
                assert reports == ["Error on transport creation for incoming connection"] * debug
                assert await asyncio.to_thread(how_it_ends, client) == "eof"
            assert made.is_serving() == (what == "makes no protocol")
        gc.collect()
