"""Loops in many threads at once, each on its own."""

import asyncio
import contextvars
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

THREADS = 16
var: contextvars.ContextVar[int] = contextvars.ContextVar("var")


def in_all_threads(function):
    """Runs `function(number)` in THREADS threads at once; their results."""
    barrier = threading.Barrier(THREADS)

    def run(number):
        barrier.wait()
        return function(number)

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(run, range(THREADS)))


def test_each_thread_has_its_own_running_loop(loop_factory):
    async def main(loop):
        for _ in range(50):
            await asyncio.sleep(0)
            assert asyncio.get_running_loop() is loop
        return id(loop)

    def run(number):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(main(runner.get_loop()))

    in_all_threads(run)


def test_timers_callbacks_and_sockets_of_each_thread(loop_factory):
    async def main(number):
        loop = asyncio.get_running_loop()
        var.set(number)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            for turn in range(30):
                await loop.sock_sendall(theirs, f"{number}:{turn}".encode())
                assert await loop.sock_recv(ours, 100) == f"{number}:{turn}".encode()
                await asyncio.sleep(0.0001)
                assert var.get() == number
        return number

    def run(number):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(main(number))

    assert in_all_threads(run) == list(range(THREADS))


def test_loops_of_all_threads_call_each_other(loop_factory):
    loops = [loop_factory() for _ in range(THREADS)]
    running = threading.Barrier(THREADS)
    arrived = [0] * THREADS
    total = THREADS * 50

    def arrive(number):
        arrived[number] += 1
        if arrived[number] == total:
            loops[number].stop()

    def run(number):
        def call_all():
            running.wait()
            for _ in range(50):
                for other, loop in enumerate(loops):
                    loop.call_soon_threadsafe(arrive, other)

        loops[number].call_soon(call_all)
        loops[number].run_forever()

    in_all_threads(run)
    for loop in loops:
        loop.close()
    assert arrived == [total] * THREADS


def test_loops_made_and_closed_in_many_threads_at_once(loop_factory):
    def run(number):
        for _ in range(20):
            loop = loop_factory()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

    in_all_threads(run)


def test_one_executor_serves_loops_of_many_threads(loop_factory):
    with ThreadPoolExecutor(4) as executor:

        async def main(number):
            loop = asyncio.get_running_loop()
            return await asyncio.gather(*[loop.run_in_executor(executor, int, number) for _ in range(20)])

        def run(number):
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                return runner.run(main(number))

        assert in_all_threads(run) == [[number] * 20 for number in range(THREADS)]


@pytest.mark.parametrize("closer", ["its own thread", "the main thread"])
def test_a_loop_stopped_from_outside_is_closed_by(loop_factory, closer):
    loop = loop_factory()

    def run():
        loop.run_forever()
        if closer == "its own thread":
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    assert loop.is_closed()
