"""asyncio.Runner, asyncio.run and what they ask of a loop at its end: async generators and the executor."""

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from support.compare import outcome


def test_a_runner_uses_one_loop_for_all_its_runs(loop_factory):
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = runner.get_loop()

        async def running():
            return asyncio.get_running_loop() is loop

        assert runner.run(running())
        assert runner.run(running())
        assert not loop.is_closed()
    assert loop.is_closed()


@pytest.mark.parametrize("debug", [None, False, True])
def test_a_runner_sets_debug(loop_factory, debug):
    async def get_debug():
        return asyncio.get_running_loop().get_debug()

    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        assert runner.run(get_debug()) is bool(debug)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="loop_factory= came with Python 3.12")
def test_asyncio_run_takes_a_factory(loop_factory):
    loops = []

    def factory():
        loops.append(loop_factory())
        return loops[0]

    async def main():
        return asyncio.get_running_loop()

    assert asyncio.run(main(), loop_factory=factory) is loops[0]
    assert loops[0].is_closed()


def test_a_runner_cancels_what_is_left_and_reports_what_fails_then(same_as_asyncio, watch):
    def scenario(make):
        trace = []

        async def left(name, fail):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                trace.append(name)
                if fail:
                    raise LookupError(name) from None
                raise

        async def main():
            for name, fail in (("first", False), ("second", True)):
                kept.append(asyncio.create_task(left(name, fail), name=name))
            await asyncio.sleep(0)
            return "returned"

        kept = []
        with asyncio.Runner(loop_factory=make) as runner:
            trace.append(runner.run(main()))
        contexts = [(c["message"], repr(c["exception"]), c["task"].get_name()) for c in watch.take()]
        return trace[0], sorted(trace[1:]), contexts

    assert same_as_asyncio(scenario)[2][0][0].startswith("unhandled exception during asyncio.run() shutdown")


def test_unfinished_async_generators_are_closed_by_shutdown_asyncgens(same_as_asyncio):
    def scenario(make):
        trace = []

        async def generator(name):
            try:
                yield name
                yield "never"
            finally:
                await asyncio.sleep(0)
                trace.append(f"{name} closed")

        async def main():
            kept.extend(generator(name) for name in "ab")
            for item in kept:
                trace.append(await anext(item))

        kept = []
        with closing(make()) as loop:
            loop.run_until_complete(main())
            loop.run_until_complete(loop.shutdown_asyncgens())
        return trace[:2], sorted(trace[2:])

    assert same_as_asyncio(scenario) == (["a", "b"], ["a closed", "b closed"])


def test_a_dropped_async_generator_is_closed_by_the_running_loop(run):
    async def main():
        closed = asyncio.get_running_loop().create_future()

        async def generator():
            try:
                yield
            finally:
                await asyncio.sleep(0)
                closed.set_result("closed")

        async for _ in generator():
            break
        assert await closed == "closed"

    run(main())


def test_an_async_generator_started_after_shutdown_warns(same_as_asyncio):
    def scenario(make):
        async def generator():
            yield 1

        async def main():
            await asyncio.get_running_loop().shutdown_asyncgens()
            late = generator()
            with pytest.warns(ResourceWarning, match="was scheduled after loop.shutdown_asyncgens") as warned:
                await anext(late)
            await late.aclose()
            return len(warned)

        with closing(make()) as loop:
            return loop.run_until_complete(main())

    assert same_as_asyncio(scenario) == 1


def test_an_async_generator_that_fails_to_close_is_reported(same_as_asyncio, watch):
    def scenario(make):
        async def generator():
            try:
                yield
            finally:
                raise LookupError("cannot close")

        async def main():
            kept.append(generator())
            await anext(kept[0])

        kept = []
        with closing(make()) as loop:
            loop.run_until_complete(main())
            loop.run_until_complete(loop.shutdown_asyncgens())
        kept.clear()
        return [(c["message"].split("<")[0], repr(c["exception"]), sorted(c)) for c in watch.take()]

    assert len(same_as_asyncio(scenario)) == 1


# The executor


def test_threads_of_the_default_executor_have_asyncios_names(run):
    async def main():
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, lambda: threading.current_thread().name)

    assert run(main()) == "asyncio_0"


def test_run_in_executor_hands_over_arguments_results_and_errors(run):
    async def main():
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, divmod, 17, 5) == (3, 2)
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, divmod, 1, 0)
        with ThreadPoolExecutor(1, thread_name_prefix="own") as own:
            assert await loop.run_in_executor(own, lambda: threading.current_thread().name) == "own_0"

    run(main())


def test_run_in_executor_refuses_what_asyncio_refuses(same_as_asyncio):
    async def coroutine_function():
        """Never run."""

    def scenario(make):
        with closing(make()) as loop:
            loop.set_debug(True)
            return [
                outcome(loop.run_in_executor, None, coroutine_function),
                outcome(loop.run_in_executor, None, 42),
                outcome(loop.set_default_executor, object()),
                outcome(loop.set_default_executor, None),
            ]

    assert {result[1] for result in same_as_asyncio(scenario)} == {"TypeError"}


def test_set_default_executor_is_used(loop):
    with ThreadPoolExecutor(1, thread_name_prefix="given") as given:
        loop.set_default_executor(given)
        future = loop.run_in_executor(None, lambda: threading.current_thread().name)
        assert loop.run_until_complete(future) == "given_0"


def test_many_results_of_threads_all_arrive(run):
    async def main():
        loop = asyncio.get_running_loop()
        results = await asyncio.gather(
            *[loop.run_in_executor(None, int, str(number)) for number in range(2000)]
        )
        assert results == list(range(2000))

    run(main())


def test_a_cancelled_executor_future_is_forgotten(run):
    async def main():
        loop = asyncio.get_running_loop()
        release = threading.Event()
        future = loop.run_in_executor(None, release.wait)
        await asyncio.sleep(0)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        release.set()

    run(main())


def test_shutdown_default_executor_joins_and_refuses_more_work(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            names = []
            loop.run_in_executor(None, lambda: names.append(threading.current_thread()))
            loop.run_until_complete(loop.shutdown_default_executor())
            return names[0].is_alive(), outcome(loop.run_in_executor, None, print)

    assert same_as_asyncio(scenario) == (
        False,
        ("raised", "RuntimeError", "Executor shutdown has been called"),
    )


def test_shutdown_default_executor_gives_up_after_its_timeout(loop, loop_name):
    if loop_name == "asyncio" and sys.version_info < (3, 13):
        pytest.skip("asyncio's has no timeout before 3.12, and waits for ever in spite of it before 3.13")
    release = threading.Event()
    future = loop.run_in_executor(None, release.wait)
    started = time.monotonic()
    with pytest.warns(RuntimeWarning, match=r"did not finishing joining its threads within 0\.01 seconds"):
        loop.run_until_complete(loop.shutdown_default_executor(timeout=0.01))
    assert time.monotonic() - started < 20
    release.set()
    assert loop.run_until_complete(future) is True


async def test_to_thread_runs_elsewhere():
    assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()


@pytest.mark.parametrize("call", ["getaddrinfo", "getnameinfo"])
async def test_names_are_resolved_by_a_thread(call, monkeypatch):
    seen = []

    def resolve(*args, **keywords):
        seen.append((args, threading.current_thread() is threading.main_thread()))
        return ["resolved"]

    monkeypatch.setattr(f"socket.{call}", resolve)
    arguments = ("a.name.for.the.test", 80) if call == "getaddrinfo" else (("192.0.2.1", 80),)
    assert await getattr(asyncio.get_running_loop(), call)(*arguments) == ["resolved"]
    assert [on_main for _, on_main in seen] == [False]
