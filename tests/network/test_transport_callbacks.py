"""The order of a stream transport's callbacks, and what closing, aborting or failing in one brings."""

import asyncio
import errno
import socket
import threading
from typing import Any

import pytest

from network.peers import (
    TIMEOUT,
    Background,
    bounded_pair,
    how_it_ends,
    receive_all,
    receive_exactly,
    tcp_pair,
)
from network.recorders import (
    AnyRecorder,
    BufferedRecorder,
    Recorder,
    connection,
    drive,
    server,
    settle,
    until_closed,
)
from support.watch import Watch

BIG = bytes(range(256)) * (4 * 1024)  # 1 MiB: more than the kernel's buffers of `bounded_pair` take
CALLBACKS = [
    "connection_made", "data_received", "pause_writing", "resume_writing", "eof_received", "connection_lost",
]  # fmt: skip


async def test_a_conversation_calls_back_in_order(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol) as (_, peer):
        peer.sendall(b"hello")
        await protocol.until_received(5)
        peer.sendall(b", world")
        peer.shutdown(socket.SHUT_WR)
        await protocol.until("connection_lost")
        assert protocol.trace == [
            ("connection_made",), ("data_received", b"hello, world"),
            ("eof_received",), ("connection_lost", None),
        ]  # fmt: skip


async def test_connection_made_comes_before_the_awaiter_and_data_after_it(kind: type[AnyRecorder]) -> None:
    ours, peer = tcp_pair()
    peer.sendall(b"banner")
    protocol = kind()
    loop = asyncio.get_running_loop()
    transport, same = await loop.create_connection(lambda: protocol, sock=ours)
    assert same is protocol
    assert protocol.transport is transport
    assert protocol.events == [("connection_made",)]
    await protocol.until_received(6)
    assert protocol.received == b"banner"
    transport.close()
    peer.close()
    await until_closed(ours)


async def test_a_protocol_set_after_the_await_gets_the_data_that_was_there_before() -> None:
    ours, peer = tcp_pair()
    with peer:
        peer.sendall(b"banner")
        first, second = Recorder(), Recorder()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: first, sock=ours)
        transport.set_protocol(second)
        await second.until_received(6)
        assert first.events == [("connection_made",)]
        transport.close()
        await second.until("connection_lost")
        assert second.trace == [("data_received", b"banner"), ("connection_lost", None)]


async def test_accepted_connections_call_back_in_order(kind: type[AnyRecorder]) -> None:
    protocol = kind(data_received=lambda self: self.transport.write(self.received.upper()))
    async with server(lambda: protocol) as (_, address):

        def client() -> bytes:
            with socket.create_connection(address) as sock:
                sock.sendall(b"early")
                answer = receive_exactly(sock, 5)
                sock.shutdown(socket.SHUT_WR)
                return answer + receive_all(sock)

        assert await asyncio.to_thread(client) == b"EARLY"
        await protocol.until("connection_lost")
        assert protocol.trace == [
            ("connection_made",), ("data_received", b"early"),
            ("eof_received",), ("connection_lost", None),
        ]  # fmt: skip


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_connection_lost_is_never_called_from_inside_the_call_that_ends(
    end: str, kind: type[AnyRecorder]
) -> None:
    protocol = kind()
    async with connection(protocol) as (transport, peer):
        getattr(transport, end)()
        assert transport.is_closing()
        assert protocol.events == [("connection_made",)]
        await protocol.until("connection_lost")
        assert protocol.trace == [("connection_made",), ("connection_lost", None)]
        assert await asyncio.to_thread(how_it_ends, peer) == "eof"


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_nothing_is_delivered_after_the_end(end: str, kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol) as (transport, peer):
        peer.sendall(b"never to be seen")
        getattr(transport, end)()
        await protocol.until("connection_lost")
        await settle()
        assert protocol.trace == [("connection_made",), ("connection_lost", None)]


async def test_resume_writing_never_follows_connection_lost(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.write(BIG)
        transport.abort()
        await protocol.until("connection_lost")
        Background(how_it_ends, peer).finish()
        await settle()
        assert protocol.names == ["connection_made", "pause_writing", "connection_lost"]


async def conversation(protocol: AnyRecorder) -> tuple[list[Any], int, bool]:
    """The peer says `go`, reads BIG once that is written, says EOF, and reads on to the stream's end.

    Returns the protocol's trace, how many bytes the peer got, and whether they are what was sent, in order.
    """

    def converse() -> bytes:
        got = b""
        try:
            peer.sendall(b"go")
            assert answered.wait(TIMEOUT)
            got = receive_exactly(peer, len(BIG))
            peer.shutdown(socket.SHUT_WR)
            got += receive_all(peer)
        except OSError as error:  # the transport was aborted: what is compared is the trace
            assert error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)
        return got

    ours, peer = bounded_pair()
    answered = threading.Event()
    loop = asyncio.get_running_loop()
    talking = Background(converse)
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    transport.set_write_buffer_limits(low=0, high=64 * 1024)  # resume_writing() comes when all is sent
    await protocol.until(lambda: {"data_received", "connection_lost"} & set(protocol.names))
    answered.set()
    await until_closed(ours)
    got = await asyncio.to_thread(talking.finish)
    peer.close()
    complete = len(got) if len(got) >= len(BIG) else 0  # how much an abort cuts off is the kernel's affair
    return protocol.trace, complete, BIG.startswith(got)


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("callback", CALLBACKS)
def test_ending_inside_a_callback(
    callback: str, end: str, kind: type[AnyRecorder], same_as_asyncio: Any, watch: Watch
) -> None:
    async def main(protocol: AnyRecorder) -> Any:
        result = await conversation(protocol)
        if callback == "resume_writing" and isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
            # asyncio's bug: it ends the connection twice here, and the second time fails on what the first
            # cleared.
            await settle()
            assert all(isinstance(context["exception"], AttributeError) for context in watch.take())
        return result

    def scenario(loop_factory: Any) -> Any:
        def answer(self: AnyRecorder) -> None:
            if self.received == b"go":
                self.transport.write(BIG)
            if callback == "data_received":
                getattr(self.transport, end)()

        actions = {"data_received": answer}
        if callback != "data_received":
            actions[callback] = lambda self: getattr(self.transport, end)()
        return drive(loop_factory, lambda: main(kind(**actions)))

    trace, _, in_order = same_as_asyncio(scenario)
    names = [event[0] for event in trace]
    assert in_order
    assert names.count("connection_lost") == 1
    assert names[-1] == "connection_lost"
    assert trace[-1] == ("connection_lost", None)


def described(contexts: list[dict[str, Any]], protocol: object) -> list[tuple[Any, ...]]:
    """Contexts of the exception handler as values: message (without reprs), error, what it names."""
    described = []
    for context in contexts:
        message = context["message"]
        if message.startswith("Exception in callback"):
            message = "Exception in callback"
        error = context["exception"]
        names = sorted(set(context) - {"source_traceback", "handle"})
        about = context.get("protocol") is protocol, isinstance(context.get("transport"), asyncio.Transport)
        described.append((message, type(error).__name__, str(error), names, about))
    return described


@pytest.mark.parametrize("callback", CALLBACKS)
def test_a_callback_that_raises(
    callback: str, kind: type[AnyRecorder], same_as_asyncio: Any, watch: Watch
) -> None:
    """The exception handler hears of it in asyncio's words; the connection goes on or is lost as there."""

    def scenario(loop_factory: Any) -> Any:
        def answer(self: AnyRecorder) -> None:
            if callback == "data_received":
                fail(self)
            self.transport.write(BIG)

        def fail(self: AnyRecorder) -> None:
            raise RuntimeError("boom")

        actions = {"data_received": answer}
        if callback != "data_received":
            actions[callback] = fail
        protocol = kind(**actions)
        result = drive(loop_factory, lambda: conversation(protocol))
        return result, described(watch.take(), protocol)

    (trace, _, in_order), reports = same_as_asyncio(scenario)
    assert in_order
    assert [event[0] for event in trace].count("connection_lost") == 1
    assert [report[1:3] for report in reports] == [("RuntimeError", "boom")]


@pytest.mark.parametrize(
    "callback, message",
    [
        ("data_received", "Fatal error: protocol.data_received() call failed."),
        ("eof_received", "Fatal error: protocol.eof_received() call failed."),
    ],
)
async def test_a_fatal_error_names_transport_and_protocol(callback: str, message: str, watch: Watch) -> None:
    def fail(self: Recorder) -> None:
        raise ZeroDivisionError("boom")

    protocol = Recorder(**{callback: fail})
    async with connection(protocol) as (transport, peer):
        peer.sendall(b"x")
        peer.shutdown(socket.SHUT_WR)
        await protocol.until("connection_lost")
        assert isinstance(protocol.error, ZeroDivisionError)
        (context,) = watch.take()
        assert context["message"] == message
        assert context["exception"] is protocol.error
        assert context["transport"] is transport
        assert context["protocol"] is protocol


def bad_buffers() -> dict[str, Any]:
    """What a careless get_buffer() may do."""

    def raises() -> Any:
        raise RuntimeError("no buffer today")

    return {
        "raises": raises,
        "empty": lambda: bytearray(),
        "empty view": lambda: memoryview(bytearray(8))[8:],
        "read-only": lambda: b"read-only",
        "no buffer": lambda: [0] * 10,
        "None": lambda: None,
    }


@pytest.mark.parametrize("which", bad_buffers())
def test_a_bad_buffer_is_fatal(which: str, same_as_asyncio: Any, watch: Watch) -> None:
    class Careless(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            return bad_buffers()[which]()

    def scenario(loop_factory: Any) -> Any:
        protocol = Careless()

        async def main() -> list[Any]:
            async with connection(protocol) as (_, peer):
                peer.sendall(b"data")
                await protocol.until("connection_lost")
            return protocol.trace

        return drive(loop_factory, main), described(watch.take(), protocol)

    trace, reports = same_as_asyncio(scenario)
    assert [event[0] for event in trace] == ["connection_made", "connection_lost"]
    assert len(reports) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_in_data_received_leaves_the_loop_and_the_transport_usable(
    error: type[BaseException], kind: type[AnyRecorder], loop: asyncio.AbstractEventLoop
) -> None:
    def interrupt(self: AnyRecorder) -> None:
        if self.received == b"1":
            raise error

    protocol = kind(data_received=interrupt)
    ours, peer = tcp_pair()
    loop.run_until_complete(loop.create_connection(lambda: protocol, sock=ours))
    peer.sendall(b"1")
    with pytest.raises(error):
        loop.run_until_complete(settle(1000))
    peer.sendall(b"2")
    loop.run_until_complete(protocol.until_received(2))
    assert not protocol.transport.is_closing()
    peer.close()
    loop.run_until_complete(until_closed(ours))
    assert protocol.names == [
        "connection_made",
        "data_received",
        "data_received",
        "eof_received",
        "connection_lost",
    ]


async def test_calls_after_the_connection_is_lost_are_harmless(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol) as (transport, _):
        transport.close()
        await protocol.until("connection_lost")
        await settle(1)
        transport.close()
        transport.abort()
        transport.pause_reading()
        transport.resume_reading()
        transport.write(b"nobody is there")
        transport.write_eof()
        assert not transport.is_reading()
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        assert transport.get_extra_info("peername")
        await settle()
        assert protocol.trace == [("connection_made",), ("connection_lost", None)]


@pytest.mark.parametrize("call", ["write", "close", "abort", "write_eof", "pause_reading", "resume_reading"])
async def test_calls_inside_connection_lost_are_harmless(call: str, kind: type[AnyRecorder]) -> None:
    arguments = (b"too late",) if call == "write" else ()
    protocol = kind(connection_lost=lambda self: getattr(self.transport, call)(*arguments))
    async with connection(protocol) as (transport, _):
        transport.abort()
        await protocol.until("connection_lost")
        await settle()
        assert protocol.trace == [("connection_made",), ("connection_lost", None)]
