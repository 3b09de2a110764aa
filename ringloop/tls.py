"""TLS over stream transports: what the loop's methods do with an SSLContext.

Mixed into `ringloop.Loop`. The state machine between a transport and a protocol is asyncio's SSLProtocol, the
cryptography is the ssl module's. Called by `Connecting` for clients and sockets accepted elsewhere, and by
`_accept` for each connection of a server.

Invariant: a socket that comes here becomes a transport's or is closed; a transport of which the handshake
fails is closed.
"""

import asyncio
import functools
import socket
import ssl
from asyncio import sslproto
from typing import Any

_Waiter = asyncio.Future[None]


async def _wait(handshake: _Waiter) -> None:
    await handshake


class Tls(asyncio.BaseEventLoop):
    """How `ringloop.Loop` makes TLS connections of sockets."""

    # asyncio's private parts, the same from Python 3.11 to 3.15, and the native rooms'.
    _debug: bool
    _make_socket_transport: Any

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext | None,
        waiter: _Waiter | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        context: Any = None,
    ) -> asyncio.Transport:
        """The transport for `protocol`; `waiter` gets None when the handshake is done, or its error."""
        try:
            tls: Any = sslproto.SSLProtocol(
                self,
                protocol,
                sslcontext,
                waiter,
                server_side,
                server_hostname,
                ssl_handshake_timeout=ssl_handshake_timeout,
                ssl_shutdown_timeout=ssl_shutdown_timeout,
            )
            self._make_socket_transport(rawsock, tls, extra=extra, server=server, context=context)
        except BaseException:
            rawsock.close()  # Python 3.13 and older leave it to the garbage collector.
            raise
        return tls._app_transport  # type: ignore[no-any-return]

    def _begin_tls(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        server: Any,
        handshake_timeout: float | None,
        shutdown_timeout: float | None,
        context: Any,
    ) -> None:
        """Begins the handshake of a connection that a server accepted. Called in its context.

        A task waits for its end, as asyncio's: when a run ends and cancels all tasks, so ends the connection.
        """
        waiter = self.create_future()
        try:
            transport = self._make_ssl_transport(
                sock,
                protocol,
                sslcontext,
                waiter,
                server_side=True,
                server=server,
                ssl_handshake_timeout=handshake_timeout,
                ssl_shutdown_timeout=shutdown_timeout,
                context=context,
            )
        except Exception as error:
            self._report_accept(error, {"protocol": protocol})
            return
        try:
            task = self.create_task(_wait(waiter))
        except BaseException:
            transport.abort()
            raise
        # Not the task itself closes the transport: it may be cancelled before its first step.
        task.add_done_callback(functools.partial(self._end_handshake, transport, protocol))

    def _end_handshake(
        self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol, task: "asyncio.Task[None]"
    ) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            transport.close()
            self._report_accept(error, {"protocol": protocol, "transport": transport})

    def _report_accept(self, error: BaseException, more: dict[str, Any]) -> None:
        if self._debug:
            message = "Error on transport creation for incoming connection"
            self.call_exception_handler({"message": message, "exception": error, **more})
