"""Others have a turn while the many entries of a directory are walked through, which are in memory."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import ringloop
import ringloop.os
import ringloop.shutil
from support.marks import ringloop_only

ENTRIES = 1_000
PASSES_MIN = 5


@pytest.fixture
def large(tmp_path: Path) -> Path:
    directory = tmp_path / "large"
    directory.mkdir()
    for number in range(ENTRIES):
        (directory / f"{number:04}").touch()
    return directory


class Passes:
    """Counts the loop's passes."""

    def __init__(self) -> None:
        self.count = 0
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._step)

    def _step(self) -> None:
        self.count += 1
        self._loop.call_soon(self._step)


@ringloop_only
@pytest.mark.parametrize(
    "walk",
    [
        lambda path: path.iterdir(),
        lambda path: path.glob("*"),
        lambda path: path.glob("*", case_sensitive=False),
        lambda path: path.glob("*", recurse_symlinks=True),
    ],
    ids=["iterdir", "glob", "glob of 3.12", "glob of 3.13"],
)
def test_entries_are_given_in_turns(walk: Callable[[ringloop.Path], AsyncIterator[Any]], large: Path) -> None:
    async def main() -> None:
        found = walk(ringloop.Path(large))
        await anext(found)  # all is read by then
        passes = Passes()
        count = 1
        async for _ in found:
            count += 1
            time.sleep(0.0001)
        assert count == ENTRIES
        assert passes.count >= PASSES_MIN

    ringloop.run(main())


@ringloop_only
def test_what_is_in_a_tree_is_sorted_in_turns(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: Passes
    counts: list[int] = []
    real = ringloop.shutil.entries_of

    async def entries_of(path: Any) -> Any:
        nonlocal passes
        entries = await real(path)
        passes = Passes()
        return entries

    async def is_dir(entry: Any) -> bool:
        time.sleep(0.0001)
        counts.append(passes.count)
        return False

    monkeypatch.setattr(ringloop.shutil, "entries_of", entries_of)
    monkeypatch.setattr(ringloop.shutil, "_is_dir", is_dir)
    ringloop.run(ringloop.shutil.rmtree(large))
    assert len(counts) == ENTRIES
    assert counts[-1] >= PASSES_MIN
    assert not large.exists()
