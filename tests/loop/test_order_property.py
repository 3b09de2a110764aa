"""Random programs of scheduling calls run in the same order, and in the same iterations, as on asyncio."""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.clock import TickingClock

_ITERATIONS = 60


@dataclass
class Step:
    """One callback: how it is scheduled, and what it does when it runs."""

    how: str
    delay: float
    cancels: list[int]
    raises: bool
    children: list["Step"] = field(default_factory=list)
    number: int = -1

    def walk(self) -> Iterator["Step"]:
        yield self
        for child in self.children:
            yield from child.walk()


def _step(children: st.SearchStrategy[list[Step]]) -> st.SearchStrategy[Step]:
    return st.builds(
        Step,
        how=st.sampled_from(["soon", "soon", "threadsafe", "later", "later", "at"]),
        delay=st.sampled_from([-3.0, 0.0, 0.5, 1.0, 1.25, 2.0, 4.0, 7.5]),
        cancels=st.lists(st.integers(0, 30), max_size=2),
        raises=st.booleans(),
        children=children,
    )


_programs = st.lists(
    st.recursive(_step(st.just([])), lambda inner: _step(st.lists(inner, max_size=4)), max_leaves=25),
    min_size=1,
    max_size=8,
)


class Program:
    """Runs steps on a loop and records (iteration, number of the step, how many handler calls so far)."""

    def __init__(self, loop, steps: list[Step]) -> None:
        self.loop = loop
        self.trace: list[tuple] = []
        self.handles: dict = {}
        self.clock = TickingClock(loop, iterations=_ITERATIONS)
        loop.set_exception_handler(lambda _, context: self.trace.append(("error", str(context["exception"]))))
        for step in steps:
            self.schedule(step)

    def schedule(self, step: Step) -> None:
        # Distinct times: asyncio leaves the order of equal ones undefined.
        delay = step.delay + step.number * 1e-6
        if step.how == "soon":
            handle = self.loop.call_soon(self.run, step)
        elif step.how == "threadsafe":
            handle = self.loop.call_soon_threadsafe(self.run, step)
        elif step.how == "later":
            handle = self.loop.call_later(delay, self.run, step)
        else:
            handle = self.loop.call_at(self.clock.now + delay, self.run, step)
        self.handles[step.number] = handle

    def run(self, step: Step) -> None:
        self.trace.append((self.clock.iteration, step.number))
        for child in step.children:
            self.schedule(child)
        for number in step.cancels:
            if number in self.handles:
                self.handles[number].cancel()
                self.trace.append(("cancelled", number, self.handles[number].cancelled()))
        if step.raises:
            raise ValueError(step.number)


@given(steps=_programs)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_random_programs_run_in_asyncios_order(same_as_asyncio, steps):
    for number, step in enumerate(step for root in steps for step in root.walk()):
        step.number = number

    def scenario(make):
        with closing(make()) as loop:
            program = Program(loop, steps)
            loop.run_forever()
            return program.trace

    same_as_asyncio(scenario)


@given(
    delays=st.lists(st.integers(0, 50), min_size=1, max_size=60, unique=True),
    cancelled=st.sets(st.integers(0, 59)),
    again=st.lists(st.integers(51, 100), max_size=10, unique=True),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_timers_fire_sorted_and_cancelled_ones_never(loop_factory, delays, cancelled, again):
    with closing(loop_factory()) as loop:
        now = loop.time()
        loop.time = lambda: now + 1.0
        fired = []
        handles = [loop.call_at(now + delay * 1e-3, fired.append, delay) for delay in delays]
        for place in cancelled:
            if place < len(handles):
                handles[place].cancel()
        for delay in again:
            loop.call_at(now + delay * 1e-3, fired.append, delay)
        loop.stop()
        loop.run_forever()
        kept = [delay for place, delay in enumerate(delays) if place not in cancelled]
        assert fired == sorted(kept + again)


@given(program=st.lists(st.sampled_from(["soon", "reader", "timer"]), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_mixes_with_a_reader_run_in_asyncios_order(same_as_asyncio, program):
    """One event causes the next: I/O, timers and callbacks take as many iterations as on asyncio."""

    def scenario(make):
        readable, writable = os.pipe()
        with closing(make()) as loop:
            clock = TickingClock(loop, iterations=_ITERATIONS)
            trace = []
            left = list(program)

            def proceed(cause):
                trace.append((clock.iteration, cause))
                if not left:
                    return
                kind = left.pop(0)
                if kind == "soon":
                    loop.call_soon(proceed, kind)
                elif kind == "timer":
                    loop.call_later(0.5, proceed, kind)
                else:
                    os.write(writable, b"x")

            def read():
                os.read(readable, 1)
                proceed("reader")

            loop.add_reader(readable, read)
            proceed("start")
            loop.run_forever()
            loop.remove_reader(readable)
        os.close(readable)
        os.close(writable)
        return trace

    same_as_asyncio(scenario)
