"""Timers: order, clocks (also patched ones), odd delays, cancelling. A timer never fires early."""

import math
import random
import time
import weakref
from contextlib import closing

import pytest

import ringloop
from support.clock import TickingClock
from support.compare import outcome
from support.marks import ringloop_only
from support.turns import turn


def test_timers_run_in_the_order_of_their_times(loop):
    now = loop.time()
    ran = []
    times = list(range(200))
    random.Random(1).shuffle(times)
    for place in times:
        loop.call_at(now + place * 1e-5, ran.append, place)
    loop.call_at(now + 0.01, loop.stop)
    loop.run_forever()
    assert ran == list(range(200))


def test_timers_of_one_time_run_in_one_iteration(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            clock = TickingClock(loop, iterations=6)
            ran = []
            for number in range(20):
                loop.call_at(1003.0, lambda number=number: ran.append((clock.iteration, number)))
            loop.run_forever()
            return sorted(ran)

    assert len({iteration for iteration, _ in same_as_asyncio(scenario)}) == 1


def test_a_timer_never_fires_early(loop):
    resolution = time.get_clock_info("monotonic").resolution
    early = []
    left = 200
    chooser = random.Random(2)

    def fired(when):
        nonlocal left
        if loop.time() + resolution < when:
            early.append(when - loop.time())
        left -= 1
        if not left:
            loop.stop()

    start = loop.time()
    for _ in range(left):
        when = start + chooser.uniform(0.0, 0.2)
        loop.call_at(when, fired, when)
    loop.run_forever()
    assert not early


@pytest.mark.parametrize("delay", [0, 0.0, -1, -1e9, -math.inf, False, 1e-9, 1e-12])
def test_delays_that_are_over_at_once(same_as_asyncio, delay):
    def scenario(make):
        with closing(make()) as loop:
            trace = []
            loop.call_later(delay, trace.append, "timer")
            loop.call_soon(trace.append, "soon")
            while "timer" not in trace:
                turn(loop)
            return trace

    assert same_as_asyncio(scenario) == ["soon", "timer"]


@ringloop_only
def test_a_time_that_is_no_number_does_not_hold_up_the_others():
    """As asyncio up to 3.12; from 3.13 on it ends the run by ValueError."""
    with closing(ringloop.new_event_loop()) as loop:
        trace = []
        loop.call_at(math.nan, trace.append, "nan")
        loop.call_later(0.001, trace.append, "first")
        loop.call_later(0.002, loop.stop)
        loop.run_forever()
    assert trace == ["nan", "first"]


@pytest.mark.parametrize("delay", [3600, 1e9, 1e18, math.inf])
def test_delays_that_are_never_over_do_not_disturb(loop, delay):
    ran = []
    handle = loop.call_later(delay, ran.append, "never")
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert ran == []
    assert handle.when() > loop.time()


@pytest.mark.parametrize(
    ("method", "time"),
    [("call_later", None), ("call_later", "1"), ("call_later", [1]), ("call_at", None), ("call_at", object)],
    ids=str,
)
def test_times_of_the_wrong_type(same_as_asyncio, method, time):
    def scenario(make):
        with closing(make()) as loop:
            # Two, because asyncio compares times only when there is more than one.
            return outcome(lambda: [getattr(loop, method)(time, print) for _ in range(2)])[:2]

    assert same_as_asyncio(scenario) == ("raised", "TypeError")


def test_the_messages_for_no_time_at_all(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            return outcome(loop.call_later, None, print), outcome(loop.call_at, None, print)

    same_as_asyncio(scenario)


def test_a_timer_set_by_a_due_timer_runs_in_a_later_iteration(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            clock = TickingClock(loop, iterations=6)
            trace = []

            def first():
                trace.append(("first", clock.iteration))
                loop.call_later(0, lambda: trace.append(("second", clock.iteration)))
                loop.call_soon(lambda: trace.append(("soon", clock.iteration)))

            loop.call_later(1, first)
            loop.run_forever()
            return trace

    assert [name for name, _ in same_as_asyncio(scenario)] == ["first", "soon", "second"]


def test_cancelled_timers_do_not_run_and_do_not_wake_the_loop_for_nothing(loop):
    ran = []
    for _ in range(300):
        loop.call_later(0.001, ran.append, "cancelled").cancel()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert ran == []


def test_cancelled_far_timers_are_forgotten_long_before_their_time(loop):
    """Every timeout that is not needed leaves one: they must not pile up."""
    references = []

    def set_and_cancel(left):
        for _ in range(100):
            handle = loop.call_later(3600, print)
            references.append(weakref.ref(handle))
            handle.cancel()
        if left:
            loop.call_soon(set_and_cancel, left - 1)
        else:
            loop.stop()

    loop.call_soon(set_and_cancel, 99)
    loop.run_forever()
    assert sum(reference() is not None for reference in references) <= 500


def test_a_timer_is_cancelled_by_a_timer_of_the_same_iteration(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            clock = TickingClock(loop, iterations=8)
            trace = []
            handles = [loop.call_later(2.5, trace.append, "cancelled")]
            loop.call_later(2.25, lambda: (trace.append(clock.iteration), handles[0].cancel()))
            loop.run_forever()
            return trace

    assert len(same_as_asyncio(scenario)) == 1


def test_cancelling_in_every_order_leaves_the_others(loop):
    chooser = random.Random(3)
    now = loop.time()
    ran = []
    handles = [loop.call_at(now + number * 1e-6, ran.append, number) for number in range(500)]
    cancelled = chooser.sample(range(500), 350)
    for number in cancelled:
        handles[number].cancel()
    loop.call_at(now + 0.02, loop.stop)
    loop.run_forever()
    assert ran == sorted(set(range(500)) - set(cancelled))


def test_time_is_the_monotonic_clock_and_finer_than_a_millisecond(loop):
    assert abs(loop.time() - time.monotonic()) < 1
    assert len({loop.time() for _ in range(1000)}) > 100


def test_time_goes_on_during_an_iteration(loop):
    readings = []

    def busy():
        readings.append(loop.time())
        end = time.monotonic() + 0.002
        while time.monotonic() < end:
            pass
        readings.append(loop.time())
        loop.stop()

    loop.call_soon(busy)
    loop.run_forever()
    assert readings[1] - readings[0] >= 0.002


def test_timers_go_by_a_time_patched_on_the_instance(loop):
    offset = 0.0
    real_time = loop.time
    loop.time = lambda: real_time() + offset
    ran = []

    def jump():
        nonlocal offset
        offset += 3600

    loop.call_later(3600, lambda: (ran.append("an hour later"), loop.stop()))
    loop.call_soon(jump)
    loop.run_forever()
    assert ran == ["an hour later"]


def test_timers_go_by_a_time_overridden_in_a_subclass(loop_factory):
    plain = loop_factory()
    plain.close()

    class Shifted(type(plain)):
        shift = 0.0

        def time(self):
            return super().time() + self.shift

    with closing(Shifted()) as loop:
        handle = loop.call_later(3600, loop.stop)
        assert handle.when() - loop.time() > 3500
        loop.call_soon(setattr, loop, "shift", 3600.0)
        loop.run_forever()


def test_a_patched_clock_that_stands_still_keeps_timers_waiting(loop):
    now = loop.time()
    loop.time = lambda: now
    ran = []
    loop.call_later(1e-6, ran.append, "early")
    turns = 0

    def turn():
        nonlocal turns
        turns += 1
        if turns == 100:
            loop.stop()
        else:
            loop.call_soon(turn)

    loop.call_soon(turn)
    loop.run_forever()
    assert ran == []


def test_a_patched_clock_is_asked_for_when(loop):
    loop.time = lambda: 500.0
    assert loop.call_later(7, print).when() == 507.0
    assert loop.call_at(3, print).when() == 3


def test_a_long_delay_is_shortened_by_an_earlier_timer_from_outside(loop):
    loop.call_later(3600, print)
    loop.call_soon(lambda: loop.call_later(0.005, loop.stop))
    loop.run_forever()
