"""What is executed by threads while a test runs."""

import asyncio
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio._backends._asyncio as backend
import pytest


@contextmanager
def recorded() -> Iterator[list[str]]:
    """The names of the functions that anyio's worker threads, or the loop's, are given."""
    names: list[str] = []
    run_sync = backend.AsyncIOBackend.run_sync_in_worker_thread
    loop = asyncio.get_running_loop()
    run_in_executor = loop.run_in_executor

    def note(function: Any) -> None:
        while isinstance(function, functools.partial):
            function = function.func
        names.append(getattr(function, "__name__", repr(function)))

    async def worker(func: Any, args: Any, *others: Any, **keywords: Any) -> Any:
        note(func)
        return await run_sync(func, args, *others, **keywords)

    def executor(executor: Any, function: Any, *args: Any) -> Any:
        note(function)
        return run_in_executor(executor, function, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend.AsyncIOBackend, "run_sync_in_worker_thread", staticmethod(worker))
        patch.setattr(loop, "run_in_executor", executor)
        yield names
