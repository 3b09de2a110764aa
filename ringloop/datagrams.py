"""Datagram endpoints: addresses, or a socket, become a datagram transport.

Mixed into `ringloop.Loop`. Resolving, binding, connecting and the wording of errors are asyncio's own
`create_datagram_endpoint`, the running Python's, which calls down to `sock_connect` and to
`_make_datagram_transport`. The transport is native (`_datagram`).
"""

import asyncio
import collections
import socket
import types
from asyncio import selector_events
from typing import Any

from ringloop._datagram import Inbox, make_transport


def _refuse(data: bytes) -> None:
    raise BlockingIOError


class _Full(selector_events._SelectorDatagramTransport):  # type: ignore[name-defined]
    """asyncio's transport over a socket that has no room."""

    def __init__(self) -> None:
        def nothing(*_: Any) -> None:
            pass

        state: dict[str, Any] = {
            "_address": None,
            "_buffer": collections.deque(),
            "_buffer_size": 0,
            "_conn_lost": 0,
            "_extra": {"peername": ("127.0.0.1", 9)},
            "_sock_fd": -1,
            "_sock": types.SimpleNamespace(send=_refuse),
            "_loop": types.SimpleNamespace(_add_writer=nothing),
            "_add_writer": nothing,
            "_maybe_pause_protocol": nothing,
        }
        for name, value in state.items():
            setattr(self, name, value)

    def __del__(self) -> None:
        """It has no socket to warn of."""


def _ask_asyncio(data: bytes) -> _Full:
    """What asyncio's `sendto` does on a full socket, as the state of the transport.

    It changed in maintenance releases: no version number tells.
    """
    asked = _Full()
    asked.sendto(data)
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
