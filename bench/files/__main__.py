"""``python -m bench.files NAME --way KIND --loop LOOP --material DIRECTORY``: measures one work on files.

Prints ``cpu_us`` and ``wall_us`` per call as JSON, each the median over batches, and ``late_p99_us``: how
late a timer of 1 ms is in the same loop, found in batches of their own. Prints ``unavailable`` with the
reason if the work cannot be done here. For a work that is a server of files it serves, and prints its port.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.children import settle_child
from bench.files.lateness import Timer
from bench.files.places import go_to
from bench.files.row import Row, UnavailableError
from bench.files.table import WORKLOADS
from bench.files.ways import BLOCKING, KINDS, THREADS
from bench.loops import factory_of, select_loop

WARMUP_SHARE = 0.25
LATENESS_SHARE = 0.5
BATCHES_MIN = 3


class Figures:
    """CPU time, of all threads, and wall time per call of each batch, us."""

    def __init__(self) -> None:
        self.cpu_us: list[float] = []
        self.wall_us: list[float] = []

    def begin(self) -> None:
        """A batch begins."""
        self._cpu_ns, self._wall_ns = time.process_time_ns(), time.perf_counter_ns()

    def end(self, calls: int) -> None:
        """It has made so many calls."""
        wall_ns, cpu_ns = time.perf_counter_ns() - self._wall_ns, time.process_time_ns() - self._cpu_ns
        self.cpu_us.append(cpu_ns / 1000 / calls)
        self.wall_us.append(wall_ns / 1000 / calls)


def repeat(row: Row, work: Callable[[], int], seconds: float, batches_min: int) -> Figures:
    """Blocking work, for so long."""
    figures = Figures()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or len(figures.cpu_us) < batches_min:
        row.prepare()
        figures.begin()
        figures.end(work())
        row.check()
    return figures


async def repeat_async(
    row: Row, work: Callable[[], Awaitable[int]], seconds: float, batches_min: int, timer: Timer | None
) -> Figures:
    """The same in a loop, with a timer running beside it."""
    figures = Figures()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or len(figures.cpu_us) < batches_min:
        row.prepare()
        if timer:
            timer.start()
        figures.begin()
        figures.end(await work())
        if timer:
            timer.stop()
        row.check()
    return figures


def summary(figures: Figures) -> dict[str, float]:
    """The medians."""
    return {"cpu_us": statistics.median(figures.cpu_us), "wall_us": statistics.median(figures.wall_us)}


def measure(row: Row, work: Callable[[], int], seconds: float) -> dict[str, float]:
    """Blocking work."""
    if row.TAKES_SECONDS:
        return summary(repeat(row, work, 0, 1))
    repeat(row, work, seconds * WARMUP_SHARE, 1)
    return summary(repeat(row, work, seconds, BATCHES_MIN))


async def measure_async(row: Row, work: Callable[[], Awaitable[int]], seconds: float) -> dict[str, float]:
    """The same in a loop; then once more for the timer's sake, which would cost a little."""
    timer = Timer(asyncio.get_running_loop())
    if row.TAKES_SECONDS:
        figures = await repeat_async(row, work, 0, 1, None)
        await repeat_async(row, work, 0, 1, timer)
    else:
        await repeat_async(row, work, seconds * WARMUP_SHARE, 1, None)
        figures = await repeat_async(row, work, seconds, BATCHES_MIN, None)
        await repeat_async(row, work, seconds * LATENESS_SHARE, BATCHES_MIN, timer)
    late_p99_us = sorted(timer.late_us)[int(len(timer.late_us) * 0.99)] if timer.late_us else 0.0
    return summary(figures) | {"late_p99_us": late_p99_us}


def main() -> None:
    """Measures and prints one line of JSON, or serves until killed."""
    parser = argparse.ArgumentParser(prog="python -m bench.files")
    parser.add_argument("workload", choices=[workload.name for workload in WORKLOADS])
    parser.add_argument("--way", choices=KINDS, required=True)
    parser.add_argument("--loop", default="asyncio")
    parser.add_argument("--material", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--cpu", type=int)
    arguments = parser.parse_args()
    settle_child(arguments.cpu)
    loop = select_loop(arguments.loop)
    workload = next(each for each in WORKLOADS if each.name == arguments.workload)
    if not workload.row:
        # Not before the loop was selected: it imports a ringloop, which may have to be another.
        from bench.files import serving

        serving.serve(loop, arguments.way, arguments.material / workload.needs)
        return
    try:
        directory = go_to(workload.place, arguments.material, workload.needs)
        module, _, name = workload.row.partition(":")
        row: Row = getattr(importlib.import_module(f"bench.files.{module}"), name)(directory, arguments.way)
        try:
            work = getattr(row, arguments.way)
            if arguments.way in (BLOCKING, THREADS):
                figures = measure(row, work, arguments.seconds)
            else:
                with asyncio.Runner(loop_factory=factory_of(loop)) as runner:
                    figures = runner.run(measure_async(row, work, arguments.seconds))
        finally:
            row.close()
    except UnavailableError as error:
        print(json.dumps({"unavailable": str(error)}), flush=True)
        return
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
