"""The world that a test's operations act upon."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from operations.world import World
from support import leaks


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world of the test's own. What it opened and the operations left open is an error."""
    fds = leaks.open_fds()
    with ExitStack() as stack:
        yield World(tmp_path / "world", stack)
    leaks.assert_no_new_fds(fds)
