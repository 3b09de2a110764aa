"""Unix signals: handlers that the loop runs, and the wake-up fd that brings signals into its wait.

Mixed into `ringloop.Loop`. Python's own C handler writes the number of each signal into the wake-up fd, one
end of a socket pair (an eventfd takes eight bytes at a time, a signal is one); the heart watches the other
end.

Two rules meet here. asyncio's: `add_signal_handler` puts the wake-up fd up, running or not, and removing the
last handler takes it down, so that a signal between the two is never lost. Ours: while the loop runs on the
main thread its wake-up fd stands in any case, because a signal ends a wait in the ring without saying so.
Invariant: when the run ends, that fd stands which would stand under asyncio's rule alone; signals that
meanwhile came for its owner are passed on.
"""

import asyncio
import errno
import os
import signal
import socket
import sys
import threading
import types
import warnings
from asyncio import coroutines
from asyncio.log import logger
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVarTuple

from ringloop._core import LoopCore

_Ts = TypeVarTuple("_Ts")

_READ_BYTES = 4096
_NO_FD = -1

# asyncio.iscoroutinefunction warns from 3.14 on, where asyncio itself uses the underscored one.
_is_coroutine_function: Callable[[Any], bool] = getattr(
    coroutines, "_iscoroutinefunction", coroutines.iscoroutinefunction
)


def _ignore(signum: int, frame: types.FrameType | None) -> None:
    """The Python-level handler: there must be one for the C level to write to the wake-up fd."""


def _identity(fd: int) -> tuple[int, int] | None:
    """What tells an open file from another that later has the same number; None for no file."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Signals(asyncio.BaseEventLoop):
    """`add_signal_handler` and `remove_signal_handler`, for `ringloop.Loop`."""

    # The heart's and asyncio's, listed for type checkers.
    _thread_id: int | None
    _check_closed: Callable[[], None]
    _watch_internal: Callable[[int, Callable[[], None]], Any]

    # Replaced as a whole, never changed: it may be read between any two steps of a change.
    _signal_handlers: Mapping[int, asyncio.Handle] = types.MappingProxyType({})
    _ssock: socket.socket | None = None  # both made on first need; the heart watches this end
    _csock: socket.socket | None = None  # the wake-up fd
    _holds_wakeup_fd = False  # between _begin_signals and _end_signals on the main thread
    _wakeup_fd_after = _NO_FD  # what has to stand when the run ends
    _displaced_fd = _NO_FD  # what stood when the run began and is not ours
    _displaced_identity: tuple[int, int] | None = None

    def add_signal_handler(self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> None:
        """Runs callback(*args) from the loop when the process gets the signal; replaces an earlier handler.

        Raises TypeError for a coroutine or for what is no signal number, ValueError for a number out of
        range, RuntimeError for a signal that cannot be caught and outside of the main thread.
        """
        if asyncio.iscoroutine(callback) or _is_coroutine_function(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        self._check_signal(sig)
        self._check_closed()
        try:
            if not _on_main_thread():
                signal.set_wakeup_fd(_NO_FD)  # for its words: it refuses to work here
            self._wakeup_fd_after = self._wakeup_fileno()
            signal.set_wakeup_fd(self._wakeup_fd_after)
        except (ValueError, OSError) as error:
            raise RuntimeError(str(error)) from error
        handle = asyncio.Handle(callback, args, self, None)
        self._signal_handlers = types.MappingProxyType({**self._signal_handlers, sig: handle})
        try:
            signal.signal(sig, _ignore)
            # System calls that the signal interrupts, in C code and other threads, are restarted.
            signal.siginterrupt(sig, False)
        except OSError as error:
            self._forget_handler(sig)
            self._lower_wakeup_fd_if_unused()
            _raise_uncatchable(sig, error)

    def remove_signal_handler(self, sig: int) -> bool:
        """Gives the signal its default action back. Returns whether it had a handler of this loop.

        Raises TypeError and ValueError as `add_signal_handler`, and ValueError outside of the main thread.
        """
        self._check_signal(sig)
        if sig not in self._signal_handlers:
            return False
        self._forget_handler(sig)
        try:
            signal.signal(sig, signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL)
        except OSError as error:
            _raise_uncatchable(sig, error)
        self._lower_wakeup_fd_if_unused()
        return True

    def _check_signal(self, sig: int) -> None:
        if not isinstance(sig, int):
            raise TypeError(f"sig must be an int, not {sig!r}")
        if sig not in signal.valid_signals():
            raise ValueError(f"invalid signal number {sig}")

    def _forget_handler(self, sig: int) -> None:
        others = {number: handle for number, handle in self._signal_handlers.items() if number != sig}
        self._signal_handlers = types.MappingProxyType(others)

    # --- the wake-up fd: called by the loop around each run and when it ends

    def _begin_signals(self) -> None:
        """A run begins on this thread."""
        if not _on_main_thread():
            return
        ours = self._wakeup_fileno()
        try:
            # A full buffer loses nothing as long as nobody waits for a byte: there is no need to warn.
            standing = signal.set_wakeup_fd(ours, warn_on_full_buffer=bool(self._signal_handlers))
        except ValueError:
            return  # in an embedded Python, threading's idea of the main thread may not be the interpreter's
        self._holds_wakeup_fd = True
        self._wakeup_fd_after = standing
        if standing not in (ours, _NO_FD):
            self._displaced_fd = standing
            self._displaced_identity = _identity(standing)

    def _end_signals(self) -> None:
        """The run has ended, on the thread where it began."""
        if not self._holds_wakeup_fd:
            return
        self._holds_wakeup_fd = False
        ours = self._wakeup_fileno()
        after = self._wakeup_fd_after
        if after == self._displaced_fd and not self._displaced_lives():
            after = _NO_FD
        standing = signal.set_wakeup_fd(after)
        if standing != ours:
            # Somebody put up another one during the run, which asyncio would have left in place.
            signal.set_wakeup_fd(standing)
        if self._displaced_fd != _NO_FD:
            self._read_wakeup()
            self._displaced_fd = _NO_FD

    def _close_signals(self) -> None:
        """The loop closes: no handler and no socket stays.

        Raises ValueError, but closes the sockets, if there are handlers and this is not the main thread.
        """
        try:
            if not sys.is_finalizing():
                for sig in self._signal_handlers:
                    self.remove_signal_handler(sig)
            elif self._signal_handlers:
                warnings.warn(
                    f"Closing the loop {self!r} on interpreter shutdown stage, "
                    "skipping signal handlers removal",
                    ResourceWarning,
                    stacklevel=1,
                    source=self,
                )
        finally:
            self._drop_signals()

    def _drop_signals_after_fork(self) -> None:
        """In a forked child: its signals must not reach the parent's loop, nor a later file of that
        number.
        """
        ours = _NO_FD if self._csock is None else self._csock.fileno()
        self._drop_signals()
        if ours != _NO_FD:
            standing = signal.set_wakeup_fd(_NO_FD)
            if standing != ours:
                signal.set_wakeup_fd(standing)

    def _drop_signals(self) -> None:
        """Closes the sockets, forgets the rest, and leaves signals as they are."""
        self._signal_handlers = types.MappingProxyType({})
        self._holds_wakeup_fd = False
        self._displaced_fd = _NO_FD
        ssock, csock, self._ssock, self._csock = self._ssock, self._csock, None, None
        if ssock is not None and csock is not None:
            csock.close()
            ssock.close()

    def _wakeup_fileno(self) -> int:
        """Our wake-up fd. Makes the socket pair on first need."""
        if self._csock is None:
            self._ssock, self._csock = socket.socketpair()
            self._ssock.setblocking(False)
            self._csock.setblocking(False)
            if self._thread_id in (None, threading.get_ident()):
                self._watch_wakeup()
            else:
                LoopCore.call_soon_threadsafe(self, self._watch_wakeup)
        return self._csock.fileno()

    def _watch_wakeup(self) -> None:
        assert self._ssock is not None
        self._watch_internal(self._ssock.fileno(), self._read_wakeup)

    def _lower_wakeup_fd_if_unused(self) -> None:
        if self._signal_handlers:
            return
        self._wakeup_fd_after = _NO_FD
        if not self._holds_wakeup_fd:
            try:
                signal.set_wakeup_fd(_NO_FD)
            except (ValueError, OSError) as error:
                logger.info("set_wakeup_fd(-1) failed: %s", error)

    # --- signals that have come

    def _read_wakeup(self) -> None:
        """The wake-up socket is readable. More than one read's worth makes it readable again."""
        assert self._ssock is not None
        try:
            data = self._ssock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        self._process_wakeup_bytes(data)

    def _process_wakeup_bytes(self, data: bytes) -> None:
        """Handles signals, one byte each, in their order."""
        strangers = bytearray()
        for signum in data:
            if signum in self._signal_handlers:
                self._handle_signal(signum)
            elif signum:
                strangers.append(signum)
        if strangers and self._displaced_lives():
            self._pass_on(strangers)

    def _handle_signal(self, sig: int) -> None:
        handle: Any = self._signal_handlers.get(sig)
        if handle is None:
            return
        if handle.cancelled():
            self.remove_signal_handler(sig)
            return
        # The heart's own call_soon: one that a user put in its place is not asked, as asyncio does not.
        queued = LoopCore.call_soon(self, handle._callback, *handle._args, context=handle._context)
        queued._source_traceback = handle._source_traceback

    def _displaced_lives(self) -> bool:
        return self._displaced_fd != _NO_FD and _identity(self._displaced_fd) == self._displaced_identity

    def _pass_on(self, signums: bytearray) -> None:
        """Writes the signals to the wake-up fd that this run displaced, as Python would have done."""
        try:
            os.write(self._displaced_fd, signums)
        except OSError as error:
            # Full, or nobody reads it any more: Python's own C handler could do no better.
            logger.info("passing signals on to fd %s failed: %s", self._displaced_fd, error)


def _raise_uncatchable(sig: int, error: OSError) -> NoReturn:
    if error.errno == errno.EINVAL:
        raise RuntimeError(f"sig {sig} cannot be caught") from error
    raise error


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
