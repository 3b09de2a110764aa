"""Checksums of all files of a tree, or the lines in them that match a pattern, many operations in flight.

    python examples/checksum_tree.py DIRECTORY                     # lines as of sha256sum
    python examples/checksum_tree.py DIRECTORY --grep PATTERN      # lines as of grep -rn

Lines come in the order in which files are done. If they go to a file or a pipe, and stderr to a terminal, a
progress bar stands there; it needs `rich`, as this program does.
`--loop asyncio` runs the same program on asyncio's own loop, where threads make the same calls.

A fixed number of tasks take directories and files from one pile, the newest first, and put back what a
directory holds. So no more than that many operations are in flight, however large the tree is.
Symbolic links are not followed.
"""

import argparse
import asyncio
import hashlib
import os
import re
import sys
from collections.abc import Callable
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import ringloop

PIECE_BYTES = 256 * 1024  # read at a time
AT_ONCE = 64
REFRESH_S = 0.1
ALGORITHMS = sorted(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_"))


class Reading(Protocol):
    """What is made of one file: fed with its bytes, it ends with the lines to print."""

    def feed(self, data: bytes) -> None:
        """Takes the next bytes."""

    def lines(self, path: str) -> list[str]:
        """The lines for the file called `path`."""


class Checksum:
    """A line as sha256sum writes it, for any algorithm of hashlib's with digests of one length."""

    def __init__(self, new_hash: Callable[[], Any] = hashlib.sha256) -> None:
        self._hash = new_hash()
        self.feed = self._hash.update

    def lines(self, path: str) -> list[str]:
        """One."""
        return [f"{self._hash.hexdigest()}  {path}"]


class Matches:
    """The lines that `pattern` is found in, as grep -n writes them; none of a file that has a NUL byte."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern
        self._rest = b""  # a line whose end has not come yet
        self._number = 0
        self._found: list[str] = []
        self._is_binary = False

    def feed(self, data: bytes) -> None:
        """Looks at the lines that are whole by now."""
        self._is_binary = self._is_binary or b"\0" in data
        if not self._is_binary:
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._look_at(line)

    def lines(self, path: str) -> list[str]:
        """None for binary files."""
        if self._is_binary:
            return []
        if self._rest:
            self._look_at(self._rest)
        return [f"{path}:{found}" for found in self._found]

    def _look_at(self, line: bytes) -> None:
        self._number += 1
        if self._pattern.search(line):
            self._found.append(f"{self._number}:{line.decode(errors='replace')}")


class Search:
    """One walk through a tree. `seen` counts files, `done` those that were read; `failures` tell of the rest.

    `entries` and `open` are what it asks of the file system: a comparison may replace them.
    """

    def __init__(
        self,
        make_reading: Callable[[], Reading],
        say: Callable[[list[str]], None],
        at_once: int = AT_ONCE,
    ) -> None:
        self._make_reading = make_reading
        self._say = say
        self._at_once = at_once
        self._pile: list[tuple[bool, str]] = []
        self._busy = 0  # tasks that may put back more
        self._changed = asyncio.Event()
        self.seen = 0
        self.done = 0
        self.failures: list[OSError] = []

    async def run(self, top: str) -> None:
        """Goes through all that is below the directory `top`; OSError if that cannot be listed."""
        await self._list(top)
        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(self._work())

    async def entries(self, path: str) -> list[tuple[bool, str]]:
        """The directories and files in a directory: whether each is a directory, and its path."""
        found = []
        async with ringloop.os.scandir(path) as entries:
            async for entry in entries:
                if await entry.is_file(follow_symlinks=False):
                    found.append((False, entry.path))
                elif await entry.is_dir(follow_symlinks=False):
                    found.append((True, entry.path))
        return found

    def open(self, path: str) -> Any:
        """The file to read, for `async with`."""
        return ringloop.open(path, "rb")

    async def _work(self) -> None:
        while self._pile or await self._more_comes():
            is_directory, path = self._pile.pop()
            self._busy += 1
            try:
                await (self._list(path) if is_directory else self._read(path))
            except OSError as error:
                self.failures.append(error)
            self._busy -= 1
        self._changed.set()

    async def _more_comes(self) -> bool:
        """Waits as long as others may find more; whether they did."""
        while not self._pile and self._busy:
            self._changed.clear()
            await self._changed.wait()
        return bool(self._pile)

    async def _list(self, path: str) -> None:
        found = await self.entries(path)
        self._pile += found
        self.seen += sum(not is_directory for is_directory, _ in found)
        self._changed.set()

    async def _read(self, path: str) -> None:
        reading = self._make_reading()
        async with self.open(path) as file:
            while True:
                data = await file.read(PIECE_BYTES)
                reading.feed(data)
                if len(data) < PIECE_BYTES:  # as at the end alone
                    break
        self._say(reading.lines(path))
        self.done += 1


async def show_progress(search: Search, console: Console) -> None:
    """Shows how far the search is, until this is cancelled."""
    columns = TextColumn("files"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        shown = progress.add_task("files", total=None)
        while True:
            progress.update(shown, total=search.seen, completed=search.done, refresh=True)
            await asyncio.sleep(REFRESH_S)


async def main(directory: str, make_reading: Callable[[], Reading], at_once: int) -> int:
    """Prints what there is to be printed; the exit status."""
    console = Console(stderr=True)

    def say(lines: list[str]) -> None:
        # Names need not be UTF-8.
        for line in lines:
            sys.stdout.buffer.write(os.fsencode(line) + b"\n")

    search = Search(make_reading, say, at_once=at_once)
    is_watched = console.is_terminal and not sys.stdout.isatty()
    progress = asyncio.create_task(show_progress(search, console)) if is_watched else None
    try:
        await search.run(directory)
    finally:
        if progress:
            progress.cancel()
            await asyncio.wait([progress])
    sys.stdout.buffer.flush()
    for failure in search.failures:
        console.print(f"checksum_tree: {failure}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{search.done:,} of {search.seen:,} files read", highlight=False)
    return 1 if search.failures else 0


def parse_arguments() -> argparse.Namespace:
    """The command line, with what is made of each file as `make_reading`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("directory")
    parser.add_argument("--grep", metavar="PATTERN", help="a regular expression of Python's")
    parser.add_argument("--algorithm", choices=ALGORITHMS, default="sha256")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="operations in flight")
    parser.add_argument("--loop", choices=("ringloop", "asyncio"), default="ringloop")
    parsed = parser.parse_args()
    if parsed.at_once < 1:
        parser.error("--at-once must be positive")
    new_hash = getattr(hashlib, parsed.algorithm)
    parsed.make_reading = lambda: Checksum(new_hash)
    if parsed.grep is not None:
        try:
            pattern = re.compile(os.fsencode(parsed.grep))
        except re.error as error:
            parser.error(f"--grep: {error}")
        parsed.make_reading = lambda: Matches(pattern)
    return parsed


if __name__ == "__main__":
    arguments = parse_arguments()
    runner = ringloop.run if arguments.loop == "ringloop" else asyncio.run
    try:
        sys.exit(runner(main(arguments.directory, arguments.make_reading, arguments.at_once)))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"checksum_tree: {error}")
