"""A ring is bound to its thread, a loop is not: run here, then there, closed from a third."""

import asyncio
import os
import signal
import socket
import threading

import pytest

import ringloop
import ringloop.os
from support import leaks
from support.marks import ringloop_only
from support.turns import turn
from support.waiting import wait_asleep, wait_until


def in_thread(function, *args):
    """Runs the function in a thread that has ended when this returns; returns or raises what it did."""
    results = []

    def run():
        try:
            results.append((True, function(*args)))
        except BaseException as error:
            results.append((False, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    ok, value = results[0]
    if not ok:
        raise value
    return value


class LivingThread:
    """A thread that runs what it is given and stays alive between two pieces of work."""

    def __init__(self):
        self._work = None
        self._wanted = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while True:
            self._wanted.acquire()
            if self._work is None:
                return
            self._work()
            self._done.release()

    def call(self, function, *args):
        self._work = lambda: function(*args)
        self._wanted.release()
        self._done.acquire()

    def end(self):
        self._work = None
        self._wanted.release()
        self._thread.join()


@pytest.fixture(params=["ended", "alive"])
def elsewhere(request):
    """`elsewhere(function, *args)` runs it in another thread, which then has ended or goes on living."""
    if request.param == "ended":
        yield in_thread
    else:
        thread = LivingThread()
        yield thread.call
        thread.end()


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_run_there_then_here(loop, elsewhere):
    elsewhere(loop.run_until_complete, asyncio.sleep(0.001))
    assert loop.run_until_complete(asyncio.sleep(0.001, "here")) == "here"


def test_made_here_run_only_there(loop, elsewhere):
    elsewhere(loop.run_until_complete, asyncio.sleep(0.001))


def test_back_and_forth_many_times(loop):
    threads = [LivingThread() for _ in range(3)]
    for turn_number in range(30):
        threads[turn_number % 3].call(loop.run_until_complete, asyncio.sleep(0))
    for thread in threads:
        thread.end()
    loop.run_until_complete(asyncio.sleep(0))


def test_readers_and_writers_armed_there_work_here(loop, elsewhere, pair):
    ours, theirs = pair
    got = []
    loop.add_reader(ours, lambda: (got.append(ours.recv(10)), loop.stop()))
    elsewhere(turn, loop, 2)
    loop.call_soon(theirs.send, b"here")
    loop.run_forever()
    assert got == [b"here"]
    loop.add_writer(ours, lambda: (loop.remove_writer(ours), got.append("writer"), loop.stop()))
    elsewhere(loop.run_forever)
    assert got == [b"here", "writer"]
    assert loop.remove_reader(ours) is True


def test_an_event_between_two_threads_is_not_lost(loop, elsewhere, pair):
    ours, theirs = pair
    loop.add_reader(ours, loop.stop)
    elsewhere(turn, loop, 2)
    theirs.send(b"between")
    loop.run_forever()
    loop.remove_reader(ours)
    assert ours.recv(10) == b"between"


def test_a_reader_removed_between_two_threads_is_gone(loop, elsewhere, pair):
    ours, theirs = pair
    calls = []
    loop.add_reader(ours, calls.append, "removed")
    elsewhere(turn, loop, 2)
    assert loop.remove_reader(ours) is True
    theirs.send(b"x")
    turn(loop, 2)
    assert calls == []


def test_a_descriptor_closed_between_two_threads_is_really_closed(loop, elsewhere):
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    loop.add_reader(ours, print)
    elsewhere(turn, loop, 2)
    loop.remove_reader(ours)
    ours.close()
    turn(loop, 2)
    assert theirs.recv(10) == b""
    theirs.close()


def test_a_port_is_free_after_moving(loop, elsewhere):
    server = socket.create_server(("127.0.0.1", 0))
    address = server.getsockname()
    loop.add_reader(server, print)
    elsewhere(turn, loop, 2)
    turn(loop, 2)
    loop.remove_reader(server)
    server.close()
    socket.create_server(address).close()


def test_timers_and_callbacks_set_there_run_here(loop, elsewhere):
    shift = 0.0
    real_time = loop.time
    loop.time = lambda: real_time() + shift
    ran = []

    def schedule():
        loop.call_later(3600, lambda: (ran.append("timer"), loop.stop()))
        turn(loop, 2)
        loop.call_soon(ran.append, "soon")

    elsewhere(schedule)
    shift = 3600.0
    loop.run_forever()
    assert ran == ["soon", "timer"]


def test_a_task_that_waits_for_a_socket_goes_on_elsewhere(loop, elsewhere, pair):
    ours, theirs = pair
    task = loop.create_task(loop.sock_recv(ours, 10))
    elsewhere(turn, loop, 2)
    theirs.send(b"later")
    assert loop.run_until_complete(task) == b"later"


def test_a_task_that_waits_to_accept_goes_on_elsewhere(loop, elsewhere):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        task = loop.create_task(loop.sock_accept(server))
        elsewhere(turn, loop, 2)
        with socket.create_connection(server.getsockname()):
            connection, _ = loop.run_until_complete(task)
            connection.close()


def test_call_soon_threadsafe_finds_the_loop_wherever_it_runs(loop, elsewhere):
    loop.run_until_complete(asyncio.sleep(0))

    def run_and_be_stopped():
        runner = threading.get_native_id()
        stopper = threading.Thread(target=lambda: (wait_asleep(runner), loop.call_soon_threadsafe(loop.stop)))
        stopper.start()
        loop.run_forever()
        stopper.join()

    elsewhere(run_and_be_stopped)
    run_and_be_stopped()


def test_signal_handlers_after_a_run_elsewhere(loop, elsewhere):
    elsewhere(turn, loop, 2)
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    signal.raise_signal(signal.SIGUSR1)
    loop.run_forever()


def test_debug_mode_knows_the_thread_that_runs(loop, elsewhere):
    loop.set_debug(True)
    elsewhere(turn, loop, 2)
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_closed_there_after_running_here(loop, elsewhere, pair):
    loop.add_reader(pair[0], print)
    turn(loop, 2)
    elsewhere(loop.close)
    assert loop.is_closed()


def test_closed_here_after_running_there(loop, elsewhere, pair):
    loop.add_reader(pair[0], print)
    elsewhere(turn, loop, 2)
    loop.close()
    assert loop.is_closed()


def test_closed_from_a_third_thread_with_a_thousand_readers_armed(loop, elsewhere):
    pairs = [socket.socketpair() for _ in range(1000)]
    for ours, theirs in pairs:
        theirs.settimeout(20)
        loop.add_reader(ours, print)
    elsewhere(turn, loop, 2)
    in_thread(loop.close)
    for ours, theirs in pairs:
        ours.close()
        assert theirs.recv(1) == b""
        theirs.close()


def test_a_closed_loops_ports_are_free_though_it_was_closed_elsewhere(loop, elsewhere):
    server = socket.create_server(("127.0.0.1", 0))
    address = server.getsockname()
    loop.add_reader(server, print)
    elsewhere(turn, loop, 2)
    loop.close()
    server.close()

    def is_free():
        try:
            socket.create_server(address).close()
        except OSError:
            return False
        return True

    # A ring that another thread enabled is torn down by the kernel in its own time, tens of milliseconds.
    wait_until(is_free, "the port is free")


@ringloop_only
def test_a_call_that_is_under_way_when_the_thread_changes_is_made_once(tmp_path):
    for count in range(12):
        loop = ringloop.new_event_loop()
        made = tmp_path / f"made{count}"

        async def begin(made=made, turns=count % 6):
            calls = [asyncio.ensure_future(ringloop.os.mkdir(made))]
            calls.append(asyncio.ensure_future(ringloop.os.open(tmp_path, os.O_RDONLY)))
            for _ in range(turns):
                await asyncio.sleep(0)
            return calls

        calls = in_thread(loop.run_until_complete, begin())
        done = [in_thread(loop.run_until_complete, call) for call in calls]
        loop.close()
        assert done[0] is None
        assert made.is_dir()
        os.close(done[1])
        assert str(tmp_path) not in leaks.open_fds().values()
