"""examples/static_server.py, and the same server with the calls of its rivals."""

from __future__ import annotations

import asyncio
import functools
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.files.ways import AIOFILES, BLOCKING, RINGLOOP
from bench.loops import LoopName
from bench.machine import allow_open_files
from bench.servers import BACKLOG, serve_forever
from bench.servers.__main__ import OPEN_FILES, tcp_socket
from examples.static_server import HEAD_BYTES_MAX, Files, Site

NAMES = ("open", "fstat", "pread", "close")


def _at_once(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def call(*arguments: Any, **keywords: Any) -> Any:
        return function(*arguments, **keywords)

    return call


def _in_a_thread(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    def call(*arguments: Any, **keywords: Any) -> Awaitable[Any]:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(None, functools.partial(function, *arguments, **keywords))

    return call


def files_of(kind: str) -> Files:
    """The calls of the server, in one of the ways that are compared."""
    if kind == RINGLOOP:
        import ringloop

        return ringloop.os
    if kind == AIOFILES:
        # It has no open(2), but the wrapper that all its functions of `os` are made by.
        from aiofiles.os import wrap
    else:
        wrap = _at_once if kind == BLOCKING else _in_a_thread
    calls: Any = SimpleNamespace(**{name: wrap(getattr(os, name)) for name in NAMES})
    files: Files = calls
    return files


def serve(loop: LoopName, kind: str, directory: Path) -> None:
    """Prints the port, and serves until killed."""
    allow_open_files(OPEN_FILES)
    site = Site(directory, files_of(kind))
    listener = tcp_socket()
    listener.bind(("127.0.0.1", 0))

    async def start() -> asyncio.Server:
        return await asyncio.start_server(site.serve, sock=listener, backlog=BACKLOG, limit=HEAD_BYTES_MAX)

    port: int = listener.getsockname()[1]
    serve_forever(loop, start, lambda: print(json.dumps({"port": port}), flush=True))
