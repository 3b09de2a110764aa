"""Unix stream sockets: a path, or a socket, becomes a connected transport or a server.

Mixed into `ringloop.Loop`, before the native rooms: it hears of a listening socket's end before they close
it. Opening, binding, the removal of a stale file and the wording of errors are asyncio's own code, the
running Python's; it calls down to `sock_connect` and `_make_socket_transport`. What is here: sockets that
nobody closes elsewhere are closed, a full backlog is waited for, and every Python takes `cleanup_socket`.

Invariant: a file is removed only if it is still the one that the server's socket was bound to.
"""

import asyncio
import contextlib
import os
import socket
import sys
from asyncio import unix_events
from asyncio.log import logger
from collections.abc import Callable
from typing import Any, TypeVar

from ringloop.serving import Server

_P = TypeVar("_P", bound=asyncio.BaseProtocol)
_Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_CLEANED_BY_ASYNCIO = sys.version_info >= (3, 13)

# Plain functions, which ask of their loop only what ours has.
_asyncio_loop: Any = unix_events._UnixSelectorEventLoop


class UnixSockets(asyncio.BaseEventLoop):
    """`create_unix_connection` and `create_unix_server`, for `ringloop.Loop`."""

    # The name is asyncio's since 3.13, whose create_unix_server fills it: socket -> inode of its file.
    _unix_server_sockets: dict[socket.socket, int]

    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], _P],
        path: _Path | None = None,
        *,
        ssl: Any = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, _P]:
        """Connects to a Unix socket; returns transport and protocol, whose connection_made was called.

        `path` is that of the socket's file, or an abstract name, which begins with a zero byte; `sock` is a
        connected Unix stream socket to use instead. Where the server's backlog is full, waits for room.
        `ssl` and what goes with it are as in `create_connection`, but `server_hostname` has no default.

        Raises OSError if nobody serves there, ValueError for arguments that do not go together, ssl.SSLError
        or ConnectionError if the handshake fails.
        """
        made: tuple[asyncio.Transport, _P] = await _asyncio_loop.create_unix_connection(
            self,
            protocol_factory,
            path,
            ssl=ssl,
            sock=sock,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        return made

    async def _create_connection_transport(
        self, sock: socket.socket, protocol_factory: Callable[[], _P], *args: Any, **keywords: Any
    ) -> tuple[asyncio.Transport, _P]:
        def make_protocol() -> _P:
            try:
                return protocol_factory()
            except BaseException:
                sock.close()  # asyncio leaves a Unix socket to the garbage collector
                raise

        base: Any = super()
        made: tuple[asyncio.Transport, _P] = await base._create_connection_transport(
            sock, make_protocol, *args, **keywords
        )
        return made

    async def _connect_blocking(self, sock: socket.socket, address: Any) -> None:
        """Connects to a Unix socket whose backlog is full: waits for room, as a blocking connect() does.

        A non-blocking one fails (EAGAIN), and no readiness tells of the room: poll() says that a Unix socket
        which is not connected is writable. So the kernel's connect is the one that waits.
        """
        from ringloop.submission import submit  # needed so rarely that no start should pay for it

        timeout = sock.gettimeout()
        # io_uring hands the EAGAIN of a non-blocking socket through.
        sock.setblocking(True)
        try:
            await submit("connect", sock.fileno(), address)
        finally:
            if sock.fileno() != -1:
                sock.settimeout(timeout)

    async def create_unix_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        path: _Path | None = None,
        *,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = _CLEANED_BY_ASYNCIO,
    ) -> Server:
        """Binds a Unix socket and returns the Server, by default one that accepts already.

        `path` is that of the file to make, in place of a socket's that is there, or an abstract name, which
        begins with a zero byte; `sock` is a bound Unix stream socket to use instead. `backlog` counts
        connections that wait to be accepted. With `cleanup_socket` the server's end removes the file; that
        is the default from Python 3.13 on.

        `ssl` and its timeouts are as in `create_server`.

        Raises OSError if the path cannot be bound, ValueError and TypeError for arguments that do not go
        together.
        """
        options: dict[str, Any] = {"cleanup_socket": cleanup_socket} if _CLEANED_BY_ASYNCIO else {}
        bound = await _asyncio_loop.create_unix_server(
            self,
            protocol_factory,
            path,
            sock=sock,
            backlog=backlog,
            ssl=ssl,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            start_serving=False,
            **options,
        )
        if cleanup_socket and not _CLEANED_BY_ASYNCIO:
            self._note_file(bound._sockets[0])
        server = Server(
            self, bound._sockets, protocol_factory, ssl, backlog, ssl_handshake_timeout, ssl_shutdown_timeout
        )
        if start_serving:
            try:
                await server.start_serving()
            except BaseException:  # nobody would ever close it
                server.close()
                raise
        return server

    def _note_file(self, sock: socket.socket) -> None:
        """Remembers which file is to be removed when the listening socket ends."""
        path = sock.getsockname()
        if path and path[0] not in (0, "\0"):
            with contextlib.suppress(FileNotFoundError):
                self._unix_server_sockets[sock] = os.stat(path).st_ino

    def _stop_serving(self, sock: socket.socket) -> None:
        inode = self._unix_server_sockets.pop(sock, None)
        path = sock.getsockname() if inode is not None else None
        base: Any = super()
        base._stop_serving(sock)
        if path is None:
            return
        try:
            if os.stat(path).st_ino == inode:
                os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.error("Unable to clean up listening UNIX socket %r: %r", path, error)
