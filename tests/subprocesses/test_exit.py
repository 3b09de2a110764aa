"""How a child's end is noticed, and what signals, closing and cancelling do to it."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
from asyncio.subprocess import PIPE
from collections.abc import Callable
from typing import Any, cast

import pytest

from support import leaks
from support.compare import take_log
from support.loops import LoopFactory
from support.marks import ringloop_only
from support.waiting import until_asleep, wait_until

SLEEP = ("sleep", "1000")
TIMEOUT = 20


class Recorder(asyncio.SubprocessProtocol):
    """Writes down what the transport tells."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.exited = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append(("connection_made",))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.events.append(("pipe_data_received", fd, data))

    def pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        self.events.append(("pipe_connection_lost", fd, exc))

    def process_exited(self) -> None:
        self.events.append(("process_exited",))
        self.exited.set_result(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.events.append(("connection_lost", exc))
        self.lost.set_result(None)


async def spawn(*arguments: str, **keywords: Any) -> tuple[asyncio.SubprocessTransport, Recorder]:
    loop = asyncio.get_running_loop()
    return await loop.subprocess_exec(Recorder, *arguments, **{"stdin": None, **keywords})


def process_of(child: asyncio.subprocess.Process) -> "subprocess.Popen[bytes]":
    transport = child._transport  # type: ignore[attr-defined]
    return cast("subprocess.Popen[bytes]", transport.get_extra_info("subprocess"))


def is_zombie(pid: int) -> bool:
    """Whether the child has ended; it is not reaped by looking."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


@pytest.mark.parametrize("status", [0, 1, 77, 255])
async def test_the_exit_status(status: int) -> None:
    child = await asyncio.create_subprocess_shell(f"exit {status}")
    assert await child.wait() == status
    assert child.returncode == status
    assert await child.wait() == status


@pytest.mark.parametrize("method", ["terminate", "kill", "send_signal"])
async def test_signals(method: str) -> None:
    child = await asyncio.create_subprocess_exec(*SLEEP)
    getattr(child, method)(*([signal.SIGHUP] if method == "send_signal" else []))
    expected = {"terminate": signal.SIGTERM, "kill": signal.SIGKILL, "send_signal": signal.SIGHUP}[method]
    assert await child.wait() == -expected


async def test_a_stopped_child_has_not_ended() -> None:
    child = await asyncio.create_subprocess_exec(*SLEEP)
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    await until_asleep()
    assert child.returncode is None
    child.send_signal(signal.SIGCONT)
    child.kill()
    assert await child.wait() == -signal.SIGKILL


async def test_a_signal_to_a_child_that_ended_is_harmless() -> None:
    transport, protocol = await spawn("cat", stdin=PIPE, stdout=None, stderr=None)
    writer = transport.get_pipe_transport(0)
    assert writer is not None
    os.kill(transport.get_pid(), signal.SIGKILL)
    wait_until(lambda: is_zombie(transport.get_pid()), "the child ended")
    transport.send_signal(signal.SIGTERM)  # ended and not reaped
    await protocol.lost
    assert transport.get_returncode() == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        transport.kill()
    transport.close()


@ringloop_only
async def test_no_signal_goes_to_a_number_that_is_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reaped, with a pipe still open in a grandchild."""
    transport, protocol = await spawn("sh", "-c", "sleep 1000 & echo $!", stdout=PIPE, stderr=None)
    await protocol.exited
    (grandchild,) = {int(event[2]) for event in protocol.events if event[0] == "pipe_data_received"}
    if "ringloop" in type(asyncio.get_running_loop()).__module__:
        sent: list[Any] = []
        monkeypatch.setattr(os, "kill", lambda *arguments: sent.append(arguments))
        transport.kill()
        transport.send_signal(0)
        assert not sent
        monkeypatch.undo()
    os.kill(grandchild, signal.SIGKILL)
    await protocol.lost
    transport.close()


async def test_the_exit_is_noticed_while_a_grandchild_holds_the_pipe() -> None:
    transport, protocol = await spawn("sh", "-c", "sleep 1000 & echo $!", stdout=PIPE, stderr=None)
    async with asyncio.timeout(TIMEOUT):
        await protocol.exited
    assert transport.get_returncode() == 0
    assert not protocol.lost.done()
    (grandchild,) = {int(event[2]) for event in protocol.events if event[0] == "pipe_data_received"}
    os.kill(grandchild, signal.SIGKILL)
    await protocol.lost
    transport.close()


async def test_the_order_of_callbacks() -> None:
    transport, protocol = await spawn("sh", "-c", "echo out; echo err >&2", stdout=PIPE, stderr=PIPE)
    await protocol.lost
    transport.close()
    names = [event[0] for event in protocol.events]
    assert names[0] == "connection_made"
    assert names[-1] == "connection_lost"
    assert sorted(protocol.events[1:-1], key=repr) == [
        ("pipe_connection_lost", 1, None),
        ("pipe_connection_lost", 2, None),
        ("pipe_data_received", 1, b"out\n"),
        ("pipe_data_received", 2, b"err\n"),
        ("process_exited",),
    ]


async def test_closing_kills_and_closes_the_pipes() -> None:
    transport, protocol = await spawn(*SLEEP, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    transport.close()
    assert transport.is_closing()
    transport.close()
    await protocol.lost
    assert transport.get_returncode() == -signal.SIGKILL


async def test_who_waits_by_the_popen_object_takes_nothing_away(watch: Any) -> None:
    child = await asyncio.create_subprocess_shell("exit 5")
    process = process_of(child)
    if "ringloop" in type(asyncio.get_running_loop()).__module__:
        wait_until(lambda: process.poll() is not None, "the child ended")  # reaps it
    assert await child.wait() == 5


@ringloop_only
async def test_a_thread_that_waits_by_the_popen_object() -> None:
    child = await asyncio.create_subprocess_exec(*SLEEP)
    process = process_of(child)
    waited: list[int] = []
    thread = threading.Thread(target=lambda: waited.append(process.wait()))
    if "ringloop" in type(asyncio.get_running_loop()).__module__:
        thread.start()
        child.kill()
        assert await child.wait() == -signal.SIGKILL
        thread.join()
        assert waited == [-signal.SIGKILL]
    else:
        child.kill()
        await child.wait()


def test_a_status_that_somebody_else_took(loop_factory: LoopFactory, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> int:
        child = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        return await child.wait()

    loop = loop_factory()
    if "ringloop" in type(loop).__module__:
        assert loop.run_until_complete(main()) == 255
        assert any("255" in message for _, message, _ in take_log(caplog))
    loop.close()


async def test_many_wait_for_one_child() -> None:
    child = await asyncio.create_subprocess_exec(*SLEEP)
    waits = [asyncio.create_task(child.wait()) for _ in range(20)]
    await until_asleep()
    for wait in waits[::2]:
        wait.cancel()
    child.kill()
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert results[1::2] == [-signal.SIGKILL] * 10
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])


async def test_a_cancelled_communicate_leaves_the_child_usable() -> None:
    child = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    communicate = asyncio.create_task(child.communicate(b"x" * (1 << 20)))
    communicate.cancel()
    with pytest.raises(asyncio.CancelledError):
        await communicate
    assert child.returncode is None
    printed, _ = await child.communicate(b"after all")
    assert printed.endswith(b"after all")
    assert child.returncode == 0


async def test_a_communicate_cancelled_midway() -> None:
    child = await asyncio.create_subprocess_exec(*SLEEP, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    communicate = asyncio.create_task(child.communicate(b"x" * (1 << 20)))
    await until_asleep()
    communicate.cancel()
    with pytest.raises(asyncio.CancelledError):
        await communicate
    child.kill()
    await child.communicate()


async def test_a_cancelled_start_leaves_no_child() -> None:
    loop = asyncio.get_running_loop()
    pids: list[int] = []

    class Spy(Recorder):
        pass

    start = asyncio.create_task(loop.subprocess_exec(Spy, *SLEEP))
    await asyncio.sleep(0)  # the child runs; its pipes are not connected yet
    children = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and parent_of(pid) == os.getpid()]
    pids += children
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    for pid in pids:
        assert parent_of(str(pid)) is None


def parent_of(pid: str) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


async def test_hundreds_at_once() -> None:
    children = await asyncio.gather(
        *(asyncio.create_subprocess_exec("echo", str(number), stdout=PIPE) for number in range(200))
    )
    printed = await asyncio.gather(*(child.communicate() for child in children))
    assert [int(out) for out, _ in printed] == list(range(200))
    assert all(child.returncode == 0 for child in children)


def test_children_of_a_loop_in_another_thread(loop_factory: LoopFactory) -> None:
    def work(results: list[Any]) -> None:
        async def main() -> Any:
            child = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
            return await child.communicate(b"in a thread"), child.returncode

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            results.append(runner.run(main()))

    results: list[Any] = []
    threads = [threading.Thread(target=work, args=(results,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [((b"in a thread", None), 0)] * 4


@ringloop_only
def test_no_signal_handler_and_no_thread(run_child: Any) -> None:
    run_child(
        """
        import asyncio, os, signal, threading

        async def main():
            before = len(os.listdir("/proc/self/task"))
            child = await asyncio.create_subprocess_exec("sleep", "1000")
            assert len(os.listdir("/proc/self/task")) == before
            assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
            child.kill()
            await child.wait()

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            if "ringloop" in type(runner.get_loop()).__module__:
                runner.run(main())
        """
    )


async def test_nothing_is_left_of_children() -> None:
    async def one() -> None:
        child = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        await child.communicate(b"data")

    await one()
    gc.collect()
    fds = leaks.open_fds()
    for _ in range(30):
        await one()
    leaks.assert_no_new_fds(fds)


def test_a_loop_that_is_closed_before_its_child_ends(loop_factory: LoopFactory) -> None:
    async def main() -> asyncio.SubprocessTransport:
        transport, _ = await spawn(*SLEEP, stdout=None, stderr=None)
        return transport

    loop = loop_factory()
    transport = loop.run_until_complete(main())
    process = cast(Any, transport.get_extra_info("subprocess"))
    loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport
        gc.collect()
    assert any("unclosed transport" in str(warning.message) for warning in caught)
    assert process.wait() == -signal.SIGKILL


@ringloop_only
def test_without_a_pidfd_the_start_fails_and_no_child_stays(
    loop_factory: LoopFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(24, "Too many open files")

    async def main() -> None:
        with pytest.raises(OSError, match="Too many"):
            await asyncio.create_subprocess_exec(*SLEEP, stdin=PIPE, stdout=PIPE)

    loop = loop_factory()
    if "ringloop" in type(loop).__module__:
        monkeypatch.setattr(os, "pidfd_open", refuse)
        loop.run_until_complete(main())
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
    loop.close()


def test_in_debug_mode_the_log_is_asyncios(
    same_as_asyncio: Callable[[Callable[[LoopFactory], Any]], Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "asyncio")

    def scenario(loop_factory: LoopFactory) -> Any:
        async def main() -> None:
            asyncio.get_running_loop().set_debug(True)
            transport, protocol = await spawn("sh", "-c", "exit 3", stdout=None, stderr=None)
            await protocol.lost
            transport.close()

        caplog.clear()
        loop = loop_factory()
        loop.run_until_complete(main())
        loop.close()
        messages = [message for _, message, _ in take_log(caplog)]
        return sorted(
            message.split("pid")[0].split("<")[0]
            for message in messages
            if message.startswith(("process", "execute program", "<"))
        )

    assert len(same_as_asyncio(scenario)) >= 3


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there are no child watchers any more")
@ringloop_only
def test_child_watchers_under_the_policy(run_child: Any) -> None:
    run_child(
        """
        import asyncio, warnings
        import ringloop

        warnings.simplefilter("ignore", DeprecationWarning)

        async def child_of(watcher):
            loop = asyncio.get_running_loop()
            child = await asyncio.create_subprocess_shell("exit 4")
            assert await child.wait() == 4
            # Who uses a watcher himself gets one that works.
            process = await asyncio.to_thread(__import__("subprocess").Popen, ["sh", "-c", "exit 6"])
            ended = loop.create_future()
            with watcher:
                watcher.add_child_handler(
                    process.pid, lambda pid, status: loop.call_soon_threadsafe(ended.set_result, status))
            assert await ended == 6
            process.returncode = 6

        ringloop.install()
        for make in (None, asyncio.ThreadedChildWatcher, asyncio.PidfdChildWatcher,
                     asyncio.SafeChildWatcher, asyncio.MultiLoopChildWatcher):
            if make is not None:
                asyncio.set_child_watcher(make())
            loop = asyncio.new_event_loop()
            assert isinstance(loop, ringloop.Loop)
            asyncio.set_event_loop(loop)
            watcher = asyncio.get_child_watcher()
            watcher.attach_loop(loop)
            loop.run_until_complete(child_of(watcher))
            watcher.close()
            asyncio.set_event_loop(None)
            loop.close()
        """
    )
