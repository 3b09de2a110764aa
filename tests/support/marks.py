"""Marks for tests that do not run on every loop."""

import pytest

from support.loops import ringloop_names

#: For what asyncio does not promise: runs where ringloop is under test.
ringloop_only = pytest.mark.skipif(
    not ringloop_names(), reason="ringloop is not among the loops under test"
)
