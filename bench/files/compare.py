"""The part of ``make bench`` that is about files: measures, prints a table, writes three files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.files import report
from bench.files.measure import count_samples, measure_all
from bench.files.table import FileWorkload
from bench.files.ways import ways_of
from bench.loops import LoopName
from bench.machine import Cores, Disturbance
from bench.progress import Steps


def compare(
    console: Console,
    workloads: Sequence[FileWorkload],
    loops: Sequence[LoopName],
    cores: Cores,
    *,
    rounds: int,
    seconds: float,
    tree_files: int,
    facts: dict[str, str],
    output: Path,
    name: str = "files",
) -> bool:
    """Whether all was measured. `facts` stand above the table that is written as `name` into `output`."""
    ways = ways_of(loops)
    disturbance = Disturbance(cores)
    with Steps(console, count_samples(workloads, ways, rounds)) as steps:
        taken = measure_all(workloads, ways, cores, rounds, seconds, tree_files, steps.begin)
    if warning := disturbance.warning:
        facts = facts | {"warning": warning}
        console.print(f"warning: {warning}", style="yellow", highlight=False)
    lines = report.summarize(workloads, ways, taken)
    console.print(report.terminal_table(lines, ways))
    for sentence in report.verdict(lines, ways):
        console.print(sentence, style="bold", highlight=False, soft_wrap=True)
    output.mkdir(parents=True, exist_ok=True)
    written = [output / f"{name}.{kind}" for kind in ("json", "md", "png")]
    report.write_json(written[0], facts, lines, taken)
    report.write_markdown(written[1], facts, lines, ways)
    report.draw(written[2], lines, ways)
    console.print("written: " + "  ".join(str(path) for path in written), soft_wrap=True, highlight=False)
    for key, message in taken.failures.items():
        style = "yellow" if key in taken.unavailable else "red"
        console.print(message, style=style, markup=False, highlight=False)
    return set(taken.failures) == taken.unavailable
