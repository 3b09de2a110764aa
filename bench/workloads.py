"""The table of what is measured: each workload with its server, its load and its bar.

A bar is the least ratio uvloop/ringloop of CPU time per request or call that ringloop is to reach, over
io_uring or, where that has one of its own, over epoll; workloads without one are measured for orientation.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

from bench.loops import LoopName

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Load:
    """What the load generator is told."""

    connections: int
    mode: str = "echo"
    request_bytes: int = KIB
    path: str = "/"
    tls: bool = False


@dataclass(frozen=True)
class Workload:
    """One line of the table: `server` of bench.servers driven by `load`, or without them a micro workload."""

    name: str
    title: str
    bar: float | None = None
    server: str = ""
    load: Load | None = None
    epoll_bar: float | None = None

    def bar_for(self, loop: LoopName) -> float | None:
        """That of this loop's driver."""
        return self.epoll_bar if loop.driver == "epoll" else self.bar


TCP_WORKLOADS = (
    Workload("echo-1k-10", "TCP echo, Protocol, 1 KiB x 10", 1.15, "protocol", Load(10)),
    Workload("echo-1k-100", "TCP echo, Protocol, 1 KiB x 100", 1.3, "protocol", Load(100), 1.15),
    Workload("echo-1k-1000", "TCP echo, Protocol, 1 KiB x 1000", 1.3, "protocol", Load(1000)),
    Workload(
        "echo-64k-100",
        "TCP echo, Protocol, 64 KiB x 100",
        1.05,
        "protocol",
        Load(100, "echo", 64 * KIB),
        1.0,
    ),
    Workload("echo-1m-10", "TCP echo, Protocol, 1 MiB x 10", 1.15, "protocol", Load(10, "echo", MIB)),
    Workload("buffered-1k-100", "TCP echo, BufferedProtocol, 1 KiB x 100", None, "buffered", Load(100)),
    Workload("streams-1k-100", "TCP echo, streams, 1 KiB x 100", 1.15, "streams", Load(100)),
    Workload("sock-1k-100", "TCP echo, sock_recv/sock_sendall, 1 KiB x 100", 1.5, "sock", Load(100)),
    Workload("connect-100", "short TCP connections, 100 at once", None, "protocol", Load(100, "connect")),
)

TLS_WORKLOADS = (
    Workload("tls-1k-100", "TLS echo, 1 KiB x 100", 1.2, "tls", Load(100, tls=True)),
    Workload(
        "tls-64k-100", "TLS echo, 64 KiB x 100", 1.1, "tls", Load(100, request_bytes=64 * KIB, tls=True)
    ),
    Workload("tls-connect-10", "TLS handshakes, 10 at once", 1.05, "tls", Load(10, "connect", tls=True)),
)

UNIX_WORKLOADS = (Workload("unix-1k-100", "Unix echo, 1 KiB x 100", 1.2, "unix", Load(100)),)

UDP_WORKLOADS = (
    Workload("udp-512", "UDP echo, 512 B x 100", 1.5, "datagram", Load(100, "datagram", 512)),
    Workload("udp-512-1", "UDP echo, 512 B x 1", None, "datagram", Load(1, "datagram", 512)),
)

WEB_WORKLOADS = (
    Workload("aiohttp", "aiohttp hello x 100", 1.0, "aiohttp", Load(100, "http")),
    Workload("uvicorn", "uvicorn hello x 100", 1.0, "uvicorn", Load(100, "http")),
)

MICRO_WORKLOADS = (
    Workload("call_soon", "call_soon, one per iteration", 2.0, epoll_bar=2.0),
    Workload("call_soon-fan", "call_soon, 1,000 per iteration"),
    Workload("sleep0", "sleep(0)", 1.4),
    Workload("timers-cancelled", "timers set and cancelled", 3.0, epoll_bar=3.0),
    Workload("timers-fired", "timers fired", 2.0, epoll_bar=2.0),
    Workload("threadsafe", "call_soon_threadsafe, same thread", 2.0),
    Workload("threadsafe-other", "call_soon_threadsafe, another thread", 2.0),
    Workload("create_task", "create_task and await"),
    Workload("future", "future set, task woken"),
    Workload("executor", "run_in_executor, one by one"),
    Workload("pipe-receive", "pipe, 64 KiB from a child", 1.2),
    Workload("pipe-send", "pipe, 64 KiB to a child", 1.2),
    Workload("pipe-echo", "pipe, 1 KiB through a child", 1.2),
    Workload("sendfile", "a file of 10 MiB from memory; uvloop: read and write", 1.0),
    Workload("spawn", "spawn /bin/true and wait for it"),
    Workload("spawn-1g", "the same with 1 GiB resident", 15.0),
)

WORKLOADS = TCP_WORKLOADS + TLS_WORKLOADS + UNIX_WORKLOADS + UDP_WORKLOADS + WEB_WORKLOADS + MICRO_WORKLOADS

# Not timed by requests: see bench/idle.py.
IDLE = "idle"


def select_workloads(patterns: Iterable[str]) -> list[Workload]:
    """The workloads whose name matches one of the shell `patterns`, in the table's order."""
    wanted = tuple(patterns)
    return [each for each in WORKLOADS if any(fnmatch.fnmatch(each.name, pattern) for pattern in wanted)]
