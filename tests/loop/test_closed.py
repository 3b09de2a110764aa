"""Closing a loop, and every method of a closed one."""

import asyncio
import os
import signal
import socket
import threading
import weakref

import pytest

from support.compare import outcome


async def nothing():
    """A coroutine for methods that want one."""


AFTER_CLOSE = {
    "call_soon": lambda loop: loop.call_soon(print),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(print),
    "call_later": lambda loop: loop.call_later(1, print),
    "call_at": lambda loop: loop.call_at(1, print),
    "run_forever": lambda loop: loop.run_forever(),
    "run_in_executor": lambda loop: loop.run_in_executor(None, print),
    "stop": lambda loop: loop.stop(),
    "close": lambda loop: loop.close(),
    "is_closed": lambda loop: loop.is_closed(),
    "is_running": lambda loop: loop.is_running(),
    "create_future": lambda loop: loop.create_future().done(),
    "set_debug": lambda loop: loop.set_debug(True),
    "get_exception_handler": lambda loop: loop.get_exception_handler() is None,
    "set_task_factory": lambda loop: loop.set_task_factory(None),
    "time": lambda loop: type(loop.time()),
    "add_reader": lambda loop: loop.add_reader(0, print),
    "add_writer": lambda loop: loop.add_writer(0, print),
    "remove_reader": lambda loop: loop.remove_reader(0),
    "remove_writer": lambda loop: loop.remove_writer(0),
    "add_signal_handler": lambda loop: loop.add_signal_handler(signal.SIGUSR1, print),
    "remove_signal_handler": lambda loop: loop.remove_signal_handler(signal.SIGUSR1),
}


@pytest.mark.parametrize("name", AFTER_CLOSE)
def test_after_close(same_as_asyncio, name):
    def scenario(make):
        loop = make()
        loop.close()
        return outcome(AFTER_CLOSE[name], loop)

    same_as_asyncio(scenario)


@pytest.mark.parametrize("name", ["create_task", "run_until_complete"])
def test_after_close_a_coroutine_is_refused(same_as_asyncio, name):
    def scenario(make):
        loop = make()
        loop.close()
        coroutine = nothing()
        result = outcome(getattr(loop, name), coroutine)
        coroutine.close()
        return result

    assert same_as_asyncio(scenario) == ("raised", "RuntimeError", "Event loop is closed")


@pytest.mark.parametrize("name", ["shutdown_asyncgens", "shutdown_default_executor", "getaddrinfo"])
def test_after_close_its_coroutine_methods(same_as_asyncio, name):
    def scenario(make):
        loop = make()
        loop.close()
        arguments = ("127.0.0.1", 80) if name == "getaddrinfo" else ()
        return outcome(lambda: asyncio.run(getattr(loop, name)(*arguments)))

    same_as_asyncio(scenario)


def test_close_forgets_what_was_scheduled(loop):
    class Payload:
        pass

    payload = Payload()
    alive = weakref.ref(payload)
    loop.call_soon(print, payload)
    loop.call_later(3600, print, payload)
    loop.call_soon_threadsafe(print, payload)
    loop.close()
    del payload
    assert alive() is None


def test_close_forgets_readers_and_leaves_their_fds_open(loop):
    class Callback:
        def __call__(self):
            pass

    ours, theirs = socket.socketpair()
    with ours, theirs:
        callback = Callback()
        alive = weakref.ref(callback)
        loop.add_reader(ours, callback)
        loop.add_writer(ours, callback)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        del callback
        assert alive() is None
        theirs.send(b"still open")
        assert ours.recv(100) == b"still open"


def test_close_lets_the_peer_of_a_closed_fd_see_eof(loop):
    readable, writable = os.pipe()
    loop.add_writer(writable, lambda: None)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    os.close(writable)
    assert os.read(readable, 1) == b""
    os.close(readable)


def test_close_does_not_wait_for_the_executor(loop):
    release = threading.Event()
    future = loop.run_in_executor(None, release.wait)
    loop.close()
    release.set()
    assert not future.done()


def test_close_before_the_first_run(loop_factory):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop = loop_factory()
        loop.add_reader(ours, print)
        loop.call_soon(print)
        loop.close()
        assert loop.is_closed()
