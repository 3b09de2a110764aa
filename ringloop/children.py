"""Subprocesses: started by `subprocess.Popen`; their exit is told by a pidfd, which the ring polls.

Mixed into `ringloop.Loop`. The state machine of a subprocess transport (its pipes, pending calls, closing)
is asyncio's own `BaseSubprocessTransport`: it runs per child, and only so it is the running Python's. What is
here: starting, the exit, and signals. No SIGCHLD handler, no thread and no child watcher is involved, so a
loop in any thread has children, and those that others started are never touched.

Invariant: a child is reaped on the loop's thread as long as a pidfd tells of it, and no signal ever goes to
another process that got the number of a child that was reaped.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from asyncio import base_subprocess
from asyncio.log import logger
from collections.abc import Callable
from typing import Any

from ringloop._children import give_up_pidfd, reap

STATUS_UNKNOWN = 255  # asyncio reports it of a child whose status somebody else has read


class SubprocessTransport(base_subprocess.BaseSubprocessTransport):
    """A child process and its pipes. See asyncio.SubprocessTransport."""

    # asyncio's private parts, the same from Python 3.11 to 3.15.
    _proc: "subprocess.Popen[bytes] | None"
    _check_proc: Callable[[], None]
    _wait: Callable[[], Any]

    _pidfd: int | None = None  # the loop's; None after the child was reaped

    def _start(
        self, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, bufsize: int, **kwargs: Any
    ) -> None:
        self._proc = subprocess.Popen(
            args,
            shell=shell,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            universal_newlines=False,
            bufsize=bufsize,
            **kwargs,
        )

    def _take_status(self) -> int | None:
        """Reaps the child that has ended and returns its status; None if that cannot be had right now."""
        process: Any = self._proc
        try:
            return reap(process)
        except ChildProcessError:
            process.returncode = STATUS_UNKNOWN
            logger.warning(
                "child process pid %d exit status already read:  will report returncode %d",
                process.pid,
                STATUS_UNKNOWN,
            )
            return STATUS_UNKNOWN

    def send_signal(self, signal_number: int) -> None:
        """Sends a signal to the child; one that has ended does not get it, which is no error.

        Raises ProcessLookupError after connection_lost, PermissionError for another user's process.
        """
        self._check_proc()
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal_number)
        elif self._proc is not None:
            # Reaped, which the Popen object knows; or its loop is closed.
            self._proc.send_signal(signal_number)

    def terminate(self) -> None:
        """Sends SIGTERM; see `send_signal`."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL; see `send_signal`."""
        self.send_signal(signal.SIGKILL)


class Children(asyncio.BaseEventLoop):
    """What `subprocess_exec` and `subprocess_shell` need of a loop, for `ringloop.Loop`."""

    # The heart's.
    _add_reader: Callable[..., Any]

    _children: dict[int, SubprocessTransport]  # by pidfd: those that were not reaped yet

    async def _make_subprocess_transport(
        self,
        protocol: asyncio.BaseProtocol,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: Any = None,
        **kwargs: Any,
    ) -> SubprocessTransport:
        connected = self.create_future()
        make: Any = SubprocessTransport
        transport: SubprocessTransport = make(
            self,
            protocol,
            args,
            shell,
            stdin,
            stdout,
            stderr,
            bufsize,
            waiter=connected,
            extra=extra,
            **kwargs,
        )
        try:
            self._await_exit(transport)
        except OSError:
            await self._end_unwatched(transport, connected)
            raise
        try:
            await connected
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await asyncio.shield(transport._wait())
            raise
        return transport

    def _await_exit(self, transport: SubprocessTransport) -> None:
        pid: Any = transport.get_pid()
        pidfd = os.pidfd_open(pid)
        try:
            self._add_reader(pidfd, self._look_after, pidfd)
        except BaseException:
            os.close(pidfd)
            raise
        transport._pidfd = pidfd
        self._children[pidfd] = transport

    def _look_after(self, pidfd: int) -> None:
        """The pidfd is readable, and stays so: if the status cannot be had yet, the next pass asks again.

        If it cannot be had at all, nobody hears of the exit: the error goes to the exception handler, once.
        A Ctrl-C may end this anywhere: until the last line the next pass asks again.
        """
        transport = self._children[pidfd]
        if transport.get_returncode() is None:
            try:
                status = transport._take_status()
            except OSError:
                give_up_pidfd(self, pidfd)
                raise
            if status is None:
                return
            transport._process_exited(status)
        give_up_pidfd(self, pidfd)

    async def _end_unwatched(self, transport: SubprocessTransport, connected: "asyncio.Future[None]") -> None:
        """Ends a child that no pidfd could be had for: nobody would ever hear of its exit."""
        from ringloop.submission import submit

        try:
            await connected  # only then all pipes are closed with the transport
        finally:
            transport.close()
            # The child is left to be reaped, so that a cancelled wait takes nothing away.
            await submit("waitid", os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
            status = transport._take_status()
            transport._process_exited(STATUS_UNKNOWN if status is None else status)

    def _forget_children(self) -> None:
        """The loop is closed, or a forked child's copy: whoever has a transport still may end its process."""
        for pidfd, transport in self._children.items():
            transport._pidfd = None
            os.close(pidfd)
        self._children.clear()
