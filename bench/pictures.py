"""The pictures of the reports, by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.summary import Line

COLOURS = ("#9aa5b1", "#e0a030", "#2a78c2", "#66b36b", "#b0568c")
DPI = 130


def colours_of(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each loop, the same in all pictures of a run."""
    return {label: COLOURS[index % len(COLOURS)] for index, label in enumerate(labels)}


def draw_panels(
    path: Path,
    title: str,
    columns: Sequence[str],
    rows: Sequence[str],
    values: Mapping[tuple[str, str], Mapping[str, float]],
    labels: Sequence[str],
) -> None:
    """Small bar charts side by side: `values[row, column]` holds a figure for each loop label."""
    colours = colours_of(labels)
    figure = Figure(figsize=(3.6 * len(columns), 2.3 * len(rows) + 0.6))
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for row_index, row in enumerate(rows):
        for column_index, column in enumerate(columns):
            axes: Axes = grid[row_index][column_index]
            panel = values[row, column]
            bars = axes.bar(list(panel), list(panel.values()), color=[colours[label] for label in panel])
            axes.bar_label(bars, [_short(value) for value in panel.values()], padding=2, fontsize=9)
            axes.margins(y=0.18)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=9)
            if row_index == 0:
                axes.set_title(column, fontsize=11, fontweight="bold")
            if column_index == 0:
                axes.set_ylabel(row, fontsize=9)
    figure.suptitle(title, fontsize=12)
    figure.tight_layout()
    figure.savefig(path, dpi=DPI)


def draw_ratios(path: Path, title: str, lines: Sequence[Line], labels: Sequence[str], baseline: str) -> None:
    """For each line the ratio of each loop to the baseline, its spread, and the bar as a tick."""
    lines = [line for line in lines if line.ratios]
    colours = colours_of(labels)
    labels = [label for label in labels if label != baseline]
    figure = Figure(figsize=(10, 0.34 * len(lines) * max(1, len(labels) ** 0.5) + 1.6))
    axes = figure.subplots()
    height = 0.8 / max(1, len(labels))
    for place, label in enumerate(labels):
        drawn = [(index, line.ratios[label]) for index, line in enumerate(lines) if label in line.ratios]
        medians = [ratio.median for _, ratio in drawn]
        axes.barh(
            [index + (place - (len(labels) - 1) / 2) * height for index, _ in drawn],
            medians,
            height * 0.9,
            color=colours[label],
            label=label,
            xerr=[
                [ratio.median - ratio.low for _, ratio in drawn],
                [ratio.high - ratio.median for _, ratio in drawn],
            ],
            error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "#444444"},
        )
    bars = [(index, float(line.bar[:-1])) for index, line in enumerate(lines) if line.bar.endswith("x")]
    if bars:
        axes.vlines(
            [bar for _, bar in bars],
            [index - 0.45 for index, _ in bars],
            [index + 0.45 for index, _ in bars],
            color="#c03030",
            linewidth=2,
            label="bar",
        )
    axes.axvline(1, color="#444444", linewidth=1)
    axes.set_yticks(range(len(lines)), [line.title for line in lines], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel(f"{baseline} / loop: above 1 the loop needs less; whiskers: least and greatest of rounds")
    axes.set_title(title, fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=DPI)


def _short(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
