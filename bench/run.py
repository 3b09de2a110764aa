"""``python -m bench.run`` (``make run``): real servers on each event loop in turn, in less than two minutes.

An unmodified aiohttp application, an unmodified ASGI application under uvicorn, and a TCP echo server.
Then a static file server and some work on files, each by blocking code, threads, aiofiles and ringloop.
Prints tables, writes pictures, and ends with the line that says what ringloop gained or lost.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from bench import pictures
from bench.children import MeasurementError
from bench.compare import describe_run
from bench.files import compare as files_compare
from bench.files import table as files_table
from bench.generator import build_generator
from bench.loops import LoopName, LoopNameError, parse_loops
from bench.machine import BUILD, Disturbance, choose_cores
from bench.measure import Pace, Sample, measure
from bench.progress import Steps, wide_console
from bench.rounds import Samples, run_rounds
from bench.summary import choose_baseline, median_of, ratio_of
from bench.workloads import Workload, select_workloads

APPLICATIONS = {"aiohttp": "aiohttp", "uvicorn": "uvicorn (ASGI)", "echo-1k-100": "TCP echo, 1 KiB"}
WARMUP_S = 0.6
FILES = ("file-open", "file-seek", "file-stat", "file-write-100", "static-4k")
FILES_SECONDS = 0.4
LEVEL = 0.01  # ratios within 1 % of 1 are called level

# Row of the picture: what it shows, its sample's figure, what to multiply that by.
ROWS = {
    "requests/s\n(more is better)": ("requests_per_s", 1.0),
    "server CPU, us/request\n(less is better)": ("cpu_us", 1.0),
    "p99 latency, ms\n(less is better)": ("p99_us", 0.001),
}


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__.split("\n\n")[0])
    parser.add_argument("--loops", default="asyncio,uvloop,ringloop", help="comma-separated")
    parser.add_argument("--rounds", type=int, default=2, help="interleaved rounds")
    parser.add_argument("--seconds", type=float, default=1.8, help="measured per sample")
    parser.add_argument("--output", type=Path, default=BUILD / "run.png", help="the picture")
    parsed = parser.parse_args(arguments)
    if parsed.rounds < 1 or parsed.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    try:
        parsed.loops = parse_loops(parsed.loops)
    except LoopNameError as error:
        parser.error(str(error))
    return parsed


def results_table(
    workloads: Sequence[Workload], loops: Sequence[LoopName], samples: Samples[Sample]
) -> Table:
    """A block of lines for each application, a line for each loop."""
    baseline = choose_baseline(loops)
    table = Table(title="100 connections, one request in flight on each; medians over rounds")
    table.add_column("application")
    table.add_column("loop")
    for heading in ("requests/s", "server CPU us/request", "p50 ms", "p99 ms", f"CPU, {baseline.label}/loop"):
        table.add_column(heading, justify="right")
    for workload in workloads:
        for index, loop in enumerate(loops):
            own = samples.of(workload.name, loop.label)
            ratio = ratio_of(samples.of(workload.name, baseline.label), own, "cpu_us").median
            table.add_row(
                APPLICATIONS[workload.name] if index == 0 else "",
                loop.label,
                f"{median_of(own, 'requests_per_s'):,.0f}",
                f"{median_of(own, 'cpu_us'):.2f}",
                f"{median_of(own, 'p50_us') / 1000:.2f}",
                f"{median_of(own, 'p99_us') / 1000:.2f}",
                f"{ratio:.2f}x",
                end_section=index == len(loops) - 1,
            )
    return table


def draw(
    path: Path, workloads: Sequence[Workload], loops: Sequence[LoopName], samples: Samples[Sample]
) -> None:
    """The picture of the table."""
    values = {
        (row, APPLICATIONS[workload.name]): {
            loop.label: median_of(samples.of(workload.name, loop.label), key) * factor for loop in loops
        }
        for row, (key, factor) in ROWS.items()
        for workload in workloads
    }
    columns = [APPLICATIONS[workload.name] for workload in workloads]
    path.parent.mkdir(parents=True, exist_ok=True)
    title = "The same servers on different event loops"
    pictures.draw_panels(path, title, columns, list(ROWS), values, [loop.label for loop in loops])


def verdict(workloads: Sequence[Workload], loops: Sequence[LoopName], samples: Samples[Sample]) -> str:
    """What ringloop, or else the last loop, gained over the baseline and where it lost, in words."""
    baseline = choose_baseline(loops)
    others = [loop for loop in loops if loop != baseline]
    if not others:
        return f"Only {baseline.label} was measured: there is nothing to compare it with."
    subject = next((loop for loop in others if loop.is_ringloop), others[-1])
    parts: dict[str, list[str]] = {"gained": [], "level": [], "lost": []}
    for workload in workloads:
        base, own = samples.of(workload.name, baseline.label), samples.of(workload.name, subject.label)
        less = 1 - 1 / ratio_of(base, own, "cpu_us").median
        name = APPLICATIONS[workload.name]
        if abs(less) < LEVEL:
            parts["level"].append(name)
        elif less > 0:
            parts["gained"].append(f"{less:.0%} less for {name}")
        else:
            parts["lost"].append(f"{-less:.0%} more for {name}")
    said = []
    if parts["gained"]:
        said.append("it gained: " + ", ".join(parts["gained"]))
    if parts["lost"]:
        said.append("it lost: " + ", ".join(parts["lost"]))
    if parts["level"]:
        said.append("level within 1 %: " + ", ".join(parts["level"]))
    return f"{subject.label} against {baseline.label}, server CPU per request: " + "; ".join(said) + "."


def main(arguments: list[str] | None = None) -> int:
    """Measures, shows, and returns the exit status: 0 if all was measured."""
    console = wide_console()
    parsed = parse_arguments(arguments)
    loops: list[LoopName] = parsed.loops
    workloads = select_workloads(APPLICATIONS)
    workloads.sort(key=lambda workload: list(APPLICATIONS).index(workload.name))
    cores = choose_cores()
    pace = Pace(WARMUP_S, parsed.seconds, parsed.seconds)
    try:
        build_generator()
        facts = describe_run(console, loops, cores)
        if cores.client is not None:
            os.sched_setaffinity(0, {cores.client})  # what this process does must not disturb the servers
        disturbance = Disturbance(cores)
        with Steps(console, len(workloads) * len(loops) * parsed.rounds) as steps:
            samples = run_rounds(
                workloads,
                lambda workload: loops,
                parsed.rounds,
                lambda workload, loop: measure(workload, loop, cores, pace),
                steps.begin,
                stop_at_failure=True,
            )
    except MeasurementError as error:
        console.print(f"error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        return 1
    console.print(results_table(workloads, loops, samples))
    if warning := disturbance.warning:
        console.print(f"warning: {warning}", style="yellow", highlight=False)
    draw(parsed.output, workloads, loops, samples)
    console.print(f"picture: {parsed.output}", highlight=False, soft_wrap=True)
    fine = files_compare.compare(
        console,
        [replace(work, bars=()) for work in files_table.select_workloads(FILES)],
        loops,
        cores,
        rounds=1,
        seconds=FILES_SECONDS,
        tree_files=0,
        facts=facts,
        output=parsed.output.parent,
        name="run-files",
    )
    console.print(verdict(workloads, loops, samples), style="bold", highlight=False, soft_wrap=True)
    return 0 if fine else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
