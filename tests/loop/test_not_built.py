"""What later work brings says so by name, instead of pretending or failing deep inside."""

import asyncio
import socket
import ssl

import pytest

import ringloop
from support.marks import ringloop_only

pytestmark = ringloop_only

TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
HERE = ("127.0.0.1", 0)

# What is named, the method, and arguments that would be right.
NOT_BUILT = [
    ("TLS", "create_connection", (asyncio.Protocol, "127.0.0.1", 9), {"ssl": TLS}),
    ("TLS", "create_server", (asyncio.Protocol, *HERE), {"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}),
    ("TLS", "start_tls", (asyncio.Transport(), asyncio.Protocol(), TLS), {}),
    ("datagram", "create_datagram_endpoint", (asyncio.DatagramProtocol,), {"local_addr": HERE}),
    ("unix", "create_unix_connection", (asyncio.Protocol, "/nonexistent/socket"), {}),
    ("unix", "create_unix_server", (asyncio.Protocol, "/nonexistent/socket"), {}),
    ("pipe", "connect_read_pipe", (asyncio.Protocol, None), {}),
    ("pipe", "connect_write_pipe", (asyncio.Protocol, None), {}),
    ("subprocess", "subprocess_exec", (asyncio.SubprocessProtocol, "/bin/true"), {}),
    ("subprocess", "subprocess_shell", (asyncio.SubprocessProtocol, "true"), {}),
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
