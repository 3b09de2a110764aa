"""The race between a name's addresses: who begins when, who wins, what is told, and that nobody stays behind.

Attempts are played by `Attempts`, which takes the place of the loop's sock_connect: a test says which of them
ends when, and how, and so nothing here depends on time.
"""

import asyncio
import gc
import itertools
import socket
import sys
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from network.peers import TIMEOUT, listener
from network.recorders import Recorder, drive, settle, until_closed
from support.leaks import open_fds

OLD_RACE = pytest.mark.beyond_asyncio("its staggered_race was mended in 3.14", before=(3, 14))
DELAY_S = 1000.0  # never over in a test


class Attempts:
    """The attempts to connect to the addresses 127.0.0.1, 127.0.0.2, …, which are numbered from 1."""

    def __init__(self, count: int, address: tuple[str, int]) -> None:
        self.numbers = {f"127.0.0.{number}": number for number in range(1, count + 1)}
        self.begun: list[int] = []
        self.sockets: dict[int, socket.socket] = {}
        self.ignoring_cancel: set[int] = set()
        self._port = address[1]
        self._ends: dict[int, asyncio.Future[None]] = {}
        self._change = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._sock_connect = self._loop.sock_connect

    async def getaddrinfo(self, host: Any, port: Any, **keywords: Any) -> Any:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, self._port))
            for host in self.numbers
        ]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        number = self.numbers[address[0]]
        self.begun.append(number)
        self.sockets[number] = sock
        self._ends[number] = self._loop.create_future()
        self._change.set()
        try:
            await self._ends[number]
        except asyncio.CancelledError:
            if number not in self.ignoring_cancel:
                raise
        await self._sock_connect(sock, address)

    async def until_begun(self, count: int) -> None:
        """Waits until so many have begun."""
        async with asyncio.timeout(TIMEOUT):
            while len(self.begun) < count:
                self._change.clear()
                await self._change.wait()

    def succeed(self, number: int) -> None:
        """That attempt is connected now."""
        self._ends[number].set_result(None)

    def fail(self, number: int, error: BaseException | None = None) -> None:
        """That attempt has failed now."""
        self._ends[number].set_exception(error or OSError(f"attempt {number} failed"))

    def open(self) -> list[int]:
        """Whose sockets are open."""
        return [number for number, sock in self.sockets.items() if sock.fileno() != -1]


@asynccontextmanager
async def attempts(count: int) -> AsyncIterator[Attempts]:
    """Lets the running loop make its attempts with `Attempts`, at real listening sockets."""
    loop = asyncio.get_running_loop()
    with listener("0.0.0.0") as server:
        made = Attempts(count, server.getsockname())
        loop.getaddrinfo = made.getaddrinfo  # type: ignore[method-assign,assignment]
        loop.sock_connect = made.sock_connect  # type: ignore[method-assign,assignment]
        try:
            yield made
        finally:
            del loop.getaddrinfo, loop.sock_connect


def connecting(delay: float = 0, **keywords: Any) -> "asyncio.Task[Any]":
    """A task that connects by happy eyeballs, with no wait between attempts if not said otherwise."""
    loop = asyncio.get_running_loop()
    return loop.create_task(
        loop.create_connection(Recorder, "name", 80, happy_eyeballs_delay=delay, **keywords)
    )


async def outcome(task: "asyncio.Task[Any]") -> tuple[Any, ...]:
    """Whom the task has connected to, or the error's type and text; the connection is closed."""
    try:
        transport, _ = await task
    except Exception as error:
        return type(error).__name__, str(error)
    peer = transport.get_extra_info("peername")[0]
    transport.abort()
    await until_closed(transport.get_extra_info("socket"))
    return "connected", peer


@pytest.mark.parametrize("order", [*itertools.permutations((1, 2, 3))], ids=str)
@pytest.mark.parametrize("winner", [1, 2, 3, None])
def test_the_first_to_succeed_wins(order: tuple[int, ...], winner: int | None, same_as_asyncio: Any) -> None:
    """All are under way; they end in that order, all but the winner by an error."""

    async def race() -> Any:
        async with attempts(3) as made:
            task = connecting()
            await made.until_begun(3)
            for number in order:
                if number == winner:
                    made.succeed(number)
                    break
                made.fail(number)
                await settle(1)
            return await outcome(task), made.begun, made.open()

    result, begun, left = same_as_asyncio(lambda loop_factory: drive(loop_factory, race))
    assert begun == [1, 2, 3]
    assert left == []
    if winner is None:
        failures = ", ".join(f"attempt {number} failed" for number in (1, 2, 3))
        assert result == ("OSError", f"Multiple exceptions: {failures}")
    else:
        assert result == ("connected", f"127.0.0.{winner}")


@pytest.mark.parametrize("winner", [1, 2, 3, None])
def test_a_failure_begins_the_next_at_once(winner: int | None, same_as_asyncio: Any) -> None:
    async def race() -> Any:
        async with attempts(3) as made:
            task = connecting(DELAY_S)
            for number in (1, 2, 3):
                await made.until_begun(number)
                await settle(1)
                assert made.begun == [*range(1, number + 1)]
                if number == winner:
                    made.succeed(number)
                    break
                made.fail(number)
            return await outcome(task), made.begun, made.open()

    result, _, left = same_as_asyncio(lambda loop_factory: drive(loop_factory, race))
    assert result[0] == ("OSError" if winner is None else "connected")
    assert left == []


async def test_the_loops_tasks_are_over_when_the_race_is() -> None:
    async with attempts(3) as made:
        task = connecting()
        await made.until_begun(3)
        made.succeed(2)
        transport, _ = await task
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert made.open() == [2]
        transport.abort()
        await until_closed(transport.get_extra_info("socket"))


@pytest.mark.parametrize(
    "second",
    [
        "succeeds too",
        pytest.param("ignores its cancel", marks=pytest.mark.beyond_asyncio("it loses the socket")),
    ],
)
async def test_a_second_winner_is_closed(second: str) -> None:
    async with attempts(3) as made:
        task = connecting()
        await made.until_begun(3)
        made.succeed(2)
        if second == "succeeds too":
            made.succeed(1)
        else:
            made.ignoring_cancel.add(1)
        transport, _ = await task
        winner = made.numbers[transport.get_extra_info("peername")[0]]
        assert made.open() == [winner]
        transport.abort()
        await until_closed(transport.get_extra_info("socket"))


@pytest.mark.beyond_asyncio("it loses the winner's socket")
@pytest.mark.parametrize("cancels", [1, 2])
async def test_cancelled_at_any_time_it_has_closed_all_when_it_raises(cancels: int) -> None:
    """Whoever is under way or has won: the sockets are closed before the awaiter hears of it."""
    for passes in range(100):
        async with attempts(3) as made:
            before = open_fds()
            task = connecting()
            await made.until_begun(3)
            made.succeed(2)
            for _ in range(passes):
                await asyncio.sleep(0)
            cancelled = [task.cancel() for _ in range(cancels)]
            if not cancelled[0]:
                assert await outcome(task) == ("connected", "127.0.0.2")
                return
            with pytest.raises(asyncio.CancelledError):
                await task
            if made.sockets[2].fileno() != -1:  # it was a transport's
                await until_closed(made.sockets[2])
            assert made.open() == []
            assert open_fds().keys() == before.keys()
            assert asyncio.all_tasks() == {asyncio.current_task()}
    raise AssertionError("the race did not end")


@pytest.mark.beyond_asyncio("it does not wait for the attempts before 3.14", before=(3, 14))
async def test_cancelled_again_while_it_ends_it_waits_all_the_same() -> None:
    async with attempts(2) as made:
        task = connecting()
        await made.until_begun(2)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert made.open() == []
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_timed_out_it_raises_timeouterror() -> None:
    async with attempts(2) as made:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await connecting()
        await settle(1)
        assert made.open() == []


@pytest.mark.beyond_asyncio("it forgets errors that are no OSError")
@pytest.mark.parametrize("all_errors", [False, True])
async def test_an_error_that_is_no_oserror_is_told(all_errors: bool) -> None:
    error = ValueError("a mistake")
    for count in (1, 2):
        async with attempts(count) as made:
            task = connecting(DELAY_S, all_errors=all_errors)
            for number in range(1, count + 1):
                await made.until_begun(number)
                made.fail(number, error if number == 1 else None)
            with pytest.raises((ValueError, OSError, ExceptionGroup)) as caught:
                await task
        if all_errors:
            assert isinstance(caught.value, ExceptionGroup)
            assert caught.value.exceptions[0] is error
            assert len(caught.value.exceptions) == count
        elif count == 1:
            assert caught.value is error
        else:
            assert str(caught.value) == "Multiple exceptions: a mistake, attempt 2 failed"


async def test_an_error_that_is_no_oserror_does_not_end_the_race() -> None:
    async with attempts(2) as made:
        task = connecting(DELAY_S)
        await made.until_begun(1)
        made.fail(1, ValueError("a mistake"))
        await made.until_begun(2)
        made.succeed(2)
        assert await outcome(task) == ("connected", "127.0.0.2")


@pytest.mark.beyond_asyncio("it cancels what waits for its turn as well, and forgets the attempts to come")
@pytest.mark.parametrize("all_errors", [False, True])
async def test_attempts_that_somebody_else_cancels_count_as_failed(all_errors: bool) -> None:
    async with attempts(2) as made:
        task = connecting(DELAY_S, all_errors=all_errors)
        for number in (1, 2):
            await made.until_begun(number)
            for other in asyncio.all_tasks() - {task, asyncio.current_task()}:
                other.cancel()
        assert await outcome(task) == ("TimeoutError", "create_connection failed")


@OLD_RACE
@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
@pytest.mark.parametrize("at_once", [False, True])
async def test_eager_tasks_race(at_once: bool) -> None:
    """Attempts whose first steps run inside create_task, up to their end if they fail at once."""
    loop = asyncio.get_running_loop()
    async with attempts(3) as made:
        if at_once:
            connect = made.sock_connect

            async def sock_connect(sock: socket.socket, address: Any) -> None:
                if address[0] != "127.0.0.3":
                    raise OSError("at once")
                await connect(sock, address)

            loop.sock_connect = sock_connect  # type: ignore[method-assign,assignment]
        task = connecting()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        try:
            await made.until_begun(1 if at_once else 3)
            made.succeed(3)
            assert await outcome(task) == ("connected", "127.0.0.3")
        finally:
            loop.set_task_factory(None)


class Failure(OSError):
    """Can be referred to weakly, as no error of Python's own."""


@OLD_RACE
@pytest.mark.parametrize("delay", [None, 0.0])
@pytest.mark.parametrize("all_errors", [False, pytest.param(True, marks=OLD_RACE)])
@pytest.mark.parametrize("count", [1, 2])
async def test_an_error_is_freed_without_the_garbage_collector(
    delay: float | None, all_errors: bool, count: int
) -> None:
    keywords = {"all_errors": True} if all_errors else {}
    references = []
    loop = asyncio.get_running_loop()
    async with attempts(count):

        async def sock_connect(sock: socket.socket, address: Any) -> None:
            error = Failure(f"no way to {address[0]}")
            references.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

        loop.sock_connect = sock_connect  # type: ignore[method-assign,assignment]
        gc.disable()
        try:
            try:
                await loop.create_connection(Recorder, "name", 80, happy_eyeballs_delay=delay, **keywords)
            except Exception as error:
                kind = type(error).__name__
            left = [reference for reference in references if reference() is not None]
        finally:
            gc.enable()
    assert kind == ("ExceptionGroup" if all_errors else "Failure" if count == 1 else "OSError")
    assert left == []


@pytest.mark.beyond_asyncio("it closes that socket since 3.14.7 only", before=(3, 15))
@pytest.mark.parametrize("delay", [None, 0.0])
async def test_a_failing_protocol_factory_leaves_no_socket(delay: float | None) -> None:
    loop = asyncio.get_running_loop()
    async with attempts(1) as made:
        del loop.sock_connect
        before = open_fds()
        fail: Any = lambda: 1 / 0  # noqa: E731
        with pytest.raises(ZeroDivisionError):
            await loop.create_connection(fail, "name", 80, happy_eyeballs_delay=delay)
        assert open_fds().keys() == before.keys()
        loop.sock_connect = made.sock_connect  # type: ignore[method-assign,assignment]
