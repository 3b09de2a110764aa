"""Connections outlive their loop's thread and a fork: a loop stopped here goes on with its traffic there."""

import asyncio
import gc
import random
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from network.peers import TIMEOUT, Background, how_it_ends, receive_exactly
from network.recorders import Recorder, connection, settle
from support.loops import ORACLE

PAYLOAD = random.Random(50).randbytes(1024 * 1024)

Runner = Callable[[Callable[[], object]], None]


class Echo(asyncio.Protocol):
    """Sends back what it receives; stops reading while it cannot write. Calls `on_data` each time."""

    def __init__(self, on_data: Callable[[], object]) -> None:
        self._on_data = on_data

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self._on_data()

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


@contextmanager
def threads_that(stay: bool) -> Iterator[Runner]:
    """Yields a function that runs another in a new thread and returns when that is done.

    The threads end with it, or stay alive, asleep, until the end of the context.
    """
    leave = threading.Event()
    threads: list[Background] = []

    def run(function: Callable[[], object]) -> None:
        done = threading.Event()

        def body() -> None:
            try:
                function()
            finally:
                done.set()
            if stay:
                leave.wait(2 * TIMEOUT)

        threads.append(Background(body))
        if stay:
            assert done.wait(2 * TIMEOUT)
        else:
            threads[-1].finish()

    try:
        yield run
    finally:
        leave.set()
        for thread in threads:
            thread.finish()


def converse(address: tuple[str, int], number: int) -> None:
    """Sends messages of mixed sizes and checks that each comes back."""
    choice = random.Random(number)
    with socket.create_connection(address, TIMEOUT) as sock:
        for _ in range(25):
            size = choice.choice((1, 100, 5000, 70_000, 300_000))
            start = choice.randrange(len(PAYLOAD) - size)
            message = PAYLOAD[start : start + size]
            sending = Background(sock.sendall, message)
            assert receive_exactly(sock, size) == message
            sending.finish()


@pytest.mark.parametrize("stay", [False, True], ids=["threads end", "threads stay"])
def test_traffic_goes_on_as_the_loop_moves_from_thread_to_thread(
    stay: bool, loop: asyncio.AbstractEventLoop
) -> None:
    """Ten clients talk without a break while the loop stops every few messages and goes on elsewhere."""
    received = 0

    def on_data() -> None:
        nonlocal received
        received += 1
        if received % 40 == 0:
            loop.stop()

    def talk() -> None:
        clients = [Background(converse, address, number) for number in range(10)]
        try:
            for client in clients:
                client.finish()
        finally:
            finished.set()
            loop.call_soon_threadsafe(loop.stop)

    made = loop.run_until_complete(loop.create_server(lambda: Echo(on_data), "127.0.0.1", 0))
    address = made.sockets[0].getsockname()
    finished = threading.Event()
    talking = Background(talk)
    with threads_that(stay) as run:
        while not finished.is_set():
            run(loop.run_forever)
            if not finished.is_set():
                loop.run_forever()
    talking.finish()
    loop.call_soon(loop.stop)  # the last stop may be queued still
    loop.run_forever()

    async def end() -> None:
        made.close()
        await settle()

    loop.run_until_complete(end())


@pytest.mark.parametrize("stay", [False, True], ids=["thread ended", "thread alive"])
def test_what_was_pending_in_one_thread_is_completed_in_the_next(
    stay: bool, loop: asyncio.AbstractEventLoop
) -> None:
    """A half-sent buffer, bytes that came while nobody ran, a paused reader and an EOF: nothing is lost."""
    ours, peer = socket.socketpair()
    protocol = Recorder(eof_received=lambda self: True)

    async def begin() -> None:
        await loop.create_connection(lambda: protocol, sock=ours)
        protocol.transport.write(PAYLOAD)
        await settle()
        assert protocol.transport.get_write_buffer_size() > 0

    async def read_on() -> None:
        reading = Background(receive_exactly, peer, len(PAYLOAD))
        await protocol.until("resume_writing")
        await protocol.until_received(len(b"while nobody ran"))
        assert await asyncio.to_thread(reading.finish) == PAYLOAD
        protocol.transport.pause_reading()
        peer.sendall(b" while paused")
        peer.shutdown(socket.SHUT_WR)
        await settle()

    async def resume() -> None:
        protocol.transport.resume_reading()
        await protocol.until("eof_received")
        protocol.transport.close()
        await protocol.until("connection_lost")

    with peer, threads_that(stay) as run:
        peer.settimeout(TIMEOUT)
        run(lambda: loop.run_until_complete(begin()))
        peer.sendall(b"while nobody ran")
        run(lambda: loop.run_until_complete(read_on()))
        loop.run_until_complete(resume())
    assert protocol.received == b"while nobody ran while paused"
    assert protocol.names[-2:] == ["eof_received", "connection_lost"]


@pytest.mark.parametrize("stay", [False, True], ids=["thread ended", "thread alive"])
def test_closed_from_a_third_thread_with_connections_open(
    stay: bool, loop: asyncio.AbstractEventLoop
) -> None:
    """Whoever closes the loop frees all: peers see the end once the transports are collected."""
    protocols: list[Recorder] = []

    def factory() -> Recorder:
        protocols.append(Recorder())
        return protocols[-1]

    async def begin() -> None:
        made = await loop.create_server(factory, "127.0.0.1", 0)
        address = made.sockets[0].getsockname()
        clients.extend(socket.create_connection(address, TIMEOUT) for _ in range(100))
        while len(protocols) < 100:
            await settle(1)
        await protocols[-1].until("connection_made")
        for protocol in protocols[::3]:
            protocol.transport.write(PAYLOAD * 8)
        for protocol in protocols[1::3]:
            protocol.transport.pause_reading()
        await settle()
        made.close()

    clients: list[socket.socket] = []
    with threads_that(stay) as run:
        run(lambda: loop.run_until_complete(begin()))
        run(loop.close)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            protocols.clear()
            gc.collect()
    for client in clients:
        with client:
            assert how_it_ends(client) in ("eof", "reset")


async def test_a_transport_may_be_used_by_callbacks_from_other_threads() -> None:
    """call_soon_threadsafe(transport.write, …) from many threads: every piece arrives whole."""
    loop = asyncio.get_running_loop()
    async with connection(Recorder()) as (transport, peer):

        def write_all(number: int) -> None:
            for _ in range(200):
                loop.call_soon_threadsafe(transport.write, b"%03d\n" % number)

        threads = [Background(write_all, number) for number in range(8)]
        received = await asyncio.to_thread(receive_exactly, peer, 8 * 200 * 4)
        lines = received.split()
        assert sorted(lines) == sorted(b"%03d" % number for number in range(8) for _ in range(200))
        for thread in threads:
            thread.finish()


FORKING = """
    import asyncio, os, socket, sys, threading

    CLIENTS, MESSAGES = 10, 100

    class Echo(asyncio.Protocol):
        received = 0

        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data[: len(data) // 2])
            Echo.received += 1
            if Echo.received % 50 == 0:
                child = os.fork()
                if child == 0:
                    os._exit(0)
                children.append(child)
            self.transport.write(data[len(data) // 2 :])

    def converse(number):
        with socket.create_connection(address, 20) as sock:
            for count in range(MESSAGES):
                message = b"%d-%d " % (number, count) * 200
                sock.sendall(message)
                got = b""
                while len(got) < len(message):
                    got += sock.recv(65536)
                assert got == message
        finished.append(number)

    async def main():
        global address
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        threads = [threading.Thread(target=converse, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        server.close()

    children, finished = [], []
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
    assert sorted(finished) == list(range(CLIENTS)), finished
    assert len(children) >= CLIENTS * MESSAGES // 50, children
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
"""


def test_connections_go_on_in_the_parent_when_it_forks_in_mid_traffic(run_child: Any) -> None:
    run_child(FORKING)


@pytest.mark.parametrize("then", ["abort()", "close()", "get_write_buffer_size()", "write(b'child')"])
def test_what_was_written_before_a_fork_goes_out_once(run_child: Any, then: str) -> None:
    """And what the child itself writes goes out at once, for its copy of the loop does not go on."""
    child = run_child(
        f"""
        import asyncio, os
        from network.peers import unix_pair
        from network.recorders import Recorder
        from network.test_transport_write_habit import acquire

        loop = new_event_loop()
        own, peer = unix_pair()
        own.setblocking(False)
        transport = loop.run_until_complete(loop.connect_accepted_socket(Recorder, own))[0]
        loop.run_until_complete(acquire(transport, peer))

        def write_and_fork():
            transport.write(b"one")
            transport.write(b"two")
            pid = os.fork()
            if pid == 0:
                transport.{then}
                os._exit(0)
            os.waitpid(pid, 0)
            transport.write(b"three")
            loop.stop()

        loop.call_soon(write_and_fork)
        loop.run_forever()
        data = peer.recv(100)
        print(data.count(b"child"), data.replace(b"child", b""))
        transport.abort()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        """
    )
    assert child.stdout == f"{int('child' in then)} b'onetwothree'\n", child.explain()


def test_what_was_written_before_a_fork_goes_out_before_what_the_child_writes(run_child: Any) -> None:
    child = run_child(
        """
        import asyncio, os
        from network.peers import unix_pair
        from network.recorders import Recorder
        from network.test_transport_write_habit import acquire

        loop = new_event_loop()
        own, peer = unix_pair()
        own.setblocking(False)
        transport = loop.run_until_complete(loop.connect_accepted_socket(Recorder, own))[0]
        loop.run_until_complete(acquire(transport, peer))
        # Handlers for before a fork run in the reverse order.
        os.register_at_fork(before=lambda: transport.write(b"two "))

        def write_and_fork():
            transport.write(b"one ")
            pid = os.fork()
            if pid == 0:
                transport.write(b"child ")
                os._exit(0)
            os.waitpid(pid, 0)
            transport.write(b"three")
            loop.stop()

        loop.call_soon(write_and_fork)
        loop.run_forever()
        print(peer.recv(100))
        transport.abort()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        """
    )
    assert child.stdout == "b'one two child three'\n", child.explain()


ENDS = {
    "stream abort": "stream.abort()",
    "stream close": "stream.close()",
    "stream pause": "stream.pause_reading()",
    "datagrams abort": "datagrams.abort()",
    "datagrams close": "datagrams.close()",
    "read pipe close": "read_pipe.close()",
    "write pipe abort": "write_pipe.abort()",
    "write pipe close": "write_pipe.close()",
    "server close": "server.close()",
}

ENDING = """
    import asyncio, os, socket, sys, traceback

    def end_all():
        try:
            {end}
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    if {early}:
        # Before the loop's module has a handler of its own.
        os.register_at_fork(after_in_child=end_all)
    loop = new_event_loop()

    async def main():
        global stream, datagrams, server, read_pipe, write_pipe
        from network.recorders import Recorder, settle
        own, peer = socket.socketpair()
        protocol = Recorder()
        stream, _ = await loop.create_connection(lambda: protocol, sock=own)
        datagrams, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        reader, writer = os.pipe()
        read_pipe, _ = await loop.connect_read_pipe(asyncio.Protocol, open(reader, "rb", 0))
        write_pipe, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, open(writer, "wb", 0))
        await settle()
        child = os.fork()
        if child == 0:
            if not {early}:
                end_all()
            os._exit(0)
        print(os.waitpid(child, 0)[1])
        if not {deaf}:
            peer.sendall(b"goes on")
            await protocol.until_received(7)
        peer.close()
        stream.abort()
        datagrams.abort()
        server.close()
        read_pipe.close()
        write_pipe.close()
        await settle()

    loop.run_until_complete(main())
    loop.close()
"""


@pytest.mark.parametrize("early", [False, True], ids=["in the child", "before all other handlers"])
@pytest.mark.parametrize("end", ENDS)
def test_a_forked_child_ends_its_copies_without_a_word(
    run_child: Any, loop_name: str, end: str, early: bool
) -> None:
    """And the parent's go on. asyncio's child takes the parent's out of the epoll that they share."""
    child = run_child(ENDING.format(end=ENDS[end], early=early, deaf=loop_name == ORACLE))
    assert (child.stdout, child.stderr) == ("0\n", ""), child.explain()
