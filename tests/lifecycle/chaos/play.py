"""One play: loops on which acts begin and are cancelled by the dozen, and which then end, well or badly.

Invariant: when a loop is closed and what was left of its acts is forgotten, the process has the descriptors
that it had before, and nothing is in flight, ready or scheduled.
"""

import asyncio
import gc
import logging
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

from lifecycle.chaos import calls, children, files, streams, trees
from lifecycle.chaos.scene import Act, Dice, Stage
from support.leaks import assert_no_new_fds, open_fds
from support.loops import new_event_loop
from support.watch import assert_balanced

ACTS: tuple[Act, ...] = (*files.ACTS, *trees.ACTS, *calls.ACTS, *streams.ACTS, *children.ACTS)

LOOPS = 3  # of one play
ROUNDS = 4  # of one loop
ACTS_AT_ONCE_MAX = 40
ACTS_LEFT = 30
#: Seconds that the acts of a round have after the last was cancelled: only a failure takes as long.
ROUND_SECONDS_MAX = 20.0


def play(loop_name: str, seed: int, names: Sequence[str] = ()) -> int:
    """The play of this seed, with these acts or all. How many acts were begun."""
    acts = [act for act in ACTS if not names or act.__name__ in names]
    # An act whose own end is cancelled leaves that to the collector.
    warnings.simplefilter("ignore", ResourceWarning)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    # To the taste of asyncio's warnings somebody writes too much to lost peers.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="chaos") as directory:
        stage = Stage(Path(directory))
        return sum(Run(loop_name, stage, acts, f"{seed}.{number}").run() for number in range(LOOPS))


class Run:
    """One loop from its beginning to its end."""

    def __init__(self, loop_name: str, stage: Stage, acts: Sequence[Act], seed: str) -> None:
        self.loop_name = loop_name
        self.stage = stage
        self.acts = acts
        self.seed = seed
        self.dice = Dice(seed)
        self.begun = 0
        self.is_over = False  # what is pending now is never done
        self.failures: list[str] = []

    def run(self) -> int:
        """How many acts were begun."""
        before = open_fds()
        with mock.patch.object(sys, "unraisablehook", self._handle_unraisable):
            self._begin_to_end()
            gc.collect()
            assert_no_new_fds(before)
        assert not self.failures, "\n".join([f"seed {self.seed}, {self.loop_name}:", *self.failures])
        return self.begun

    def _begin_to_end(self) -> None:
        loop = new_event_loop(self.loop_name)
        loop.set_exception_handler(self._handle)
        asyncio.set_event_loop(loop)
        loop.run_until_complete(self._rounds())
        self._end(loop, loop.run_until_complete(self._leave()))
        asyncio.set_event_loop(None)
        if hasattr(loop, "_counters"):
            assert_balanced(loop._counters())

    async def _rounds(self) -> None:
        for _ in range(ROUNDS):
            tasks = [self._begin() for _ in range(self.dice.randrange(1, ACTS_AT_ONCE_MAX))]
            await asyncio.sleep(self.dice.choice([0, 0.001, 0.01, 0.05]))
            for task in tasks:
                if self.dice.chance(0.7):
                    task.cancel()
                if self.dice.chance(0.3):
                    await self.dice.nap()
            _, hanging = await asyncio.wait(tasks, timeout=ROUND_SECONDS_MAX)
            self.failures += [f"hangs: {task!r} in {awaits(task)}" for task in hanging]
            if self.dice.chance(0.1):
                gc.collect()

    def _begin(self) -> asyncio.Task[None]:
        self.begun += 1
        act = self.dice.choice(self.acts)
        dice = Dice(f"{self.seed}.{self.begun}")
        return asyncio.get_running_loop().create_task(self._perform(act, dice), name=act.__name__)

    async def _perform(self, act: Act, dice: Dice) -> None:
        try:
            await act(self.stage, dice)
        except Exception as error:
            if not (self.is_over and is_of_the_end(error)):
                self.failures.append(f"{act.__name__}: {traceback.format_exc()}")

    async def _leave(self) -> list[asyncio.Task[None]]:
        """Begins what the end of the loop shall meet, at whatever each has come to."""
        tasks = [self._begin() for _ in range(ACTS_LEFT)]
        await asyncio.sleep(self.dice.choice([0, 0.001, 0.003, 0.01]))
        return tasks

    def _end(self, loop: asyncio.AbstractEventLoop, tasks: list[asyncio.Task[None]]) -> None:
        """Closes the loop: when all has ended that it was doing, or over that; perhaps in another thread."""
        here = self.dice.chance(0.7)
        if self.dice.chance(0.3):
            for task in tasks:
                task.cancel()
            self._do(here, loop.run_until_complete, asyncio.wait(tasks, timeout=ROUND_SECONDS_MAX))
            self._do(here, loop.run_until_complete, loop.shutdown_asyncgens())
        else:
            self.is_over = True
            for task in tasks:
                if self.dice.chance(0.5):
                    task.cancel()
        self._do(here, loop.close)

    @staticmethod
    def _do(here: bool, function: Callable[..., object], *arguments: object) -> None:
        """Calls the function in this thread or in another one."""
        if here:
            function(*arguments)
            return
        with ThreadPoolExecutor(1) as executor:
            executor.submit(function, *arguments).result()

    def _handle(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        message = context["message"]
        # Who is cancelled when his drain() has failed, but does not know it yet, never asks it why.
        is_unasked = message == "Future exception was never retrieved"
        if is_unasked and isinstance(context["exception"], ConnectionError):
            return
        if not (self.is_over and message == "Task was destroyed but it is pending!"):
            self.failures.append(f"exception handler: {context!r}")

    def _handle_unraisable(self, unraisable: Any) -> None:
        if not (self.is_over and is_of_the_end(unraisable.exc_value)):
            self.failures.append("".join(traceback.format_exception(unraisable.exc_value)))


def awaits(task: asyncio.Task[None]) -> list[str]:
    """What it waits for, and that in turn."""
    found = []
    waiting: Any = task.get_coro()
    while waiting is not None:
        found.append(repr(waiting))
        waiting = getattr(waiting, "cr_await", None)
    return found


def is_of_the_end(error: BaseException) -> bool:
    """Whether this is what a forgotten act meets: it cannot wait any more for what it would have closed."""
    message = str(error)
    return isinstance(error, RuntimeError) and (
        message in ("Event loop is closed", "no running event loop")
        or message.startswith("There is no current event loop")
        or message.endswith("ignored GeneratorExit")
    )
