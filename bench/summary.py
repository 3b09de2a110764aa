"""From samples to the lines of a report: medians, ratios with their spread, verdicts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.idle import IdleCosts
from bench.loops import LoopName
from bench.measure import Sample
from bench.rounds import Samples
from bench.workloads import Workload

P99_WORKLOAD = "echo-1k-100"
P99_BAR = 1.0
IDLE_SHARE_MAX = 0.0001  # one part in ten thousand: a loop that wakes up once a second shows more


@dataclass(frozen=True)
class Ratio:
    """Baseline/loop, above 1 = the loop is better: the median over rounds, and the least and the greatest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.median:.2f}x"
        return f"{self.median:.2f}x ({self.low:.2f}..{self.high:.2f})"


@dataclass
class Line:
    """One line of the comparison. `values`, `ratios` and `verdicts` go by the loop's label."""

    name: str
    title: str
    unit: str
    bar: str = ""
    epoll_bar: str = ""
    values: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, Ratio] = field(default_factory=dict)
    verdicts: dict[str, bool] = field(default_factory=dict)


def median_of(samples: Sequence[Sample], key: str) -> float:
    """The median of one figure of the samples."""
    figures: list[float] = [getattr(sample, key) for sample in samples]
    return statistics.median(figures)


def ratio_of(baseline: Sequence[Sample], samples: Sequence[Sample], key: str) -> Ratio:
    """Round by round, so both sides met the same machine. Both must have all rounds."""
    ratios = [
        getattr(base, key) / getattr(sample, key) for base, sample in zip(baseline, samples, strict=True)
    ]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def choose_baseline(loops: Sequence[LoopName]) -> LoopName:
    """uvloop, or else the first."""
    return next((loop for loop in loops if loop.module == "uvloop"), loops[0])


def _line_of(
    line: Line,
    samples: Samples[Sample],
    workload: str,
    key: str,
    loops: Sequence[LoopName],
    bar_for: Callable[[LoopName], float | None],
) -> Line:
    baseline = choose_baseline(loops)
    baseline_samples = samples.of(workload, baseline.label)
    for loop in loops:
        own = samples.of(workload, loop.label)
        if not own:
            continue
        line.values[loop.label] = median_of(own, key)
        if loop == baseline or not baseline_samples:
            continue
        ratio = line.ratios[loop.label] = ratio_of(baseline_samples, own, key)
        bar = bar_for(loop)
        if bar is not None and loop.is_ringloop and baseline.module == "uvloop":
            line.verdicts[loop.label] = ratio.median >= bar
    return line


def _bar(bar: float | None) -> str:
    return "" if bar is None else f"{bar:.2f}x"


def summarize(
    workloads: Sequence[Workload],
    loops: Sequence[LoopName],
    samples: Samples[Sample],
    idle: Mapping[str, IdleCosts],
) -> list[Line]:
    """The lines of the comparison, in the order of the table of workloads."""
    lines = []
    for workload in workloads:
        unit = "us CPU/request" if workload.load else "us CPU/call"
        line = Line(workload.name, workload.title, unit, _bar(workload.bar), _bar(workload.epoll_bar))
        lines.append(_line_of(line, samples, workload.name, "cpu_us", loops, workload.bar_for))
    if any(workload.name == P99_WORKLOAD for workload in workloads):
        line = Line("p99", "p99 latency at 100 connections, 1 KiB echo", "us", _bar(P99_BAR))
        lines.append(
            _line_of(
                line,
                samples,
                P99_WORKLOAD,
                "p99_us",
                loops,
                lambda loop: None if loop.driver == "epoll" else P99_BAR,
            )
        )
    if idle:
        lines += _idle_lines(loops, idle)
    return lines


def _idle_lines(loops: Sequence[LoopName], idle: Mapping[str, IdleCosts]) -> list[Line]:
    cpu = Line("idle-cpu", "CPU with 100 idle connections", "% of a core", "0")
    memory = Line("idle-memory", "memory per idle connection, of 2,000", "bytes")
    baseline = idle.get(choose_baseline(loops).label)
    for loop in loops:
        if loop.label not in idle:
            continue
        costs = idle[loop.label]
        cpu.values[loop.label] = costs.cpu_share * 100
        memory.values[loop.label] = costs.connection_bytes
        if loop.is_ringloop:
            cpu.verdicts[loop.label] = costs.cpu_share <= IDLE_SHARE_MAX
        if baseline and costs is not baseline and costs.connection_bytes > 0:
            ratio = baseline.connection_bytes / costs.connection_bytes
            memory.ratios[loop.label] = Ratio(ratio, ratio, ratio)
    return [cpu, memory]
