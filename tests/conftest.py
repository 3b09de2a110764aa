"""Fixtures for every test that makes a loop.

`loop_name`, `loop_factory`, `loop`, `run`, `same_as_asyncio` and `run_child` are parametrized over the loops
under test, asyncio's own first (see `support/loops.py`). A plain `async def test_…()` runs on each of them by
pytest-asyncio, so it must not ask for those six. After every test: no file descriptor more than before, every
loop closed, and no call of an exception handler that the test did not take from `watch`.
"""

import asyncio
import functools
import gc
import inspect
import os
import signal
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from support import child, leaks
from support.loops import DRIVERS, FACTORIES, ORACLE, LoopFactory, loop_names, ringloop_names, why_no_ring
from support.watch import Watch

# The same examples on every run; `--hypothesis-profile=default` looks for new ones.
hypothesis.settings.register_profile("seeded", derandomize=True, database=None)
hypothesis.settings.load_profile("seeded")

_current_watch = pytest.StashKey[Watch]()


#: What only runs when it is asked for, by an option of that name, and then alone.
ON_REQUEST = {
    "machine_wide": "run the tests that change a setting of the whole machine and set it back, and no "
    "others: as root, without -n, and with nothing beside them that uses io_uring",
    "loop_suites": "run CPython's own tests of asyncio and uvloop's own, and no others: with nothing beside "
    "them, as some have limits of time",
    "integration": "run unmodified libraries against real servers, and nothing else: tests/integration",
}

_INTEGRATION = Path(__file__).with_name("integration")


def pytest_addoption(parser: pytest.Parser) -> None:
    for name, text in ON_REQUEST.items():
        parser.addoption(f"--{name.replace('_', '-')}", action="store_true", help=text)
    parser.addoption(
        "--integration-minutes",
        type=float,
        default=0,
        metavar="N",
        help="with --integration: repeat the load tests for N minutes, which they share; 0 (the default): "
        "each does one round",
    )
    parser.addoption(
        "--chaos-seeds",
        type=int,
        default=2,
        metavar="N",
        help="how many seeds tests/lifecycle/test_chaos.py plays over each driver; 2 by default",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What the room of --integration imports comes with an extra of its own: it is collected alone or not."""
    if collection_path.parent != _INTEGRATION.parent or not collection_path.is_dir():
        return None
    return (collection_path == _INTEGRATION) != config.getoption("integration") or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Selects what was asked for, and skips what wants a ring where there can be none."""
    asked = {name for name in ON_REQUEST if config.getoption(name)}
    chosen: dict[bool, list[pytest.Item]] = {False: [], True: []}
    for item in items:
        kinds = {name for name in ON_REQUEST if item.get_closest_marker(name) is not None}
        chosen[bool(kinds & asked) if asked else not kinds].append(item)
    config.hook.pytest_deselected(items=chosen[False])
    items[:] = chosen[True]
    for item in items:
        if item.get_closest_marker("needs_io_uring") is not None and (reason := why_no_ring()):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what runs in the background with SIGINT ignored, which children would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "ringloop_only: see tests/support/marks.py")
    for name in ON_REQUEST:
        config.addinivalue_line("markers", f"{name}: runs with --{name.replace('_', '-')} only")
    config.addinivalue_line("markers", "needs_io_uring: see tests/support/marks.py")
    if why_no_ring():
        # Child processes shall not warn, each of them, that they take it.
        os.environ.setdefault("RINGLOOP_DRIVER", "epoll")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """pytest-xdist's hook, for `-n auto`: a quarter of the time tests wait, but other people's count time."""
    cores = len(os.sched_getaffinity(0))
    return cores if config.getoption("loop_suites") else cores + 1


def pytest_report_header(config: pytest.Config) -> str:
    """Tells which loops are under test."""
    return "; ".join(filter(None, (f"loops: {', '.join(loop_names())}", why_no_ring())))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs what is about ringloop alone over each of its drivers."""
    if "ringloop_driver" in metafunc.fixturenames:
        metafunc.parametrize("ringloop_driver", [DRIVERS[name] for name in ringloop_names()], indirect=True)
    elif _is_driver_open(metafunc):
        metafunc.fixturenames.append("ringloop_driver")
        metafunc.parametrize("ringloop_driver", [DRIVERS[name] for name in ringloop_names()], indirect=True)


def _is_driver_open(metafunc: pytest.Metafunc) -> bool:
    return (
        metafunc.definition.get_closest_marker("ringloop_only") is not None
        and "loop_name" not in metafunc.fixturenames
        and not inspect.iscoroutinefunction(metafunc.function)
    )


@pytest.fixture
def ringloop_driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The driver that `ringloop.new_event_loop()` takes in this test, here and in child processes."""
    monkeypatch.setenv("RINGLOOP_DRIVER", request.param)
    return request.param


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """pytest-asyncio's hook: the loops for plain async tests, watched like those of the fixtures below."""

    def watched(name: str) -> LoopFactory:
        return lambda: config.stash[_current_watch].factory(FACTORIES[name])()

    return {name: watched(name) for name in loop_names()}


@pytest.fixture(autouse=True)
def watch(request: pytest.FixtureRequest) -> Iterator[Watch]:
    """What exception handlers were told (`watch.take()` for what was expected), and the checks afterwards."""
    if "ringloop_driver" in getattr(getattr(request.node, "callspec", None), "params", ()):
        # Where pytest_generate_tests added it, nothing else asks for it.
        request.getfixturevalue("ringloop_driver")
    fds = leaks.open_fds()
    watch = Watch()
    request.config.stash[_current_watch] = watch
    yield watch
    gc.collect()
    watch.finish()
    leaks.assert_no_new_fds(fds)
    # What is left is pytest's. Every test collects, and half of the time would be spent in looking at that.
    gc.freeze()


@pytest.fixture(params=loop_names())
def loop_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the kind of loop under test. `ringloop.new_event_loop()` takes its driver."""
    if request.param in DRIVERS:
        monkeypatch.setenv("RINGLOOP_DRIVER", DRIVERS[request.param])
    return request.param


@pytest.fixture
def loop_factory(loop_name: str, watch: Watch) -> LoopFactory:
    """Makes loops of the kind under test, watched. Whoever calls it closes them."""
    return watch.factory(FACTORIES[loop_name])


@pytest.fixture
def loop(loop_factory: LoopFactory) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that does not run yet; closed after the test if the test did not."""
    loop = loop_factory()
    yield loop
    loop.close()


@pytest.fixture
def run(loop_factory: LoopFactory) -> Callable[..., Any]:
    """`run(coroutine, *, debug=True, timeout=20.0)`: its result on a fresh loop, closed afterwards.

    An await that takes more than `timeout` seconds raises TimeoutError with the traceback of where it hung.
    """

    async def guarded(main: Coroutine[Any, Any, Any], timeout: float) -> Any:
        async with asyncio.timeout(timeout):
            return await main

    def run(main: Coroutine[Any, Any, Any], *, debug: bool = True, timeout: float = 20.0) -> Any:
        with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
            return runner.run(guarded(main, timeout))

    return run


@pytest.fixture
def same_as_asyncio(loop_name: str, watch: Watch) -> Callable[[Callable[[LoopFactory], Any]], Any]:
    """`same_as_asyncio(scenario)`: runs `scenario(loop_factory)` on asyncio and on the loop under test.

    Fails unless both return equal values (traces, messages: see `support.compare`); returns that value.
    """

    def compare(scenario: Callable[[LoopFactory], Any]) -> Any:
        expected = scenario(watch.factory(FACTORIES[ORACLE]))
        if loop_name != ORACLE:
            assert scenario(watch.factory(FACTORIES[loop_name])) == expected
        return expected

    return compare


@pytest.fixture
def run_child(loop_name: str) -> Callable[..., child.Child]:
    """`support.child.run_child` with `new_event_loop()` making the kind of loop under test."""
    return functools.partial(child.run_child, loop_name=loop_name)
