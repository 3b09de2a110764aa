"""A socket, or the loop, closed under a call that waits in sock_*: the call ends as if it had not been.

asyncio's waits hang then. ringloop does as uvloop: the socket counts the call among its users, so that
close() takes effect when the call ends, and what ends it is what happens on the connection. OUTCOMES are
those of uvloop 0.23, which lacks the calls for datagrams.
"""

import asyncio
import os
import socket
import threading
from contextlib import ExitStack
from typing import Any

import pytest

import ringloop
from network.peers import TIMEOUT, bounded_pair, listener, receive_exactly, tcp_pair
from network.recorders import settle
from network.test_sock_waits import BIG, NAMES, waiting
from support.leaks import open_fds
from support.marks import ringloop_only

HANGS = pytest.mark.beyond_asyncio("it waits forever: epoll forgets a closed fd without a word")

#: What each call gives when the other end acts (see `waiting`), and after a shutdown of the socket.
OUTCOMES = {
    "sock_recv": (b"data", b""),
    "sock_recv_into": (4, 0),
    "sock_recvfrom": ((b"data", None), (b"", None)),
    "sock_recvfrom_into": ((4, None), (0, None)),
    "sock_sendall": ("ConnectionResetError", "BrokenPipeError"),
    "sock_accept": ("a connection", "OSError"),
    "sock_connect": (None, "ConnectionResetError"),
}


async def outcome(task: "asyncio.Task[Any]") -> Any:
    """What the task gives, in the words of OUTCOMES."""
    async with asyncio.timeout(TIMEOUT):
        await asyncio.wait([task])
    if error := task.exception():
        return type(error).__name__
    result = task.result()
    if isinstance(result, tuple) and isinstance(result[0], socket.socket):
        result[0].close()
        return "a connection"
    return result


@HANGS
@pytest.mark.parametrize("name", [name for name in NAMES if name != "sock_connect"])
async def test_it_ends_by_what_the_other_end_does(name: str) -> None:
    with waiting(name) as wait:
        task = await wait.start()
        fd = wait.sock.fileno()
        wait.sock.close()
        await settle(1)
        assert not task.done()
        wait.end()
        assert await outcome(task) == OUTCOMES[name][0]
        assert wait.sock.fileno() == -1
        assert fd not in open_fds()


@HANGS
@pytest.mark.parametrize("name", NAMES)
async def test_it_ends_by_a_shutdown(name: str) -> None:
    with waiting(name) as wait:
        task = await wait.start()
        wait.sock.shutdown(socket.SHUT_RDWR)
        wait.sock.close()
        assert await outcome(task) == OUTCOMES[name][1]
        assert wait.sock.fileno() == -1


@pytest.mark.parametrize("name", NAMES)
async def test_cancelled_it_closes_the_socket_before_the_awaiter_hears_of_it(name: str) -> None:
    with waiting(name) as wait:
        task = await wait.start()
        fd = wait.sock.fileno()
        wait.sock.close()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert wait.sock.fileno() == -1
        assert fd not in open_fds()


@pytest.mark.parametrize("name", NAMES)
async def test_after_a_wait_the_socket_is_closed_at_once(name: str) -> None:
    """The call, cancelled or not, is no user of the socket any more."""
    for end in ("cancel", "other end") if name != "sock_connect" else ("cancel",):
        with waiting(name) as wait:
            task = await wait.start()
            _ = task.cancel() if end == "cancel" else wait.end()
            await asyncio.wait([task])
            if not task.cancelled():
                await outcome(task)
            fd = wait.sock.fileno()
            wait.sock.close()
            assert wait.sock.fileno() == -1
            assert fd not in open_fds()


@HANGS
async def test_the_peer_hears_of_the_close_when_the_call_ends() -> None:
    loop = asyncio.get_running_loop()
    ours, peer = tcp_pair()
    with peer:
        ours.setblocking(False)
        task = loop.create_task(loop.sock_recv(ours, 10))
        await settle(1)
        ours.close()
        peer.sendall(b"data")
        assert await task == b"data"
        assert peer.recv(10) == b""


@HANGS
async def test_sendall_sends_all() -> None:
    loop = asyncio.get_running_loop()
    ours, peer = bounded_pair()
    with peer:
        ours.setblocking(False)
        task = loop.create_task(loop.sock_sendall(ours, BIG))
        await settle(1)
        ours.close()
        assert await asyncio.to_thread(receive_exactly, peer, len(BIG)) == BIG
        await task
        assert peer.recv(1) == b""


@HANGS
async def test_a_connect_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed while the name is resolved, or while it connects."""
    loop = asyncio.get_running_loop()
    for host in ("127.0.0.1", "localhost"):
        with listener() as server, socket.socket() as sock:
            sock.setblocking(False)
            loop.call_soon(sock.close)
            await loop.sock_connect(sock, (host, server.getsockname()[1]))
            assert sock.fileno() == -1
            server.accept()[0].close()


@HANGS
async def test_the_last_of_two_calls_closes() -> None:
    loop = asyncio.get_running_loop()
    ours, peer = bounded_pair()
    with peer:
        ours.setblocking(False)
        sending = loop.create_task(loop.sock_sendall(ours, BIG))
        receiving = loop.create_task(loop.sock_recv(ours, 10))
        await settle(1)
        ours.close()
        peer.sendall(b"data")
        assert await receiving == b"data"
        assert ours.fileno() != -1
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert ours.fileno() == -1


@HANGS
async def test_a_socket_that_was_detached_is_not_read() -> None:
    """Its number belongs to somebody else, who alone may use it."""
    loop = asyncio.get_running_loop()
    ours, peer = tcp_pair()
    ours.setblocking(False)
    task = loop.create_task(loop.sock_recv(ours, 10))
    await settle(1)
    with peer, socket.socket(fileno=ours.detach()) as other:
        peer.sendall(b"data")
        with pytest.raises(OSError, match=r"^\[Errno 9\] Bad file descriptor$"):
            await task
        assert other.recv(10) == b"data"


async def test_what_is_only_like_a_socket_can_be_waited_for() -> None:
    class Like:
        def __init__(self, sock: socket.socket) -> None:
            self.fileno, self.recv, self.gettimeout = sock.fileno, sock.recv, sock.gettimeout

    loop = asyncio.get_running_loop()
    ours, peer = tcp_pair()
    with ours, peer:
        ours.setblocking(False)
        task = loop.create_task(loop.sock_recv(Like(ours), 10))  # type: ignore[arg-type]
        await settle(1)
        peer.sendall(b"data")
        assert await task == b"data"


def begun(loop: asyncio.AbstractEventLoop, stack: ExitStack, name: str) -> tuple[Any, "asyncio.Task[Any]"]:
    """A call of that name that waits on the loop, which then stops."""

    async def begin() -> tuple[Any, "asyncio.Task[Any]"]:
        wait = stack.enter_context(waiting(name))
        task = await wait.start()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        return wait, task

    return loop.run_until_complete(begin())


@pytest.mark.beyond_asyncio("its calls do not keep the socket open")
@pytest.mark.parametrize("closing", ["from this thread", "from another thread"])
@pytest.mark.parametrize("name", NAMES)
def test_a_closed_loop_lets_go_of_the_socket(
    name: str, closing: str, loop: asyncio.AbstractEventLoop
) -> None:
    with ExitStack() as stack:
        wait, task = begun(loop, stack, name)
        fd = wait.sock.fileno()
        wait.sock.close()
        assert fd in open_fds()
        if closing == "from this thread":
            loop.close()
        else:
            thread = threading.Thread(target=loop.close)
            thread.start()
            thread.join(TIMEOUT)
        assert wait.sock.fileno() == -1
        assert fd not in open_fds()
        assert not task.done()
        del task


@pytest.mark.parametrize("name", NAMES)
def test_after_the_loop_the_socket_is_closed_at_once(name: str, loop: asyncio.AbstractEventLoop) -> None:
    with ExitStack() as stack:
        wait, task = begun(loop, stack, name)
        loop.close()
        assert wait.sock.fileno() != -1
        wait.sock.close()
        assert wait.sock.fileno() == -1
        del task


@ringloop_only
def test_a_close_that_fails_later_is_reported(watch: Any) -> None:
    loop = watch.factory(ringloop.new_event_loop)()
    with ExitStack() as stack:
        wait, task = begun(loop, stack, "sock_recv")
        os.close(wait.sock.fileno())
        wait.sock.close()
        loop.close()
        del task
    (context,) = watch.take()
    assert context["message"] == "closing a socket failed"
    assert context["exception"].errno == 9
    assert context["socket"] is wait.sock


FORK = """
import asyncio, os, socket

loop = new_event_loop()
ours, peer = socket.socketpair()
ours.setblocking(False)

def closes_at_once():
    ours.close()
    os._exit(0 if ours.fileno() == -1 else 1)

async def main():
    task = loop.create_task(loop.sock_recv(ours, 10))
    for _ in range(3):
        await asyncio.sleep(0)
    child = os.fork()
    if child == 0:
        closes_at_once()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    peer.send(b"data")
    print(await task)

loop.run_until_complete(main())
loop.close()
ours.close()
peer.close()
"""


def test_a_forked_childs_socket_is_its_own(run_child: Any) -> None:
    child = run_child(FORK)
    assert child.stdout == "0\nb'data'\n", child.explain()
