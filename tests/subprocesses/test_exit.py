"""How a child's end is noticed, and what signals, closing and cancelling do to it."""

import asyncio
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import warnings
from asyncio.subprocess import PIPE
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest

from support import leaks
from support.compare import take_log
from support.loops import FACTORIES, LoopFactory, ringloop_names
from support.marks import ringloop_only
from support.waiting import until_asleep, wait_until
from support.watch import Watch

SLEEP = ("sleep", "1000")
TIMEOUT = 20


class Recorder(asyncio.SubprocessProtocol):
    """Writes down what the transport tells."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.said = asyncio.get_running_loop().create_future()
        self.exited = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append(("connection_made",))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.events.append(("pipe_data_received", fd, data))
        if not self.said.done():
            self.said.set_result(data)

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


def status_line(pid: int) -> list[bytes]:
    """State, parent and so on of a process; nothing if there is none of that number."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def has_ended(pid: int) -> bool:
    """Whether the process is a zombie or gone."""
    return status_line(pid)[:1] in ([], [b"Z"])


def children() -> set[int]:
    """This process's, zombies included."""
    return {
        int(pid)
        for pid in os.listdir("/proc")
        if pid.isdigit() and status_line(int(pid))[1:2] == [str(os.getpid()).encode()]
    }


def on_ringloop(watch: Watch, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Runs what asyncio's own loop does not promise."""
    with asyncio.Runner(loop_factory=watch.factory(FACTORIES[ringloop_names()[0]])) as runner:
        return runner.run(main())


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


@ringloop_only
def test_a_signal_to_a_child_that_ended_is_harmless(watch: Watch) -> None:
    """asyncio's may lose the status by it, up to 3.12."""

    async def main() -> None:
        transport, protocol = await spawn("cat", stdin=PIPE, stdout=None, stderr=None)
        pid: Any = transport.get_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: has_ended(pid), "the child ended")
        transport.send_signal(signal.SIGTERM)  # it is not reaped yet
        await protocol.lost
        assert transport.get_returncode() == -signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            transport.kill()
        transport.close()

    on_ringloop(watch, main)


@ringloop_only
def test_no_signal_goes_to_a_number_that_is_free_again(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reaped, with a pipe still open in a grandchild."""

    async def main() -> None:
        transport, protocol = await spawn("sh", "-c", "sleep 1000 & echo $!", stdout=PIPE, stderr=None)
        await protocol.exited
        with monkeypatch.context() as patched:
            sent: list[Any] = []
            patched.setattr(os, "kill", lambda *arguments: sent.append(arguments))
            transport.kill()
            transport.send_signal(0)
            assert not sent
        os.kill(int(await protocol.said), signal.SIGKILL)
        await protocol.lost
        transport.close()

    on_ringloop(watch, main)


async def test_the_exit_is_noticed_while_a_grandchild_holds_the_pipe() -> None:
    transport, protocol = await spawn("sh", "-c", "sleep 1000 & echo $!", stdout=PIPE, stderr=None)
    async with asyncio.timeout(TIMEOUT):
        await protocol.exited
    assert transport.get_returncode() == 0
    assert not protocol.lost.done()
    os.kill(int(await protocol.said), signal.SIGKILL)
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


@ringloop_only
def test_who_asks_the_popen_object_takes_nothing_away(watch: Watch) -> None:
    async def main() -> None:
        child = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        os.kill(child.pid, signal.SIGKILL)
        process = process_of(child)
        wait_until(lambda: process.poll() is not None, "the child ended")  # and this reaps it
        assert await child.wait() == -signal.SIGKILL

    on_ringloop(watch, main)


@ringloop_only
def test_a_thread_that_waits_by_the_popen_object(watch: Watch) -> None:
    async def main() -> None:
        child = await asyncio.create_subprocess_exec(*SLEEP)
        waited = asyncio.create_task(asyncio.to_thread(process_of(child).wait))
        child.kill()
        assert await child.wait() == -signal.SIGKILL
        assert await waited == -signal.SIGKILL

    on_ringloop(watch, main)


@ringloop_only
def test_a_status_that_somebody_else_took(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> int:
        child = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        return await child.wait()

    assert on_ringloop(watch, main) == 255
    assert any("255" in message for _, message, _ in take_log(caplog))


@ringloop_only
def test_a_status_that_cannot_be_had_is_reported_once(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, options: int) -> Any:
        asyncio.get_running_loop().call_soon(refused.set)
        raise PermissionError("refused")

    async def main() -> None:
        fds = leaks.open_fds()
        with monkeypatch.context() as patched:
            child = await asyncio.create_subprocess_exec(*SLEEP)
            patched.setattr(os, "waitpid", refuse)
            child.kill()
            await refused.wait()
        leaks.assert_no_new_fds(fds)
        os.waitpid(child.pid, 0)
        transport: Any = child._transport  # type: ignore[attr-defined]
        transport._process_exited(0)
        assert await child.wait() == 0
        process_of(child).returncode = 0

    refused = asyncio.Event()
    on_ringloop(watch, main)
    assert [str(context["exception"]) for context in watch.take()] == ["refused"]


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
    before = children()
    start = asyncio.create_task(asyncio.get_running_loop().subprocess_exec(Recorder, *SLEEP))
    await asyncio.sleep(0)  # the child runs; its pipes are not connected yet
    started = children() - before
    assert len(started) == 1
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not started & children()


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
def test_no_signal_handler_and_no_thread(watch: Watch) -> None:
    async def main() -> None:
        threads, handler = leaks.thread_count(), signal.getsignal(signal.SIGCHLD)
        child = await asyncio.create_subprocess_exec(*SLEEP)
        assert leaks.thread_count() <= threads  # others may end meanwhile
        assert signal.getsignal(signal.SIGCHLD) == handler
        child.kill()
        await child.wait()

    on_ringloop(watch, main)


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


@ringloop_only
def test_a_loop_that_is_closed_before_its_child_ends(watch: Watch) -> None:
    async def main() -> asyncio.SubprocessTransport:
        transport, _ = await spawn(*SLEEP, stdout=None, stderr=None)
        return transport

    transport = on_ringloop(watch, main)
    process = cast(Any, transport.get_extra_info("subprocess"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport
        gc.collect()
    assert any("unclosed transport" in str(warning.message) for warning in caught)
    assert process.wait() == -signal.SIGKILL


@ringloop_only
def test_a_transport_outlives_its_loop(watch: Watch) -> None:
    async def main() -> asyncio.SubprocessTransport:
        transport, _ = await spawn(*SLEEP, stdout=None, stderr=None)
        return transport

    transport = on_ringloop(watch, main)
    transport.terminate()
    assert cast(Any, transport.get_extra_info("subprocess")).wait() == -signal.SIGTERM
    transport.terminate()
    transport.close()


@ringloop_only
def test_without_a_pidfd_the_start_fails_and_no_child_stays(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(24, "Too many open files")

    async def main() -> None:
        before = children()
        with pytest.raises(OSError, match="Too many"):
            await asyncio.create_subprocess_exec(*SLEEP, stdin=PIPE, stdout=PIPE)
        assert children() == before

    monkeypatch.setattr(os, "pidfd_open", refuse)
    on_ringloop(watch, main)


@ringloop_only
def test_with_no_fd_left_but_for_the_pidfd_the_start_fails_and_none_stays(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    pidfd_open = os.pidfd_open

    def open_the_last(pid: int) -> int:
        pidfd = pidfd_open(pid)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        return pidfd

    async def main() -> None:
        before = children()
        fds = leaks.open_fds()
        try:
            with pytest.raises(OSError, match="Too many open files"):
                await asyncio.create_subprocess_exec(*SLEEP)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        leaks.assert_no_new_fds(fds)
        assert children() == before

    monkeypatch.setattr(os, "pidfd_open", open_the_last)
    on_ringloop(watch, main)


class Interrupt:
    """A Ctrl-C at the line of that number, of those that run in `ringloop.children`."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_globals.get("__name__") != "ringloop.children":
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


@ringloop_only
def test_a_ctrl_c_while_an_exit_is_noticed_loses_nothing(watch: Watch) -> None:
    def status(number: int) -> tuple[int, bool]:
        """The child's, and whether there were so many lines."""

        async def start() -> asyncio.subprocess.Process:
            return await asyncio.create_subprocess_exec("sh", "-c", "read line; exit 7", stdin=PIPE)

        loop = watch.factory(FACTORIES[ringloop_names()[0]])()
        child = loop.run_until_complete(start())
        waits = loop.create_task(child.wait())
        assert child.stdin is not None
        child.stdin.close()
        interrupt = Interrupt(number)
        sys.settrace(interrupt)
        try:
            loop.run_until_complete(waits)
        except KeyboardInterrupt:
            sys.settrace(None)
            loop.run_until_complete(waits)
        finally:
            sys.settrace(None)
        loop.run_until_complete(child.stdin.wait_closed())
        loop.close()
        return waits.result(), interrupt.left <= 0

    number = 1
    while (told := status(number))[1]:
        assert told[0] == 7
        number += 1
    assert told[0] == 7
    assert number > 5


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
            if message.startswith(("process '", "execute program", "<"))  # not the child watcher's
        )

    assert len(same_as_asyncio(scenario)) >= 3


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there are no child watchers any more")
@ringloop_only
def test_child_watchers_under_the_policy(run_child: Any) -> None:
    run_child(
        """
        import asyncio, subprocess, warnings
        import ringloop

        warnings.simplefilter("ignore", DeprecationWarning)

        async def child_of(watcher):
            loop = asyncio.get_running_loop()
            child = await asyncio.create_subprocess_shell("exit 4")
            assert await child.wait() == 4
            # Who uses a watcher himself gets one that works. The child ends when it is watched, not before:
            # watchers that wait in a SIGCHLD handler can reap one twice that ends while it is being added.
            process = await asyncio.to_thread(
                subprocess.Popen, ["sh", "-c", "read line; exit 6"], stdin=subprocess.PIPE)
            ended = loop.create_future()
            with watcher:
                watcher.add_child_handler(
                    process.pid, lambda pid, status: loop.call_soon_threadsafe(ended.set_result, status))
            process.stdin.close()
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
