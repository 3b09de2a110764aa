"""What the tests of other projects have to achieve here: what is left out, and what fails for good."""

import sys
from collections.abc import Callable, Collection
from typing import Any

#: So often has a test to pass that failed: many of theirs have limits of time, which a busy machine breaks.
TRIES = 3


def names_here(entries: list[dict[str, Any]]) -> list[str]:
    """The names in those entries of a list, each with its reason, that are meant for the running Python."""

    def version(text: str) -> tuple[int, ...]:
        return tuple(map(int, text.split(".")))

    here = sys.version_info[:3]
    return [
        name
        for entry in entries
        if entry["reason"]
        and version(entry.get("since", "3.0")) <= here < version(entry.get("before", "4.0"))
        for name in entry["names"]
    ]


def fail_for_good(failed: Collection[str], run_again: Callable[[list[str]], set[str]]) -> set[str]:
    """Those that do not pass each time when they are run again, by themselves.

    `run_again` runs tests and returns the names of those that did not pass.
    """
    wrong: set[str] = set()
    for _ in range(TRIES):
        if doubtful := sorted(set(failed) - wrong):
            wrong |= run_again(doubtful)
    return wrong
