"""`ringloop.submit` and `ringloop.syscall`: operations that start at once, as futures.

An `Operation` is the caller's end; the request behind it (_request.pyx) is the kernel's. Invariant: what the
result owns, an fd, is given back unless somebody gets it: by awaiting, or by calling `result`.
"""

import asyncio
import threading
from collections.abc import Generator
from typing import Any, NoReturn

from ringloop import syscalls
from ringloop._request import make_call, make_request

# Two threads may be the first to wait for an operation.
_first_wait = threading.Lock()


class Operation(asyncio.Future[Any]):
    """A system call in flight, or done: a future, made by `ringloop.submit`.

    Beside what a future has, `wait` lets another thread wait for it. A cancelled one raises CancelledError
    in every case: at once, but where the caller lent memory that the kernel may still touch, when it is done
    with it. An fd that was opened and that nobody gets is closed.
    """

    def __init__(self, request: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._request = request
        self._thread = threading.get_ident()
        self._ended: threading.Event | None = None  # made when a thread waits
        self._is_dropped = False
        self._awaiting = 0
        self._asked = False
        self._asked_message: Any = None
        if request.launch(loop, self, True):
            self._completed(request)

    # --- called by the request

    def _completed(self, request: Any) -> None:
        if self._asked:
            super().cancel(self._asked_message)
        if self.done():
            request.give_up()
        else:
            try:
                failure = request.failure()
                if failure is None:
                    super().set_result(request.result())
                else:
                    super().set_exception(failure)
            except ValueError as error:
                super().set_exception(error)
        self._tell_threads()

    def _dropped(self, _request: Any) -> None:
        """The loop closed. Whoever waits in another thread is told; callbacks never run any more."""
        self._is_dropped = True
        self._tell_threads()

    def _tell_threads(self) -> None:
        if self._ended is not None:
            self._ended.set()

    # --- the future

    def cancel(self, msg: Any = None) -> bool:
        """Asks for the end; True unless the operation is done: the await then raises CancelledError."""
        if self.done():
            return False
        self._request.cancel()
        if self._request.lends:
            self._asked = True
            self._asked_message = msg
            return True
        super().cancel(msg)
        self._tell_threads()
        return True

    def result(self) -> Any:
        """The result, or raises what the operation failed with; as a future's."""
        value = super().result()
        # A task that wakes up asks as well, and may then raise CancelledError: that is nobody who gets it.
        if not self._awaiting or asyncio.current_task(self.get_loop()) is not None:
            self._request.hand_over()
        return value

    def set_result(self, result: Any) -> NoReturn:
        """Refused: the kernel alone completes an operation."""
        raise RuntimeError("Operation does not support set_result operation")

    def set_exception(self, exception: Any) -> NoReturn:
        """Refused: the kernel alone completes an operation."""
        raise RuntimeError("Operation does not support set_exception operation")

    def __await__(self) -> Generator[Any, None, Any]:
        if not self.done():
            self._asyncio_future_blocking = True
            self._awaiting += 1
            try:
                yield self
            finally:
                self._awaiting -= 1
            if not self.done():
                raise RuntimeError("await wasn't used with future")
        value = super().result()
        self._request.hand_over()
        return value

    __iter__ = __await__

    def wait(self, timeout: float | None = None) -> Any:
        """Blocks a thread that is not the loop's until the operation is done, `timeout` seconds at most.

        Returns the result or raises what the operation failed with; TimeoutError if it is not done by then,
        RuntimeError on the loop's own thread, which alone could complete it, and if the loop closed.
        """
        if not self.done():
            owner = getattr(self.get_loop(), "_thread_id", None) or self._thread
            if owner == threading.get_ident():
                raise RuntimeError("wait() would block the loop that completes the operation: await it")
            with _first_wait:
                if self._ended is None:
                    self._ended = threading.Event()
            # Looked at again: it may have ended before there was an event to set.
            if not (self.done() or self._is_dropped or self._ended.wait(timeout)):
                raise TimeoutError(f"the operation was not done after {timeout} seconds")
            if not self.done():
                raise RuntimeError("Event loop is closed")
        value = super().result()
        self._request.hand_over()
        return value


def submit(op: str, /, *args: Any, **kwargs: Any) -> Operation:
    """Starts an operation of the table at once: `await ringloop.submit("read", fd, 4096, 0)`.

    `op` is its name, and the arguments are those that docs/operations.md tells. Returns an Operation, a
    future. To be called on the thread of the running loop; from others by a coroutine that is given to
    asyncio.run_coroutine_threadsafe().

    Raises ValueError for an unknown operation, TypeError and such for wrong arguments, RuntimeError if no
    loop runs in this thread, or if it is not ringloop's and the operation cannot be had by threads.
    """
    loop = asyncio.get_running_loop()
    return Operation(make_request(op, args, kwargs), loop)


def syscall(nr: int, /, *args: Any) -> Operation:
    """Starts a system call by its number on a worker thread; an Operation whose result is the call's.

    Each argument is an int, None (0), str or bytes (the address of its bytes, ended by a zero byte), or an
    object with a buffer (the address of its memory, which is locked until the call is done). What the call
    writes to must be writable, as a bytearray is: nothing checks it. An error is raised as OSError.

    Cancelling interrupts it by a signal. Raises ValueError, which says why, for calls that would change the
    worker thread or the process behind its back, such as setuid, prctl, chdir, fork or exit.
    """
    loop = asyncio.get_running_loop()
    syscalls.check(nr, args)
    return Operation(make_call(nr, args), loop)
