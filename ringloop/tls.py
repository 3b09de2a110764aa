"""Says no to TLS, which is not built yet, at the moment when asyncio would begin to work."""

import socket
from ssl import SSLSocket
from typing import Any


def refuse_tls(host: Any, port: Any, sock: socket.socket | None) -> None:
    """Raises NotImplementedError, unless asyncio's own code rejects these arguments with a better error.

    That code takes either a name (host or port) or a connected or bound stream socket that does no TLS
    itself.
    """
    named = host is not None or port is not None
    if named == (sock is not None):
        return
    if sock is not None and (sock.type != socket.SOCK_STREAM or isinstance(sock, SSLSocket)):
        return
    raise NotImplementedError("ringloop does not speak TLS yet: the argument ssl cannot be used")
