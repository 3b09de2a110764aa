"""What people do to a loop: subclass it, hang attributes on it, replace its methods on the instance."""

import asyncio
import functools
import inspect
import pickle
import weakref
from contextlib import closing

import pytest

from support.compare import outcome

SPIED = ["call_soon", "call_later", "call_at", "call_soon_threadsafe", "create_task", "create_future", "time"]


def spy_on(loop, names):
    """Replaces methods on the instance by ones that note their name and call the original."""
    calls = []

    def spy_for(noted, original):
        def spy(*args, **keywords):
            calls.append(noted)
            return original(*args, **keywords)

        return spy

    for name in names:
        setattr(loop, name, spy_for(name, getattr(loop, name)))
    return calls


def test_a_loop_takes_attributes(loop):
    loop.an_attribute = [1, 2]
    assert loop.an_attribute == [1, 2]
    del loop.an_attribute
    assert not hasattr(loop, "an_attribute")


def test_a_loop_can_be_referred_to_weakly_and_hashed(loop):
    assert weakref.ref(loop)() is loop
    assert {loop: "value"}[loop] == "value"


def test_a_loop_is_what_people_check_for(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.BaseEventLoop)


def test_tasks_and_futures_use_the_call_soon_of_the_instance(loop):
    calls = spy_on(loop, ["call_soon"])

    async def main():
        await asyncio.sleep(0)
        future = loop.create_future()
        loop.call_later(0, future.set_result, None)
        await future

    loop.run_until_complete(main())
    # The task's start, its step after sleep(0), its wake-up by the future, and its done callback.
    assert calls == ["call_soon"] * 4


def test_asyncios_own_helpers_use_the_methods_of_the_instance(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            calls = spy_on(
                loop, ["call_later", "call_at", "call_soon_threadsafe", "create_task", "create_future"]
            )

            async def main():
                await asyncio.sleep(0.001)
                async with asyncio.timeout(3600):
                    await asyncio.create_task(asyncio.sleep(0))
                await asyncio.wait_for(asyncio.sleep(0), 3600)
                await loop.run_in_executor(None, str)
                await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))

            loop.run_until_complete(main())
            # call_later's use of call_at is asyncio's inside.
            return sorted(set(calls) - {"call_at"})

    same_as_asyncio(scenario)


def test_a_subclass_may_override_and_call_up(loop_factory):
    plain = loop_factory()
    plain.close()
    calls = []

    class Spy(type(plain)):
        def call_soon(self, callback, *args, context=None):
            calls.append("call_soon")
            return super().call_soon(callback, *args, context=context)

        def call_later(self, delay, callback, *args, context=None):
            calls.append("call_later")
            return super().call_later(delay, callback, *args, context=context)

        def create_task(self, coro, **keywords):
            calls.append("create_task")
            return super().create_task(coro, **keywords)

        def close(self):
            calls.append("close")
            super().close()

    async def main():
        await asyncio.sleep(0.001)

    with asyncio.Runner(loop_factory=Spy) as runner:
        runner.run(main())
        assert "Spy" in repr(runner.get_loop())
    assert {"call_soon", "call_later", "create_task", "close"} <= set(calls)


def test_a_subclass_may_add_state_before_and_after_init(loop_factory):
    plain = loop_factory()
    plain.close()

    class WithState(type(plain)):
        def __init__(self, *, state):
            self.early = state
            super().__init__()
            self.late = state

    with closing(WithState(state=3)) as loop:
        assert (loop.early, loop.late) == (3, 3)
        assert loop.run_until_complete(asyncio.sleep(0, "runs")) == "runs"


def test_a_mixin_before_the_loop_class(loop_factory):
    plain = loop_factory()
    plain.close()

    class Counting:
        counted = 0

        def call_soon(self, *args, **keywords):
            self.counted += 1
            return super().call_soon(*args, **keywords)

    class Both(Counting, type(plain)):
        pass

    with closing(Both()) as loop:
        loop.run_until_complete(asyncio.sleep(0))
        assert loop.counted >= 2


@pytest.mark.parametrize("name", SPIED)
def test_a_replaced_method_can_be_put_back(loop, name):
    calls = spy_on(loop, [name])
    delattr(loop, name)
    loop.run_until_complete(asyncio.sleep(0.001))
    assert calls == []


def test_public_methods_take_the_arguments_that_asyncios_take(loop):
    """By name: wrappers and tracers pass on what they were given."""
    missing = {}
    for name, method in inspect.getmembers(asyncio.SelectorEventLoop, inspect.isfunction):
        if name.startswith("_"):
            continue
        ours = getattr(loop, name, None)
        assert ours is not None, name
        try:
            mine = inspect.signature(ours).parameters
        except ValueError:
            continue  # a builtin without a signature: the calls by keyword below are what counts
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in mine.values()):
            continue
        names = [
            parameter
            for parameter in inspect.signature(method).parameters
            if parameter not in ("self", "args")
        ]
        lacking = [parameter for parameter in names if parameter not in mine and parameter != "kwargs"]
        if lacking:
            missing[name] = lacking
    assert missing == {}


BY_KEYWORD = {
    "call_soon": {"callback": print},
    "call_soon_threadsafe": {"callback": print},
    "call_later": {"delay": 1, "callback": print},
    "call_at": {"when": 1, "callback": print},
    "set_debug": {"enabled": True},
    "run_in_executor": {"executor": None, "func": str},
    "set_exception_handler": {"handler": None},
    "set_task_factory": {"factory": None},
}


@pytest.mark.parametrize("name", BY_KEYWORD)
def test_arguments_by_keyword(same_as_asyncio, name):
    def scenario(make):
        with closing(make()) as loop:
            result = outcome(functools.partial(getattr(loop, name), **BY_KEYWORD[name]))
            return result[:2]

    assert same_as_asyncio(scenario)[0] == "returned"


def test_a_loop_cannot_be_pickled(loop):
    with pytest.raises(TypeError):
        pickle.dumps(loop)
