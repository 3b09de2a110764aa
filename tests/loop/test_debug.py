"""Debug mode: who switches it on, what it checks, what it logs, and what is said of a loop left open."""

import asyncio
import gc
import os
import re
import sys
import threading
import warnings
from contextlib import closing

import pytest

from support.compare import outcome, take_log
from support.turns import turn


def callback():
    """A callback with a name."""


WRONG_THREAD = {
    "call_soon": lambda loop: loop.call_soon(callback),
    "call_later": lambda loop: loop.call_later(1, callback),
    "call_at": lambda loop: loop.call_at(1, callback),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(callback),
    "future callback": lambda loop: loop.test_future.add_done_callback(print),
    "future result": lambda loop: loop.test_future.set_result(1),
    "close": lambda loop: loop.close(),
}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("name", WRONG_THREAD)
def test_calls_from_the_wrong_thread(same_as_asyncio, name, debug):
    def scenario(make):
        with closing(make()) as loop:
            loop.set_debug(debug)
            loop.test_future = loop.create_future()
            loop.test_future.add_done_callback(lambda future: None)
            results = []

            def elsewhere():
                results.append(outcome(WRONG_THREAD[name], loop))
                loop.call_soon_threadsafe(loop.stop)

            thread = threading.Thread(target=elsewhere)
            loop.call_soon(thread.start)
            loop.run_forever()
            thread.join()
            # What is returned when nothing is refused: a handle, whose repr tells its time.
            return [result if result[0] == "raised" else result[:2] for result in results]

    ((kind, *_, text),) = same_as_asyncio(scenario)
    if debug and name in ("call_soon", "call_later", "call_at", "future result"):
        wrong = "Non-thread-safe operation invoked on an event loop other than the current one"
        assert (kind, text) == ("raised", wrong)


def test_source_tracebacks_end_where_the_call_was_made(loop):
    def calls_soon():
        return loop.call_soon(callback)

    def calls_later():
        return loop.call_later(1, callback)

    def calls_at():
        return loop.call_at(1, callback)

    def calls_threadsafe():
        return loop.call_soon_threadsafe(callback)

    callers = [calls_soon, calls_later, calls_at, calls_threadsafe]
    for call in callers:
        assert call()._source_traceback is None
    loop.set_debug(True)
    for call in callers:
        last = call()._source_traceback[-1]
        assert (last.name, os.path.basename(last.filename)) == (call.__name__, os.path.basename(__file__))


def test_slow_callbacks_are_logged_as_asyncio_does(same_as_asyncio, caplog):
    def scenario(make):
        async def coroutine():
            await asyncio.sleep(0)

        with closing(make()) as loop:
            loop.set_debug(True)
            assert loop.slow_callback_duration == 0.1
            loop.slow_callback_duration = 0
            caplog.clear()
            loop.call_soon(callback)
            loop.call_later(0, callback)
            loop.create_task(coroutine(), name="named")
            turn(loop, 5)
            texts = [re.sub(r"\d+\.\d\d\d seconds", "N seconds", text) for _, text, _ in take_log(caplog)]
            return sorted(text for text in texts if text.startswith("Executing"))

    texts = same_as_asyncio(scenario)
    assert len(texts) == 4
    assert any(text.startswith("Executing <Task finished name='named'") for text in texts)


def test_quick_callbacks_are_not_logged_as_slow(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 3600
    loop.call_soon(callback)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert not [text for _, text, _ in take_log(caplog) if text.startswith("Executing")]


def test_without_debug_nothing_is_timed(loop, caplog):
    loop.slow_callback_duration = 0
    loop.call_soon(callback)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert take_log(caplog) == []


def test_set_debug_takes_effect_at_once(loop):
    depth = sys.get_coroutine_origin_tracking_depth()
    seen = []

    def look():
        seen.append((loop.get_debug(), sys.get_coroutine_origin_tracking_depth()))

    loop.call_soon(look)
    loop.call_soon(loop.set_debug, True)
    # Switching is itself a call_soon_threadsafe when the loop runs.
    loop.call_soon(lambda: loop.call_soon(lambda: loop.call_soon(look)))
    loop.call_soon(lambda: loop.call_soon(lambda: loop.call_soon(loop.stop)))
    loop.run_forever()
    assert [debug for debug, _ in seen] == [False, True]
    assert [tracked > depth for _, tracked in seen] == [False, True]
    assert sys.get_coroutine_origin_tracking_depth() == depth


def test_coroutine_origins_are_tracked_in_debug_mode_only_while_running(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            loop.set_debug(True)
            seen = [sys.get_coroutine_origin_tracking_depth()]
            loop.call_soon(lambda: seen.append(sys.get_coroutine_origin_tracking_depth()))
            loop.call_soon(loop.stop)
            loop.run_forever()
            seen.append(sys.get_coroutine_origin_tracking_depth())
            return seen

    before, inside, after = same_as_asyncio(scenario)
    assert before == after < inside


def test_the_origin_of_a_forgotten_coroutine_is_told(run):
    async def forgotten():
        """Never awaited."""

    async def main():
        with pytest.warns(RuntimeWarning, match="was never awaited") as warned:
            forgotten()
        return str(warned[0].message)

    assert "Coroutine created at (most recent call last)" in run(main(), debug=True)


def test_a_loop_left_open_warns_when_collected(same_as_asyncio):
    def scenario(make):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loop = make()
            name = type(loop).__name__
            del loop
            gc.collect()
        return [
            (w.category.__name__, str(w.message).replace(name, "Loop"), w.source is not None) for w in caught
        ]

    text = "unclosed event loop <Loop running=False closed=False debug=False>"
    assert same_as_asyncio(scenario) == [("ResourceWarning", text, True)]


def test_a_closed_loop_does_not_warn_when_collected(loop_factory):
    loop_factory().close()


@pytest.mark.parametrize(
    ("env", "options", "debug"),
    [({}, (), "False"), ({"PYTHONASYNCIODEBUG": "1"}, (), "True"), ({}, ("-X", "dev"), "True")],
    ids=["plain", "PYTHONASYNCIODEBUG", "-X dev"],
)
def test_debug_mode_of_a_new_loop(run_child, env, options, debug):
    code = "loop = new_event_loop(); print(loop.get_debug()); loop.close()"
    env = {"PYTHONASYNCIODEBUG": "", **env}
    assert run_child(code, env=env, options=options).stdout == f"{debug}\n"


def test_an_unclosed_loop_warns_at_exit_too(run_child):
    child = run_child("loop = new_event_loop()", options=("-W", "always"))
    assert "ResourceWarning: unclosed event loop" in child.stderr
    assert "Traceback" not in child.stderr


async def test_debug_mode_and_tasks_together():
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 3600
    results = await asyncio.gather(*[asyncio.sleep(0, number) for number in range(20)])
    assert results == list(range(20))
    loop.set_debug(False)
