"""Makes the files that are worked on, in a directory of their own that is removed at the end."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterable
from pathlib import Path

PAGE_BYTES = 4096
MIB = 1 << 20

SMALL_FILES = 1_000
LARGE_BYTES = 64 * MIB
COLD_BYTES = 256 * MIB
LINES = 125_000
TREE_FILE_BYTES_MAX = 8 * 1024
TREE_DIRECTORY_FILES = 100
SITE = {"4k": 4 * 1024, "1m": MIB}  # names of files in site/, and their sizes


def scratch(directory: Path) -> tempfile.TemporaryDirectory[str]:
    """A directory for one child to write in."""
    return tempfile.TemporaryDirectory(dir=directory)


def _fill(path: Path, size: int) -> None:
    """Not of zeros, which some file systems would not store."""
    piece = random.Random(size).randbytes(min(size, MIB))
    with path.open("wb") as file:
        for _ in range(size // len(piece)):
            file.write(piece)
        if size > MIB:
            # What is dirty cannot be dropped from the cache, and its way to the disk would disturb later.
            file.flush()
            os.fsync(file.fileno())


def _small(directory: Path) -> None:
    directory.mkdir()
    for number in range(SMALL_FILES):
        _fill(directory / f"{number:04}", PAGE_BYTES)


def _lines(path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number in range(LINES):
            file.write(f"{number:07} a line of text as logs have it, with an ümlaut: {'x' * 24}\n")


def _tree(directory: Path, files: int) -> None:
    sizes = random.Random(5)
    content = sizes.randbytes(TREE_FILE_BYTES_MAX)
    directory.mkdir()
    for number in range(files):
        place, name = divmod(number, TREE_DIRECTORY_FILES)
        below = directory / f"{place // 10:02}" / f"{place:03}"
        if name == 0:
            below.mkdir(parents=True)
        first = sizes.randrange(TREE_FILE_BYTES_MAX)
        (below / f"{name:02}").write_bytes(content[first:])


def _site(directory: Path) -> None:
    directory.mkdir()
    for name, size in SITE.items():
        _fill(directory / name, size)


def make(directory: Path, needs: Iterable[str], tree_files: int) -> None:
    """Makes what `needs` names (see bench/files/table.py), and brings what is large to the disk."""
    makers = {
        "small": lambda: _small(directory / "small"),
        "large": lambda: _fill(directory / "large", LARGE_BYTES),
        "cold": lambda: _fill(directory / "cold", COLD_BYTES),
        "lines": lambda: _lines(directory / "lines"),
        "tree": lambda: _tree(directory / "tree", tree_files),
        "site": lambda: _site(directory / "site"),
    }
    for need in sorted(set(needs)):
        if need:
            makers[need]()
