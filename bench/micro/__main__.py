"""``python -m bench.micro NAME --loop LOOP --seconds S [--cpu CORE]``: measures one workload.

Prints ``cpu_us`` and ``wall_us`` per call as JSON, each the median over batches. CPU time of the whole
process is what is compared: it counts every thread's work and leaves out what others do on this core.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import statistics
import time

from bench.children import settle_child
from bench.loops import factory_of, select_loop
from bench.micro import WORKLOADS, Batch

WARMUP_SHARE = 0.25
BATCHES_MIN = 3


async def repeat(batch: Batch, seconds: float) -> tuple[list[float], list[float]]:
    """Runs batches for `seconds`; CPU and wall time per call of each, us."""
    loop = asyncio.get_running_loop()
    cpu_us: list[float] = []
    wall_us: list[float] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or len(cpu_us) < BATCHES_MIN:
        cpu_start, wall_start = time.process_time_ns(), time.perf_counter_ns()
        calls = await batch(loop)
        cpu_us.append((time.process_time_ns() - cpu_start) / 1000 / calls)
        wall_us.append((time.perf_counter_ns() - wall_start) / 1000 / calls)
    return cpu_us, wall_us


async def measure(batch: Batch, seconds: float) -> dict[str, float]:
    """Warms up, then measures."""
    await repeat(batch, seconds * WARMUP_SHARE)
    cpu_us, wall_us = await repeat(batch, seconds)
    return {
        "cpu_us": statistics.median(cpu_us),
        "wall_us": statistics.median(wall_us),
        "batches": len(cpu_us),
    }


def main() -> None:
    """Measures and prints one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.micro")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--loop", default="asyncio")
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--cpu", type=int)
    arguments = parser.parse_args()
    settle_child(arguments.cpu)
    loop = select_loop(arguments.loop)
    module, _, function = WORKLOADS[arguments.workload].partition(":")
    batch: Batch = getattr(importlib.import_module(f"bench.micro.{module}"), function)
    with asyncio.Runner(loop_factory=factory_of(loop)) as runner:
        print(json.dumps(runner.run(measure(batch, arguments.seconds))), flush=True)


if __name__ == "__main__":
    main()
