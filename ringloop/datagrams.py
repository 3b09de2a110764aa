"""Datagram endpoints: addresses, or a socket, become a datagram transport.

Mixed into `ringloop.Loop`. Resolving, binding, connecting and the wording of errors are asyncio's own
`create_datagram_endpoint`, the running Python's, which calls down to `sock_connect` and to
`_make_datagram_transport`. The transport is native (`_datagram`).
"""

import asyncio
import collections
import socket
from asyncio import selector_events
from collections.abc import Callable
from typing import Any

from ringloop._datagram import Inbox, make_transport


class _Asked:
    """Stands in for a transport, its loop and its full socket while asyncio's `sendto` shows what it does."""

    def __init__(self) -> None:
        self._address = None
        self._conn_lost = 0
        self._sock_fd = -1
        self._extra = {"peername": ("127.0.0.1", 9)}
        self._buffer: collections.deque[Any] = collections.deque()
        self._buffer_size = 0
        self._sock = self._loop = self

    def send(self, data: bytes) -> None:
        raise BlockingIOError

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def _ask_asyncio(data: bytes) -> _Asked:
    """What asyncio's `sendto` did. It changed in maintenance releases: no version number tells."""
    asked = _Asked()
    selector_events._SelectorDatagramTransport.sendto(asked, data)  # type: ignore[attr-defined]
    return asked


_SENDS_EMPTY = bool(_ask_asyncio(b"")._buffer)
_HEADER_BYTES = _ask_asyncio(b"x")._buffer_size - 1


class Datagrams(asyncio.BaseEventLoop):
    """What `create_datagram_endpoint` makes, for `ringloop.Loop`."""

    _inbox: Inbox | None = None

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: "asyncio.Future[None] | None" = None,
        extra: dict[str, Any] | None = None,
    ) -> Any:
        if self._inbox is None:
            self._inbox = Inbox()
        return make_transport(
            self, self._inbox, sock, protocol, address, waiter, extra, _SENDS_EMPTY, _HEADER_BYTES
        )
