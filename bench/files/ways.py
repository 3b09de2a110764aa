"""The ways to do a work on files that are compared: each a kind, and the loop that it runs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.loops import LoopName, parse_loop

BLOCKING, THREADS, AIOFILES, RINGLOOP = KINDS = ("blocking", "threads", "aiofiles", "ringloop")


@dataclass(frozen=True)
class Way:
    """`loop` is what coroutines run on; blocking code and threads use it only where they serve clients."""

    kind: str
    loop: LoopName

    @property
    def label(self) -> str:
        """A short name for tables."""
        return self.loop.label if self.kind == RINGLOOP else self.kind


def ways_of(loops: Sequence[LoopName]) -> list[Way]:
    """The standard library's ways, aiofiles, and ringloop as often as it is among `loops`."""
    uvloop = parse_loop("uvloop")
    ways = [Way(kind, uvloop) for kind in KINDS if kind != RINGLOOP]
    return ways + [Way(RINGLOOP, loop) for loop in loops if loop.is_ringloop]
