"""Marks for tests that do not run on every loop, or on every machine."""

import pytest

#: For what asyncio does not promise: runs on ringloop alone, over each driver (RINGLOOP_DRIVER is set)
#: where the test does not say by `loop_name`, or as a plain async test, on which loops it runs.
ringloop_only = pytest.mark.ringloop_only

#: For what is about io_uring itself: skipped where that is refused, as in most containers.
needs_io_uring = pytest.mark.needs_io_uring
