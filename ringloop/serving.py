"""Servers: names and addresses become listening sockets, and `Server` keeps track of their connections.

Mixed into `ringloop.Loop`. asyncio's own `create_server` resolves, binds and words the errors, as the running
Python does; what it lacks on older ones is added here, and its `Server` is replaced by one that behaves as
the newest Python's on all of them. Accepting is the business of `_accept`, reached by `loop._start_serving`.

Invariant: a server's waiters wake once, when it is closed and the last of its connections is gone.
"""

import asyncio
import contextvars
import functools
import socket
import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any

_ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Server(asyncio.Server):
    """Listening sockets and the connections that came by them. `loop.create_server` makes it.

    Behaves as the newest Python's: `wait_closed` waits for the connections, `close_clients` and
    `abort_clients` end them, and a cancelled `serve_forever` closes them.
    """

    # Made by asyncio's __init__; listed for type checkers.
    _loop: Any
    _sockets: list[socket.socket] | None
    _waiters: list[asyncio.Future[None]] | None
    _serving: bool
    _serving_forever_fut: asyncio.Future[None] | None
    _protocol_factory: _ProtocolFactory
    _backlog: int
    _ssl_context: Any
    _ssl_handshake_timeout: float | None
    _ssl_shutdown_timeout: float | None
    _context: contextvars.Context  # 3.15

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: list[socket.socket],
        protocol_factory: _ProtocolFactory,
        ssl_context: Any,
        backlog: int,
        ssl_handshake_timeout: float | None,
        ssl_shutdown_timeout: float | None,
    ) -> None:
        super().__init__(
            loop, sockets, protocol_factory, ssl_context, backlog, ssl_handshake_timeout, ssl_shutdown_timeout
        )
        # Weak: a transport that nobody holds any more must be able to say so as it goes.
        self._clients: weakref.WeakSet[Any] = weakref.WeakSet()

    def _attach(self, transport: Any) -> None:
        """A transport of this server begins."""
        assert self._sockets is not None, "a connection was accepted by a closed server"
        self._clients.add(transport)

    def _detach(self, transport: Any) -> None:
        """A transport of this server has ended. More than once is no error."""
        self._clients.discard(transport)
        self._wake_if_over()

    def _wake_if_over(self) -> None:
        if self._sockets is not None or self._clients or self._waiters is None:
            return
        waiters, self._waiters = self._waiters, None
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _start_serving(self) -> None:
        if self._serving:
            return
        self._serving = True
        start: Callable[..., None] = self._loop._start_serving
        if sys.version_info >= (3, 15):
            # Connections run in copies of the context that the server was made in; before 3.15, started in.
            start = functools.partial(self._context.run, start)
        for sock in self._sockets:  # type: ignore[union-attr]  # closed: TypeError, as asyncio's
            sock.listen(self._backlog)
            start(
                self._protocol_factory,
                sock,
                self._ssl_context,
                self,
                self._backlog,
                self._ssl_handshake_timeout,
                self._ssl_shutdown_timeout,
            )

    def close(self) -> None:
        """Stops accepting and closes the listening sockets at once; their ports are free when this returns.

        Connections live on. Closing twice is no error.
        """
        sockets = self._sockets
        if sockets is None:
            return
        self._sockets = None
        for sock in sockets:
            self._loop._stop_serving(sock)
        self._serving = False
        forever = self._serving_forever_fut
        if forever is not None and not forever.done():
            forever.cancel()
            self._serving_forever_fut = None
        self._wake_if_over()

    def close_clients(self) -> None:
        """Closes the connections of this server; what they have buffered is still sent."""
        for transport in list(self._clients):
            transport.close()

    def abort_clients(self) -> None:
        """Ends the connections of this server at once; what they have buffered is lost."""
        for transport in list(self._clients):
            transport.abort()

    async def serve_forever(self) -> None:
        """Accepts until the awaiting task is cancelled or the server is closed; then raises CancelledError.

        When cancelled it closes the server and its connections, and waits for their end. Raises RuntimeError
        if the server is closed or is served forever by another task already.
        """
        if self._serving_forever_fut is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        self._start_serving()
        self._serving_forever_fut = self._loop.create_future()
        try:
            await self._serving_forever_fut
        except asyncio.CancelledError:
            try:
                self.close()
                # Without this a client that stays would keep the task from being cancelled, as Python 3.12.0
                # did.
                self.close_clients()
                await self.wait_closed()
            finally:
                raise
        finally:
            self._serving_forever_fut = None

    async def wait_closed(self) -> None:
        """Waits until the server is closed and the last of its connections is gone."""
        if self._waiters is None:
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter


class Serving(asyncio.BaseEventLoop):
    """`create_server`, for `ringloop.Loop`."""

    async def create_server(
        self,
        protocol_factory: _ProtocolFactory,
        host: str | Sequence[str] | None = None,
        port: int | None = None,
        *,
        family: int = socket.AF_UNSPEC,
        flags: int = socket.AI_PASSIVE,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: Any = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> Server:
        """Binds sockets for a TCP server and returns the Server, by default one that accepts already.

        `host` is a name, an address, a sequence of them, or None or "" for all interfaces; `sock` is a bound
        socket to use instead of `host` and `port`. `backlog` counts connections that wait to be accepted.
        `keep_alive` is for the connections; the other `reuse_…` options are for the listening sockets.

        With `ssl`, an SSLContext, the connections are TLS: a protocol's connection_made is called after the
        handshake, which may take `ssl_handshake_timeout` seconds (60); the exchange of the last records may
        take `ssl_shutdown_timeout` (30).

        Raises OSError if an address cannot be bound, ValueError and TypeError for arguments that do not go
        together.
        """
        options: dict[str, Any] = {"keep_alive": keep_alive} if sys.version_info >= (3, 13) else {}
        base: Any = super()  # its stubs know the arguments as overloads, and no private names
        bound = await base.create_server(
            protocol_factory,
            host,
            port,
            family=family,
            flags=flags,
            sock=sock,
            backlog=backlog,
            ssl=ssl,
            reuse_address=reuse_address,
            reuse_port=reuse_port,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            start_serving=False,
            **options,
        )
        if keep_alive and sock is None and sys.version_info < (3, 13):
            for listener in bound._sockets:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
        server = Server(
            self, bound._sockets, protocol_factory, ssl, backlog, ssl_handshake_timeout, ssl_shutdown_timeout
        )
        if start_serving:
            try:
                await server.start_serving()
            except BaseException:  # cancelled: nobody would ever close it
                server.close()
                raise
        return server
