"""add_signal_handler: when handlers run, what is refused, and what is left behind."""

import asyncio
import errno
import logging
import os
import signal
import socket
import threading
from contextlib import closing

import pytest

from support.compare import outcome, take_log
from support.turns import turn
from support.waiting import when_asleep


@pytest.fixture(autouse=True)
def same_signals_afterwards():
    """Whatever a test does, process-wide signal state is as before."""
    numbers = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers]
    yield
    after = [signal.getsignal(number) for number in numbers]
    wakeup_fd = signal.set_wakeup_fd(-1)
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
    assert after == before
    assert wakeup_fd == -1


def test_a_handler_runs_with_its_arguments_in_the_loop(loop):
    got = []

    def handler(*args):
        got.append((args, asyncio.get_running_loop() is loop))
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, handler, 1, "two")
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    loop.run_forever()
    assert got == [((1, "two"), True)]


def test_a_signal_wakes_a_sleeping_loop(loop):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    thread = when_asleep(lambda: os.kill(os.getpid(), signal.SIGUSR1))
    loop.run_forever()
    thread.join()


def test_a_handler_added_while_running_works_at_once(loop):
    loop.call_soon(loop.add_signal_handler, signal.SIGUSR1, loop.stop)
    thread = when_asleep(lambda: os.kill(os.getpid(), signal.SIGUSR1))
    loop.run_forever()
    thread.join()


def test_a_signal_between_add_and_run_is_not_lost(loop):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    signal.raise_signal(signal.SIGUSR1)
    loop.run_forever()


def test_a_signal_between_two_runs_is_not_lost(loop):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    loop.run_until_complete(asyncio.sleep(0))
    signal.raise_signal(signal.SIGUSR1)
    loop.run_forever()


def test_every_handled_signal_has_its_own_handler(loop):
    got = []
    loop.add_signal_handler(signal.SIGUSR1, got.append, "one")
    loop.add_signal_handler(signal.SIGUSR2, lambda: (got.append("two"), loop.stop()))
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    loop.call_soon(signal.raise_signal, signal.SIGUSR2)
    loop.run_forever()
    assert got == ["one", "two"]


def test_many_signals_in_one_callback_all_arrive(loop):
    got = []

    def raise_many():
        for _ in range(100):
            signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR2)

    loop.add_signal_handler(signal.SIGUSR1, got.append, 1)
    loop.add_signal_handler(signal.SIGUSR2, loop.stop)
    loop.call_soon(raise_many)
    loop.run_forever()
    assert got == [1] * 100


def test_adding_again_replaces(loop):
    got = []
    loop.add_signal_handler(signal.SIGUSR1, got.append, "first")
    loop.add_signal_handler(signal.SIGUSR1, lambda: (got.append("second"), loop.stop()))
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    loop.run_forever()
    assert got == ["second"]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False


def test_removing_restores_the_default_disposition(loop):
    for number in (signal.SIGUSR1, signal.SIGINT):
        loop.add_signal_handler(number, print)
        assert loop.remove_signal_handler(number) is True
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_raised_before_its_handler_was_removed_does_not_reach_it(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            got = []

            def raise_and_remove():
                signal.raise_signal(signal.SIGUSR1)
                loop.remove_signal_handler(signal.SIGUSR1)

            loop.add_signal_handler(signal.SIGUSR1, got.append, "handler")
            loop.call_soon(raise_and_remove)
            turn(loop, 5)
            return got

    same_as_asyncio(scenario)


def test_a_handler_may_remove_itself_and_others(loop):
    def handler():
        assert loop.remove_signal_handler(signal.SIGUSR1)
        assert loop.remove_signal_handler(signal.SIGUSR2)
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, handler)
    loop.add_signal_handler(signal.SIGUSR2, print)
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    loop.run_forever()
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL


def test_a_failing_handler_is_reported_and_stays(loop, watch):
    def handler():
        loop.call_soon(loop.stop)
        raise LookupError("signal handler fails")

    loop.add_signal_handler(signal.SIGUSR1, handler)
    for _ in range(2):
        loop.call_soon(signal.raise_signal, signal.SIGUSR1)
        loop.run_forever()
    assert [repr(context["exception"]) for context in watch.take()] == [
        "LookupError('signal handler fails')"
    ] * 2


async def coroutine_function():
    """Never run."""


REFUSED = {
    "a coroutine function": lambda loop: loop.add_signal_handler(signal.SIGUSR1, coroutine_function),
    "a text": lambda loop: loop.add_signal_handler("SIGUSR1", print),
    "None": lambda loop: loop.add_signal_handler(None, print),
    "a float": lambda loop: loop.add_signal_handler(1.0, print),
    "zero": lambda loop: loop.add_signal_handler(0, print),
    "a negative number": lambda loop: loop.add_signal_handler(-1, print),
    "a number too large": lambda loop: loop.add_signal_handler(1000, print),
    "SIGKILL": lambda loop: loop.add_signal_handler(signal.SIGKILL, print),
    "SIGSTOP": lambda loop: loop.add_signal_handler(signal.SIGSTOP, print),
    "remove a text": lambda loop: loop.remove_signal_handler("SIGUSR1"),
    "remove zero": lambda loop: loop.remove_signal_handler(0),
    "remove a number too large": lambda loop: loop.remove_signal_handler(1000),
    "remove what was not added": lambda loop: loop.remove_signal_handler(signal.SIGUSR1),
    "remove SIGKILL": lambda loop: loop.remove_signal_handler(signal.SIGKILL),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_arguments(same_as_asyncio, name):
    def scenario(make):
        with closing(make()) as loop:
            return outcome(REFUSED[name], loop)

    same_as_asyncio(scenario)


def test_a_refused_signal_leaves_no_trace(loop):
    with pytest.raises(RuntimeError, match="sig 9 cannot be caught"):
        loop.add_signal_handler(signal.SIGKILL, print)
    assert loop.remove_signal_handler(signal.SIGKILL) is False


def test_handlers_are_for_the_main_thread(same_as_asyncio):
    def scenario(make):
        results = []

        def elsewhere():
            with closing(make()) as loop:
                results.append(outcome(loop.add_signal_handler, signal.SIGUSR1, print))
                results.append(outcome(loop.remove_signal_handler, signal.SIGUSR1))
                results.append(outcome(loop.run_until_complete, asyncio.sleep(0, "runs")))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return results

    assert same_as_asyncio(scenario)[0][:2] == ("raised", "RuntimeError")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EFAULT])
def test_what_signal_refuses_as_a_handler_goes(same_as_asyncio, monkeypatch, caplog, number):
    caplog.set_level(logging.INFO)

    error = OSError(number, "refused")

    def refuse_signal(*args):
        raise error

    def refuse_wakeup_fd(fd, **keywords):
        if fd == -1:
            raise ValueError("refused")
        return set_wakeup_fd(fd, **keywords)

    def scenario(make):
        with closing(make()) as loop:
            loop.add_signal_handler(signal.SIGUSR1, print)
            with monkeypatch.context() as patched:
                patched.setattr(signal, "signal", refuse_signal)
                told = outcome(loop.remove_signal_handler, signal.SIGUSR1)
            again = outcome(loop.remove_signal_handler, signal.SIGUSR1)
            loop.add_signal_handler(signal.SIGUSR1, print)
            with monkeypatch.context() as patched:
                patched.setattr(signal, "set_wakeup_fd", refuse_wakeup_fd)
                removed = loop.remove_signal_handler(signal.SIGUSR1)
            signal.set_wakeup_fd(-1)
        return told, again, removed, take_log(caplog)

    set_wakeup_fd = signal.set_wakeup_fd
    *_, log = same_as_asyncio(scenario)
    assert log == [("INFO", "set_wakeup_fd(-1) failed: refused", "")]


def test_close_removes_the_handlers(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.set_wakeup_fd(-1) == -1


def test_a_run_without_handlers_leaves_the_users_wakeup_fd(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        signal.set_wakeup_fd(ours.fileno())
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        assert signal.set_wakeup_fd(-1) == ours.fileno()


def test_two_loops_one_after_the_other_handle_one_signal(loop_factory):
    for _ in range(3):
        with closing(loop_factory()) as loop:
            loop.add_signal_handler(signal.SIGUSR1, loop.stop)
            loop.call_soon(signal.raise_signal, signal.SIGUSR1)
            loop.run_forever()


def test_a_python_handler_that_raises_interrupts_a_wait(loop):
    class Interrupting(Exception):
        pass

    def handler(number, frame):
        raise Interrupting

    signal.signal(signal.SIGUSR1, handler)
    thread = when_asleep(lambda: os.kill(os.getpid(), signal.SIGUSR1))
    with pytest.raises(Interrupting):
        loop.run_forever()
    thread.join()
    assert not loop.is_running()
    assert loop.run_until_complete(asyncio.sleep(0, "usable")) == "usable"
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def test_a_python_handler_runs_while_the_loop_sleeps_and_the_wait_goes_on(loop):
    handled = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *args: handled.set())

    def interrupt_then_stop():
        os.kill(os.getpid(), signal.SIGUSR1)
        assert handled.wait(20)
        loop.call_soon_threadsafe(loop.stop)

    thread = when_asleep(interrupt_then_stop)
    loop.run_forever()
    thread.join()
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def test_signals_do_not_shorten_a_sleep(loop):
    signal.signal(signal.SIGUSR1, lambda *args: None)
    stop = threading.Event()

    def storm():
        while not stop.is_set():
            os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=storm)
    thread.start()
    started = loop.time()
    loop.run_until_complete(asyncio.sleep(0.05))
    took = loop.time() - started
    stop.set()
    thread.join()
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    assert took >= 0.05
