"""Tasks and futures as made by the loop: keywords, factories, eager tasks, who is running."""

import asyncio
import contextvars
import inspect
import re
import sys
from contextlib import closing

import pytest

import ringloop
from support.compare import outcome
from support.marks import ringloop_only

var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="default")
#: From this one on create_task hands every keyword it is given to the task's class or factory.
PASSES_KEYWORDS = (3, 13, 3)


async def answer():
    return 42


def test_create_future_belongs_to_the_loop(loop):
    future = loop.create_future()
    assert isinstance(future, asyncio.Future)
    assert future.get_loop() is loop
    assert not future.done()


def test_create_task_makes_a_stock_task(loop):
    task = loop.create_task(answer())
    assert type(task) is asyncio.Task
    assert task.get_loop() is loop
    assert loop.run_until_complete(task) == 42


def test_create_task_takes_a_name(loop):
    named = loop.create_task(answer(), name="named")
    unnamed = loop.create_task(answer())
    assert named.get_name() == "named"
    assert unnamed.get_name().startswith("Task-")
    loop.run_until_complete(asyncio.gather(named, unnamed))


def test_create_task_takes_a_context(loop):
    async def read_and_write():
        before = var.get()
        var.set("written")
        return before

    context = contextvars.copy_context()
    context.run(var.set, "given")
    assert loop.run_until_complete(loop.create_task(read_and_write(), context=context)) == "given"
    assert context[var] == "written"


# What asyncio's loop passes on to its tasks. From 3.12 on tasks take eager_start, and ringloop passes it on.
KEYWORDS = [{"no_such_keyword": 1}, {"name": None, "context": None}]
if not (3, 12) <= sys.version_info < PASSES_KEYWORDS:
    KEYWORDS.append({"eager_start": False})


@ringloop_only
@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks take no eager_start= before 3.12")
def test_eager_start_is_taken_wherever_tasks_take_it():
    with closing(ringloop.new_event_loop()) as loop:
        task = loop.create_task(answer(), eager_start=False)
        assert loop.run_until_complete(task) == 42


def test_keywords_of_create_task_are_those_of_this_python(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            results = [outcome(loop.create_task)[:2], outcome(loop.create_task, None)[:2]]
            for keywords in KEYWORDS:
                coroutine = answer()
                results.append(outcome(loop.create_task, coroutine, **keywords)[:2])
                if results[-1][0] == "returned":
                    loop.run_until_complete(asyncio.wait(asyncio.all_tasks(loop)))
                coroutine.close()
            return results

    same_as_asyncio(scenario)


@pytest.mark.parametrize(
    "keywords",
    [{}, {"name": "named"}, {"context": contextvars.copy_context()}, {"name": "named", "context": None}],
    ids=lambda keywords: " and ".join(keywords) or "none",
)
def test_a_task_factory_is_called_as_in_this_python(same_as_asyncio, keywords):
    def scenario(make):
        with closing(make()) as loop:
            calls = []

            def factory(its_loop, coroutine, **given):
                calls.append(
                    (its_loop is loop, inspect.iscoroutine(coroutine), sorted(given.items(), key=repr))
                )
                return asyncio.Task(coroutine, loop=its_loop, **given)

            loop.set_task_factory(factory)
            task = loop.create_task(answer(), **keywords)
            loop.run_until_complete(task)
            return calls, task.get_name() if "name" in keywords else None

    same_as_asyncio(scenario)


def test_a_task_factory_without_keywords_still_works(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            loop.set_task_factory(lambda its_loop, coroutine: asyncio.Task(coroutine, loop=its_loop))
            results = [outcome(lambda: loop.run_until_complete(loop.create_task(answer())))]
            coroutine = answer()
            results.append(outcome(lambda: loop.create_task(coroutine, context=contextvars.Context()))[:2])
            coroutine.close()
            return results

    same_as_asyncio(scenario)


def test_get_task_factory_returns_what_was_set(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            results = [loop.get_task_factory() is None]
            loop.set_task_factory(print)
            results.append(loop.get_task_factory() is print)
            results.append(outcome(loop.set_task_factory, "not callable"))
            loop.set_task_factory(None)
            return [*results, loop.get_task_factory() is None]

    assert same_as_asyncio(scenario)[2][:2] == ("raised", "TypeError")


def test_a_factory_may_return_what_is_only_like_a_task(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:

            def factory(its_loop, coroutine, **keywords):
                coroutine.close()
                future = its_loop.create_future()
                future.set_result("a future")
                return future

            loop.set_task_factory(factory)
            return outcome(lambda: loop.run_until_complete(loop.create_task(answer())))

    same_as_asyncio(scenario)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks_run_at_once_up_to_their_first_wait(same_as_asyncio):
    def scenario(make):
        trace = []

        async def child(name):
            trace.append((name, re.sub(r"\d+", "N", asyncio.current_task().get_name())))
            await asyncio.sleep(0)
            trace.append((name, "after"))
            return name

        async def main():
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            done = asyncio.create_task(answer())
            trace.append(("done at once", done.done()))
            pending = asyncio.create_task(child("child"), name="child's task")
            trace.append("created")
            async with asyncio.TaskGroup() as group:
                group.create_task(child("grouped"), name="grouped task")
                trace.append("in group")
            return await pending, await done, asyncio.current_task().get_name() != "child's task"

        with asyncio.Runner(loop_factory=make) as runner:
            return runner.run(main()), trace

    same_as_asyncio(scenario)


@pytest.mark.skipif(sys.version_info < PASSES_KEYWORDS, reason="eager_start= is passed on from 3.13.3 on")
def test_eager_start_keyword(run):
    async def main():
        ran = []

        async def child():
            ran.append(1)

        eager = asyncio.Task(child(), loop=asyncio.get_running_loop(), eager_start=True)
        assert ran == [1]
        await eager
        if sys.version_info >= (3, 14):
            task = asyncio.get_running_loop().create_task(child(), eager_start=True)
            assert ran == [1, 1]
            await task

    run(main())


async def test_current_task_and_all_tasks():
    loop = asyncio.get_running_loop()
    started = asyncio.Event()

    async def child():
        assert asyncio.current_task() is asyncio.current_task(loop)
        started.set()
        await asyncio.sleep(3600)

    me = asyncio.current_task()
    task = asyncio.create_task(child())
    await started.wait()
    assert asyncio.current_task() is me
    assert asyncio.all_tasks() == asyncio.all_tasks(loop) == {me, task}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {me}
    seen = []
    loop.call_soon(lambda: seen.append(asyncio.current_task()))
    await asyncio.sleep(0)
    assert seen == [None]


async def test_timeout_interrupts_a_wait_and_leaves_the_task_usable():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.005):
            await asyncio.get_running_loop().create_future()
    assert asyncio.current_task().cancelling() == 0
    async with asyncio.timeout(3600) as scope:
        await asyncio.sleep(0)
    assert not scope.expired()


async def test_timeout_may_be_moved():
    loop = asyncio.get_running_loop()

    async def waits_too_long():
        async with asyncio.timeout(3600) as scope:
            scope.reschedule(loop.time() + 0.005)
            await loop.create_future()

    with pytest.raises(TimeoutError):
        await waits_too_long()
    async with asyncio.timeout(0.005) as scope:
        scope.reschedule(None)
        await asyncio.sleep(0.02)


async def test_wait_for_cancels_what_it_waits_for():
    cancelled = []

    async def waits():
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(waits(), 0.005)
    assert cancelled == [True]


async def test_a_failing_task_cancels_its_group():
    cancelled = []

    async def fails():
        await asyncio.sleep(0)
        raise LookupError("fails")

    async def waits():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def group_of_both():
        async with asyncio.TaskGroup() as group:
            group.create_task(waits())
            group.create_task(fails())

    with pytest.raises(ExceptionGroup) as raised:
        await group_of_both()
    assert [str(error) for error in raised.value.exceptions] == ["fails"]
    assert cancelled == [True]


async def test_cancel_message_arrives():
    async def waits():
        await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel("the reason")
    with pytest.raises(asyncio.CancelledError, match="the reason"):
        await task


async def test_a_task_that_waits_for_another_loops_future_fails():
    other = asyncio.SelectorEventLoop()
    try:

        async def waits():
            await other.create_future()

        with pytest.raises(RuntimeError, match="attached to a different loop"):
            await asyncio.create_task(waits())
    finally:
        other.close()


def test_sleep_orders_tasks_as_asyncio_does(same_as_asyncio):
    def scenario(make):
        trace = []

        async def child(name, turns):
            for turn in range(turns):
                trace.append((name, turn))
                await asyncio.sleep(0)

        async def main():
            async with asyncio.TaskGroup() as group:
                for number in range(4):
                    group.create_task(child(number, 5 - number))
            queue = asyncio.Queue(maxsize=2)

            async def produce():
                for item in range(6):
                    await queue.put(item)
                    trace.append(("put", item))

            async def consume():
                for _ in range(6):
                    trace.append(("got", await queue.get()))

            await asyncio.gather(produce(), consume())

        with asyncio.Runner(loop_factory=make) as runner:
            runner.run(main())
        return trace

    same_as_asyncio(scenario)


def test_a_failed_task_nobody_looked_at_is_reported_when_collected(same_as_asyncio, watch):
    def scenario(make):
        async def fails():
            raise LookupError("nobody looks")

        async def main():
            task = asyncio.get_running_loop().create_task(fails(), name="failing")
            await asyncio.wait([task])

        with closing(make()) as loop:
            loop.run_until_complete(main())
        return [(c["message"], repr(c["exception"]), c["future"].get_name(), sorted(c)) for c in watch.take()]

    assert same_as_asyncio(scenario)[0][0] == "Task exception was never retrieved"


def test_a_failed_future_nobody_looked_at_is_reported_when_collected(same_as_asyncio, watch):
    def scenario(make):
        with closing(make()) as loop:
            loop.create_future().set_exception(LookupError("nobody looks"))
        return [(c["message"], repr(c["exception"]), sorted(c)) for c in watch.take()]

    assert same_as_asyncio(scenario)[0][0] == "Future exception was never retrieved"


async def test_tasks_and_futures_are_of_asyncios_present_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Task(asyncio.Task):  # type: ignore[type-arg]
        pass

    class Future(asyncio.Future):  # type: ignore[type-arg]
        pass

    monkeypatch.setattr(asyncio.tasks, "Task", Task)
    monkeypatch.setattr(asyncio.futures, "Future", Future)
    loop = asyncio.get_running_loop()
    task = loop.create_task(asyncio.sleep(0, "done"))
    assert type(task) is Task
    assert type(loop.create_future()) is Future
    assert await task == "done"
    named = loop.create_task(asyncio.sleep(0), name="named")
    assert type(named) is Task
    await named
