"""add_reader and add_writer where an end is closed: hang-ups, resets, and fd numbers that are used again."""

import fcntl
import os
import socket

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


def test_eof_is_readable_for_ever(loop, pair):
    ours, theirs = pair
    got = []

    def read():
        got.append(ours.recv(10))
        if len(got) == 3:
            loop.remove_reader(ours)
            loop.stop()

    theirs.close()
    loop.add_reader(ours, read)
    loop.run_forever()
    assert got == [b"", b"", b""]


def test_half_close_is_readable(loop, pair):
    ours, theirs = pair
    loop.add_reader(ours, loop.stop)
    loop.call_soon(theirs.shutdown, socket.SHUT_WR)
    loop.run_forever()
    loop.remove_reader(ours)
    assert ours.recv(10) == b""


def test_a_hung_up_pipe_calls_its_reader(loop):
    readable, writable = os.pipe()
    loop.add_reader(readable, loop.stop)
    loop.call_soon(os.close, writable)
    loop.run_forever()
    loop.remove_reader(readable)
    assert os.read(readable, 1) == b""
    os.close(readable)


def test_a_pipe_without_readers_calls_its_writer(loop):
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    os.write(writable, bytes(fcntl.fcntl(writable, fcntl.F_GETPIPE_SZ)))
    loop.add_writer(writable, loop.stop)
    loop.call_soon(os.close, readable)
    loop.run_forever()
    loop.remove_writer(writable)
    with pytest.raises(BrokenPipeError):
        os.write(writable, b"x")
    os.close(writable)


def test_a_reset_connection_calls_reader_and_writer(loop):
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    calls = set()

    def called(name):
        calls.add(name)
        if len(calls) == 2:
            loop.stop()

    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    loop.add_reader(ours, called, "reader")
    loop.add_writer(ours, called, "writer")
    loop.call_soon(theirs.close)
    loop.run_forever()
    loop.remove_reader(ours)
    loop.remove_writer(ours)
    with pytest.raises(ConnectionResetError):
        ours.recv(10)
    ours.close()


def test_a_listening_socket_is_readable_when_a_client_connects(loop):
    with socket.create_server(("127.0.0.1", 0)) as server:
        loop.add_reader(server, loop.stop)
        with socket.create_connection(server.getsockname()):
            loop.run_forever()
            loop.remove_reader(server)
            server.accept()[0].close()


def test_a_pipes_reader_sees_eof_right_after_its_writer_was_removed_and_closed(loop):
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    loop.add_writer(writable, lambda: None)
    turn(loop, 2)

    def remove_and_close():
        loop.remove_writer(writable)
        os.close(writable)
        seen.append(os.read(readable, 10))
        loop.stop()

    seen = []
    loop.call_soon(remove_and_close)
    loop.run_forever()
    assert seen == [b""]
    os.close(readable)


def test_a_port_is_free_right_after_its_reader_was_removed_and_closed(loop):
    server = socket.create_server(("127.0.0.1", 0))
    address = server.getsockname()
    loop.add_reader(server, print)
    turn(loop, 2)
    loop.remove_reader(server)
    server.close()
    socket.create_server(address, reuse_port=False).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


@pytest.mark.parametrize("seen_by_loop", [False, True])
def test_a_reused_fd_never_gets_the_events_of_its_predecessor(loop, seen_by_loop):
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    calls = []
    loop.add_reader(ours, calls.append, "old")
    if seen_by_loop:
        turn(loop, 2)
    theirs.send(b"for the old one")
    loop.remove_reader(ours)
    ours.close()
    new, new_theirs = socket.socketpair()
    if new.fileno() != number:
        os.dup2(new.fileno(), number)
        new.close()
        new = socket.socket(fileno=number)
    loop.add_reader(new, lambda: calls.append(new.recv(10)))
    turn(loop, 5)
    assert calls == []
    new_theirs.send(b"new")
    turn(loop, 5)
    assert loop.remove_reader(new) is True
    assert calls == [b"new"]
    for one in (theirs, new, new_theirs):
        one.close()


def test_reuse_inside_a_callback_of_the_iteration_that_had_an_event_for_the_old_one(loop):
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    other, other_theirs = socket.socketpair()
    calls = []

    def exchange():
        loop.remove_reader(ours)
        loop.add_reader(other, calls.append, "other")
        os.dup2(other.fileno(), number)
        loop.add_reader(number, calls.append, "new")

    theirs.send(b"x")
    loop.add_reader(ours, calls.append, "old")
    loop.call_soon(exchange)
    turn(loop, 5)
    loop.remove_reader(other)
    loop.remove_reader(number)
    assert "new" not in calls
    assert "other" not in calls
    for one in (ours, theirs, other, other_theirs):
        one.close()


def test_remove_after_close_of_the_fd_answers_and_frees_the_number(loop):
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    loop.add_reader(number, print)
    turn(loop, 2)
    ours.close()
    assert loop.remove_reader(number) is True
    assert loop.remove_reader(number) is False
    theirs.close()


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_what_was_closed_is_removed_by_the_object_that_it_was_added_by(loop, pair, kind):
    ours, theirs = pair
    calls = []
    getattr(loop, f"add_{kind}")(ours, calls.append, 1)
    turn(loop, 2)
    ours.close()
    del calls[:]
    remove = getattr(loop, f"remove_{kind}")
    assert remove(ours) is True
    assert theirs.recv(1) == b""
    turn(loop, 2)
    assert calls == []
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        remove(ours)


def test_a_number_is_known_by_no_object(loop, pair):
    ours, number = pair[0], pair[0].fileno()
    loop.add_reader(number, print)
    ours.close()
    for remove in (loop.remove_reader, loop._remove_reader):
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            remove(ours)
    assert loop.remove_reader(number) is True


@pytest.mark.parametrize("seen_by_loop", [False, True])
def test_the_next_file_with_its_number_is_not_taken_for_it(loop, pair, seen_by_loop):
    ours, number = pair[0], pair[0].fileno()
    calls = []
    loop.add_writer(ours, calls.append, "old")
    if seen_by_loop:
        turn(loop, 2)
    ours.close()
    del calls[:]
    others = socket.socketpair()
    if others[0].fileno() != number:
        os.dup2(others[0].fileno(), number)
    turn(loop, 5)
    assert calls == []
    assert loop.remove_writer(ours) is True
    for other in others:
        other.close()


def test_a_detached_one_is_still_watched(loop, pair):
    ours, theirs = pair
    loop.add_reader(ours, loop.stop)
    number = ours.detach()
    theirs.send(b"x")
    loop.run_forever()
    assert loop.remove_reader(ours) is True
    os.close(number)
