"""TLS over stream transports: what the loop's methods do with an SSLContext.

Mixed into `ringloop.Loop`. The state machine between a transport and a protocol is asyncio's SSLProtocol,
with what runs per record replaced by `_tls`; the cryptography is the ssl module's. Called by `Connecting` for
clients and sockets accepted elsewhere, and by `_accept` for each connection of a server.

Invariant: a socket that comes here becomes a transport's or is closed; a transport of which the handshake
fails is closed.
"""

import asyncio
import functools
import socket
import ssl
from asyncio import sslproto
from typing import Any

from ringloop._tls import TlsWrites
from ringloop._tls_connection import TlsConnection

_Waiter = asyncio.Future[None]
_SSLProtocol: Any = sslproto.SSLProtocol
_SSLTransport: Any = sslproto._SSLProtocolTransport


class SSLTransport(TlsWrites, _SSLTransport):
    """What a protocol over TLS writes to. Some know such a transport by the `SSL` in its class's name."""


class TlsProtocol(TlsConnection, _SSLProtocol):
    """What is between a transport and a protocol over TLS."""

    _app_transport: SSLTransport | None
    _app_transport_created: bool
    _lost_transport: Any
    _extra: dict[str, Any]

    def _get_app_transport(self) -> SSLTransport:
        if self._app_transport is None:
            if self._app_transport_created:
                raise RuntimeError("the transport of a TLS connection is made once")
            self._app_transport = SSLTransport(self._loop, self)
            self._app_transport_created = True
        return self._app_transport

    def _get_extra_info(self, name: str, default: Any = None) -> Any:
        if self._lost_transport is not None and name not in self._extra:
            return self._lost_transport.get_extra_info(name, default)
        return super()._get_extra_info(name, default)


async def _wait(handshake: _Waiter) -> None:
    await handshake


class Tls(asyncio.BaseEventLoop):
    """How `ringloop.Loop` makes TLS connections of sockets."""

    # asyncio's private parts, the same from Python 3.11 to 3.15, and the native rooms'.
    _debug: bool
    _make_socket_transport: Any

    _tls_scratch: memoryview  # what `_tls` decrypts into

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
            tls: Any = TlsProtocol(
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
        return tls._app_transport

    async def start_tls(
        self,
        transport: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport | None:
        """Makes a connection TLS from here on; returns the transport to use instead, once both ends agree.

        `transport` may itself be TLS. None if the connection has ended meanwhile.

        Raises TypeError if the transport or the context will not do, ssl.SSLError or ConnectionError if the
        handshake fails; the transport is closed then, as when the awaiting task is cancelled.
        """
        if not isinstance(sslcontext, ssl.SSLContext):
            raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        waiter: _Waiter = self.create_future()
        tls: Any = TlsProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            call_connection_made=False,
        )
        if server_side and isinstance(protocol, asyncio.StreamReaderProtocol):
            # A client that did not wait for the answer to its STARTTLS: its first record was read as text.
            reader = getattr(protocol, "_stream_reader", None)
            if reader is not None and reader._buffer:
                tls._incoming.write(reader._buffer)
                reader._buffer.clear()
        # No data may come before connection_made.
        transport.pause_reading()
        transport.set_protocol(tls)
        begin = self.call_soon(tls.connection_made, transport)
        resume = self.call_soon(transport.resume_reading)
        try:
            await waiter
        except BaseException:
            transport.close()
            begin.cancel()
            resume.cancel()
            raise
        finally:
            del waiter  # its exception refers to this frame, and so to itself
        return tls._app_transport

    def _make_tls_for_server(
        self,
        protocol: asyncio.BaseProtocol,
        waiter: _Waiter,
        how: tuple[ssl.SSLContext, float | None, float | None],
    ) -> TlsProtocol | None:
        """What is to be between an accepted connection and its protocol; None if there was an error, told.

        `how` is the context and the timeouts for handshake and shutdown in seconds.
        """
        context, handshake_timeout, shutdown_timeout = how
        try:
            return TlsProtocol(
                self,
                protocol,
                context,
                waiter,
                True,
                ssl_handshake_timeout=handshake_timeout,
                ssl_shutdown_timeout=shutdown_timeout,
            )
        except Exception as error:
            self._report_accept(error, {"protocol": protocol})
            return None

    def _watch_handshake(
        self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol, waiter: _Waiter
    ) -> None:
        """Closes the transport of an accepted connection if its handshake fails.

        A task waits for that, as asyncio's: when a run ends and cancels all tasks, so ends the connection.
        It does not itself close the transport, since it may be cancelled before its first step.
        """
        task = self.create_task(_wait(waiter))
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
