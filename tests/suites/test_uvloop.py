"""uvloop's own tests, with a stand-in upon ringloop in uvloop's place.

What is left out is in uvloop_left_out.toml, with the reasons, and must fail: where asyncio is the reason, on
asyncio's loop as well.
"""

import faulthandler
import fcntl
import os
import shutil
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from suites.judging import fail_for_good, names_here
from suites.published import ROOT, TESTS, Suite, fetch, run_program
from support.marks import ringloop_only

UVLOOP = Suite("uvloop", "0.23.0", (), {}, 0)
HERE = Path(__file__).parent

#: How many tests of a module or class must pass at least, of those that are run in one process: that all were
#: skipped is no success. The slowest come first.
PASSED_MIN: dict[str, dict[str, int]] = {
    "tls": {"test_tcp.Test_UV_TCPSSL": 20},
    "tcp": {"test_tcp.Test_UV_TCP": 30},
    "processes": {"test_process": 40, "test_process_spawning": 1, "test_executors": 2, "test_regr1": 1},
    "sockets": {"test_sockets": 20, "test_dns": 25, "test_unix": 20},
    "base": {"test_base": 48, "test_runner": 1, "test_testbase": 3, "test_dealloc": 1},
    "others": {"test_aiohttp": 2, "test_pipes": 6, "test_signals": 10},
}
#: These use a certain port.
PASSED_MIN_ON_FIXED_PORT = {"test_context": 12, "test_udp": 10}

PORTS_FROM = 20_000  # below those that the kernel gives
PORTS_EACH = 500
RUNS_MAX = 20

pytestmark = [pytest.mark.loop_suites, pytest.mark.timeout(900)]


LEFT_OUT = tomllib.loads((HERE / "uvloop_left_out.toml").read_text())
NOT_RUN, PRIVATE, AS_ASYNCIO = (names_here(LEFT_OUT[kind]) for kind in ("not_run", "private", "as_asyncio"))


def node_id(name: str) -> str:
    module, *rest = name.split(".")
    return "::".join((f"tests/{module}.py", *rest))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """uvloop's tests with the stand-in beside them, fetched once for all workers of xdist."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    where = shared / "uvloop"
    faulthandler.cancel_dump_traceback_later()  # to fetch may take longer than that lets a test take
    with (shared / "uvloop.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not where.exists():
            fetched = fetch(UVLOOP, tmp_path_factory.mktemp("uvloop"))
            package = fetched / "uvloop"
            testbase = (package / "_testbase.py").read_bytes()
            shutil.rmtree(package)
            shutil.copytree(HERE / "uvloop_stand_in", package)
            (package / "_testbase.py").write_bytes(testbase)
            fetched.rename(where)
    return where


@pytest.fixture
def first_port() -> Iterator[int]:
    """The first of the ports that are this run's alone on this machine."""
    for index in range(RUNS_MAX):
        with (Path(tempfile.gettempdir()) / f"ringloop-ports-{os.getuid()}-{index}").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield PORTS_FROM + index * PORTS_EACH
            return
    pytest.fail(f"uvloop's tests run {RUNS_MAX} times on this machine")


def run_tests(
    source: Path, report: Path, loop: str, first_port: int, *arguments: str
) -> tuple[dict[str, str], str]:
    """Runs uvloop's tests; the outcome of each by its name, and what pytest said."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "uvloop.plugin", "-p", "no:cacheprovider"]
    command += ["-p", "pytest_timeout", f"--junit-xml={report}", *arguments]
    path = os.pathsep.join((str(ROOT), str(TESTS)))
    env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    # They are of unittest: what other plugins bring is not for them.
    env |= {"SUITE_LOOP": loop, "SUITE_PORT": str(first_port), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    env.pop("PYTEST_ADDOPTS", None)
    done = run_program(command, cwd=source, env=env)
    assert report.exists(), done.stdout + done.stderr
    outcomes: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        # A module that cannot be imported is a case without a class.
        where = [case.get("classname", ""), case.get("name", "")]
        name = ".".join(filter(None, where)).removeprefix("tests.")
        tags = {part.tag for part in case}
        outcome = "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
        # Of several of one name, as subtests are, that counts which failed.
        if outcomes.get(name) != "failed":
            outcomes[name] = outcome
    return outcomes, done.stdout[-20_000:] + done.stderr[-20_000:]


def check_passed(modules: dict[str, int], source: Path, first_port: int, tmp_path: Path) -> None:
    """Runs these and fails unless all pass that are not left out, and at least so many of each."""

    def run(*chosen: str) -> tuple[dict[str, str], str]:
        return run_tests(source, tmp_path / "report.xml", "ringloop", first_port, "--timeout=240", *chosen)

    def run_again(names: list[str]) -> set[str]:
        again, _ = run(*map(node_id, names))
        return {name for name in names if again.get(name) != "passed"}

    deselected = [f"--deselect={node_id(name)}" for name in (*PRIVATE, *AS_ASYNCIO)]
    outcomes, said = run(*deselected, *map(node_id, modules))
    failed = [name for name in outcomes if outcomes[name] == "failed"]
    assert not fail_for_good(failed, run_again), said
    outcomes |= dict.fromkeys(failed, "passed")
    for module, passed_min in modules.items():
        passed = [name for name in outcomes if name.startswith(f"{module}.") and outcomes[name] == "passed"]
        assert len(passed) >= passed_min, said


@ringloop_only
@pytest.mark.usefixtures("ringloop_driver")
@pytest.mark.parametrize("group", PASSED_MIN)
def test_uvloops_tests_pass(group: str, source: Path, first_port: int, tmp_path: Path) -> None:
    check_passed(PASSED_MIN[group], source, first_port, tmp_path)


@ringloop_only
@pytest.mark.usefixtures("ringloop_driver", "fixed_port")
def test_uvloops_tests_with_a_fixed_port_pass(source: Path, first_port: int, tmp_path: Path) -> None:
    check_passed(PASSED_MIN_ON_FIXED_PORT, source, first_port, tmp_path)


def test_what_is_left_out_fails(loop_name: str, source: Path, first_port: int, tmp_path: Path) -> None:
    on_asyncio = loop_name == "asyncio"
    names = AS_ASYNCIO if on_asyncio else PRIVATE + AS_ASYNCIO
    loop = "asyncio" if on_asyncio else "ringloop"
    arguments = ["--timeout=3", "--continue-on-collection-errors", *map(node_id, names)]
    outcomes, said = run_tests(source, tmp_path / "report.xml", loop, first_port, *arguments)
    assert [name for name in names if outcomes.get(name) != "failed"] == [], said


def test_every_module_is_run_or_left_out(source: Path) -> None:
    run = [name for group in (*PASSED_MIN.values(), PASSED_MIN_ON_FIXED_PORT) for name in group]
    modules = {name.partition(".")[0] for name in run + NOT_RUN + PRIVATE + AS_ASYNCIO}
    assert modules == {path.stem for path in (source / "tests").glob("test_*.py")}
