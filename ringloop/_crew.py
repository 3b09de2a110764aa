"""A crew: a bounded number of tasks that do what is to be done, where doing it may bring up more.

Used for trees of files. Invariant: when `run` is over, however it ended, no task of the crew is left.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ringloop._closing import wait_surely

Job = Callable[[], Coroutine[Any, Any, None]]


class Crew:
    """Does jobs, coroutine functions without arguments, at most `limit` at a time; the newest first.

    `may_begin` tells whether the next job may begin beside others. By itself, a job always may.
    """

    def __init__(self, limit: int, may_begin: Callable[[], bool] = lambda: True) -> None:
        self._limit = limit
        self._may_begin = may_begin
        self._jobs: list[Job] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._is_ending = False

    def add(self, jobs: list[Job]) -> None:
        """Adds jobs. The first of them is the next to be done. At the end there are no more."""
        if self._is_ending:
            return
        self._jobs += reversed(jobs)
        for _ in range(min(len(jobs), self._limit - len(self._tasks))):
            task = asyncio.create_task(self._work())
            if not task.done():  # an eager one may be
                self._tasks.add(task)

    async def run(self, job: Job) -> None:
        """Does the job and all that it brings up. The first exception ends all the others, and is raised."""
        self.add([job])
        try:
            while self._tasks and self._failure is None:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._is_ending = True
            self._jobs.clear()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await wait_surely(tasks)
        if self._failure is not None:
            raise self._failure

    async def _work(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            while self._jobs and (self._tasks <= {task} or self._may_begin()):
                await self._jobs.pop()()
        except BaseException as error:
            self._failure = self._failure or error
            if not isinstance(error, Exception):
                raise
        finally:
            self._tasks.discard(task)
