"""Runs workloads in interleaved rounds and keeps every sample.

In each round each workload is measured once on each loop, one right after the other, in an order that is
shuffled with a fixed seed. So loops that are compared met the machine in the same state, and a ratio is
taken within a round, never across.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from bench.children import MeasurementError, NotHereError

SEED = 20_26


class Named(Protocol):
    """A workload, of loops or of files."""

    @property
    def name(self) -> str:
        """As on the command line."""


class Labelled(Protocol):
    """What is compared: a loop, or a way to work on files."""

    @property
    def label(self) -> str:
        """As in tables."""


W = TypeVar("W", bound=Named)
L = TypeVar("L", bound=Labelled)
S = TypeVar("S")


@dataclass
class Samples(Generic[S]):
    """`taken[workload name][label]`: samples in the order of rounds. `failures`: messages for people."""

    taken: dict[str, dict[str, list[S]]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    unavailable: set[tuple[str, str]] = field(default_factory=set)  # failures that are this machine's

    def of(self, workload: str, label: str) -> list[S]:
        """The samples of one loop; none if it failed there."""
        if (workload, label) in self.failures:
            return []
        return self.taken.get(workload, {}).get(label, [])


def run_rounds(
    workloads: Sequence[W],
    loops: Callable[[W], Sequence[L]],
    rounds: int,
    measure: Callable[[W, L], S],
    announce: Callable[[str], None],
    *,
    stop_at_failure: bool,
) -> Samples[S]:
    """Measures all; `announce` hears of each sample before it is taken. `loops` tells what is compared.

    A loop that fails at a workload is not tried there again. With `stop_at_failure` the first
    MeasurementError is raised instead.
    """
    samples: Samples[S] = Samples()
    shuffler = random.Random(SEED)
    for number in range(1, rounds + 1):
        for workload in workloads:
            compared = loops(workload)
            for loop in shuffler.sample(compared, len(compared)):
                announce(f"round {number}/{rounds}  {workload.name}  {loop.label}")
                if (workload.name, loop.label) in samples.failures:
                    continue
                try:
                    sample = measure(workload, loop)
                except MeasurementError as error:
                    if stop_at_failure:
                        raise
                    samples.failures[workload.name, loop.label] = str(error)
                    if isinstance(error, NotHereError):
                        samples.unavailable.add((workload.name, loop.label))
                    continue
                samples.taken.setdefault(workload.name, {}).setdefault(loop.label, []).append(sample)
    return samples
