"""From samples on files to a report: ratios with their spread, the bars beside them, a picture."""

from __future__ import annotations

import math
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

SUMMARY = (
    "A bar is the most that ringloop may take: us, or times what blocking code, or whom it names, takes; "
    "'best' is the better of blocking code and threads. Over epoll the bar is a third of what aiofiles "
    "takes, and for opening one at a time what the ring takes. p99 late: by how much a timer of 1 ms in "
    "ringloop's loop is late meanwhile, 99th percentile; at most 2 ms."
)
METHOD = (
    "Time per call, on one core; CPU time is that of all threads. Ratios are ringloop/other within a round "
    "(below 1: ringloop is faster), median and spread over rounds. " + SUMMARY + " Blocking code does one "
    "thing after the other also where coroutines do many at once. The static server is the same program four "
    "times, on uvloop but for ringloop's: it calls the functions of `os` directly, by threads, by aiofiles' "
    "wrapper, or those of ringloop.os."
)
FIGURES = {"wall_us": "us", "cpu_us": "us CPU"}


@dataclass
class FileLine:
    """One line of the comparison; `values`, `late_us`, `ratios` and `verdicts` go by the way's label."""

    name: str
    title: str
    unit: str
    bar: str
    limit: float | None = None  # the bar as times of what blocking code takes, where it can be said so
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
    line = FileLine(workload.name, workload.title, FIGURES[figure], "" if bar is None else str(bar))
    by_label = {way.label: samples for way in ways if (samples := taken.of(workload.name, way.label))}
    for label, samples in by_label.items():
        line.values[label] = statistics.median(getattr(sample, figure) for sample in samples)
        late = [sample.late_p99_us for sample in samples if sample.late_p99_us is not None]
        if late:
            line.late_us[label] = statistics.median(late)
    for way in (way for way in ways if way.loop.is_ringloop and way.label in by_label):
        label, own = way.label, by_label[way.label]
        line.ratios[label] = {
            other: _ratio(own, [by_label[other]], figure)
            for other in (BLOCKING, THREADS, AIOFILES)
            if other in by_label
        }
        if bar is None:
            continue
        line.limit = _limit(bar, line)
        best = [by_label[other] for other in (BLOCKING, THREADS) if other in by_label]
        own_bar = workload.bar_for(way, bar)
        if own_bar is None:
            continue
        if not own_bar.against:
            line.verdicts[label] = line.values[label] <= own_bar.limit
        elif own_bar.against == BEST and best:
            line.verdicts[label] = _ratio(own, best, figure).median <= own_bar.limit
        elif own_bar.against in by_label:
            line.verdicts[label] = _ratio(own, [by_label[own_bar.against]], figure).median <= own_bar.limit
    return line


def _limit(bar: Bar, line: FileLine) -> float | None:
    """The bar in times of what blocking code takes, if that is known."""
    if not line.values.get(BLOCKING):
        return None
    met = {"": 1.0, BEST: min(line.values.get(kind, math.inf) for kind in (BLOCKING, THREADS))} | line.values
    return bar.limit * met[bar.against] / line.values[BLOCKING] if bar.against in met else None


def summarize(
    workloads: Sequence[FileWorkload], ways: Sequence[Way], taken: Samples[FileSample]
) -> list[FileLine]:
    """A line for each bar; works without one have a line for time, servers another one for CPU time."""
    lines = []
    for workload in workloads:
        wanted: list[tuple[Bar | None, str]] = [(bar, bar.figure) for bar in workload.bars]
        unbarred: list[tuple[Bar | None, str]] = [(None, "wall_us")]
        if not workload.row:
            unbarred.append((None, "cpu_us"))
        for bar, figure in wanted or unbarred:
            lines.append(_line(workload, bar, figure, ways, taken))
    return lines


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def headings(ways: Sequence[Way]) -> list[str]:
    """Of the table's columns."""
    compared = [way.label for way in ways if way.loop.is_ringloop]
    cells = ["work", "unit", *(way.label for way in ways)]
    cells += [f"{label}/{other}" for label in compared for other in (BLOCKING, AIOFILES)]
    return [*cells, "bar", *(f"{label} p99 late ms" for label in compared)]


def cells_of(line: FileLine, ways: Sequence[Way]) -> list[str]:
    """One line as text. A verdict stands behind the bar, and behind the lateness if that is too great."""
    compared = [way.label for way in ways if way.loop.is_ringloop]
    cells = [line.title, line.unit]
    cells += [_figure(line.values[way.label]) if way.label in line.values else "-" for way in ways]
    for label in compared:
        ratios = line.ratios.get(label, {})
        cells.append(str(ratios.get(BLOCKING, "")))
        cells.append(f"{ratios[AIOFILES].median:.2f}x" if AIOFILES in ratios else "")
    verdicts = [
        f"{'epoll ' if way.loop.driver == 'epoll' else ''}{'ok' if line.verdicts[way.label] else 'short'}"
        for way in ways
        if way.label in line.verdicts
    ]
    cells.append(" ".join([line.bar, *verdicts]))
    for label in compared:
        late_us = line.late_us.get(label)
        cell = "" if late_us is None else f"{late_us / 1000:.2f}"
        cells.append(f"{cell} late" if late_us is not None and late_us > LATE_MAX_US else cell)
    return cells


def terminal_table(lines: Sequence[FileLine], ways: Sequence[Way]) -> Table:
    """The comparison as a rich table; verdicts in colour. Columns that would be empty are left out."""
    rows = [cells_of(line, ways) for line in lines]
    has_bars = any(line.bar for line in lines)
    table = Table(
        title="work on files, time per call; ratio below 1 = ringloop is faster",
        caption=SUMMARY if has_bars else None,
    )
    columns = list(zip(*rows, strict=True))
    shown = [index for index, column in enumerate(columns) if any(cell.strip("-") for cell in column)]
    for index in shown:
        heading = headings(ways)[index].replace("/", "/\n").replace(" ", "\n")
        table.add_column(
            heading, justify="left" if index < 2 else "right", no_wrap=index == 0, overflow="fold"
        )
    for row in rows:
        cells = [Text(row[index]) for index in shown]
        for cell in cells:
            cell.highlight_regex(r"\bok$", "bold green")
            cell.highlight_regex(r"\b(short|late)$", "bold red")
        table.add_row(*cells)
    return table


def verdict(lines: Sequence[FileLine], ways: Sequence[Way]) -> list[str]:
    """How ringloop compares over all works, in a sentence for each way that is ringloop."""
    said = []
    for label in (way.label for way in ways if way.loop.is_ringloop):
        times = {
            other: [line.ratios[label][other].median for line in lines if other in line.ratios.get(label, {})]
            for other in (AIOFILES, BLOCKING)
        }
        parts = []
        if found := times[AIOFILES]:
            parts.append(f"{1 / max(found):.1f} to {1 / min(found):.0f} times as fast as aiofiles")
        if found := times[BLOCKING]:
            parts.append(f"{min(found):.2f} to {max(found):.2f} times the time of blocking code")
        if parts:
            said.append(f"{label} on files: " + "; ".join(parts) + ".")
    return said


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
    """For each line the time of each way as a dot: so many times blocking code's, on a logarithmic scale."""
    lines = [line for line in lines if line.values.get(BLOCKING)]
    others = [way.label for way in ways if way.label != BLOCKING]
    colours = colours_of([BLOCKING, *sorted(others, key=lambda label: label == THREADS)])
    figure = Figure(figsize=(11, 0.36 * len(lines) + 1.7))
    axes = figure.subplots()
    axes.axvline(1, color=colours[BLOCKING], linewidth=2.5, label=BLOCKING, zorder=1)
    for label in others:
        places = [place for place, line in enumerate(lines) if label in line.values]
        times = [lines[place].values[label] / lines[place].values[BLOCKING] for place in places]
        axes.scatter(times, places, s=60, color=colours[label], label=label, zorder=3)
    bars = {place: line.limit for place, line in enumerate(lines) if line.limit is not None}
    if bars:
        axes.scatter(
            list(bars.values()),
            list(bars),
            s=160,
            marker="|",
            color="#c03030",
            label="ringloop's bar",
            zorder=4,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.set_yticks(
        range(len(lines)),
        [f"{line.title}: {_figure(line.values[BLOCKING])} {line.unit}" for line in lines],
        fontsize=9,
    )
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.grid(axis="y", color="#e4e8ec", linewidth=1)
    axes.set_xlabel(
        "in multiples of blocking code's time, which stands beside the name; further left is faster"
    )
    axes.set_title("Work on files", fontsize=12, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="upper right", ncols=len(ways) + 1, fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / figure.get_figheight()))
    figure.savefig(path, dpi=DPI)
