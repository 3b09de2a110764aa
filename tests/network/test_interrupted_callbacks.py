"""Ctrl-C and SystemExit inside a callback end the run. In the next one nothing is lost, and all goes on."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from network.datagram_recorders import DatagramRecorder, named_unix_pair
from network.peers import TIMEOUT, Background, bounded_pair, receive_exactly, tcp_pair, unix_pair
from network.recorders import AnyRecorder, BufferedRecorder, Recorder, settle, until_closed

PAYLOAD = b"".join(number.to_bytes(4, "little") for number in range(3000))
ERRORS = pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])


class Once:
    """What to do inside a callback: raises an error the first time."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error: type[BaseException] | None = error

    def __call__(self, _: Any) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error


def run_until_it_raises(loop: asyncio.AbstractEventLoop, error: type[BaseException]) -> None:
    """Runs the loop until a callback ends the run."""
    guard = loop.call_later(TIMEOUT, loop.stop)
    with pytest.raises(error):
        loop.run_forever()
    guard.cancel()


@contextmanager
def connected(
    loop: asyncio.AbstractEventLoop, protocol: Any, pair: tuple[socket.socket, socket.socket]
) -> Iterator[tuple[Any, socket.socket]]:
    """The protocol's transport on the first of the pair, which reads already, and the other. Ends both."""
    ours, peer = pair
    transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=ours))
    loop.run_until_complete(settle())
    with peer:
        yield transport, peer
    if ours.fileno() != -1:  # asyncio's abort() fails on a transport that close() has flushed and ended
        transport.abort()
    loop.run_until_complete(until_closed(ours))


@ERRORS
@pytest.mark.parametrize("paused", [False, True], ids=["reading", "resumed"])
@pytest.mark.parametrize("buffer_bytes", [None, 1000], ids=["Protocol", "BufferedProtocol"])
def test_data_that_follows_is_delivered(
    loop: asyncio.AbstractEventLoop, error: type[BaseException], paused: bool, buffer_bytes: int | None
) -> None:
    """Of several deliveries the first ends the run; also if all was received while the transport paused."""
    once = Once(error)
    protocol: AnyRecorder = (
        Recorder(data_received=once)
        if buffer_bytes is None
        else BufferedRecorder(buffer_bytes=buffer_bytes, data_received=once)
    )
    with connected(loop, protocol, unix_pair()) as (transport, peer):
        if paused:
            # What is under way when it pauses is received, and waits.
            loop.call_soon(transport.pause_reading)
        peer.sendall(PAYLOAD)
        if paused:
            loop.run_until_complete(settle())
            assert not protocol.received
            transport.resume_reading()
        run_until_it_raises(loop, error)
        loop.run_until_complete(protocol.until_received(len(PAYLOAD)))
        peer.sendall(b"more")
        loop.run_until_complete(protocol.until_received(len(PAYLOAD) + 4))
        assert protocol.received == PAYLOAD + b"more"


@ERRORS
def test_a_large_stream_is_delivered_to_its_end(
    loop: asyncio.AbstractEventLoop, kind: type[AnyRecorder], error: type[BaseException]
) -> None:
    """Each of its first deliveries ends the run."""

    def interrupt(self: Any) -> None:
        if len(self.events) <= 5:
            raise error

    payload = PAYLOAD * 200
    protocol = kind(data_received=interrupt)
    with connected(loop, protocol, bounded_pair()) as (_, peer):
        sending = Background(lambda: (peer.sendall(payload), peer.shutdown(socket.SHUT_WR)))
        for _ in range(4):
            run_until_it_raises(loop, error)
        loop.run_until_complete(protocol.until("connection_lost"))
        sending.finish()
        assert protocol.received == payload
        assert protocol.names[-2:] == ["eof_received", "connection_lost"]


@ERRORS
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_get_buffer_is_asked_again(
    loop: asyncio.AbstractEventLoop, error: type[BaseException], large: bool
) -> None:
    once = Once(error)
    once.error = None

    class Asked(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            once(self)
            return super().get_buffer(sizehint)

    protocol = Asked()
    with connected(loop, protocol, unix_pair()) as (_, peer):
        sent = 0
        if large:
            # Whole buffers full: from then on bytes stay in the socket until there is a place for them.
            for _ in range(5):
                peer.sendall(PAYLOAD)
                sent += len(PAYLOAD)
                loop.run_until_complete(protocol.until_received(sent))
        once.error = error
        peer.sendall(PAYLOAD)
        run_until_it_raises(loop, error)
        loop.run_until_complete(protocol.until_received(sent + len(PAYLOAD)))
        assert protocol.received[sent:] == PAYLOAD


@ERRORS
def test_the_end_of_the_stream_is_told_again(
    loop: asyncio.AbstractEventLoop, kind: type[AnyRecorder], error: type[BaseException]
) -> None:
    protocol = kind(eof_received=Once(error))
    with connected(loop, protocol, tcp_pair()) as (_, peer):
        peer.shutdown(socket.SHUT_WR)
        run_until_it_raises(loop, error)
        loop.run_until_complete(protocol.until("connection_lost"))
        assert protocol.names == ["connection_made", "eof_received", "eof_received", "connection_lost"]


@ERRORS
@pytest.mark.parametrize("end", [None, "close", "write_eof"])
def test_what_is_queued_goes_out_after_resume_writing(
    loop: asyncio.AbstractEventLoop, error: type[BaseException], end: str | None
) -> None:
    protocol = Recorder(resume_writing=Once(error))
    data = PAYLOAD * 200
    with connected(loop, protocol, bounded_pair()) as (transport, peer):
        transport.set_write_buffer_limits(high=len(data) // 4, low=len(data) // 4 - 1)
        transport.write(data)
        assert protocol.names == ["connection_made", "pause_writing"]
        if end is not None:
            getattr(transport, end)()
        receiving = Background(lambda: receive_exactly(peer, len(data)))
        run_until_it_raises(loop, error)
        while transport.get_write_buffer_size():
            loop.run_until_complete(settle())
        assert receiving.finish() == data
        if end is not None:
            loop.run_until_complete(settle())
            assert peer.recv(1) == b""


@pytest.mark.beyond_asyncio(
    "some of its 3.13 forget to take the headers off", since=(3, 13) if sys.version_info < (3, 14) else (4,)
)
@ERRORS
def test_queued_datagrams_go_out_after_resume_writing(
    loop: asyncio.AbstractEventLoop, error: type[BaseException]
) -> None:
    protocol = DatagramRecorder(resume_writing=Once(error))
    ours, peer = named_unix_pair()
    transport: Any = loop.run_until_complete(loop.create_datagram_endpoint(lambda: protocol, sock=ours))[0]
    # More than the kernel takes at once: something is left when the protocol is resumed.
    transport.set_write_buffer_limits(high=100_000, low=99_900)
    sent = 0
    while protocol.names[-1] != "pause_writing":
        transport.sendto(b"%0100d" % sent)
        sent += 1
    with peer:
        receiving = Background(lambda: [peer.recv(1000) for _ in range(sent)])
        run_until_it_raises(loop, error)
        while receiving.is_alive():
            loop.run_until_complete(settle(1))
        assert receiving.finish() == [b"%0100d" % number for number in range(sent)]
    transport.abort()
    loop.run_until_complete(until_closed(ours))


@pytest.mark.parametrize("hidden", ["", "multishot_accept"])
def test_clients_are_accepted_after_a_factory_that_ends_the_run(run_child: Any, hidden: str) -> None:
    child = run_child(
        """
        import asyncio, socket
        from network.recorders import Recorder

        def factory():
            made.append(Recorder())
            if len(made) == 1:
                raise KeyboardInterrupt
            return made[-1]

        made = []
        loop = new_event_loop()
        server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0))
        first = socket.create_connection(server.sockets[0].getsockname())
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
        second = socket.create_connection(server.sockets[0].getsockname())
        while len(made) < 2:
            loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(made[1].until("connection_made"))
        print("accepted")
        """,
        env={"RINGLOOP_DISABLE": hidden},
    )
    assert child.stdout == "interrupted\naccepted\n", child.explain()
