"""`ringloop.chain`: operations of which one's result is the next one's argument, before it exists.

The steps run one after another: what is cached is done at once, and what has to wait is submitted, together
with the steps behind it that need no value which is yet to come (_chain_links.py). The task that waits sleeps
until the last. On other loops than ringloop's each step is a thread's.

Invariant: when a chain is over, every fd that a step of it opened is closed, unless it was taken out by `fd`,
and every slot is empty and given back.
"""

import asyncio
import errno
import os
from collections.abc import Callable, Generator
from typing import Any

from ringloop import operations
from ringloop._chain_links import Link, OpenFiles, Plan
from ringloop._chain_steps import Step
from ringloop._links import cancel_links, launch_links

# When to ask again for the end of what was submitted as one.
_CANCEL_AGAIN_S = 0.001
_CANCEL_AGAIN_MAX_S = 0.1


class Chain:
    """A chain of operations, made by `ringloop.chain`; see there."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._mark = object()
        self._position = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._links: list[Link] = []  # in flight
        self._going: list[Step] = []  # begun since the chain waited
        self._segments: list[tuple[Step, ...]] = []
        self._close_failure: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_cancelled = False
        self._cancelling: asyncio.TimerHandle | None = None
        self._has_failed = False
        self._started = False
        self._files = OpenFiles()
        self._plan = Plan(self._steps, self._files)

    def __getattr__(self, op: str) -> Callable[..., Step]:
        if operations.ALIASES.get(op, op) not in operations.ENTRIES:
            raise AttributeError(f"there is no operation {op!r}; ringloop.capabilities() has them all")

        def add(*args: Any, **kwargs: Any) -> Step:
            return self._add(op, args, kwargs)

        return add

    def _add(self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
        if self._started:
            raise RuntimeError("the chain runs already")
        step = Step(self._mark, len(self._steps) + 1, op, args, kwargs)
        for needed in step.needs:
            if needed.chain is not self._mark:
                raise ValueError(f"{needed!r} is of another chain")
        self._steps.append(step)
        return step

    def on_failure(self, step: Step, op: str, /, *args: Any, **kwargs: Any) -> Step:
        """Adds an operation that runs only if `step` failed."""
        rescue = self._add(op, args, kwargs)
        rescue.on_failure_of = step
        return rescue

    def fd(self, step: Step) -> Step:
        """Takes the fd that `step` opens out of the chain: if all goes well, it is left to the caller."""
        step.is_kept = True
        return step

    @property
    def segments(self) -> tuple[tuple[Step, ...], ...]:
        """How the steps that were run were begun: between one of these tuples and the next, the chain waited.

        Those of one were submitted as one, or were done at once, the kernel having in memory what they took.
        """
        return tuple(self._segments)

    async def __aenter__(self) -> "Chain":
        return self

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is None:
            await self.run()

    def __await__(self) -> Generator[Any, None, Any]:
        return self.run().__await__()

    async def run(self) -> Any:
        """Runs the steps, once. Returns the last step's result.

        Raises what the first step that failed did, with a note that names it. Cancelled, it ends the step
        that runs, closes what is open, and raises CancelledError.
        """
        if self._started:
            raise RuntimeError("a chain runs once")
        self._started = True
        self._loop = self._files.loop = asyncio.get_running_loop()
        cancellation: asyncio.CancelledError | None = None
        self._advance()
        while self._links:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                cancellation = error
                self._cancel()
            except GeneratorExit:
                self._abandon()
                raise
        if cancellation is not None:
            raise cancellation
        return self._conclude()

    def _advance(self) -> None:
        """Begins steps until some have to be waited for, then closes what is open, then wakes the task."""
        while not self._links:
            if self._position < len(self._steps):
                step = self._steps[self._position]
                self._position += 1
                self._begin(step)
            elif (left_open := self._files.left_open(self._is_cancelled or self._has_failed)) is not None:
                self._close(left_open)
            else:
                self._end_segment()
                if self._waiter is not None and not self._waiter.done():
                    self._waiter.set_result(None)
                return

    def _begin(self, step: Step) -> None:
        rescued = step.on_failure_of
        if rescued is not None and not (rescued.was_run and rescued.failure is not None):
            step.over = True
            return
        blocked_by = step.blocked_by()
        if self._is_cancelled:
            self._fail(step, asyncio.CancelledError())
        elif blocked_by is not None:
            error = OSError(errno.ECANCELED, f"{os.strerror(errno.ECANCELED)}: {blocked_by!r} failed")
            error.__cause__ = blocked_by.failure
            self._fail(step, error)
        else:
            try:
                link = self._files.link(step, {})
                step.was_run = True
                self._launch(link)
            except (Exception, asyncio.CancelledError) as error:
                # The latter of a future that a function was to take a value from.
                self._position = step.number
                links, self._links = self._links, []
                for link in links:
                    self._files.opened_nothing(link.request)
                self._fail(step, error)

    def _launch(self, link: Link) -> None:
        """Does it at once, or submits it with those behind it that can be linked."""
        if link.request.done_at_once(self._loop):
            self._finish(link)
            return
        self._links = [link]
        if link.step is not None:
            self._links = self._plan.links(self._loop, link)
            self._position += len(self._links) - 1
        if len(self._links) == 1:
            link.request.launch(self._loop, self, False)
        else:
            launch_links(self._loop, [link.request for link in self._links], self)

    def _completed(self, request: Any) -> None:
        if any(link.request.is_pending for link in self._links):
            return
        if self._cancelling is not None:
            self._cancelling.cancel()
            self._cancelling = None
        links, self._links = self._links, []
        while links:
            link = links.pop(0)
            if not self._is_cancelled and link.step is not None and link.request.is_to_begin_again:
                self._begin_again(link.step, [link, *links])
                break
            self._finish(link)
        self._end_segment()
        self._advance()

    def _begin_again(self, step: Step, links: list[Link]) -> None:
        """Goes on with `step`, as what it was linked to has not gone so well that it began."""
        self._position = step.number - 1
        for link in links:
            self._files.opened_nothing(link.request)
            # One that the kernel refused when it was submitted, though those before it did not begin.
            self._plan.is_refused |= not link.request.did_not_begin

    def _finish(self, link: Link) -> None:
        step, request, closes = link
        outcome, failure = self._result_of(request)
        if self._is_cancelled and (failure is not None or request.did_not_begin):
            failure = asyncio.CancelledError()
        if closes is not None and not request.did_not_begin:
            self._files.closed(closes)
        if step is None:
            self._close_failure = self._close_failure or failure
            return
        step.was_run = True
        self._going.append(step)
        if failure is not None:
            self._files.opened_nothing(request)
            self._fail(step, failure)
        else:
            step.outcome = outcome
            step.over = True
            request.hand_over()
            self._files.opened(step, request)

    @staticmethod
    def _result_of(request: Any) -> tuple[Any, BaseException | None]:
        failure = request.failure()
        if failure is not None or request.opened_slot:
            return -1, failure  # what uses a slot that was emptied must not find the number of a file
        try:
            return request.result(), None
        except Exception as error:
            return -1, error

    def _fail(self, step: Step, failure: BaseException) -> None:
        step.failure = failure
        step.over = True
        self._has_failed = True

    def _end_segment(self) -> None:
        if self._going:
            self._segments.append(tuple(self._going))
            self._going.clear()

    def _close(self, what: int | Step) -> None:
        try:
            self._launch(self._files.closing(what))
        except RuntimeError:  # another loop's executor, which was shut down
            self._links = []
            self._files.close_at_once()

    def _dropped(self, request: Any) -> None:
        """The loop closed."""
        if any(link.request.is_pending for link in self._links):
            return
        links, self._links = self._links, []
        for link in links:
            if isinstance(link.closes, int) and not link.request.did_not_begin:
                self._files.closed(link.closes)
        self._files.close_at_once()

    def _cancel(self) -> None:
        self._is_cancelled = True
        if self._links:
            self._cancel_links()
        else:
            # All steps are done, but nobody takes what they opened.
            self._advance()

    def _abandon(self) -> None:
        """The coroutine was closed: nobody waits for the chain any more."""
        self._is_cancelled = True
        if self._links:
            self._cancel_links()
        else:
            self._files.close_at_once()

    def _cancel_links(self) -> None:
        for link in self._links:
            if link.step is not None:
                link.request.cancel()
        # In a forked child the loop is closed, and what is in flight is the parent's.
        if len(self._links) > 1 and self._cancelling is None and self._loop and not self._loop.is_closed():
            self._cancel_again_later(_CANCEL_AGAIN_S)

    def _cancel_again_later(self, delay_s: float) -> None:
        """A link that has not begun is found by nobody who would cancel it."""
        assert self._loop
        self._cancelling = self._loop.call_later(delay_s, self._cancel_again, delay_s)

    def _cancel_again(self, delay_s: float) -> None:
        cancel_links(self._loop)
        self._cancel_again_later(min(2 * delay_s, _CANCEL_AGAIN_MAX_S))

    def _conclude(self) -> Any:
        for step in self._steps:
            if step.failure is not None:
                step.failure.add_note(f"in {step!r} of a chain")
                raise step.failure
        if self._close_failure is not None:
            raise self._close_failure
        return self._steps[-1].result() if self._steps else None


def chain() -> Chain:
    """Makes a chain: operations of which one's result is the next one's argument, before it exists.

        async with ringloop.chain() as c:
            fd = c.open(path, os.O_RDONLY)
            data = c.read(fd, 4096)
            c.close(fd)
        data.result()

    Every operation of the table is a method, and returns a Step. The steps run in this order when the block
    ends (or `await c`), one after another. A step that failed stops those that use its result, and those that
    were added with `after=step`; the others run, as the close does here. The first failure is raised. A short
    read is no failure. What was opened and not closed is closed, unless taken out by `c.fd(step)`.

    What the kernel has in memory is done at once. What has to wait is submitted together with the steps
    behind it, as links of io_uring, as long as these need no value that is yet to come: a file that a step
    opens for reading is no such value, nor are, for a write or send, the bytes of a read that is not short.
    `c.segments` tells how the steps were run. Files in the ring (Linux 5.17) do not move to another thread
    with a loop that is run there in the middle of a chain: what would use them fails with EBADF.
    """
    return Chain()
