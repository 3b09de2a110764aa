"""add_reader and add_writer: level-triggered readiness of descriptors that are the caller's."""

import asyncio
import os
import socket
from contextlib import closing

import pytest

from support.turns import turn


@pytest.fixture
def pair():
    """Two connected non-blocking sockets."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_a_reader_is_called_with_its_arguments_when_data_arrives(loop, pair):
    ours, theirs = pair
    got = []
    loop.add_reader(ours, lambda *args: (got.append((args, ours.recv(10))), loop.stop()), 1, "two")
    loop.call_soon(theirs.send, b"data")
    loop.run_forever()
    assert loop.remove_reader(ours) is True
    assert got == [((1, "two"), b"data")]


def test_a_reader_is_called_again_in_each_iteration_until_it_reads(same_as_asyncio):
    def scenario(make):
        ours, theirs = socket.socketpair()
        with ours, theirs, closing(make()) as loop:
            iteration = 0
            calls = []

            def count():
                nonlocal iteration
                iteration += 1
                if iteration < 20:
                    loop.call_soon(count)
                else:
                    loop.stop()

            def read():
                calls.append(iteration)
                if len(calls) == 8:
                    ours.recv(100)

            theirs.send(b"data")
            loop.add_reader(ours, read)
            loop.call_soon(count)
            loop.run_forever()
            loop.remove_reader(ours)
            return calls

    calls = same_as_asyncio(scenario)
    assert len(calls) == 8
    assert len(set(calls)) == 8


def test_a_reader_that_reads_a_part_is_called_for_the_rest(loop, pair):
    ours, theirs = pair
    got = []

    def read():
        got.append(ours.recv(1))
        if len(got) == 5:
            loop.stop()

    theirs.send(b"12345")
    loop.add_reader(ours, read)
    loop.run_forever()
    loop.remove_reader(ours)
    assert got == [b"1", b"2", b"3", b"4", b"5"]


def test_a_reader_is_not_called_without_data(loop, pair):
    ours, theirs = pair
    calls = []
    theirs.send(b"data")
    loop.add_reader(ours, lambda: calls.append(ours.recv(100)))
    turn(loop, 5)
    turn(loop, 5)
    assert calls == [b"data"]
    theirs.send(b"more")
    turn(loop, 5)
    loop.remove_reader(ours)
    assert calls == [b"data", b"more"]


def test_data_arriving_while_the_reader_runs_is_not_missed(loop, pair):
    ours, theirs = pair
    got = b""
    left = 1000

    def read():
        nonlocal got, left
        got += ours.recv(100)
        if left:
            left -= 1
            theirs.send(b"x")
        else:
            loop.stop()

    theirs.send(b"x")
    loop.add_reader(ours, read)
    loop.run_forever()
    loop.remove_reader(ours)
    assert got == b"x" * 1001


def test_a_writer_is_called_in_each_iteration_while_there_is_room(loop, pair):
    ours, _ = pair
    calls = 0

    def write():
        nonlocal calls
        calls += 1
        if calls == 10:
            loop.stop()

    loop.add_writer(ours, write)
    loop.run_forever()
    loop.remove_writer(ours)
    assert calls == 10


def test_a_writer_waits_until_there_is_room(loop, pair):
    ours, theirs = pair
    sent = 0
    while True:
        try:
            sent += ours.send(bytes(65536))
        except BlockingIOError:
            break
    calls = []

    def write():
        calls.append("room")
        loop.remove_writer(ours)
        loop.stop()

    loop.add_writer(ours, write)
    turn(loop, 5)
    assert calls == []

    def drain():
        left = sent
        while left:
            left -= len(theirs.recv(left))

    loop.call_soon(drain)
    loop.run_forever()
    assert calls == ["room"]


def test_reader_and_writer_of_one_fd_are_independent(loop, pair):
    ours, theirs = pair
    trace = []
    loop.add_reader(ours, lambda: trace.append(("read", ours.recv(10))))
    loop.add_writer(ours, lambda: (trace.append("write"), loop.remove_writer(ours)))
    turn(loop, 5)
    assert trace == ["write"]
    theirs.send(b"data")
    turn(loop, 5)
    assert trace == ["write", ("read", b"data")]
    assert loop.remove_writer(ours) is False
    assert loop.remove_reader(ours) is True
    theirs.send(b"unread")
    turn(loop, 5)
    assert len(trace) == 2


def test_removing_the_reader_keeps_the_writer(loop, pair):
    ours, _ = pair
    calls = []
    loop.add_reader(ours, calls.append, "read")
    loop.add_writer(ours, calls.append, "write")
    loop.remove_reader(ours)
    turn(loop, 3)
    loop.remove_writer(ours)
    assert set(calls) == {"write"}


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_remove_tells_whether_there_was_one(loop, pair, kind):
    ours, _ = pair
    add, remove = getattr(loop, f"add_{kind}"), getattr(loop, f"remove_{kind}")
    assert remove(ours) is False
    add(ours, print)
    assert remove(ours) is True
    assert remove(ours) is False


@pytest.mark.parametrize("when", ["before the first run", "after a run", "while it is ready"])
def test_adding_again_replaces(loop, pair, when):
    ours, theirs = pair
    got = []
    loop.add_reader(ours, got.append, "first")
    if when == "after a run":
        turn(loop, 5)
    if when == "while it is ready":
        theirs.send(b"x")
    loop.add_reader(ours, lambda: (got.append("second"), ours.recv(10), loop.stop()))
    if when != "while it is ready":
        theirs.send(b"x")
    loop.run_forever()
    assert loop.remove_reader(ours) is True
    assert loop.remove_reader(ours) is False
    assert got == ["second"]


def test_a_reader_replaced_inside_its_callback(loop, pair):
    ours, theirs = pair
    got = []

    def first():
        got.append("first")
        loop.add_reader(ours, second)

    def second():
        got.append("second")
        loop.remove_reader(ours)
        loop.stop()

    loop.add_reader(ours, first)
    theirs.send(b"x")
    loop.run_forever()
    assert got == ["first", "second"]


def test_a_reader_removed_inside_its_callback_is_not_called_again(loop, pair):
    ours, theirs = pair
    calls = []
    loop.add_reader(ours, lambda: calls.append(loop.remove_reader(ours)))
    theirs.send(b"x")
    turn(loop, 5)
    turn(loop, 5)
    assert calls == [True]


def test_a_reader_removed_by_another_of_the_same_iteration_is_not_called(loop):
    pairs = [socket.socketpair() for _ in range(2)]
    calls = []

    def read(mine, other):
        calls.append(mine)
        loop.remove_reader(pairs[other][0])
        loop.remove_reader(pairs[mine][0])

    loop.add_reader(pairs[0][0], read, 0, 1)
    loop.add_reader(pairs[1][0], read, 1, 0)
    for _, theirs in pairs:
        theirs.send(b"x")
    turn(loop, 5)
    assert len(calls) == 1
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_removed_and_added_in_one_callback(loop, pair):
    ours, theirs = pair
    got = []
    theirs.send(b"x")
    loop.add_reader(ours, got.append, "first")

    def exchange():
        loop.remove_reader(ours)
        loop.add_reader(ours, lambda: (got.append("second"), loop.stop()))

    loop.call_soon(exchange)
    loop.run_forever()
    loop.remove_reader(ours)
    assert got[-1] == "second"
    assert got.count("first") <= 1


def test_cancelled_between_ready_and_run(same_as_asyncio):
    """remove_reader in an earlier callback of the iteration whose poll found the data."""

    def scenario(make):
        ours, theirs = socket.socketpair()
        with ours, theirs, closing(make()) as loop:
            calls = []
            theirs.send(b"x")
            loop.add_reader(ours, calls.append, "read")
            loop.call_soon(loop.remove_reader, ours)
            loop.call_soon(loop.call_soon, loop.stop)
            loop.run_forever()
            return calls

    assert same_as_asyncio(scenario) == []


def test_numbers_and_objects_with_fileno_are_the_same_fd(loop, pair):
    ours, _ = pair
    loop.add_reader(ours, print)
    assert loop.remove_reader(ours.fileno()) is True
    loop.add_writer(ours.fileno(), print)
    assert loop.remove_writer(ours) is True


def test_an_eventfd_is_readable(loop):
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    loop.add_reader(fd, loop.stop)
    loop.call_soon(os.eventfd_write, fd, 3)
    loop.run_forever()
    assert os.eventfd_read(fd) == 3
    loop.remove_reader(fd)
    os.close(fd)


def test_a_terminal_is_readable(loop):
    controller, terminal = os.openpty()
    loop.add_reader(terminal, loop.stop)
    loop.call_soon(os.write, controller, b"line\n")
    loop.run_forever()
    loop.remove_reader(terminal)
    assert os.read(terminal, 100) == b"line\n"
    os.close(controller)
    os.close(terminal)


async def test_a_reader_serves_a_coroutine(pair):
    ours, theirs = pair
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(ours, ready.set_result, None)
    loop.call_later(0.001, theirs.send, b"data")
    await ready
    loop.remove_reader(ours)
    assert ours.recv(10) == b"data"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_one_that_ends_the_run_is_called_in_the_next(loop, pair, kind, error):
    ours, _ = pair
    calls = []

    def ready():
        calls.append(kind)
        if len(calls) == 1:
            raise error
        loop.stop()

    if kind == "reader":
        pair[1].send(b"data")
        loop.add_reader(ours, ready)
    else:
        loop.add_writer(ours, ready)
    with pytest.raises(error):
        loop.run_forever()
    loop.run_forever()
    assert (loop.remove_reader if kind == "reader" else loop.remove_writer)(ours) is True
    assert len(calls) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_one_that_ends_the_run_may_have_removed_itself(loop, pair, error):
    ours, theirs = pair
    calls = []

    def ready():
        calls.append(loop.remove_reader(ours))
        raise error

    theirs.send(b"data")
    loop.add_reader(ours, ready)
    with pytest.raises(error):
        loop.run_forever()
    turn(loop, 5)
    assert calls == [True]
