"""What later work brings says so by name, instead of pretending or failing deep inside."""

import asyncio
import socket

import pytest

import ringloop
from support.marks import ringloop_only

pytestmark = ringloop_only

# What is named, the method, and arguments that would be right.
NOT_BUILT = [
    ("sendfile", "sendfile", (asyncio.Transport(), None), {}),
]


@pytest.mark.parametrize(
    ("name", "method", "arguments", "keywords"),
    NOT_BUILT,
    ids=[f"{method}-{name}" for name, method, *_ in NOT_BUILT],
)
def test_not_built(watch, name, method, arguments, keywords):
    loop = watch.factory(ringloop.new_event_loop)()
    with pytest.raises(NotImplementedError, match=f"(?i){name}"):
        loop.run_until_complete(getattr(loop, method)(*arguments, **keywords))
    loop.close()


def test_sock_sendfile_is_not_built(watch):
    loop = watch.factory(ringloop.new_event_loop)()
    ours, theirs = socket.socketpair()
    with ours, theirs, open(__file__, "rb") as file:
        ours.setblocking(False)
        with pytest.raises(NotImplementedError, match="sendfile"):
            loop.run_until_complete(loop.sock_sendfile(ours, file))
    loop.close()
