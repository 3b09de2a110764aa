"""What the tests of several suites share."""

import faulthandler
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def fixed_port() -> Iterator[None]:
    """aiofiles' and some of uvloop's tests use a certain port: one run of them at a time on this machine."""
    faulthandler.cancel_dump_traceback_later()  # another run may take longer than that lets a test take
    with (Path(tempfile.gettempdir()) / f"ringloop-fixed-port-{os.getuid()}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
