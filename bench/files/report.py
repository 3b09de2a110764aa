"""From samples on files to a report: ratios with their spread, the bars beside them, a picture."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text

from bench import report
from bench.files.measure import FileSample
from bench.files.table import BEST, LATE_MAX_US, Bar, FileWorkload
from bench.files.ways import AIOFILES, BLOCKING, THREADS, Way
from bench.pictures import DPI, colours_of
from bench.rounds import Samples
from bench.summary import Ratio

METHOD = (
    "Time per call, on one core. Ratios are ringloop/other within a round (below 1: ringloop is faster), "
    "median and spread over rounds. A bar is the most that ringloop may take: us, or times what the "
    "other takes. Late: the 99th percentile of how late a timer of 1 ms in the same loop is, at most 2 ms."
)
FIGURES = {"wall_us": "us", "cpu_us": "us CPU"}


@dataclass
class FileLine:
    """One line of the comparison; `values`, `late_us`, `ratios` and `verdicts` go by the way's label."""

    name: str
    title: str
    unit: str
    bar: str
    values: dict[str, float] = field(default_factory=dict)
    late_us: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, dict[str, Ratio]] = field(default_factory=dict)
    verdicts: dict[str, bool] = field(default_factory=dict)


def _ratio(own: Sequence[FileSample], others: Sequence[Sequence[FileSample]], figure: str) -> Ratio:
    """To the best of the others, round by round."""
    ratios = [
        getattr(sample, figure) / min(getattr(other, figure) for other in met)
        for sample, *met in zip(own, *others, strict=True)
    ]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def _line(workload: FileWorkload, bar: Bar | None, figure: str, ways: Sequence[Way], taken: Any) -> FileLine:
    unit = f"{FIGURES[figure]}/{workload.unit}"
    line = FileLine(workload.name, workload.title, unit, "" if bar is None else str(bar))
    by_label = {way.label: samples for way in ways if (samples := taken.of(workload.name, way.label))}
    for label, samples in by_label.items():
        line.values[label] = statistics.median(getattr(sample, figure) for sample in samples)
        late = [sample.late_p99_us for sample in samples if sample.late_p99_us is not None]
        if late:
            line.late_us[label] = statistics.median(late)
    for label in (way.label for way in ways if way.loop.is_ringloop and way.label in by_label):
        own = by_label[label]
        ratios = line.ratios[label] = {
            other: _ratio(own, [by_label[other]], figure)
            for other in (BLOCKING, THREADS, AIOFILES)
            if other in by_label
        }
        if bar is None:
            continue
        best = [by_label[other] for other in (BLOCKING, THREADS) if other in by_label]
        if not bar.against:
            line.verdicts[label] = line.values[label] <= bar.limit
        elif bar.against == BEST and best:
            line.verdicts[label] = _ratio(own, best, figure).median <= bar.limit
        elif bar.against in ratios:
            line.verdicts[label] = ratios[bar.against].median <= bar.limit
    return line


def summarize(
    workloads: Sequence[FileWorkload], ways: Sequence[Way], taken: Samples[FileSample]
) -> list[FileLine]:
    """A line for each bar; works without one have a line for time and one for CPU time."""
    lines = []
    for workload in workloads:
        wanted: list[tuple[Bar | None, str]] = [(bar, bar.figure) for bar in workload.bars]
        for bar, figure in wanted or [(None, "wall_us"), (None, "cpu_us")]:
            lines.append(_line(workload, bar, figure, ways, taken))
    return lines


def headings(ways: Sequence[Way]) -> list[str]:
    """Of the table's columns."""
    compared = [way.label for way in ways if way.loop.is_ringloop]
    cells = ["work", "unit", *(way.label for way in ways)]
    cells += [f"{label}/{other}" for label in compared for other in (BLOCKING, AIOFILES)]
    return [*cells, "bar", *(f"{label} p99 late, ms" for label in (AIOFILES, *compared))]


def cells_of(line: FileLine, ways: Sequence[Way]) -> list[str]:
    """One line as text. A verdict stands behind the bar, and behind the lateness if that is too great."""
    compared = [way.label for way in ways if way.loop.is_ringloop]
    cells = [line.title, line.unit]
    cells += [f"{line.values[way.label]:,.2f}" if way.label in line.values else "-" for way in ways]
    for label in compared:
        ratios = line.ratios.get(label, {})
        cells += [str(ratios.get(other, "")) for other in (BLOCKING, AIOFILES)]
    verdicts = [("ok" if line.verdicts[label] else "short") for label in compared if label in line.verdicts]
    cells.append(" ".join([line.bar, *verdicts]))
    for label in (AIOFILES, *compared):
        late_us = line.late_us.get(label)
        cell = "" if late_us is None else f"{late_us / 1000:.2f}"
        cells.append(f"{cell} late" if late_us is not None and late_us > LATE_MAX_US else cell)
    return cells


def terminal_table(lines: Sequence[FileLine], ways: Sequence[Way]) -> Table:
    """The comparison as a rich table; verdicts in colour."""
    table = Table(title="work on files, time per call; ratio below 1 = ringloop is faster")
    for index, heading in enumerate(headings(ways)):
        table.add_column(heading, justify="left" if index < 2 else "right", overflow="fold")
    for line in lines:
        cells = [Text(cell) for cell in cells_of(line, ways)]
        for cell in cells:
            cell.highlight_regex(r"\bok$", "bold green")
            cell.highlight_regex(r"\b(short|late)$", "bold red")
        table.add_row(*cells)
    return table


def write_markdown(
    path: Path, facts: Mapping[str, Any], lines: Sequence[FileLine], ways: Sequence[Way]
) -> None:
    """The comparison as a page of Markdown."""
    rows = [headings(ways)]
    rows.append(["---", "---", *["---:"] * (len(rows[0]) - 2)])
    rows += [cells_of(line, ways) for line in lines]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    described = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    path.write_text(f"# Work on files compared\n\n{described}\n\n{METHOD}\n\n{table}\n")


def write_json(
    path: Path, facts: Mapping[str, Any], lines: Sequence[FileLine], taken: Samples[FileSample]
) -> None:
    """Everything measured, sample by sample."""
    samples = {
        workload: {label: [asdict(sample) for sample in samples] for label, samples in by_label.items()}
        for workload, by_label in taken.taken.items()
    }
    failures = [
        {"workload": workload, "way": label, "message": message}
        for (workload, label), message in taken.failures.items()
    ]
    content = {"facts": facts, "lines": [asdict(line) for line in lines], "samples": samples}
    report.write_json(path, content | {"failures": failures})


def draw(path: Path, lines: Sequence[FileLine], ways: Sequence[Way]) -> None:
    """For each line the time of each way, on a scale of powers of ten."""
    colours = colours_of([way.label for way in ways])
    figure = Figure(figsize=(10, 0.42 * len(lines) + 1.6))
    axes = figure.subplots()
    height = 0.8 / len(ways)
    for place, way in enumerate(ways):
        drawn = [
            (index, line.values[way.label]) for index, line in enumerate(lines) if way.label in line.values
        ]
        offset = (place - (len(ways) - 1) / 2) * height
        axes.barh(
            [index + offset for index, _ in drawn],
            [value for _, value in drawn],
            height * 0.9,
            color=colours[way.label],
            label=way.label,
        )
    axes.set_xscale("log")
    axes.set_yticks(range(len(lines)), [f"{line.title} ({line.unit})" for line in lines], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("us per call; less is better")
    axes.set_title("Work on files", fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=DPI)
