"""A loop that waits uses no CPU, whatever it waits for."""

import socket
import time

import pytest

IDLE_SECONDS = 0.5
BOUND_SECONDS = 0.02  # 4 %: a busy loop uses all of it


def waits_for_nothing(loop):
    """No descriptor, no timer but the one that ends the test."""


def waits_with_readers(loop):
    pairs = [socket.socketpair() for _ in range(100)]
    for ours, _ in pairs:
        loop.add_reader(ours, print)
    return pairs


def waits_with_a_far_timer(loop):
    loop.call_later(3600, print)
    loop.call_later(1e9, print)


def waits_after_cancelled_timers(loop):
    for _ in range(100):
        loop.call_later(0.001, print).cancel()


def waits_after_a_reader_was_served(loop):
    ours, theirs = socket.socketpair()
    theirs.send(b"x")
    loop.add_reader(ours, ours.recv, 10)
    return [(ours, theirs)]


@pytest.mark.parametrize(
    "prepare",
    [
        waits_for_nothing,
        waits_with_readers,
        waits_with_a_far_timer,
        waits_after_cancelled_timers,
        waits_after_a_reader_was_served,
    ],
    ids=lambda function: function.__name__,
)
def test_an_idle_loop_uses_no_cpu(loop, prepare):
    pairs = prepare(loop) or []
    used = []

    def end(started):
        used.append(time.process_time() - started)
        loop.stop()

    def begin():
        # The clock of the whole process: helper threads count as well.
        loop.call_later(IDLE_SECONDS, end, time.process_time())

    loop.call_later(0.005, begin)
    loop.run_forever()
    for ours, theirs in pairs:
        loop.remove_reader(ours)
        ours.close()
        theirs.close()
    assert used[0] < BOUND_SECONDS
