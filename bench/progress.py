"""Tells people how far a measurement is: a bar on a terminal, a line per step elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

REFRESH_PER_SECOND = 2  # each refresh takes some of the client's core
WIDTH_WITHOUT_TERMINAL = 160


def wide_console() -> Console:
    """stdout; where it is a file or a pipe, wide enough that no table is folded."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH_WITHOUT_TERMINAL)


class Steps:
    """A context manager around `total` steps, each announced by its begin."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._begun = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=REFRESH_PER_SECOND,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=total)

    def __enter__(self) -> Steps:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, description: str) -> None:
        """The step before is done, this one begins."""
        self._progress.update(self._task, description=description, completed=self._begun)
        self._begun += 1
        if not self._console.is_terminal:
            self._console.print(
                f"[{self._begun:3}/{self._total}] {description}", markup=False, highlight=False
            )
