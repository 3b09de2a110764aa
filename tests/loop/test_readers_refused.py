"""What add_reader and add_writer refuse, in asyncio's words."""

import os
import socket
import tempfile
from contextlib import closing

import pytest

from support.compare import outcome


def open_temporary_file():
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


NOT_POLLABLE = {
    "a regular file": lambda: os.open(__file__, os.O_RDONLY),
    "a temporary file": open_temporary_file,
    "a directory": lambda: os.open("/", os.O_RDONLY),
    "/dev/null": lambda: os.open("/dev/null", os.O_RDWR),
}


@pytest.mark.parametrize("kind", NOT_POLLABLE)
@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_what_epoll_refuses_is_refused(same_as_asyncio, kind, method):
    def scenario(make):
        with closing(make()) as loop:
            fd = NOT_POLLABLE[kind]()
            result = outcome(getattr(loop, method), fd, print)
            removed = getattr(loop, method.replace("add", "remove"))(fd)
            os.close(fd)
            return result, removed

    assert same_as_asyncio(scenario) == (
        ("raised", "PermissionError", "[Errno 1] Operation not permitted"),
        False,
    )


@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
@pytest.mark.parametrize("fd", [-1, 99_999, None, "0", 1.5, object], ids=repr)
def test_bad_fds(same_as_asyncio, method, fd):
    def scenario(make):
        with closing(make()) as loop:
            arguments = (fd, print) if method.startswith("add") else (fd,)
            return outcome(getattr(loop, method), *arguments)

    same_as_asyncio(scenario)


def test_a_closed_socket_is_refused(same_as_asyncio):
    def scenario(make):
        ours, theirs = socket.socketpair()
        ours.close()
        theirs.close()
        with closing(make()) as loop:
            return outcome(loop.add_reader, ours, print), outcome(loop.remove_reader, ours)

    same_as_asyncio(scenario)


@pytest.mark.parametrize("debug", [False, True])
def test_a_coroutine_function_as_reader(same_as_asyncio, debug):
    async def coroutine_function():
        """Never run."""

    def scenario(make):
        ours, theirs = socket.socketpair()
        with ours, theirs, closing(make()) as loop:
            loop.set_debug(debug)
            return outcome(lambda: [loop.add_reader(ours, coroutine_function), loop.remove_reader(ours)][1])

    same_as_asyncio(scenario)
