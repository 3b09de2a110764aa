"""The table of what is measured on files: each work with its ways, what it needs, and its bars."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

from bench.files.ways import AIOFILES, BLOCKING, KINDS, RINGLOOP, Way

AS_ON_THE_RING = "ringloop"  # the way that chooses its driver
LATE_MAX_US = 2_000.0  # the 99th percentile of how late a timer of 1 ms may be, while any of it runs

BEST = "best"  # of blocking code and threads


@dataclass(frozen=True)
class Bar:
    """The most that ringloop may take: `limit` times what `against` takes, or as many us if that is empty."""

    limit: float
    against: str = BLOCKING
    figure: str = "wall_us"

    def __str__(self) -> str:
        if not self.against:
            return f"{self.limit:g} us"
        return f"{self.limit:g}x" if self.against == BLOCKING else f"{self.limit:g}x {self.against}"


@dataclass(frozen=True)
class FileWorkload:
    """`row` is the class that does it, as module:class; without one, a server of files is driven.

    `place` is the kind of file system to work on, `needs` what of bench/files/material.py it works on.
    Times are those of one call, or of what the title names behind a comma at its end.
    """

    name: str
    title: str
    row: str
    needs: str
    bars: tuple[Bar, ...]
    kinds: tuple[str, ...] = (BLOCKING, AIOFILES, RINGLOOP)
    place: str = "disk"
    epoll_bar: Bar = Bar(1 / 3, AIOFILES)

    def bar_for(self, way: Way, bar: Bar | None) -> Bar | None:
        """`bar`, or over epoll its own if it is of the same figure."""
        if way.loop.driver != "epoll" or bar is None:
            return bar
        return self.epoll_bar if self.epoll_bar.figure == bar.figure else None


WORKLOADS = (
    FileWorkload(
        "file-open",
        "open, read 4 KiB, close; one at a time",
        "opening:OneByOne",
        "small",
        (Bar(1.0),),
        epoll_bar=Bar(1.0, AS_ON_THE_RING),
    ),
    FileWorkload("file-open-100", "the same, 100 at once", "opening:AtOnce", "small", (Bar(1.3),)),
    FileWorkload("file-seek", "seek, read 4 KiB at random", "seeking:Cached", "large", (Bar(2.5),)),
    FileWorkload("file-stat", "stat", "directories:Stat", "small", (Bar(2.0),)),
    FileWorkload("file-listdir", "listdir of 1,000 entries", "directories:List", "small", (Bar(1.2),)),
    FileWorkload("file-rename", "rename, unlink; 50 at once", "directories:Rename", "", (Bar(1.3),)),
    FileWorkload("file-write-100", "write 100 B through the buffer", "writing:Small", "", (Bar(1.2, ""),)),
    FileWorkload("file-write-64k", "write 64 MiB, a piece of 64 KiB", "writing:Large", "", (Bar(1.6),)),
    FileWorkload("file-write-behind", "the same, with write-behind", "writing:Behind", "", (Bar(1.2),)),
    FileWorkload(
        "file-lines", "async for over 10 MB of text, a line", "lines:Lines", "lines", (Bar(0.4, ""),)
    ),
    FileWorkload(
        "file-cold",
        "read 4 KiB, not cached; 64 at once",
        "seeking:Cold",
        "cold",
        (Bar(0.5, AIOFILES), Bar(0.25, AIOFILES, "cpu_us")),
    ),
    FileWorkload(
        "file-batch-read", "batch of 10,000 cached reads, one", "batches:Read", "large", (Bar(1.5, ""),)
    ),
    FileWorkload("file-batch-stat", "batch of 10,000 stats, one", "batches:Stat", "small", (Bar(2.0),)),
    FileWorkload(
        "tmpfs-open",
        "open, read 4 KiB, close on tmpfs",
        "opening:OneByOne",
        "small",
        (Bar(1.5),),
        place="tmpfs",
    ),
    FileWorkload(
        "tmpfs-seek", "seek, read 4 KiB on tmpfs", "seeking:Cached", "large", (Bar(3.0),), place="tmpfs"
    ),
    FileWorkload(
        "overlay-open",
        "open, read 4 KiB, close on overlayfs",
        "opening:OneByOne",
        "small",
        (Bar(1.5),),
        place="overlay",
    ),
    FileWorkload(
        "overlay-seek",
        "seek, read 4 KiB on overlayfs",
        "seeking:Cached",
        "large",
        (Bar(3.0),),
        place="overlay",
    ),
    FileWorkload(
        "file-tree",
        "tree walked, read and hashed, a file",
        "trees:Checksums",
        "tree",
        (Bar(1.1, BEST),),
        KINDS,
    ),
    FileWorkload("static-4k", "static server, 4 KiB x 100, a request", "", "site", (), KINDS),
    FileWorkload("static-1m", "static server, 1 MiB x 10, a request", "", "site", (), KINDS),
)


def select_workloads(patterns: Iterable[str]) -> list[FileWorkload]:
    """The workloads whose name matches one of the shell `patterns`, in the table's order."""
    wanted = tuple(patterns)
    return [each for each in WORKLOADS if any(fnmatch.fnmatch(each.name, pattern) for pattern in wanted)]
