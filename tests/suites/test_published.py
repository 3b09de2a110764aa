"""aiofiles' and anyio's own tests of files, on asyncio's loop and on ringloop's.

aiofiles' run against `ringloop.aiofiles`, and against aiofiles itself with `ringloop.patch("aiofiles")`;
anyio's with `ringloop.patch("anyio")`.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from suites.published import Suite, fetch, run
from support.loops import DRIVERS, loop_names

LEFT_OUT = {"test_access": "root may read and write what nobody may"} if os.geteuid() == 0 else {}

AIOFILES = Suite("aiofiles", "25.1.0", ("--asyncio-mode=auto", "tests"), LEFT_OUT, 200 * len(loop_names()))
# It takes for granted that three threads have begun when a fourth lets them go on: on a busy machine one of
# them comes later, under trio as well.
RACE = "tests/test_to_thread.py::TestBlockingPortalProvider::test_multiple_threads"
ANYIO = Suite(
    "anyio",
    "4.16.0",
    (
        *("-p", "no:asyncio", "--deselect", RACE),
        *("tests/test_fileio.py", "tests/test_tempfile.py", "tests/test_to_thread.py"),
    ),
    {},
    250,
)

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Suite], Path]]:
    """Fetches what was not fetched yet."""
    fetched: dict[str, Path] = {}

    def source(suite: Suite) -> Path:
        if suite.project not in fetched:
            fetched[suite.project] = fetch(suite, tmp_path_factory.mktemp(suite.project))
        return fetched[suite.project]

    return source


@pytest.mark.usefixtures("fixed_port")
def test_aiofiles_against_ringloops(source: Callable[[Suite], Path]) -> None:
    run(
        AIOFILES,
        source(AIOFILES),
        SUITE_LOOPS=",".join(loop_names()),
        SUITE_ALIAS="aiofiles=ringloop.aiofiles",
    )


@pytest.mark.usefixtures("fixed_port")
def test_aiofiles_patched(source: Callable[[Suite], Path]) -> None:
    run(AIOFILES, source(AIOFILES), SUITE_LOOPS=",".join(loop_names()), SUITE_PATCH="aiofiles")


def test_anyio_patched(source: Callable[[Suite], Path], loop_name: str) -> None:
    # anyio makes its loops itself.
    policy = "ringloop" if loop_name in DRIVERS else ""
    run(ANYIO, source(ANYIO), SUITE_LOOPS=loop_name, SUITE_POLICY=policy, SUITE_PATCH="anyio")
