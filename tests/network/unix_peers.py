"""Unix sockets for tests: short paths, abstract names, plain clients and servers that block."""

import contextlib
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from network.peers import TIMEOUT

_numbers = itertools.count()


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """An empty directory with a path short enough for sockets: 107 bytes at the most."""
    with tempfile.TemporaryDirectory(prefix="ux") as made:
        yield Path(made)


def abstract_name() -> str:
    """A name that no other socket has; it begins with a zero byte."""
    return f"\0ringloop-test-{os.getpid()}-{next(_numbers)}"


def unix_listener(path: Any, backlog: int = 16) -> socket.socket:
    """A listening socket that blocks, for TIMEOUT at most."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(TIMEOUT)
    sock.bind(path)
    sock.listen(backlog)
    return sock


def unix_client(path: Any, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A connected socket that blocks, for TIMEOUT at most."""
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.settimeout(TIMEOUT)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock
