"""Ends that a cancelled task must not leave behind: file descriptors closed, and others' tasks over.

Whoever is cancelled while he waits here goes on waiting, and hears of it when all is done.
"""

import asyncio
from collections.abc import Collection
from typing import Any

from ringloop.submission import submit


async def wait_surely(futures: Collection[asyncio.Future[Any]]) -> None:
    """Waits until all are done, however often it is cancelled meanwhile; raises CancelledError then."""
    cancelled = None
    try:
        while pending := [future for future in futures if not future.done()]:
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
    finally:
        del cancelled  # its traceback refers to this frame


async def close_surely(*fds: int) -> None:
    """Closes file descriptors. The first error of doing so is raised, unless it was cancelled.

    They are being closed before it waits for anything: `os.close` begins when it has its turn, and a task
    that is cancelled until then has closed nothing.
    """
    operations = [submit("close", fd) for fd in fds]
    failures: list[BaseException] = []
    try:
        await wait_surely(operations)
    finally:
        failures += filter(None, [operation.exception() for operation in operations if operation.done()])
        operations.clear()
    if failures:
        try:
            raise failures[0]
        finally:
            failures.clear()  # a traceback refers to this frame
