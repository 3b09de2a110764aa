"""A thousand descriptors at once: none forgotten, none starved, all removable."""

import os
import random
import socket

import pytest

COUNT = 1000


@pytest.fixture
def pairs():
    pairs = [socket.socketpair() for _ in range(COUNT)]
    yield pairs
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_a_thousand_readers_all_get_their_own_data(loop, pairs):
    got = {}

    def read(number):
        got[number] = pairs[number][0].recv(10)
        if len(got) == COUNT:
            loop.stop()

    def send_all():
        for number in random.Random(4).sample(range(COUNT), COUNT):
            pairs[number][1].send(str(number).encode())

    for number, (ours, _) in enumerate(pairs):
        loop.add_reader(ours, read, number)
    loop.call_soon(send_all)
    loop.run_forever()
    assert got == {number: str(number).encode() for number in range(COUNT)}
    assert all(loop.remove_reader(ours) for ours, _ in pairs)


def test_a_thousand_ready_readers_are_each_called_before_any_a_third_time(loop, pairs):
    calls = [0] * COUNT

    def ready(number):
        calls[number] += 1
        if min(calls) == 1:
            loop.stop()

    for number, (ours, theirs) in enumerate(pairs):
        theirs.send(b"x")
        loop.add_reader(ours, ready, number)
    loop.run_forever()
    assert min(calls) == 1
    assert max(calls) <= 2
    for ours, _ in pairs:
        loop.remove_reader(ours)


def test_adding_and_removing_a_thousand_at_random_while_data_flows(loop, pairs):
    chooser = random.Random(5)
    added = set()
    served = 0
    wrong = []

    def read(number):
        nonlocal served
        served += 1
        if number not in added:
            wrong.append(number)
        pairs[number][0].recv(10)

    def churn(left):
        for number in chooser.sample(range(COUNT), 50):
            ours, theirs = pairs[number]
            if number in added:
                assert loop.remove_reader(ours)
                added.discard(number)
            else:
                loop.add_reader(ours, read, number)
                added.add(number)
            theirs.send(b"x")
        if left:
            loop.call_soon(churn, left - 1)
        else:
            loop.call_later(0.01, loop.stop)

    loop.call_soon(churn, 100)
    loop.run_forever()
    assert wrong == []
    assert served > 0
    assert {number for number in range(COUNT) if loop.remove_reader(pairs[number][0])} == added


def test_close_with_a_thousand_readers_and_writers_armed(loop, pairs):
    for ours, theirs in pairs:
        loop.add_reader(ours, print)
        loop.add_writer(theirs, int)
    loop.stop()
    loop.run_forever()
    loop.close()
    for ours, theirs in pairs[:10]:
        theirs.send(b"x")
        assert ours.recv(10) == b"x"


def test_closing_the_write_ends_of_many_pipes_gives_each_reader_eof(loop):
    pipes = [os.pipe() for _ in range(200)]
    eof = []

    def read(fd):
        assert os.read(fd, 10) == b""
        loop.remove_reader(fd)
        eof.append(fd)
        if len(eof) == len(pipes):
            loop.stop()

    for readable, writable in pipes:
        loop.add_reader(readable, read, readable)
        loop.call_soon(os.close, writable)
    loop.run_forever()
    assert sorted(eof) == sorted(readable for readable, _ in pipes)
    for readable, _ in pipes:
        os.close(readable)
