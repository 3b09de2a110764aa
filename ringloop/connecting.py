"""Client connections: a name and a port, or a socket, become a connected transport.

Mixed into `ringloop.Loop`. The work is asyncio's own code: resolving by `socket.getaddrinfo`, the order of
addresses, happy eyeballs, the wording of errors. That is per connection, not per packet, its errors change
from Python to Python, and only so are they the running Python's. It calls down to `sock_connect` and to
`_make_socket_transport`. What is here: the keyword that Python 3.11 lacks, and a clear no to TLS.
"""

import asyncio
import contextlib
import functools
import socket
import sys
from asyncio import base_events, staggered
from asyncio.log import logger
from collections.abc import Callable
from typing import Any, TypeVar

from ringloop.tls import refuse_tls

_P = TypeVar("_P", bound=asyncio.BaseProtocol)
_AddressInfo = tuple[Any, ...]  # as socket.getaddrinfo gives: family, type, proto, canonical name, address


class Connecting(asyncio.BaseEventLoop):
    """`create_connection` and `connect_accepted_socket`, for `ringloop.Loop`."""

    async def create_connection(
        self,
        protocol_factory: Callable[[], _P],
        host: str | None = None,
        port: int | None = None,
        *,
        ssl: Any = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: socket.socket | None = None,
        local_addr: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[asyncio.Transport, _P]:
        """Connects to a TCP server; returns the transport and the protocol, whose connection_made was called.

        `host` and `port`, or `sock`, a connected stream socket, which becomes the transport's. The addresses
        of `host` are tried in turn, or staggered by `happy_eyeballs_delay` seconds, families mixed in runs of
        `interleave`. `local_addr` is bound before connecting.

        Raises OSError if no address could be connected, one ExceptionGroup of all failures with `all_errors`;
        ValueError and TypeError for arguments that do not go together; NotImplementedError for `ssl`.
        """
        if ssl and (host or server_hostname is not None):
            refuse_tls(host, port, sock)
        tls = {
            "ssl": ssl,
            "server_hostname": server_hostname,
            "ssl_handshake_timeout": ssl_handshake_timeout,
            "ssl_shutdown_timeout": ssl_shutdown_timeout,
        }
        options: dict[str, Any] = {
            "family": family,
            "proto": proto,
            "flags": flags,
            "local_addr": local_addr,
            "happy_eyeballs_delay": happy_eyeballs_delay,
            "interleave": interleave,
        }
        if sys.version_info >= (3, 12):
            options["all_errors"] = all_errors
        elif all_errors:
            without_tls = (
                not ssl and (server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout) == (None,) * 3
            )
            if without_tls and sock is None and (host, port) != (None, None):
                return await self._connect_telling_all_errors(protocol_factory, host, port, **options)
        base: Any = super()  # its stubs know the arguments as overloads
        return await base.create_connection(protocol_factory, host, port, sock=sock, **tls, **options)

    async def connect_accepted_socket(
        self,
        protocol_factory: Callable[[], _P],
        sock: socket.socket,
        *,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, _P]:
        """Makes a transport of a connected socket that was accepted elsewhere; returns it and its protocol.

        Raises ValueError and TypeError for a socket or arguments that will not do, NotImplementedError for
        `ssl`.
        """
        if ssl:
            refuse_tls(None, None, sock)
        return await super().connect_accepted_socket(
            protocol_factory,
            sock,
            ssl=ssl,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    if sys.version_info < (3, 12):
        # asyncio's private parts, which stay as they are: Python 3.11 gets security fixes only.
        _connect_sock: Callable[..., Any]
        _ensure_resolved: Callable[..., Any]
        _create_connection_transport: Callable[..., Any]

        async def _connect_telling_all_errors(
            self,
            protocol_factory: Callable[[], _P],
            host: str | None,
            port: int | None,
            *,
            family: int,
            proto: int,
            flags: int,
            local_addr: tuple[str, int] | None,
            happy_eyeballs_delay: float | None,
            interleave: int | None,
        ) -> tuple[asyncio.Transport, _P]:
            """`create_connection(…, all_errors=True)` by name, as Python 3.12 has it."""

            async def resolve(address: tuple[str | None, int | None]) -> list[_AddressInfo]:
                infos: list[_AddressInfo] = await self._ensure_resolved(
                    address, family=family, type=socket.SOCK_STREAM, proto=proto, flags=flags, loop=self
                )
                if not infos:
                    raise OSError("getaddrinfo() returned empty list")
                return infos

            infos = await resolve((host, port))
            local_infos = await resolve(local_addr) if local_addr is not None else None
            if interleave is None and happy_eyeballs_delay is not None:
                interleave = 1
            if interleave:
                infos = base_events._interleave_addrinfos(infos, interleave)  # type: ignore[attr-defined]
            sock = await self._connect_any(infos, local_infos, happy_eyeballs_delay)
            transport, protocol = await self._create_connection_transport(sock, protocol_factory, None, None)
            if self.get_debug():
                logger.debug(
                    "%r connected to %s:%r: (%r, %r)",
                    transport.get_extra_info("socket"), host, port, transport, protocol,
                )  # fmt: skip
            return transport, protocol

        async def _connect_any(
            self, infos: list[_AddressInfo], local_infos: list[_AddressInfo] | None, delay: float | None
        ) -> socket.socket:
            """A socket connected to one of the addresses; else raises what each of them gave as a group."""
            failures: list[list[OSError]] = []  # _connect_sock appends a list for each attempt
            try:
                sock = None
                if delay is None:
                    for info in infos:
                        with contextlib.suppress(OSError):  # it is in `failures`
                            sock = await self._connect_sock(failures, info, local_infos)
                            break
                else:
                    attempts = [
                        functools.partial(self._connect_sock, failures, info, local_infos) for info in infos
                    ]
                    sock, _, _ = await staggered.staggered_race(attempts, delay, loop=self)
                if sock is None:
                    raise ExceptionGroup(
                        "create_connection failed", [error for several in failures for error in several]
                    )
                return sock
            finally:
                failures.clear()  # an error's traceback refers to this frame
