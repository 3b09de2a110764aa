"""call_soon from where Python code runs unasked: destructors, weakrefs, collections, signal handlers."""

import asyncio
import gc
import os
import signal
import sys
import threading
import weakref

from support.turns import turn
from support.waiting import when_asleep


class CallsSoonWhenItDies:
    def __init__(self, loop, call):
        self.loop = loop
        self.call = call

    def __del__(self):
        self.loop.call_soon(*self.call)


def test_call_soon_from_a_destructor_of_an_argument(loop):
    ran = []
    loop.call_soon(lambda dying: None, CallsSoonWhenItDies(loop, (ran.append, "destructor")))
    turn(loop, 5)
    assert ran == ["destructor"]


def test_call_soon_from_destructors_of_what_cancel_drops(loop):
    ran = []
    handles = []
    for number in range(50):
        dying = CallsSoonWhenItDies(loop, (ran.append, number))
        handles.append(loop.call_soon(print, dying))
        handles.append(loop.call_later(3600, print, CallsSoonWhenItDies(loop, (ran.append, number))))
        del dying
    loop.call_soon(lambda: [handle.cancel() for handle in reversed(handles)])
    turn(loop, 5)
    assert sorted(ran) == sorted([*range(50), *range(50)])


def test_destructors_that_cancel_other_handles_while_close_drops_them(loop_factory):
    loop = loop_factory()
    handles = []

    class Cancels:
        def __del__(self):
            for handle in handles:
                handle.cancel()

    for _ in range(20):
        handles.append(loop.call_soon(print))
        handles.append(loop.call_later(3600, print))
        loop.call_soon(print, Cancels())
        loop.call_later(3600, print, Cancels())
    loop.close()
    assert all(handle.cancelled() for handle in handles)


def test_call_soon_from_a_weakref_callback(loop):
    class Referent:
        pass

    referent = Referent()
    ran = []
    reference = weakref.ref(referent, lambda _: loop.call_soon(lambda: (ran.append("dead"), loop.stop())))
    loop.call_soon(lambda held: None, referent)
    del referent
    loop.run_forever()
    assert ran == ["dead"]
    assert reference() is None


def test_call_soon_from_inside_the_garbage_collector(loop):
    ran = []

    def make_garbage(number):
        cycle = [CallsSoonWhenItDies(loop, (ran.append, number))]
        cycle.append(cycle)

    for number in range(50):
        make_garbage(number)
        loop.call_soon(make_garbage, 50 + number)
    loop.call_soon(gc.collect)
    turn(loop, 5)
    assert sorted(ran) == list(range(100))


def test_collecting_at_every_allocation_while_scheduling(loop):
    """Whatever the loop allocates may start a collection, and that calls back into the loop."""
    ran = 0

    def count():
        nonlocal ran
        ran += 1

    def churn(left):
        cycle = [CallsSoonWhenItDies(loop, (count,))]
        cycle.append(cycle)
        del cycle
        loop.call_later(0, count)
        loop.call_soon(count).cancel()
        if left:
            loop.call_soon(churn, left - 1)
        else:
            loop.stop()

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        loop.call_soon(churn, 200)
        loop.run_forever()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    turn(loop, 5)
    assert ran == 402


def test_call_soon_threadsafe_from_a_python_signal_handler_wakes_a_sleeping_loop(loop):
    before = signal.signal(signal.SIGUSR1, lambda *args: loop.call_soon_threadsafe(loop.stop))
    try:
        thread = when_asleep(lambda: os.kill(os.getpid(), signal.SIGUSR1))
        loop.run_forever()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_call_soon_from_a_python_signal_handler_during_callbacks(loop):
    ran = []
    before = signal.signal(signal.SIGUSR1, lambda *args: loop.call_soon(ran.append, "handler"))
    try:
        for _ in range(100):
            loop.call_soon(signal.raise_signal, signal.SIGUSR1)
        loop.call_soon(lambda: loop.call_soon(loop.stop))
        loop.run_forever()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert ran == ["handler"] * 100


def test_call_soon_from_a_python_signal_handler_in_a_storm_of_real_signals(loop):
    ran = 0
    sent = 2000
    received = 0

    def count():
        nonlocal ran
        ran += 1

    def handler(*args):
        nonlocal received
        received += 1
        loop.call_soon_threadsafe(count)
        loop.call_soon(count)

    def storm():
        for _ in range(sent):
            os.kill(os.getpid(), signal.SIGUSR1)
        loop.call_soon_threadsafe(finish)

    def churn():
        loop.call_later(1e-5, count).cancel()
        loop.call_soon(churn)

    def finish():
        loop.call_soon(loop.call_soon, loop.stop)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        loop.call_soon(churn)
        thread = threading.Thread(target=storm)
        thread.start()
        loop.run_forever()
        thread.join()
        turn(loop, 5)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert ran == 2 * received > 0


def test_scheduling_from_a_profile_function(loop):
    """A profiler is Python code that runs around every call that the loop makes."""
    ran = []
    calls = 0

    def profile(frame, event, argument):
        nonlocal calls
        calls += 1
        if calls < 100:
            loop.call_soon(ran.append, calls)

    for _ in range(10):
        loop.call_soon(repr, 1)
    sys.setprofile(profile)
    try:
        turn(loop, 5)
    finally:
        sys.setprofile(None)
    assert ran == sorted(ran)
    assert ran


def test_a_task_dropped_while_pending_is_reported_from_its_destructor(loop, watch):
    async def waits(future):
        await future

    async def main():
        future = loop.create_future()
        task = loop.create_task(waits(future))
        await asyncio.sleep(0)
        del task, future
        gc.collect()

    loop.run_until_complete(main())
    (context,) = watch.take()
    assert context["message"] == "Task was destroyed but it is pending!"
