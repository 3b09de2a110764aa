"""call_soon: order, fairness towards I/O and timers, cancelling, and what goes wrong in a callback."""

import os
import threading
from contextlib import closing

import pytest

from support.compare import normalised, outcome


def test_callbacks_run_in_the_order_they_were_registered(loop):
    ran = []
    for number in range(1000):
        loop.call_soon(ran.append, number)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == list(range(1000))


def test_callbacks_registered_during_an_iteration_run_in_the_next(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            trace = []

            def spawn(depth):
                trace.append(depth)
                if depth < 3:
                    loop.call_soon(spawn, depth + 1)
                    loop.call_soon(spawn, depth + 1)
                else:
                    loop.stop()

            loop.call_soon(spawn, 0)
            loop.call_soon(trace.append, "beside")
            loop.run_forever()
            return trace

    assert same_as_asyncio(scenario) == [0, "beside", 1, 1, 2, 2, 2, 2] + [3] * 8


def test_arguments_arrive_as_given(loop):
    got = []
    marker = object()
    loop.call_soon(lambda *args: got.append(args))
    loop.call_soon(lambda *args: got.append(args), 1)
    loop.call_soon(lambda *args: got.append(args), None, marker, "three", 4.0, (5,), [6])
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert got == [(), (1,), (None, marker, "three", 4.0, (5,), [6])]


@pytest.mark.parametrize("kind", ["reader", "timer", "threadsafe", "future of a thread"])
def test_other_events_are_served_while_callbacks_register_themselves_for_ever(loop, kind):
    readable, writable = os.pipe()

    def storm():
        loop.call_soon(storm)

    def start():
        if kind == "reader":
            loop.add_reader(readable, loop.stop)
            os.write(writable, b"x")
        elif kind == "timer":
            loop.call_later(0.01, loop.stop)
        elif kind == "threadsafe":
            threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,)).start()
        else:
            loop.run_in_executor(None, str).add_done_callback(lambda future: loop.stop())

    loop.call_soon(storm)
    loop.call_soon(start)
    loop.run_forever()
    loop.remove_reader(readable)
    os.close(readable)
    os.close(writable)


def test_a_callback_cancelled_by_an_earlier_one_of_the_same_iteration_does_not_run(loop):
    ran = []
    handles = []
    loop.call_soon(lambda: handles[0].cancel())
    handles.append(loop.call_soon(ran.append, "cancelled"))
    loop.call_soon(ran.append, "kept")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["kept"]


def test_a_callback_may_cancel_itself_while_it_runs(loop):
    handles = []
    seen = []

    def callback(argument):
        handles[0].cancel()
        seen.append((argument, handles[0].cancelled()))

    handles.append(loop.call_soon(callback, "argument survives"))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [("argument survives", True)]


def test_an_exception_in_a_callback_goes_to_the_handler_and_the_iteration_goes_on(loop, watch):
    ran = []
    handle = loop.call_soon(lambda: 1 / 0)
    loop.call_soon(ran.append, "after")
    loop.call_soon(loop.stop)
    loop.run_forever()
    (context,) = watch.take()
    assert ran == ["after"]
    assert isinstance(context["exception"], ZeroDivisionError)
    assert context["handle"] is handle
    assert context["message"].startswith("Exception in callback ")


def test_a_long_chain_of_callbacks_does_not_nest(loop):
    left = 100_000

    def chain():
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(chain)
        else:
            loop.stop()

    loop.call_soon(chain)
    loop.run_forever()
    assert left == 0


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("thing", [None, 42, "text"], ids=repr)
@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_what_cannot_be_called(same_as_asyncio, watch, method, thing, debug):
    def scenario(make):
        with closing(make()) as loop:
            loop.set_debug(debug)
            when = {"call_later": (0,), "call_at": (0,)}.get(method, ())
            refused = outcome(lambda: getattr(loop, method)(*when, thing).cancelled())
            loop.call_later(0, lambda: loop.call_soon(loop.stop))
            loop.run_forever()
            contexts = [(normalised(c["message"]), type(c["exception"])) for c in watch.take()]
            return refused, contexts

    same_as_asyncio(scenario)


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_a_coroutine_function_is_refused_in_debug_mode(same_as_asyncio, method):
    async def coroutine_function():
        """Never run."""

    def scenario(make):
        with closing(make()) as loop:
            loop.set_debug(True)
            when = {"call_later": (0,), "call_at": (0,)}.get(method, ())
            coroutine = coroutine_function()
            results = [
                outcome(lambda: getattr(loop, method)(*when, coroutine_function)),
                outcome(lambda: getattr(loop, method)(*when, coroutine)),
            ]
            coroutine.close()
            return results

    assert [result[1] for result in same_as_asyncio(scenario)] == ["TypeError", "TypeError"]


@pytest.mark.parametrize("call", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_wrong_keywords_and_missing_arguments_are_type_errors(loop, call):
    with pytest.raises(TypeError):
        getattr(loop, call)()
    with pytest.raises(TypeError):
        getattr(loop, call)(0, print, no_such_keyword=1)
