"""Connections outlive their loop's thread and a fork: a loop stopped here goes on with its traffic there."""

import asyncio
import gc
import hashlib
import os
import random
import select
import socket
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import ringloop
from network.datagram_recorders import DatagramRecorder, udp_peer
from network.peers import TIMEOUT, Background, how_it_ends, receive_exactly, tcp_pair, unix_pair
from network.recorders import Recorder, connection, settle
from support.loops import ORACLE
from support.marks import needs_io_uring
from support.waiting import until_asleep

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


QUEUES = {"anon_inode:[io_uring]", "anon_inode:[eventpoll]"}
Arrived = asyncio.Future[object]


async def arm_reader(fds: ExitStack, arrived: Arrived) -> Callable[[], object]:
    loop = asyncio.get_running_loop()
    ours, peer = (fds.enter_context(sock) for sock in unix_pair())

    def readable() -> None:
        arrived.set_result(ours.recv(100))
        loop.remove_reader(ours)

    loop.add_reader(ours, readable)
    return lambda: peer.send(b"meanwhile")


async def arm_pipe(fds: ExitStack, arrived: Arrived) -> Callable[[], object]:
    reader, writer = os.pipe()
    pipe = fds.enter_context(os.fdopen(reader, "rb", 0))
    fds.callback(os.close, writer)
    protocol = Recorder(data_received=lambda self: arrived.set_result(self.received))
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
    arrived.add_done_callback(lambda _: transport.close())
    return lambda: os.write(writer, b"meanwhile")


async def arm_server(fds: ExitStack, arrived: Arrived) -> Callable[[], object]:
    def accepted(protocol: Recorder) -> None:
        arrived.set_result(b"meanwhile")
        protocol.transport.close()
        server.close()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Recorder(connection_made=accepted), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    return lambda: fds.enter_context(socket.create_connection(address, TIMEOUT))


async def arm_stream(fds: ExitStack, arrived: Arrived) -> Callable[[], object]:
    ours, peer = tcp_pair()
    fds.enter_context(peer)
    protocol = Recorder(data_received=lambda self: arrived.set_result(self.received))
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
    arrived.add_done_callback(lambda _: transport.abort())
    return lambda: peer.send(b"meanwhile")


async def arm_datagrams(fds: ExitStack, arrived: Arrived) -> Callable[[], object]:
    protocol = DatagramRecorder(datagram_received=lambda self: arrived.set_result(self.datagrams[0]))
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: protocol, local_addr=("127.0.0.1", 0)
    )
    arrived.add_done_callback(lambda _: transport.close())
    peer = fds.enter_context(udp_peer())
    return lambda: peer.sendto(b"meanwhile", transport.get_extra_info("sockname"))


def wait_until_told() -> None:
    """Blocks until the process's only loop could see, if it ran, that something is ready."""
    targets = {fd: os.readlink(fd) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()}
    queues = [
        fd for fd, target in targets.items() if target in {"anon_inode:[io_uring]", "anon_inode:[eventpoll]"}
    ]
    assert len(queues) == 1
    assert select.select([int(queues[0].name)], [], [], TIMEOUT)[0]


@pytest.mark.parametrize("stay", [False, True], ids=["thread ended", "thread alive"])
@pytest.mark.parametrize("arm", [arm_reader, arm_pipe, arm_server, arm_stream, arm_datagrams])
def test_what_became_ready_between_two_threads(
    arm: Callable[[ExitStack, Arrived], Awaitable[Callable[[], object]]],
    stay: bool,
    loop: asyncio.AbstractEventLoop,
) -> None:
    """The kernel may have ended what an ended thread submitted, and told of it, before the next runs."""
    arrived: Arrived = loop.create_future()
    happen: Callable[[], object]

    async def begin() -> None:
        nonlocal happen
        happen = await arm(fds, arrived)
        await until_asleep()

    async def end() -> object:
        async with asyncio.timeout(TIMEOUT):
            result = await arrived
        await settle()
        return result

    with ExitStack() as fds, threads_that(stay) as run:
        run(lambda: loop.run_until_complete(begin()))
        happen()
        wait_until_told()
        assert loop.run_until_complete(end()) == b"meanwhile"


@needs_io_uring
def test_a_thread_that_computes_keeps_nothing_of_what_it_had_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before 6.1 the kernel accepts on the thread that asked, and that may be after another took the loop."""
    monkeypatch.setenv("RINGLOOP_DRIVER", "io_uring")
    monkeypatch.setenv("RINGLOOP_DISABLE", "after_6.0")
    loop = ringloop.new_event_loop()
    arrived: Arrived = loop.create_future()
    happen: Callable[[], object]
    computes = threading.Event()

    async def begin() -> None:
        nonlocal happen
        happen = await arm_server(fds, arrived)
        await until_asleep()

    def begin_and_compute() -> None:
        loop.run_until_complete(begin())
        computes.set()
        # Without the GIL, and without a system call.
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000)

    async def end() -> object:
        async with asyncio.timeout(TIMEOUT):
            return await arrived

    with ExitStack() as fds:
        thread = Background(begin_and_compute)
        assert computes.wait(TIMEOUT)
        happen()
        assert loop.run_until_complete(end()) == b"meanwhile"
        thread.finish()
        loop.run_until_complete(settle())
    loop.close()


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
