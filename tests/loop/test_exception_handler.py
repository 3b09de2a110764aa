"""Exceptions that no caller waits for: the exception handler, the log, and what passes through the loop."""

import asyncio
import contextvars
import gc
import os
import sys
from contextlib import closing

import pytest

from support.compare import normalised, outcome, take_log
from support.turns import turn

var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="default")


def failing(*args):
    raise ZeroDivisionError("fails on purpose")


def context_with(value):
    context = contextvars.copy_context()
    context.run(var.set, value)
    return context


SOURCES = {
    "call_soon": lambda loop: loop.call_soon(failing, 1),
    "call_later": lambda loop: loop.call_later(0, failing),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(failing),
    "future callback": lambda loop: loop.create_task(asyncio.sleep(0)).add_done_callback(failing),
    "call_exception_handler": lambda loop: loop.call_exception_handler(
        {"message": "said by hand", "exception": LookupError("by hand"), "zebra": 1, "ant": [2]}
    ),
    "message alone": lambda loop: loop.call_exception_handler({"message": "nothing but a message"}),
    "no message": lambda loop: loop.call_exception_handler({}),
}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("source", SOURCES)
def test_the_default_handler_logs_what_asyncio_logs(same_as_asyncio, caplog, source, debug):
    def scenario(make):
        with closing(make()) as loop:
            loop.set_exception_handler(None)
            loop.set_debug(debug)
            loop.slow_callback_duration = 3600
            SOURCES[source](loop)
            caplog.clear()
            turn(loop, 5)
            return take_log(caplog)

    same_as_asyncio(scenario)


def test_a_failing_reader_is_reported_as_a_callback_and_stays(same_as_asyncio, caplog):
    def scenario(make):
        readable, writable = os.pipe()
        with closing(make()) as loop:
            loop.set_exception_handler(None)
            calls = []

            def read():
                calls.append(os.read(readable, 1))
                if len(calls) == 3:
                    loop.stop()
                raise LookupError("reader fails")

            os.write(writable, b"abc")
            caplog.clear()
            loop.add_reader(readable, read)
            loop.run_forever()
            loop.remove_reader(readable)
        os.close(readable)
        os.close(writable)
        return calls, take_log(caplog)

    calls, log = same_as_asyncio(scenario)
    assert calls == [b"a", b"b", b"c"]
    assert len(log) == 3


def test_a_never_retrieved_exception_is_logged_as_asyncio_does(same_as_asyncio, caplog):
    def scenario(make):
        async def fails():
            failing()

        with closing(make()) as loop:
            loop.set_exception_handler(None)
            loop.set_debug(True)
            loop.slow_callback_duration = 3600
            loop.run_until_complete(asyncio.wait([loop.create_task(fails(), name="named")]))
            gc.collect()
            return [(level, text.splitlines()[0], error) for level, text, error in take_log(caplog)]

    assert ("ERROR", "Task exception was never retrieved", "ZeroDivisionError") in same_as_asyncio(scenario)


def test_a_handler_gets_loop_and_context(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            calls = []
            loop.set_exception_handler(lambda *args: calls.append(args))
            loop.call_soon(failing, "argument")
            turn(loop, 5)
            ((its_loop, context),) = calls
            return (
                its_loop is loop,
                sorted(context),
                normalised(context["message"]),
                repr(context["exception"]),
            )

    assert same_as_asyncio(scenario)[:2] == (True, ["exception", "handle", "message"])


def test_in_debug_mode_the_context_has_the_source_traceback(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            loop.set_debug(True)
            calls = []
            loop.set_exception_handler(lambda loop, context: calls.append(context))
            loop.call_soon(failing)
            loop.call_later(0, failing)
            loop.call_soon_threadsafe(failing)
            turn(loop, 5)
            return [(sorted(context), context["source_traceback"][-1].name) for context in calls]

    assert [entry[1] for entry in same_as_asyncio(scenario)] == ["scenario"] * 3


def test_set_and_get_exception_handler(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            loop.set_exception_handler(None)
            results = [loop.get_exception_handler()]
            loop.set_exception_handler(print)
            results.append(loop.get_exception_handler() is print)
            results.append(outcome(loop.set_exception_handler, "not callable"))
            results.append(loop.get_exception_handler() is print)
            return results

    refused = ("raised", "TypeError", "A callable object or None is expected, got 'not callable'")
    assert same_as_asyncio(scenario)[1:] == [True, refused, True]


def test_a_handler_that_raises_is_logged_with_both(same_as_asyncio, caplog):
    def scenario(make):
        with closing(make()) as loop:

            def handler(loop, context):
                raise LookupError("the handler fails too")

            loop.set_exception_handler(handler)
            loop.call_soon(failing)
            turn(loop, 5)
            return take_log(caplog)

    ((level, text, error),) = same_as_asyncio(scenario)
    assert (level, error) == ("ERROR", "LookupError")
    assert text.startswith("Unhandled error in exception handler")


def test_an_overridden_default_handler_is_called(loop_factory):
    plain = loop_factory()
    plain.close()
    calls = []

    class Loud(type(plain)):
        def default_exception_handler(self, context):
            calls.append(repr(context["exception"]))

    with closing(Loud()) as loop:
        loop.call_soon(failing)
        turn(loop, 5)
    assert calls == ["ZeroDivisionError('fails on purpose')"]


def test_an_overridden_call_exception_handler_is_called(loop_factory):
    plain = loop_factory()
    plain.close()
    calls = []

    class Spy(type(plain)):
        def call_exception_handler(self, context):
            calls.append(repr(context["exception"]))

    with closing(Spy()) as loop:
        loop.call_soon(failing)
        loop.call_later(0, failing)
        turn(loop, 5)
    assert calls == ["ZeroDivisionError('fails on purpose')"] * 2


def test_which_context_the_handler_runs_in(same_as_asyncio):
    """The failing handle's from 3.12 on, the failing task's from 3.13 on; before, whatever is current."""

    def scenario(make):
        async def fails():
            var.set("of the task")
            failing()

        with closing(make()) as loop:
            seen = []
            loop.set_exception_handler(lambda loop, context: seen.append((context["message"][:9], var.get())))
            loop.call_soon(failing, context=context_with("of the handle"))
            loop.call_later(0, failing, context=context_with("of the timer"))
            loop.call_exception_handler({"message": "by hand", "exception": None})
            turn(loop, 5)
            loop.run_until_complete(asyncio.wait([loop.create_task(fails())]))
            gc.collect()
            return seen

    seen = same_as_asyncio(scenario)
    if sys.version_info >= (3, 12):
        assert ("Exception", "of the handle") in seen
        assert ("Exception", "of the timer") in seen


PASSING = {
    "callback": lambda loop, error: loop.call_soon(raising, error),
    "timer": lambda loop, error: loop.call_later(0, raising, error),
    "threadsafe": lambda loop, error: loop.call_soon_threadsafe(raising, error),
    "reader": lambda loop, error: loop.add_writer(loop.test_fd, raise_and_remove, loop, error),
    "task": lambda loop, error: setattr(loop, "test_task", loop.create_task(raising_coroutine(error))),
}


def raising(error):
    raise error


def raise_and_remove(loop, error):
    loop.remove_writer(loop.test_fd)
    raise error


async def raising_coroutine(error):
    raise error


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt("now")], ids=["SystemExit", "KeyboardInterrupt"]
)
@pytest.mark.parametrize("source", PASSING)
def test_what_passes_through_the_loop_leaves_it_usable(same_as_asyncio, watch, source, error):
    def scenario(make):
        readable, writable = os.pipe()
        with closing(make()) as loop:
            loop.test_fd = writable
            ran = []
            loop.call_soon(ran.append, "before")
            PASSING[source](loop, error)
            loop.call_soon(ran.append, "after")
            trace = [outcome(loop.run_forever)]
            trace.append((loop.is_running(), loop.is_closed()))
            loop.call_later(0.002, ran.append, "timer of the second run")
            loop.call_later(0.003, loop.stop)
            loop.run_forever()
            trace.append(ran)
            if source == "task":
                trace.append(repr(loop.test_task.exception()))
        os.close(readable)
        os.close(writable)
        return trace, watch.take()

    trace, contexts = same_as_asyncio(scenario)
    assert trace[0] == ("raised", type(error).__name__, str(error))
    assert trace[2] == ["before", "after", "timer of the second run"]
    assert contexts == []


def test_what_passes_through_run_until_complete(same_as_asyncio, watch):
    def scenario(make):
        async def main():
            await asyncio.sleep(0)
            raise SystemExit(5)

        with closing(make()) as loop:
            first = outcome(loop.run_until_complete, main())
            return first, outcome(loop.run_until_complete, asyncio.sleep(0, "usable"))

    assert same_as_asyncio(scenario)[0] == ("raised", "SystemExit", "5")


def test_cancelled_error_out_of_a_callback_is_an_exception_like_others(same_as_asyncio, watch):
    def scenario(make):
        with closing(make()) as loop:
            loop.call_soon(raising, asyncio.CancelledError("stray"))
            loop.call_soon(raising, GeneratorExit("stray"))
            turn(loop, 5)
            return [repr(context["exception"]) for context in watch.take()]

    assert same_as_asyncio(scenario) == ["CancelledError('stray')", "GeneratorExit('stray')"]
