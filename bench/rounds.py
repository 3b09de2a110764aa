"""Runs workloads in interleaved rounds and keeps every sample.

In each round each workload is measured once on each loop, one right after the other, in an order that is
shuffled with a fixed seed. So loops that are compared met the machine in the same state, and a ratio is
taken within a round, never across.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.children import MeasurementError
from bench.loops import LoopName
from bench.measure import Sample
from bench.workloads import Workload

SEED = 20_26

Measure = Callable[[Workload, LoopName], Sample]


@dataclass
class Samples:
    """`taken[workload name][loop label]`: samples in the order of rounds. `failures`: messages for people."""

    taken: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def of(self, workload: str, label: str) -> list[Sample]:
        """The samples of one loop; none if it failed there."""
        if (workload, label) in self.failures:
            return []
        return self.taken.get(workload, {}).get(label, [])


def run_rounds(
    workloads: Sequence[Workload],
    loops: Sequence[LoopName],
    rounds: int,
    measure: Measure,
    announce: Callable[[str], None],
    *,
    stop_at_failure: bool,
) -> Samples:
    """Measures all; `announce` hears of each sample before it is taken.

    A loop that fails at a workload is not tried there again. With `stop_at_failure` the first
    MeasurementError is raised instead.
    """
    samples = Samples()
    shuffler = random.Random(SEED)
    for number in range(1, rounds + 1):
        for workload in workloads:
            for loop in shuffler.sample(loops, len(loops)):
                announce(f"round {number}/{rounds}  {workload.name}  {loop.label}")
                if (workload.name, loop.label) in samples.failures:
                    continue
                try:
                    sample = measure(workload, loop)
                except MeasurementError as error:
                    if stop_at_failure:
                        raise
                    samples.failures[workload.name, loop.label] = str(error)
                    continue
                samples.taken.setdefault(workload.name, {}).setdefault(loop.label, []).append(sample)
    return samples
