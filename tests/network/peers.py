"""The other end of the wire: plain sockets and plain threads, so that no loop's mistake can hide another's.

All blocking calls here give up after TIMEOUT seconds. Nothing here imports asyncio.
"""

import contextlib
import re
import resource
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TIMEOUT = 20.0  # seconds: only a failing test waits that long

Pair = tuple[socket.socket, socket.socket]

TCP_ESTABLISHED, TCP_SYN_SENT, TCP_CLOSE = 1, 2, 7  # states in struct tcp_info, <netinet/tcp.h>


def listener(host: str = "127.0.0.1", port: int = 0, *, backlog: int = 1024) -> socket.socket:
    """A listening socket on a free port of `host` (an IPv4 or IPv6 address)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(TIMEOUT)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((host, port))
    sock.listen(backlog)
    return sock


def tcp_pair(host: str = "127.0.0.1") -> Pair:
    """Two connected TCP sockets; both block, for TIMEOUT at most."""
    with listener(host) as server:
        client = socket.create_connection(server.getsockname()[:2], TIMEOUT)
        connection, _ = server.accept()
    connection.settimeout(TIMEOUT)
    return client, connection


def unix_pair() -> Pair:
    """Two connected Unix stream sockets: what one sends is at the other when send() returns."""
    pair = socket.socketpair()
    for sock in pair:
        sock.settimeout(TIMEOUT)
    return pair


def bounded_pair() -> Pair:
    """A TCP pair whose kernel buffers hold a few hundred KiB each way, however this machine is tuned."""
    with socket.socket() as server:
        client = socket.socket()
        for sock in (server, client):
            sock.settimeout(TIMEOUT)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
        connection, _ = server.accept()
    connection.settimeout(TIMEOUT)
    return client, connection


def close_with_reset(sock: socket.socket) -> None:
    """Closes so that the other end gets RST instead of FIN (SO_LINGER with time 0)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def tcp_state(sock: Any) -> int:
    """The kernel's state of a TCP socket, of anything that has `getsockopt`."""
    return int(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0])


def receive_exactly(sock: socket.socket, count: int) -> bytes:
    """`count` bytes, or fewer if the stream ends before."""
    received = bytearray(count)
    view = memoryview(received)
    position = 0
    while position < count:
        got = sock.recv_into(view[position:])
        if not got:
            break
        position += got
    return bytes(view[:position])


def receive_all(sock: socket.socket) -> bytes:
    """Everything up to the end of the stream."""
    received = bytearray()
    while data := sock.recv(256 * 1024):
        received += data
    return bytes(received)


def how_it_ends(sock: socket.socket) -> str:
    """Reads the stream to its end; says whether that was 'eof' or 'reset'."""
    try:
        receive_all(sock)
    except ConnectionResetError:
        return "reset"
    return "eof"


class Background(threading.Thread):
    """Runs a function in a thread; `finish()` gives its result or raises what it raised."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        super().__init__(name=f"peer {getattr(function, '__name__', function)}", daemon=True)
        self._call = (function, args)
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        function, args = self._call
        try:
            self._result = function(*args)
        except BaseException as error:  # handed to whoever calls finish()
            self._error = error

    def finish(self) -> Any:
        """Blocks until the function has returned."""
        self.join(2 * TIMEOUT)
        assert not self.is_alive(), f"{self.name} does not end"
        if self._error is not None:
            raise self._error
        return self._result


@contextlib.contextmanager
def serving(
    handle: Callable[[socket.socket], object], *, host: str = "127.0.0.1", clients: int = 1
) -> Iterator[tuple[str, int]]:
    """A server for exactly `clients` connections; `handle` gets each in a thread of its own.

    Yields its address. The end waits for all threads and raises what went wrong in them.
    """

    def serve_one(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(TIMEOUT)
            handle(connection)

    def accept_all() -> list[Background]:
        return [Background(serve_one, server.accept()[0]) for _ in range(clients)]

    with listener(host) as server:
        accepting = Background(accept_all)
        yield server.getsockname()[:2]
        for thread in accepting.finish():
            thread.finish()


def echo(connection: socket.socket) -> None:
    """Sends back what it receives, until the end of the stream."""
    while data := connection.recv(256 * 1024):
        connection.sendall(data)


@contextlib.contextmanager
def refused_address(host: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """An address that refuses connections: its port is taken by a socket that does not listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.bind((host, 0))
        yield sock.getsockname()[:2]


@contextlib.contextmanager
def blackhole(host: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """An address that never answers a connection attempt.

    Linux drops a SYN when the accept queue is full, and a backlog of 0 is full with one connection.
    """
    with listener(host, backlog=0) as server:
        address = server.getsockname()[:2]
        with socket.create_connection(address, TIMEOUT):
            yield address


class Proxy(threading.Thread):
    """A TCP proxy before `target`, at `address`, that can cut its connections with RST. A context manager.

    One thread that blocks only in select(): per direction it holds at most one chunk, in `_pending` under the
    socket that it goes to, and reads on when that is sent.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(name="proxy", daemon=True)
        self._target = target
        self._listener = listener()
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._commands, self._command_end = socket.socketpair()
        self._commands.settimeout(TIMEOUT)
        self._other: dict[socket.socket, socket.socket] = {}
        self._pending: dict[socket.socket, bytes] = {}

    def __enter__(self) -> "Proxy":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._commands.sendall(b"q")
        self.join(TIMEOUT)
        assert not self.is_alive(), "the proxy does not end"
        self._commands.close()

    def reset(self) -> None:
        """Cuts all connections with RST, towards both ends; returns when that is done."""
        self._commands.sendall(b"r")
        self._commands.recv(1)

    def run(self) -> None:
        with self._listener, self._command_end:
            while True:
                idle = [sock for sock, other in self._other.items() if other not in self._pending]
                readable, writable, _ = select.select(
                    [self._listener, self._command_end, *idle], list(self._pending), []
                )
                if self._command_end in readable:
                    for sock in self._other:
                        close_with_reset(sock)
                    self._other.clear()
                    self._pending.clear()
                    if self._command_end.recv(1) == b"q":
                        return
                    self._command_end.sendall(b"d")
                    continue
                if self._listener in readable:
                    self._connect()
                for sock in {*readable, *writable} - {self._listener}:
                    if sock in self._other:
                        self._forward(sock, self._other[sock])

    def _connect(self) -> None:
        client, _ = self._listener.accept()
        upstream = socket.create_connection(self._target, TIMEOUT)
        for sock, other in ((client, upstream), (upstream, client)):
            sock.setblocking(False)
            self._other[sock] = other

    def _forward(self, sock: socket.socket, other: socket.socket) -> None:
        """Sends on what waits for `sock`, then takes what it has for the other end."""
        try:
            if rest := self._pending.get(sock):
                self._pending[sock] = rest[sock.send(rest) :]
                if not self._pending[sock]:
                    del self._pending[sock]
            if other not in self._pending and (data := sock.recv(64 * 1024)):
                self._pending[other] = data
            elif other not in self._pending:
                self._end(sock, other)
        except BlockingIOError:
            pass
        except ConnectionError:
            self._end(sock, other)

    def _end(self, *pair: socket.socket) -> None:
        for sock in pair:
            del self._other[sock]
            self._pending.pop(sock, None)
            sock.close()


@contextlib.contextmanager
def many_fds(count: int) -> Iterator[None]:
    """Lets this process open `count` file descriptors, if its hard limit allows that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, count)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def link_local_addresses() -> list[str]:
    """This machine's IPv6 link-local addresses, each with its zone: 'fe80::1%eth0'."""
    addresses = []
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        digits, *_, interface = line.split()
        if digits.startswith("fe80"):
            address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
            addresses.append(f"{address}%{interface}")
    return addresses


def without_class(text: str) -> str:
    """A TypeError's text on a wrong keyword, without the class of the method, which is each loop's own."""
    return re.sub(r"^\w+\.(?=\w+\(\) got)", "", text)
