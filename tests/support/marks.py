"""Marks for tests that do not run on every loop."""

import pytest

#: For what asyncio does not promise: runs on ringloop alone, over each driver (RINGLOOP_DRIVER is set)
#: where the test does not say by `loop_name`, or as a plain async test, on which loops it runs.
ringloop_only = pytest.mark.ringloop_only
