"""What every test of the network has: a bound on its time, both kinds of protocol, and the marker below.

`@pytest.mark.beyond_asyncio(reason, before=(3, 12))` drops a test for asyncio's own loop where asyncio cannot
pass it: on Pythons older than `before`, from `since` on, everywhere if neither is given. Others run it
always.
"""

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from network.peers import TIMEOUT
from network.recorders import KINDS, AnyRecorder
from support.loops import ORACLE, loop_names


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "beyond_asyncio(reason, *, before=None, since=None): see tests/network"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    dropped = [item for item in items if _is_on_asyncio(item) and _is_beyond_asyncio(item)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


def _is_on_asyncio(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    names = loop_names()
    if callspec is not None and "loop_name" in callspec.params:
        return bool(callspec.params["loop_name"] == ORACLE)
    if len(names) == 1:  # pytest-asyncio then hides the parameter
        return names[0] == ORACLE
    return callspec is not None and ORACLE in callspec.id.split("-")


def _is_beyond_asyncio(item: pytest.Item) -> bool:
    for marker in item.iter_markers("beyond_asyncio"):
        before, since = marker.kwargs.get("before"), marker.kwargs.get("since")
        if before is None and since is None:
            return True
        if before is not None and sys.version_info < before:
            return True
        if since is not None and sys.version_info >= since:
            return True
    return False


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Puts a timeout around each async test, so that the traceback shows the await that hung."""
    function = getattr(item, "obj", None)
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(function):
        item.obj = _bounded(function)


def _bounded(function: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    @functools.wraps(function)
    async def bounded(*args: Any, **keywords: Any) -> None:
        async with asyncio.timeout(3 * TIMEOUT):
            await function(*args, **keywords)

    return bounded


@pytest.fixture(params=KINDS, ids=["Protocol", "BufferedProtocol"])
def kind(request: pytest.FixtureRequest) -> type[AnyRecorder]:
    """The recording protocol to use: one of each kind."""
    return request.param
