"""The aiohttp application of bench.apps, run by ``web.run_app``."""

from __future__ import annotations

import socket

from aiohttp import web

from bench.apps.aiohttp_app import make_app
from bench.loops import LoopName, factory_of
from bench.servers import Ready


def serve(loop: LoopName, listener: socket.socket, ready: Ready) -> None:
    """See bench.servers. aiohttp prints its addresses once it serves: that is when it is ready."""
    web.run_app(make_app(), sock=listener, loop=factory_of(loop)(), print=lambda *_: ready())
