"""call_soon_threadsafe: from any thread, into any wait, and never lost."""

import asyncio
import concurrent.futures
import os
import signal
import socket
import sys
import threading
from contextlib import closing

import pytest

from support.compare import outcome
from support.waiting import is_in_futex, wait_asleep, wait_until, when_asleep


@pytest.fixture
def running(loop):
    """The loop, running in a thread of its own and asleep."""
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    wait_asleep(thread.native_id)
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def test_it_runs_the_callback_on_the_loops_thread(running):
    done = threading.Event()
    seen = []
    running.call_soon_threadsafe(
        lambda *args: (seen.append((args, threading.get_ident())), done.set()), 1, "two"
    )
    assert done.wait(20)
    assert seen[0][0] == (1, "two")
    assert seen[0][1] != threading.get_ident()


def test_it_returns_a_handle_that_can_be_cancelled(loop):
    ran = []
    handle = loop.call_soon_threadsafe(ran.append, "cancelled")
    handle.cancel()
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()
    assert ran == []
    assert handle.cancelled()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="its handles do not wait")
@pytest.mark.parametrize("name", ["cancel", "cancelled"])
def test_what_is_asked_of_a_handle_waits_for_its_callback(running, name):
    trace = []
    begun, may_end = threading.Event(), threading.Event()

    def callback():
        begun.set()
        assert may_end.wait(20)
        trace.append("callback")

    def ask():
        getattr(handle, name)()
        trace.append(name)

    handle = running.call_soon_threadsafe(callback)
    assert isinstance(handle, asyncio.events._ThreadSafeHandle)
    assert begun.wait(20)
    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: trace or is_in_futex(thread.native_id), "the other thread waits")
    may_end.set()
    thread.join()
    assert trace == ["callback", name]


def test_a_callback_may_cancel_its_own_handle(running):
    handles, done = concurrent.futures.Future(), threading.Event()

    def callback():
        handle = handles.result()
        handle.cancel()
        assert handle.cancelled()
        done.set()

    handles.set_result(running.call_soon_threadsafe(callback))
    assert done.wait(20)


def test_calls_to_a_loop_that_does_not_run_yet_are_kept(loop):
    ran = []
    threads = [threading.Thread(target=loop.call_soon_threadsafe, args=(ran.append, n)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()
    assert sorted(ran) == list(range(5))


def test_to_a_closed_loop(same_as_asyncio):
    def scenario(make):
        loop = make()
        loop.close()
        results = [outcome(loop.call_soon_threadsafe, print)]
        thread = threading.Thread(target=lambda: results.append(outcome(loop.call_soon_threadsafe, print)))
        thread.start()
        thread.join()
        return results

    assert same_as_asyncio(scenario) == [("raised", "RuntimeError", "Event loop is closed")] * 2


def test_calls_of_one_thread_stay_in_order(running):
    got = []
    done = threading.Event()
    for number in range(5000):
        running.call_soon_threadsafe(got.append, number)
    running.call_soon_threadsafe(done.set)
    assert done.wait(20)
    assert got == list(range(5000))


def test_calls_of_many_threads_all_arrive_in_each_threads_order(running):
    threads_count, calls_count = 8, 2000
    got = []
    done = threading.Event()
    barrier = threading.Barrier(threads_count)

    def arrived(thread_number, number):
        got.append((thread_number, number))
        if len(got) == threads_count * calls_count:
            done.set()

    def call(thread_number):
        barrier.wait()
        for number in range(calls_count):
            running.call_soon_threadsafe(arrived, thread_number, number)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(threads_count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done.wait(20)
    for thread_number in range(threads_count):
        assert [number for its, number in got if its == thread_number] == list(range(calls_count))


def test_no_wake_up_is_lost_when_each_call_waits_for_the_one_before(running):
    """The loop falls asleep between any two calls, so that the moment before its sleep is hit often."""
    for _ in range(5000):
        answered = threading.Event()
        running.call_soon_threadsafe(answered.set)
        assert answered.wait(20)


def test_no_wake_up_is_lost_between_two_loops_that_call_each_other(loop_factory):
    with closing(loop_factory()) as ping, closing(loop_factory()) as pong:
        left = 5000

        def play(mine, other):
            nonlocal left
            left -= 1
            if left > 0:
                other.call_soon_threadsafe(play, other, mine)
            else:
                ping.call_soon_threadsafe(ping.stop)
                pong.call_soon_threadsafe(pong.stop)

        thread = threading.Thread(target=pong.run_forever)
        thread.start()
        ping.call_soon(play, ping, pong)
        ping.run_forever()
        thread.join()
        assert left <= 0


WAITS = {
    "nothing": lambda loop, pair: None,
    "a far timer": lambda loop, pair: loop.call_later(3600, print),
    "a reader": lambda loop, pair: loop.add_reader(pair[0], print),
    "a task's sleep": lambda loop, pair: loop.create_task(asyncio.sleep(3600)),
    "a socket": lambda loop, pair: loop.create_task(loop.sock_recv(pair[0], 10)),
    "an executor": lambda loop, pair: loop.run_in_executor(None, loop.test_release.wait),
}


@pytest.mark.parametrize("name", WAITS)
def test_it_ends_every_kind_of_wait(loop, name):
    pair = socket.socketpair()
    pair[0].setblocking(False)
    loop.test_release = threading.Event()
    waiting = WAITS[name](loop, pair)
    thread = when_asleep(lambda: loop.call_soon_threadsafe(loop.stop))
    loop.run_forever()
    thread.join()
    loop.test_release.set()
    loop.remove_reader(pair[0])
    if isinstance(waiting, asyncio.Task):
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(waiting)
    for one in pair:
        one.close()


def test_from_a_signal_handler_of_the_loop(loop):
    loop.add_signal_handler(signal.SIGUSR1, lambda: loop.call_soon_threadsafe(loop.stop))
    thread = when_asleep(lambda: os.kill(os.getpid(), signal.SIGUSR1))
    loop.run_forever()
    thread.join()


def test_from_the_loops_own_thread(same_as_asyncio):
    def scenario(make):
        with closing(make()) as loop:
            trace = []
            loop.call_soon(lambda: loop.call_soon_threadsafe(trace.append, "threadsafe"))
            loop.call_soon(lambda: loop.call_soon(trace.append, "soon"))
            loop.call_soon(lambda: loop.call_soon(loop.call_soon, loop.stop))
            loop.run_forever()
            return trace

    assert same_as_asyncio(scenario) == ["threadsafe", "soon"]


def test_close_races_with_calls_from_threads(loop_factory):
    """The call is taken or it raises; nothing crashes, hangs, or writes to a descriptor that is gone."""
    for _ in range(50):
        loop = loop_factory()
        outcomes = set()
        started = threading.Event()

        def call(loop=loop, outcomes=outcomes, started=started):
            for number in range(200):
                try:
                    loop.call_soon_threadsafe(int)
                except RuntimeError as error:
                    outcomes.add(str(error))
                    break
                if number == 20:
                    started.set()
            started.set()

        thread = threading.Thread(target=call)
        thread.start()
        assert started.wait(20)
        loop.close()
        thread.join()
        assert outcomes <= {"Event loop is closed"}


def test_run_coroutine_threadsafe_returns_results_and_errors(running):
    async def answer():
        await asyncio.sleep(0.001)
        return 42

    async def fail():
        raise LookupError("over there")

    assert asyncio.run_coroutine_threadsafe(answer(), running).result(20) == 42
    with pytest.raises(LookupError, match="over there"):
        asyncio.run_coroutine_threadsafe(fail(), running).result(20)


def test_run_coroutine_threadsafe_can_be_cancelled_from_outside(running):
    cancelled = threading.Event()
    started = threading.Event()

    async def waits():
        started.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    future = asyncio.run_coroutine_threadsafe(waits(), running)
    assert started.wait(20)
    assert future.cancel()
    assert cancelled.wait(20)
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(20)


def test_wrap_future_brings_a_result_from_a_thread(run):
    async def main():
        future = concurrent.futures.Future()
        thread = threading.Thread(target=future.set_result, args=("from a thread",))
        wrapped = asyncio.wrap_future(future)
        thread.start()
        assert await wrapped == "from a thread"
        thread.join()

    run(main())


def test_a_flood_of_calls_starves_neither_timers_nor_descriptors(loop):
    ours, theirs = socket.socketpair()
    flooding = True
    served = set()

    def flood():
        while flooding:
            room.acquire()
            loop.call_soon_threadsafe(room.release)

    def serve(name):
        served.add(name)
        if len(served) == 2:
            loop.stop()

    room = threading.Semaphore(1000)
    thread = threading.Thread(target=flood)
    theirs.send(b"x")
    loop.call_soon(thread.start)
    loop.call_later(0.01, serve, "timer")
    loop.call_later(0.01, loop.add_reader, ours, serve, "reader")
    loop.run_forever()
    flooding = False
    room.release()
    thread.join()
    loop.remove_reader(ours)
    ours.close()
    theirs.close()
    assert served == {"timer", "reader"}
