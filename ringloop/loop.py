"""The loop: asyncio's interface assembled out of the rooms.

`LoopCore` and the native rooms bring what runs per callback or per packet. What runs per loop or per
connection is asyncio's own `BaseEventLoop` wherever that is exact and not slow: tasks, executors, exception
handlers, name resolution and shutdown behave as those of the running Python because they are those.
"""

import asyncio
import sys
import threading
import warnings
from asyncio import base_events, events
from typing import Any

from ringloop._accept import Streams
from ringloop._core import LoopCore
from ringloop._pipe import Pipes
from ringloop._running import forget, remember
from ringloop.children import Children
from ringloop.connecting import Connecting
from ringloop.datagrams import Datagrams
from ringloop.drivers import choose_driver, fall_back, requested_driver
from ringloop.errors import RingUnavailableError
from ringloop.sending import Sending
from ringloop.serving import Serving
from ringloop.signals import Signals
from ringloop.tls import Tls
from ringloop.unix import UnixSockets


class Loop(
    Sending,
    UnixSockets,
    Streams,
    Pipes,
    Connecting,
    Serving,
    Tls,
    Datagrams,
    Children,
    Signals,
    base_events.BaseEventLoop,
):
    """An asyncio event loop on io_uring, or on epoll where that is refused.

    `driver` is "io_uring" or "epoll"; None takes what the environment variable RINGLOOP_DRIVER names, or else
    what works. The attribute `driver` tells which it is.

    Raises RingUnavailableError where io_uring is asked for and the kernel or its configuration refuses it.
    """

    def __init__(self, driver: str | None = None) -> None:
        # Until all is there: a loop that was refused has nothing to close, and none to warn of.
        self._closed = True
        self._children = {}
        self._requested_driver = requested_driver(driver)
        self.driver = choose_driver(self._requested_driver)
        try:
            LoopCore.__init__(self, self.driver)
        except RingUnavailableError as error:
            LoopCore.__init__(self, self._driver_refused(error))
        base_events.BaseEventLoop.__init__(self)
        self._unix_server_sockets = {}

    def _driver_refused(self, error: RingUnavailableError) -> str:
        if self._requested_driver is not None:
            raise error
        self.driver = fall_back(error)
        return self.driver

    def run_forever(self) -> None:
        """Runs until `stop` is called. At most one loop runs in a thread, and a loop in one thread."""
        self._check_closed()
        self._check_running()
        self._set_coroutine_origin_tracking(self._debug)
        hooks = sys.get_asyncgen_hooks()
        try:
            self._thread_id = threading.get_ident()
            sys.set_asyncgen_hooks(
                firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
            )
            events._set_running_loop(self)
            remember(self)
            self._begin_signals()
            self._run()
        finally:
            self._end_signals()
            self._stopping = False
            self._thread_id = None
            forget()
            events._set_running_loop(None)
            self._set_coroutine_origin_tracking(False)
            sys.set_asyncgen_hooks(*hooks)

    if sys.version_info < (3, 13):

        async def shutdown_default_executor(self, timeout: float | None = None) -> None:
            """Ends the default executor's threads; waits for them no longer than `timeout` seconds."""
            self._executor_shutdown_called = True
            executor = self._default_executor
            if executor is None:
                return
            ended = self.create_future()
            thread = threading.Thread(target=self._end_executor, args=(executor, ended))
            thread.start()
            try:
                async with asyncio.timeout(timeout):
                    await ended
            except TimeoutError:
                warnings.warn(
                    f"The executor did not finishing joining its threads within {timeout} seconds.",
                    RuntimeWarning,
                    stacklevel=2,
                )
                executor.shutdown(wait=False)
            else:
                thread.join()

        def _end_executor(self, executor: Any, ended: "asyncio.Future[None]") -> None:
            executor.shutdown(wait=True)
            if not self.is_closed():
                self.call_soon_threadsafe(self._tell_executor_ended, ended)

        def _tell_executor_ended(self, ended: "asyncio.Future[None]") -> None:
            if not ended.done():
                ended.set_result(None)

    def _forget_after_fork(self) -> None:
        Streams._forget_after_fork(self)
        self._forget_children()
        self._drop_signals_after_fork()

    def close(self) -> None:
        """Closes the loop: drops what is queued, ends what is in flight, frees fds and memory.

        The loop must not be running. Closing twice is no error.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self._closed:
            return
        base_events.BaseEventLoop.close(self)
        self._close_core()
        self._inbox = None
        self._forget_children()
        self._close_signals()
