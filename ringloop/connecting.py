"""Client connections: a name and a port, or a socket, become a connected transport.

Mixed into `ringloop.Loop`. Resolving by `socket.getaddrinfo`, the order of addresses, a single attempt and
the wording of its errors are asyncio's own code: that is per connection, not per packet, its errors change
from Python to Python, and only so are they the running Python's. It calls down to `sock_connect` and to
`_make_socket_transport`. What is here: which attempts are made and when, and what is told if all fail.

Invariant: a socket opened here becomes a transport's or is closed, whoever is cancelled and whenever.
"""

import asyncio
import contextlib
import socket
from asyncio import base_events
from asyncio.log import logger
from collections.abc import Callable
from typing import Any, TypeVar

_P = TypeVar("_P", bound=asyncio.BaseProtocol)
_AddressInfo = tuple[Any, ...]  # as socket.getaddrinfo gives: family, type, proto, canonical name, address
_Failures = list[list[Exception]]  # of each attempt, in the order in which they began


def _as_one(failures: _Failures, all_errors: bool) -> Exception:
    """The error that tells why no address could be connected."""
    errors = [error for several in failures for error in several]
    if not errors:  # somebody cancelled the attempts one by one
        return TimeoutError("create_connection failed")
    if all_errors:
        return ExceptionGroup("create_connection failed", errors)
    texts = [str(error) for error in errors]
    if len(set(texts)) == 1:
        return errors[0]
    return OSError(f"Multiple exceptions: {', '.join(texts)}")


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancels the tasks and waits for their end, also if cancelled meanwhile."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _until_one_is_done(*futures: asyncio.Future[Any], timeout: float | None = None) -> None:
    await asyncio.wait(futures, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


class Connecting(asyncio.BaseEventLoop):
    """`create_connection` and `connect_accepted_socket`, for `ringloop.Loop`."""

    # asyncio's private parts, the same from Python 3.11 to 3.15.
    _connect_sock: Callable[..., Any]
    _ensure_resolved: Callable[..., Any]
    _create_connection_transport: Callable[..., Any]

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

        With `ssl`, an SSLContext or True for a default one, the connection is TLS: the server has to prove to
        be `server_hostname`, by default `host`. The handshake may take `ssl_handshake_timeout` seconds (60),
        the exchange of the last records `ssl_shutdown_timeout` (30).

        Raises OSError if no address could be connected, one ExceptionGroup of all failures with `all_errors`;
        ssl.SSLError or ConnectionError if the handshake fails; ValueError and TypeError for arguments that do
        not go together.
        """
        tls: dict[str, Any] = {
            "server_hostname": server_hostname,
            "ssl_handshake_timeout": ssl_handshake_timeout,
            "ssl_shutdown_timeout": ssl_shutdown_timeout,
        }
        by_name = (host, port) != (None, None)
        lacks_name = not host and server_hostname is None if ssl else any(tls[key] is not None for key in tls)
        if sock is not None or not by_name or lacks_name:
            # A socket to use, or arguments that asyncio rejects.
            base: Any = super()  # its stubs know the arguments as overloads
            return await base.create_connection(protocol_factory, host, port, sock=sock, ssl=ssl, **tls)

        infos = await self._resolve((host, port), family, proto, flags)
        local_infos = None
        if local_addr is not None:
            local_infos = await self._resolve(local_addr, family, proto, flags)
        if interleave is None and happy_eyeballs_delay is not None:
            interleave = 1
        if interleave:
            infos = base_events._interleave_addrinfos(infos, interleave)  # type: ignore[attr-defined]
        connected = await self._connect_any(infos, local_infos, happy_eyeballs_delay, all_errors)
        if ssl and server_hostname is None:
            tls["server_hostname"] = host
        transport, protocol = await self._make_client(connected, protocol_factory, ssl, tls)
        if self.get_debug():
            sock = transport.get_extra_info("socket")
            logger.debug("%r connected to %s:%r: (%r, %r)", sock, host, port, transport, protocol)
        return transport, protocol

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

        With `ssl`, an SSLContext, the connection is TLS, this end the server's; timeouts as in
        `create_connection`.

        Raises ValueError and TypeError for a socket or arguments that will not do, ssl.SSLError or
        ConnectionError if the handshake fails.
        """
        return await super().connect_accepted_socket(
            protocol_factory,
            sock,
            ssl=ssl,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    async def _resolve(
        self, address: tuple[str | None, int | None], family: int, proto: int, flags: int
    ) -> list[_AddressInfo]:
        infos: list[_AddressInfo] = await self._ensure_resolved(
            address, family=family, type=socket.SOCK_STREAM, proto=proto, flags=flags, loop=self
        )
        if not infos:
            raise OSError("getaddrinfo() returned empty list")
        return infos

    async def _make_client(
        self, sock: socket.socket, protocol_factory: Callable[[], _P], ssl: Any, tls: dict[str, Any]
    ) -> tuple[asyncio.Transport, _P]:
        def make_protocol() -> _P:
            try:
                return protocol_factory()
            except BaseException:
                sock.close()  # Python 3.13 and older leave it to the garbage collector.
                raise

        made: tuple[asyncio.Transport, _P] = await self._create_connection_transport(
            sock, make_protocol, ssl, **tls
        )
        return made

    async def _connect_any(
        self,
        infos: list[_AddressInfo],
        local_infos: list[_AddressInfo] | None,
        delay: float | None,
        all_errors: bool,
    ) -> socket.socket:
        """A socket connected to one of the addresses; else raises what each of them gave."""
        failures: _Failures = []  # _connect_sock appends a list for each attempt
        try:
            if delay is None:
                for info in infos:
                    with contextlib.suppress(OSError):  # it is in `failures`
                        sock: socket.socket = await self._connect_sock(failures, info, local_infos)
                        return sock
            elif (winner := await self._race(infos, local_infos, delay, failures)) is not None:
                return winner
            raise _as_one(failures, all_errors)
        finally:
            failures.clear()  # an error's traceback refers to this frame

    async def _race(
        self,
        infos: list[_AddressInfo],
        local_infos: list[_AddressInfo] | None,
        delay: float,
        failures: _Failures,
    ) -> socket.socket | None:
        """The first socket that gets connected, or None; no attempt and no other socket outlives this.

        An attempt begins `delay` seconds after the one before it, or when that one has failed.

        asyncio's staggered_race does the same, but leaves sockets to the garbage collector: a winner's whose
        awaiter is cancelled, and a second winner's. And it forgets errors that are no OSError.
        """
        won: asyncio.Future[socket.socket] = self.create_future()
        attempts: list[asyncio.Task[None]] = []

        async def attempt(info: _AddressInfo) -> None:
            number = len(failures)
            try:
                sock = await self._connect_sock(failures, info, local_infos)
            except OSError:
                return  # it is in `failures`
            except Exception as error:
                failures[number].append(error)
                return
            if won.done():
                sock.close()
            else:
                won.set_result(sock)

        try:
            for info in infos:
                attempts.append(self.create_task(attempt(info)))
                await _until_one_is_done(attempts[-1], won, timeout=delay)
                if won.done():
                    break
            for task in attempts:
                if not won.done():
                    await _until_one_is_done(task, won)
            await _end(attempts)
        except BaseException as error:
            if won.done():
                won.result().close()
            won.cancel()  # from here on every attempt closes its own socket
            if isinstance(error, (Exception, asyncio.CancelledError)):  # others leave no time to wait
                await _end(attempts)
            raise
        return won.result() if won.done() else None
