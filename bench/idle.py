"""What a loop costs while nothing happens: CPU with idle connections, and memory for each of them."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass

from bench.children import MeasurementError
from bench.loops import LoopName
from bench.machine import Cores, allow_open_files, process_cpu_ns, resident_bytes
from bench.measure import START_TIMEOUT_S, start_server

CPU_CONNECTIONS = 100
MEMORY_CONNECTIONS = 2_000
MESSAGE = b"m" * 1024
SETTLE_S = 0.5
ANSWER_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class IdleCosts:
    """The share of a core used with 100 idle connections; resident memory of one of 2,000, bytes."""

    cpu_share: float
    connection_bytes: float


def _open_used(stack: ExitStack, port: int, count: int) -> None:
    """Opens connections and has one message echoed on each: an idle connection has a past."""
    clients = []
    for _ in range(count):
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port), ANSWER_TIMEOUT_S))
        client.sendall(MESSAGE)
        clients.append(client)
    for client in clients:
        left = len(MESSAGE)
        while left:
            piece = client.recv(left)
            if not piece:
                raise MeasurementError("the server closed an idle connection")
            left -= len(piece)


def measure_idle(loop: LoopName, cores: Cores, seconds: float) -> IdleCosts:
    """Measures an idle echo server for `seconds`, then with many more connections how it has grown."""
    allow_open_files(CPU_CONNECTIONS + MEMORY_CONNECTIONS + 100)
    with start_server("protocol", loop, cores) as server, ExitStack() as stack:
        port = int(server.read(START_TIMEOUT_S)["port"])
        try:
            _open_used(stack, port, CPU_CONNECTIONS)
            time.sleep(SETTLE_S)
            cpu_start_ns, start_ns = process_cpu_ns(server.pid), time.monotonic_ns()
            time.sleep(seconds)
            cpu_ns, elapsed_ns = process_cpu_ns(server.pid) - cpu_start_ns, time.monotonic_ns() - start_ns
            before_bytes = resident_bytes(server.pid)
            _open_used(stack, port, MEMORY_CONNECTIONS)
            time.sleep(SETTLE_S)
            grown_bytes = resident_bytes(server.pid) - before_bytes
        except (OSError, MeasurementError) as error:
            server.check_alive()
            raise server.failure(f"was not measured: {error}") from None
    return IdleCosts(cpu_ns / elapsed_ns, grown_bytes / MEMORY_CONNECTIONS)
