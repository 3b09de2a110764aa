"""Waiting in sock_*: cancelled, timed out, its file or its loop closed under it. Nothing is lost."""

import asyncio
import os
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from network.peers import (
    TIMEOUT,
    Background,
    blackhole,
    bounded_pair,
    listener,
    receive_all,
    receive_exactly,
    tcp_pair,
)
from network.recorders import settle
from support.leaks import open_fds

BIG = random.Random(31).randbytes(1024 * 1024)  # more than the kernel's buffers of `bounded_pair` take


class Wait:
    """One kind of waiting call: the socket, the call, and what the other end does to end it."""

    def __init__(
        self, name: str, sock: socket.socket, call: Callable[[], Any], end: Callable[[], object]
    ) -> None:
        self.name = name
        self.sock = sock
        self.call = call
        self.end = end

    async def start(self) -> "asyncio.Task[Any]":
        """A task in which the call waits."""
        task = asyncio.get_running_loop().create_task(self.call())
        await settle(1)
        assert not task.done()
        return task


NAMES = [
    "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into",
    "sock_sendall", "sock_accept", "sock_connect",
]  # fmt: skip


@contextmanager
def waiting(name: str) -> Iterator[Wait]:
    """A call of that name that has to wait, on the running loop."""
    loop = asyncio.get_running_loop()
    if name == "sock_connect":
        with blackhole() as address, socket.socket() as sock:
            sock.setblocking(False)
            yield Wait(name, sock, lambda: loop.sock_connect(sock, address), lambda: None)
        return
    if name == "sock_accept":
        with listener() as server:
            server.setblocking(False)
            address = server.getsockname()
            clients: list[socket.socket] = []
            yield Wait(
                name, server, lambda: loop.sock_accept(server),
                lambda: clients.append(socket.create_connection(address, TIMEOUT)),
            )  # fmt: skip
        for client in clients:
            client.close()
        return
    ours, peer = bounded_pair()
    with ours, peer:
        ours.setblocking(False)
        arguments: tuple[Any, ...] = (10,)
        if name in ("sock_recv_into", "sock_recvfrom_into"):
            arguments = (bytearray(10),)
        if name == "sock_sendall":
            arguments = (BIG,)
        end = peer.close if name == "sock_sendall" else lambda: peer.sendall(b"data")
        yield Wait(name, ours, lambda: getattr(loop, name)(ours, *arguments), end)


@pytest.mark.parametrize("name", NAMES)
async def test_a_cancelled_wait_ends_at_once_and_leaves_nothing(name: str) -> None:
    """No reader or writer stays behind on the fd, and no descriptor; the loop goes on."""
    with waiting(name) as wait:
        before = open_fds()
        task = await wait.start()
        assert task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        loop = asyncio.get_running_loop()
        assert loop.remove_reader(wait.sock) is False
        assert loop.remove_writer(wait.sock) is False
        assert open_fds().keys() == before.keys()
        await settle(1)


@pytest.mark.parametrize("name", NAMES)
async def test_a_wait_under_asyncio_timeout_times_out(name: str) -> None:
    with waiting(name) as wait, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await wait.call()


@pytest.mark.parametrize("name", NAMES)
async def test_a_wait_under_wait_for_times_out(name: str) -> None:
    with waiting(name) as wait, pytest.raises(TimeoutError):
        await asyncio.wait_for(wait.call(), 0.02)


@pytest.mark.parametrize("name", NAMES)
async def test_a_wait_cancelled_when_its_end_has_come_raises_all_the_same(name: str) -> None:
    """The peer acts, the cancel comes before the task could run: CancelledError wins."""
    with waiting(name) as wait:
        task = await wait.start()
        wait.end()
        assert task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()


async def test_bytes_that_arrive_with_the_cancel_go_to_the_next_recv() -> None:
    loop = asyncio.get_running_loop()
    ours, peer = tcp_pair()
    with ours, peer:
        ours.setblocking(False)
        for number in range(50):
            task = loop.create_task(loop.sock_recv(ours, 100))
            await asyncio.sleep(0)
            peer.sendall(b"%04d" % number)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await loop.sock_recv(ours, 100) == b"%04d" % number


@pytest.mark.beyond_asyncio("it receives before the task runs, and drops that if it is cancelled")
async def test_a_stream_read_with_random_cancels_is_whole() -> None:
    """A reader that is cancelled at random moments still gets every byte once and in order."""
    loop = asyncio.get_running_loop()
    chance = random.Random(32)
    ours, peer = bounded_pair()
    with ours, peer:
        ours.setblocking(False)
        sending = Background(lambda: (peer.sendall(BIG), peer.shutdown(socket.SHUT_WR)))
        received = bytearray()
        cancels = 0
        while True:
            task = loop.create_task(loop.sock_recv(ours, chance.choice((10, 1000, 30_000))))
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            cancelled = chance.random() < 0.5 and task.cancel()
            try:
                data = await task
            except asyncio.CancelledError:
                cancels += 1
                continue
            assert not cancelled
            if not data:
                break
            received += data
        assert received == BIG
        assert cancels
        sending.finish()


async def test_a_client_that_arrives_with_the_cancel_is_accepted_by_the_next() -> None:
    loop = asyncio.get_running_loop()
    with listener() as server:
        server.setblocking(False)
        for _ in range(20):
            task = loop.create_task(loop.sock_accept(server))
            await asyncio.sleep(0)
            with socket.create_connection(server.getsockname(), TIMEOUT) as client:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                accepted, address = await loop.sock_accept(server)
                accepted.close()
                assert address == client.getsockname()


async def test_a_cancelled_sendall_has_sent_a_beginning() -> None:
    loop = asyncio.get_running_loop()
    ours, peer = bounded_pair()
    with ours, peer:
        ours.setblocking(False)
        task = loop.create_task(loop.sock_sendall(ours, BIG))
        await settle(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settle(1)
        ours.shutdown(socket.SHUT_WR)
        received = await asyncio.to_thread(receive_all, peer)
        assert 0 < len(received) < len(BIG)
        assert BIG.startswith(received)


async def test_a_cancelled_recv_into_leaves_the_buffer_alone() -> None:
    """After the cancel the buffer is the caller's: it can be resized, and nothing is written to it."""
    loop = asyncio.get_running_loop()
    ours, peer = tcp_pair()
    buffer = bytearray(100)
    with ours, peer:
        ours.setblocking(False)
        task = loop.create_task(loop.sock_recv_into(ours, buffer))
        await settle(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        buffer.extend(bytes(100))
        peer.sendall(b"not for this buffer")
        await settle()
        assert buffer == bytes(200)
        assert await loop.sock_recv(ours, 100) == b"not for this buffer"


async def test_a_cancelled_connect_may_be_tried_again_elsewhere() -> None:
    loop = asyncio.get_running_loop()
    with blackhole() as address, socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await loop.sock_connect(sock, address)
    with listener() as server, socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, server.getsockname())


async def test_gathered_and_grouped_waits_are_cancelled_together() -> None:
    loop = asyncio.get_running_loop()
    pairs = [tcp_pair() for _ in range(50)]
    for ours, _ in pairs:
        ours.setblocking(False)

    async def receive_and_fail() -> None:
        async with asyncio.TaskGroup() as group:
            for ours, _ in pairs:
                group.create_task(loop.sock_recv(ours, 10))
            await settle(1)
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        await receive_and_fail()
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
    for ours, peer in pairs:
        peer.sendall(b"still there")
        assert await loop.sock_recv(ours, 100) == b"still there"
        ours.close()
        peer.close()


@contextmanager
def taking_over(fd: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A new connection one of whose sockets has the free number `fd`: that socket, and its other end."""
    with ExitStack() as stack:
        while True:
            left, right = (stack.enter_context(sock) for sock in bounded_pair())
            if fd in (left.fileno(), right.fileno()):
                yield (left, right) if left.fileno() == fd else (right, left)
                return


@pytest.mark.beyond_asyncio("it waits forever: epoll forgets a closed fd without a word")
@pytest.mark.parametrize("name", ["sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into"])
async def test_a_wait_whose_file_was_closed_takes_nothing_from_the_next_with_that_number(name: str) -> None:
    """The number is another connection's when the old one's end wakes the waiter: its bytes are not his."""
    with waiting(name) as wait:
        task = await wait.start()
        fd = wait.sock.detach()  # a close() would wait for the call: see test_closed_under_a_wait
        os.close(fd)
        with taking_over(fd) as (reused, other):
            other.sendall(b"private")
            wait.end()
            result = (await asyncio.gather(task, return_exceptions=True))[0]
            reused.setblocking(False)
            assert reused.recv(100) == b"private"
            assert isinstance(result, OSError) or result in (b"data", 4, (b"data", None), (4, None))


@pytest.mark.beyond_asyncio("it waits forever: epoll forgets a closed fd without a word")
async def test_a_sendall_whose_file_was_closed_sends_nothing_to_the_next_with_that_number() -> None:
    loop = asyncio.get_running_loop()
    ours, peer = bounded_pair()
    with peer:
        ours.setblocking(False)
        task = loop.create_task(loop.sock_sendall(ours, BIG))
        await settle(1)
        fd = ours.detach()
        os.close(fd)
        with taking_over(fd) as (_, other):
            peer.close()
            await settle()
            other.setblocking(False)
            with pytest.raises(BlockingIOError):
                other.recv(1)
            with pytest.raises(OSError, match=r"^\[Errno \d+\] "):
                await task


@pytest.mark.parametrize("name", NAMES)
async def test_a_cancel_after_the_close_of_its_socket_frees_everything(name: str) -> None:
    with waiting(name) as wait:
        address = wait.sock.getsockname()
        task = await wait.start()
        wait.sock.close()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if name == "sock_accept":
            with socket.socket() as again:
                again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                again.bind(address)
                again.listen()


@pytest.mark.parametrize("name", NAMES)
def test_the_loop_is_closed_under_a_wait(name: str, loop: asyncio.AbstractEventLoop, watch: Any) -> None:
    """The task is destroyed pending, as asyncio reports; the socket is untouched and the caller's."""

    async def begin() -> tuple[Any, Wait, "asyncio.Task[Any]"]:
        stack = waiting(name)
        wait = stack.__enter__()
        return stack, wait, await wait.start()

    stack, wait, task = loop.run_until_complete(begin())
    loop.close()
    assert not task.done()
    assert wait.sock.fileno() >= 0
    if name in ("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into"):
        wait.end()
        wait.sock.settimeout(TIMEOUT)
        assert wait.sock.recv(10) == b"data"
    coroutine: Any = task.get_coro()
    with pytest.raises((RuntimeError, GeneratorExit, StopIteration, asyncio.CancelledError)):
        coroutine.throw(asyncio.CancelledError)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    stack.__exit__(None, None, None)


async def test_two_tasks_receive_from_one_socket_what_there_is() -> None:
    """asyncio serves the last of several receivers; here it is only asked that one of them gets all."""
    loop = asyncio.get_running_loop()
    ours, peer = tcp_pair()
    with ours, peer:
        ours.setblocking(False)
        first = loop.create_task(loop.sock_recv(ours, 100))
        await settle(1)
        second = loop.create_task(loop.sock_recv(ours, 100))
        await settle(1)
        peer.sendall(b"for one of them")
        done, pending = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [b"for one of them"]
        for task in pending:
            task.cancel()
        await asyncio.wait([first, second])


async def test_a_reader_callback_and_a_sendall_share_a_socket() -> None:
    loop = asyncio.get_running_loop()
    ours, peer = bounded_pair()
    seen: list[bytes] = []
    with ours, peer:
        ours.setblocking(False)
        loop.add_reader(ours, lambda: seen.append(ours.recv(100)))
        sending = loop.create_task(loop.sock_sendall(ours, BIG))
        await settle(1)
        peer.sendall(b"for the callback")
        await settle()
        assert seen == [b"for the callback"]
        assert await asyncio.to_thread(receive_exactly, peer, len(BIG)) == BIG
        await sending
        assert loop.remove_reader(ours)


async def test_a_thousand_waits_are_cancelled_and_leave_nothing() -> None:
    loop = asyncio.get_running_loop()
    pairs = [socket.socketpair() for _ in range(200)]
    before = open_fds()
    for left, right in pairs:
        left.setblocking(False)
        right.setblocking(False)
    for _ in range(5):
        tasks = [loop.create_task(loop.sock_recv(left, 10)) for left, _ in pairs]
        await settle(1)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert open_fds().keys() == before.keys()
    for left, right in pairs:
        left.close()
        right.close()
