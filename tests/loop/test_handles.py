"""Handle and TimerHandle: what call_soon and call_later hand out."""

import asyncio
import contextvars
import functools
import sys
import weakref
from contextlib import closing

import pytest

from support.compare import normalised, outcome
from support.turns import turn


def callback(*args):
    """A callback with a name and a place."""


class Callable:
    def __call__(self):
        pass

    def method(self):
        pass

    def __repr__(self):
        return "Callable()"


CALLBACKS = {
    "function": (callback, ()),
    "function with arguments": (callback, (1, "two", [3])),
    "long arguments": (callback, ("x" * 500,)),
    "builtin": (print, ("text",)),
    "lambda": (lambda: None, ()),
    "partial": (functools.partial(callback, 1, key=2), (3,)),
    "method": (Callable().method, ()),
    "object": (Callable(), ()),
}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("name", CALLBACKS)
def test_repr(same_as_asyncio, name, debug):
    function, args = CALLBACKS[name]

    def scenario(make):
        with closing(make()) as loop:
            loop.set_debug(debug)
            soon, timer = loop.call_soon(function, *args), loop.call_at(12.5, function, *args)
            texts = [repr(soon), repr(timer)]
            soon.cancel()
            timer.cancel()
            return [normalised(text) for text in [*texts, repr(soon), repr(timer)]]

    same_as_asyncio(scenario)


def test_repr_from_inside_and_after_the_run(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            texts, handles = [], []
            handles.append(loop.call_soon(lambda: texts.append(repr(handles[0]))))
            loop.call_soon(loop.stop)
            loop.run_forever()
            return [normalised(text) for text in [*texts, repr(handles[0])]]

    same_as_asyncio(scenario)


def test_cancel_is_idempotent_and_seen_by_cancelled(loop):
    for handle in (loop.call_soon(print), loop.call_later(1, print), loop.call_soon_threadsafe(print)):
        assert handle.cancelled() is False
        assert handle.cancel() is None
        assert handle.cancelled() is True
        handle.cancel()
        assert handle.cancelled() is True


def test_cancel_after_the_run_is_harmless(loop):
    handles = [loop.call_soon(callback), loop.call_later(0, callback)]
    turn(loop, 5)
    for handle in handles:
        assert handle.cancelled() is False
        handle.cancel()
        assert handle.cancelled() is True


def test_cancel_drops_callback_and_arguments(loop):
    class Payload:
        pass

    for call in (loop.call_soon, functools.partial(loop.call_later, 3600)):
        payload = Payload()
        alive = weakref.ref(payload)
        handle = call(callback, payload)
        del payload
        assert alive() is not None
        handle.cancel()
        assert alive() is None


def test_a_finished_handle_that_is_dropped_drops_callback_and_arguments(loop):
    class Payload:
        pass

    payload = Payload()
    alive = weakref.ref(payload)
    loop.call_soon(callback, payload)
    loop.call_later(0, callback, payload)
    turn(loop, 5)
    del payload
    assert alive() is None


def test_a_handle_can_be_referred_to_weakly(loop):
    for handle in (loop.call_soon(callback), loop.call_later(1, callback)):
        assert weakref.ref(handle)() is handle


def test_when_is_the_loops_time_at_which_the_timer_is_due(loop):
    before = loop.time()
    handle = loop.call_later(5, callback)
    assert before + 5 <= handle.when() <= loop.time() + 5
    assert handle.when() == handle._when
    assert loop.call_at(123.25, callback).when() == 123.25
    handle.cancel()
    assert handle.when() == handle._when


def test_timers_compare_by_time(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            early, late, same = (loop.call_at(when, callback) for when in (1.0, 2.0, 1.0))
            other_callback = loop.call_at(1.0, print)
            other_args = loop.call_at(1.0, callback, 1)
            return [
                [early < late, early <= late, early > late, early >= late, early == late, early != late],
                [early < same, early <= same, early > same, early >= same, early == same, early != same],
                [
                    early <= other_callback,
                    early >= other_callback,
                    early == other_callback,
                    early == other_args,
                ],
                [early == 1.0, early != 1.0, early == loop.call_soon(callback)],
                [hash(early) == hash(same), hash(early) == hash(1.0)],
                outcome(lambda: early < 1.0)[:2],
                outcome(lambda: early < loop.call_soon(callback))[:2],
                (early.cancel(), early == same),
            ]

    same_as_asyncio(scenario)


def test_plain_handles_compare_by_identity(loop):
    first, second = loop.call_soon(callback), loop.call_soon(callback)
    assert first == first
    assert first != second
    assert len({first, second}) == 2


def test_get_context_is_the_context_of_the_callback(loop, loop_name):
    if loop_name == "asyncio" and sys.version_info < (3, 12):
        pytest.skip("asyncio's handles have it from 3.12 on")
    context = contextvars.copy_context()
    for handle in (
        loop.call_soon(callback, context=context),
        loop.call_soon_threadsafe(callback, context=context),
        loop.call_later(1, callback, context=context),
        loop.call_at(1, callback, context=context),
    ):
        assert handle.get_context() is context
    assert isinstance(loop.call_soon(callback).get_context(), contextvars.Context)


def test_handles_cannot_be_made_to_run_twice(loop):
    ran = []
    handle = loop.call_soon(ran.append, 1)
    for _ in range(3):
        loop.stop()
        loop.run_forever()
    handle.cancel()
    assert ran == [1]


def test_a_handle_may_outlive_its_loop(loop):
    handles = [loop.call_soon(callback), loop.call_later(1, callback)]
    loop.close()
    for handle in handles:
        repr(handle)
        handle.cancel()
        assert handle.cancelled()


async def test_cancelled_sleeps_leave_the_loop_alone():
    tasks = [asyncio.ensure_future(asyncio.sleep(3600)) for _ in range(100)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)


def test_a_handle_that_ran_keeps_what_it_was_as_long_as_somebody_has_it(loop):
    handle = loop.call_soon(callback, 1)
    before = repr(handle)
    turn(loop)
    later = [loop.call_soon(Callable()) for _ in range(10)]
    turn(loop)
    assert repr(handle) == before
    assert handle not in later


def test_a_weak_reference_to_a_handle_that_ran_is_dead(loop):
    reference = weakref.ref(loop.call_soon(callback))
    turn(loop)
    later = [loop.call_soon(callback) for _ in range(10)]
    assert reference() is None
    assert all(reference() is not handle for handle in later)


def test_a_handle_that_ran_lets_go_of_what_it_held(loop):
    class Subject:
        def method(self, other):
            pass

    first, second = Subject(), Subject()
    references = [weakref.ref(first), weakref.ref(second)]
    loop.call_soon(first.method, second)
    del first, second
    turn(loop)
    assert [reference() for reference in references] == [None, None]


def test_a_destructor_that_runs_as_a_handle_ends_may_register_callbacks(loop):
    ran = []

    class Subject:
        def __call__(self):
            pass

        def __del__(self):
            loop.call_soon(ran.append, "from the destructor")

    loop.call_soon(Subject())
    loop.call_soon(ran.append, "behind it")
    turn(loop)
    turn(loop)
    assert ran == ["behind it", "from the destructor"]


def test_callbacks_behind_one_that_raised_run_in_the_same_turn(loop):
    ran, reported = [], []
    loop.set_exception_handler(lambda loop, context: reported.append(context["exception"]))

    def fail():
        raise ZeroDivisionError

    for index in range(5):
        loop.call_soon(ran.append, index)
        loop.call_soon(fail)
    turn(loop)
    assert ran == list(range(5))
    assert [type(exception) for exception in reported] == [ZeroDivisionError] * 5
