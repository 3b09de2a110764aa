"""Context variables: which context a callback runs in, and that it runs by that context's `run`."""

import asyncio
import contextvars
import os
import signal
import sys
from contextlib import closing

import pytest

from support.compare import take_log
from support.turns import turn

var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="default")


def context_with(value):
    context = contextvars.copy_context()
    context.run(var.set, value)
    return context


SCHEDULE = {
    "call_soon": lambda loop, *args, **keywords: loop.call_soon(*args, **keywords),
    "call_soon_threadsafe": lambda loop, *args, **keywords: loop.call_soon_threadsafe(*args, **keywords),
    "call_later": lambda loop, *args, **keywords: loop.call_later(0, *args, **keywords),
    "call_at": lambda loop, *args, **keywords: loop.call_at(loop.time(), *args, **keywords),
}


def run_until(loop, condition):
    """Runs single iterations until the condition holds."""
    while not condition():
        turn(loop)


@pytest.mark.parametrize("name", SCHEDULE)
def test_a_callback_runs_in_the_context_given(loop, name):
    context = context_with("given")
    seen = []
    SCHEDULE[name](loop, lambda: seen.append(var.get()), context=context)
    SCHEDULE[name](loop, lambda: seen.append(var.get()), context=None)
    run_until(loop, lambda: len(seen) == 2)
    assert sorted(seen) == ["default", "given"]


@pytest.mark.parametrize("name", SCHEDULE)
def test_a_callback_runs_in_a_copy_of_the_context_it_was_registered_in(loop, name):
    seen = []

    def register():
        var.set("before")
        SCHEDULE[name](loop, lambda: seen.append(var.get()))
        var.set("after")

    contextvars.copy_context().run(register)
    run_until(loop, lambda: seen)
    assert seen == ["before"]


@pytest.mark.parametrize("name", SCHEDULE)
def test_what_a_callback_sets_stays_in_its_context(loop, name):
    context = contextvars.copy_context()
    seen = []
    SCHEDULE[name](loop, var.set, "set", context=context)
    SCHEDULE[name](loop, lambda: seen.append(var.get()), context=context)
    SCHEDULE[name](loop, lambda: seen.append(var.get()))
    run_until(loop, lambda: len(seen) == 2)
    assert sorted(seen) == ["default", "set"]
    assert context[var] == "set"
    assert var.get() == "default"


@pytest.mark.parametrize("name", SCHEDULE)
def test_a_callback_runs_by_the_run_method_of_what_stands_for_its_context(loop, name):
    calls = []

    class Tracing:
        """What a tracing agent wraps a context in."""

        def run(self, function, *args):
            calls.append((function, args))
            return function(*args)

    ran = []
    SCHEDULE[name](loop, ran.append, "ran", context=Tracing())
    run_until(loop, lambda: ran)
    assert calls == [(ran.append, ("ran",))]


def test_a_context_that_is_already_entered_is_an_error_of_the_callback(same_as_asyncio, caplog):
    def scenario(make):
        with closing(make()) as loop:
            loop.set_exception_handler(None)
            context = contextvars.copy_context()
            loop.call_soon(print, context=context)
            loop.call_soon(loop.stop)
            context.run(loop.run_forever)
        return take_log(caplog)

    assert [record[2] for record in same_as_asyncio(scenario)] == ["RuntimeError"]


def test_readers_and_writers_run_in_a_copy_of_the_context_of_add(loop):
    readable, writable = os.pipe()
    os.write(writable, b"x")
    seen = []

    def add():
        var.set("added here")
        loop.add_reader(readable, lambda: (seen.append(("reader", var.get())), loop.remove_reader(readable)))
        loop.add_writer(writable, lambda: (seen.append(("writer", var.get())), loop.remove_writer(writable)))
        var.set("changed")

    contextvars.copy_context().run(add)
    run_until(loop, lambda: len(seen) == 2)
    assert sorted(seen) == [("reader", "added here"), ("writer", "added here")]
    os.close(readable)
    os.close(writable)


def test_a_reader_keeps_one_context_over_its_calls(loop):
    readable, writable = os.pipe()
    os.write(writable, b"xxx")
    seen = []

    def read():
        os.read(readable, 1)
        seen.append(var.get())
        var.set(f"set by call {len(seen)}")
        if len(seen) == 3:
            loop.stop()

    loop.add_reader(readable, read)
    loop.run_forever()
    loop.remove_reader(readable)
    os.close(readable)
    os.close(writable)
    assert seen == ["default", "set by call 1", "set by call 2"]


def test_signal_handlers_run_in_a_copy_of_the_context_of_add(loop):
    seen = []

    def add():
        var.set("added here")
        loop.add_signal_handler(signal.SIGUSR1, lambda: (seen.append(var.get()), loop.stop()))

    contextvars.copy_context().run(add)
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    loop.run_forever()
    assert seen == ["added here"]


def test_future_callbacks_run_in_the_context_given(loop):
    future = loop.create_future()
    seen = []
    future.add_done_callback(lambda done: seen.append(var.get()), context=context_with("given"))
    future.add_done_callback(lambda done: loop.stop())
    future.set_result(None)
    loop.run_forever()
    assert seen == ["given"]


def test_tasks_run_in_their_own_copies(run):
    async def child(value):
        before = var.get()
        var.set(value)
        await asyncio.sleep(0)
        return before, var.get()

    async def main():
        var.set("main")
        results = await asyncio.gather(child("a"), child("b"))
        assert results == [("main", "a"), ("main", "b")]
        assert var.get() == "main"
        context = context_with("given")
        task = asyncio.get_running_loop().create_task(child("c"), context=context)
        assert await task == ("given", "c")
        assert context[var] == "c"

    run(main())


def test_isolation_between_callbacks_that_reset_tokens(loop, watch):
    tokens = []
    context = contextvars.copy_context()
    loop.call_soon(lambda: tokens.append(var.set("x")), context=context)
    loop.call_soon(lambda: var.reset(tokens[0]), context=context)
    loop.call_soon(lambda: tokens.append(var.set("y")))
    loop.call_soon(lambda: var.reset(tokens[1]))
    loop.call_soon(loop.stop)
    loop.run_forever()
    (reported,) = watch.take()
    assert isinstance(reported["exception"], ValueError)
    assert context.get(var) is None


async def test_to_thread_copies_the_context():
    var.set("caller")
    assert await asyncio.to_thread(var.get) == "caller"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the rule came with Python 3.12")
def test_an_exception_handler_runs_in_the_context_of_the_failing_callback(loop):
    seen = []
    loop.set_exception_handler(lambda loop, context: seen.append(var.get()))
    loop.call_soon(lambda: 1 / 0, context=context_with("of the callback"))
    loop.call_later(0, lambda: 1 / 0, context=context_with("of the timer"))
    run_until(loop, lambda: len(seen) == 2)
    assert seen == ["of the callback", "of the timer"]
