"""Writes the comparison down: a table for the terminal, Markdown, JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from bench.summary import Line

METHOD = (
    "CPU time of the server or workload process, measured while it answers exactly the counted requests. "
    "Ratios are baseline/loop within a round (above 1: the loop needs less), median and spread over rounds."
)


def _figure(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}"


def _cells(line: Line, labels: Sequence[str], compared: Sequence[str]) -> list[str]:
    cells = [line.title, line.unit, line.bar]
    if line.epoll_bar and any(":epoll" in label for label in labels):
        cells[-1] += f", epoll {line.epoll_bar}"
    cells += [_figure(line.values[label]) if label in line.values else "failed" for label in labels]
    for label in compared:
        cells.append(str(line.ratios[label]) if label in line.ratios else "")
        if label in line.verdicts:
            cells[-1] = f"{cells[-1]} {'ok' if line.verdicts[label] else 'short'}".strip()
    return cells


def _headings(labels: Sequence[str], compared: Sequence[str], baseline: str) -> list[str]:
    return ["work", "unit", "bar", *labels, *(f"{baseline}/{label}" for label in compared)]


def terminal_table(lines: Sequence[Line], labels: Sequence[str], baseline: str) -> Table:
    """The comparison as a rich table; verdicts in colour."""
    compared = [label for label in labels if label != baseline]
    table = Table(title="server CPU per request, CPU per call; ratio above 1 = better than " + baseline)
    for index, heading in enumerate(_headings(labels, compared, baseline)):
        table.add_column(heading, justify="left" if index < 2 else "right", overflow="fold")
    for line in lines:
        cells = [Text(cell) for cell in _cells(line, labels, compared)]
        for cell in cells:
            cell.highlight_regex(r"\bok$", "bold green")
            cell.highlight_regex(r"\b(short|failed)$", "bold red")
        table.add_row(*cells)
    return table


def write_markdown(
    path: Path, facts: Mapping[str, Any], lines: Sequence[Line], labels: Sequence[str], baseline: str
) -> None:
    """The comparison as a page of Markdown."""
    compared = [label for label in labels if label != baseline]
    rows = [_headings(labels, compared, baseline)]
    rows.append(["---", "---", *["---:"] * (len(rows[0]) - 2)])
    rows += [_cells(line, labels, compared) for line in lines]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    described = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    path.write_text(f"# Event loops compared\n\n{described}\n\n{METHOD}\n\n{table}\n")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Everything measured, sample by sample."""
    path.write_text(json.dumps(content, indent=1) + "\n")


def lines_as_json(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The lines of the table as plain data."""
    return [asdict(line) for line in lines]
