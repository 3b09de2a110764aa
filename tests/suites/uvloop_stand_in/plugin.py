"""A plugin of pytest for uvloop's own tests.

SUITE_PORT   the first of 500 ports that no other run of the tests takes
"""

import multiprocessing
import os
import signal
from typing import Any

import pytest
from uvloop import _testbase

# It looks for a port that is free, which another run may have taken by the time the test binds it.
_testbase.find_free_port.__defaults__ = (int(os.environ["SUITE_PORT"]),)

# Under nohup, or in the background of a shell, these are ignored, which children would inherit.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# What the tests are written for: another way each process imports all of them, and some have but seconds.
multiprocessing.set_start_method("fork")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the classes that run the same tests on asyncio's loop."""

    def of_asyncio(item: Any) -> bool:
        return getattr(item.cls, "implementation", None) == "asyncio"

    config.hook.pytest_deselected(items=[item for item in items if of_asyncio(item)])
    items[:] = [item for item in items if not of_asyncio(item)]
