"""``python -m bench.compare`` (``make bench``): event loops side by side, with the bars of the project.

Runs every workload of bench/workloads.py in interleaved rounds and writes a table, JSON, Markdown and a
picture into build/bench/; then the same for the work on files, bench/files/table.py.
Exit status 0 if everything was measured, whether or not bars were reached.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from bench import pictures, report
from bench.children import MeasurementError
from bench.files import compare as files_compare
from bench.files import table as files_table
from bench.generator import build_generator
from bench.idle import IdleCosts, measure_idle
from bench.loops import LoopFacts, LoopName, LoopNameError, parse_loops
from bench.machine import BUILD, Cores, Disturbance, choose_cores, machine_facts
from bench.measure import Pace, Sample, loop_facts, measure
from bench.progress import Steps, wide_console
from bench.rounds import Samples, run_rounds
from bench.summary import Line, choose_baseline, summarize
from bench.workloads import IDLE, WORKLOADS, Workload, select_workloads

MICRO_SHARE = 1 / 3  # of the seconds of a server workload: no connection has to settle there
WARMUP_SHARE = 2 / 3
IDLE_SECONDS = 2.0
TREE_FILES, TREE_FILES_QUICK = 50_000, 10_000


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD", help="names or patterns as in --list")
    parser.add_argument("--loops", help="as asyncio,uvloop,ringloop,ringloop:epoll,ringloop@DIRECTORY")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (5; quick: 3)")
    parser.add_argument("--seconds", type=float, help="measured per server sample (1.5; quick: 0.6)")
    parser.add_argument("--quick", action="store_true", help="about 12 minutes: only what has a bar")
    parser.add_argument("--list", action="store_true", help="list the workloads and end")
    parser.add_argument("--output", type=Path, default=BUILD, help="directory of the results")
    parsed = parser.parse_args(arguments)
    parsed.loops = parsed.loops or ("" if parsed.quick else "asyncio,") + "uvloop,ringloop,ringloop:epoll"
    parsed.rounds = parsed.rounds or (3 if parsed.quick else 5)
    parsed.seconds = parsed.seconds or (0.6 if parsed.quick else 1.5)
    if parsed.rounds < 1 or parsed.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    if parsed.output.exists() and not parsed.output.is_dir():
        parser.error(f"--output: {parsed.output} is no directory")
    try:
        parsed.loops = parse_loops(parsed.loops)
    except LoopNameError as error:
        parser.error(str(error))
    if parsed.only:
        parsed.workloads = select_workloads(parsed.only)
        parsed.idle = IDLE in parsed.only
        parsed.files = files_table.select_workloads(parsed.only)
        if not parsed.workloads and not parsed.files and not parsed.idle:
            parser.error(f"no workload is called {' or '.join(parsed.only)}: see --list")
    else:
        parsed.workloads = [each for each in WORKLOADS if each.bar is not None or not parsed.quick]
        parsed.files = [each for each in files_table.WORKLOADS if each.bars or not parsed.quick]
        parsed.idle = True
    return parsed


def list_workloads(console: Console) -> None:
    """Prints the names that --only takes."""
    for workload in WORKLOADS:
        bar = "" if workload.bar is None else f"bar {workload.bar:.2f}x"
        console.print(f"{workload.name:18}{workload.title:48}{bar}", highlight=False)
    console.print(f"{IDLE:18}CPU and memory of idle connections", highlight=False)
    for work in files_table.WORKLOADS:
        bars = ", ".join(f"bar {bar}" for bar in work.bars)
        console.print(f"{work.name:18}{work.title:48}{bars}", highlight=False)


def measure_all(
    console: Console,
    workloads: list[Workload],
    loops: list[LoopName],
    cores: Cores,
    pace: Pace,
    rounds: int,
    idle_wanted: bool,
) -> tuple[Samples[Sample], dict[str, IdleCosts]]:
    """All rounds, then the idle servers."""
    idle: dict[str, IdleCosts] = {}
    total = len(workloads) * len(loops) * rounds + len(loops) * idle_wanted
    with Steps(console, total) as steps:
        samples = run_rounds(
            workloads,
            lambda workload: loops,
            rounds,
            lambda workload, loop: measure(workload, loop, cores, pace),
            steps.begin,
            stop_at_failure=False,
        )
        for loop in loops if idle_wanted else ():
            steps.begin(f"idle  {loop.label}")
            try:
                idle[loop.label] = measure_idle(loop, cores, IDLE_SECONDS)
            except MeasurementError as error:
                samples.failures[IDLE, loop.label] = str(error)
    return samples, idle


def publish(
    console: Console,
    parsed: argparse.Namespace,
    facts: dict[str, str],
    lines: list[Line],
    samples: Samples[Sample],
    idle: dict[str, IdleCosts],
) -> None:
    """Prints the table and writes the files."""
    labels = [loop.label for loop in parsed.loops]
    baseline = choose_baseline(parsed.loops).label
    console.print(report.terminal_table(lines, labels, baseline))
    parsed.output.mkdir(parents=True, exist_ok=True)
    written = [parsed.output / f"compare.{kind}" for kind in ("json", "md", "png")]
    content = {
        "facts": facts,
        "baseline": baseline,
        "rounds": parsed.rounds,
        "seconds": parsed.seconds,
        "lines": report.lines_as_json(lines),
        "samples": {
            workload: {label: [asdict(sample) for sample in taken] for label, taken in by_loop.items()}
            for workload, by_loop in samples.taken.items()
        },
        "idle": {label: asdict(costs) for label, costs in idle.items()},
        "failures": [
            {"workload": workload, "loop": label, "message": message}
            for (workload, label), message in samples.failures.items()
        ],
    }
    report.write_json(written[0], content)
    report.write_markdown(written[1], facts, lines, labels, baseline)
    if any(line.ratios for line in lines):
        pictures.draw_ratios(written[2], f"Event loops against {baseline}", lines, labels, baseline)
    else:
        written.pop()
    console.print("written: " + "  ".join(str(path) for path in written), soft_wrap=True, highlight=False)


def describe_run(console: Console, loops: list[LoopName], cores: Cores) -> dict[str, str]:
    """Prints and returns what is measured where; MeasurementError if a loop cannot be had."""
    facts = machine_facts() | {"pinning": cores.note}
    for loop in loops:
        found: LoopFacts = loop_facts(loop)
        driver = f", driver {found.driver}" if found.driver else ""
        facts[loop.label] = f"{found.version}{driver} ({found.file})"
    for name, value in facts.items():
        console.print(f"{name}: {value}", highlight=False, soft_wrap=True)
    return facts


def main(arguments: list[str] | None = None) -> int:
    """Runs the comparison; the exit status."""
    console = wide_console()
    parsed = parse_arguments(arguments)
    if parsed.list:
        list_workloads(console)
        return 0
    cores = choose_cores()
    pace = Pace(parsed.seconds * WARMUP_SHARE, parsed.seconds, parsed.seconds * MICRO_SHARE)
    try:
        build_generator()
        facts = describe_run(console, parsed.loops, cores)
    except MeasurementError as error:
        console.print(f"error: {error}", style="bold red", markup=False, highlight=False)
        return 2
    if cores.client is not None:
        os.sched_setaffinity(0, {cores.client})  # what this process does must not disturb the servers
    began_s = time.monotonic()
    fine = True
    if parsed.workloads or parsed.idle:
        fine = compare_loops(console, parsed, cores, pace, facts)
    if parsed.files:
        fine &= files_compare.compare(
            console,
            parsed.files,
            parsed.loops,
            cores,
            rounds=parsed.rounds,
            seconds=pace.micro_s,
            tree_files=TREE_FILES_QUICK if parsed.quick else TREE_FILES,
            facts=facts,
            output=parsed.output,
        )
    console.print(f"took {(time.monotonic() - began_s) / 60:.1f} minutes", highlight=False)
    return 0 if fine else 1


def compare_loops(
    console: Console, parsed: argparse.Namespace, cores: Cores, pace: Pace, facts: dict[str, str]
) -> bool:
    """What is not about files; whether all was measured."""
    disturbance = Disturbance(cores)
    samples, idle = measure_all(
        console, parsed.workloads, parsed.loops, cores, pace, parsed.rounds, parsed.idle
    )
    if warning := disturbance.warning:
        facts = facts | {"warning": warning}
        console.print(f"warning: {warning}", style="yellow", highlight=False)
    lines = summarize(parsed.workloads, parsed.loops, samples, idle)
    publish(console, parsed, facts, lines, samples, idle)
    for (workload, label), message in samples.failures.items():
        console.print(f"error: {workload} on {label}: {message}", style="red", markup=False, highlight=False)
    return not samples.failures


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
