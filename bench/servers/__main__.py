"""``python -m bench.servers NAME --loop LOOP [--cpu CORE]``: runs one server and prints where it is."""

from __future__ import annotations

import argparse
import importlib
import json
import socket

from bench.children import settle_child
from bench.loops import select_loop
from bench.machine import allow_open_files
from bench.servers import DATAGRAM_SERVERS, SERVERS, UNIX_SERVERS, Serve

OPEN_FILES = 4096


def tcp_socket() -> socket.socket:
    """A TCP socket as the servers want it."""
    # asyncio sets TCP_NODELAY only on sockets whose protocol is said to be TCP; without it a response in two
    # writes waits 40 ms for a delayed acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # Where BBR is the default, each send is paced by a timer, even on loopback: that would be measured, not
    # the loop. What is accepted inherits this.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
    return listener


def bound_socket(server: str) -> tuple[socket.socket, dict[str, int | str]]:
    """The socket for a server, bound, and where that is."""
    if server in UNIX_SERVERS:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind("")  # the kernel finds a name
        return listener, {"unix": listener.getsockname()[1:].decode()}
    listener = (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) if server in DATAGRAM_SERVERS else tcp_socket()
    )
    listener.bind(("127.0.0.1", 0))
    return listener, {"port": listener.getsockname()[1]}


def main() -> None:
    """Serves until killed."""
    parser = argparse.ArgumentParser(prog="python -m bench.servers")
    parser.add_argument("server", choices=SERVERS)
    parser.add_argument("--loop", default="asyncio")
    parser.add_argument("--cpu", type=int)
    arguments = parser.parse_args()
    settle_child(arguments.cpu)
    allow_open_files(OPEN_FILES)
    loop = select_loop(arguments.loop)
    serve: Serve = importlib.import_module(f"bench.servers.{arguments.server}_server").serve
    listener, where = bound_socket(arguments.server)
    serve(loop, listener, lambda: print(json.dumps(where), flush=True))


if __name__ == "__main__":
    main()
