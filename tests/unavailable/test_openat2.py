"""Where openat2() is refused, as by filters older than it: nothing is found at once, which is learnt once."""

import pytest

from support.marks import needs_io_uring
from unavailable.denial import run_denied

pytestmark = needs_io_uring

STATS = """
import asyncio, os
import ringloop

async def main():
    loop = asyncio.get_running_loop()

    async def works_after_stat():
        assert (await ringloop.os.stat("/")).st_ino == os.stat("/").st_ino
        return loop._counters()["works_completed"]

    while not await works_after_stat():
        pass
    print([await works_after_stat() for _ in range(300)][-1])

with asyncio.Runner(loop_factory=lambda: ringloop.new_event_loop("io_uring")) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM", "EINVAL"])
def test_what_cannot_be_had_is_asked_for_once(error: str) -> None:
    """The ring does the calls: ringloop's workers have nothing to do but to learn that."""
    child = run_denied({"openat2": error}, "-c", STATS)
    assert (child.stdout, child.stderr, child.returncode) == ("1\n", "", 0)
