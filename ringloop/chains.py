"""`ringloop.chain`: operations of which one's result is the next one's argument, before it exists.

The steps run one after another in the loop: a completion begins the next step, and the task that waits
sleeps until the last. Linked submissions could feed the next one a slot of the ring's table of files, and
nothing else. They are no faster (docs/architecture.md), what is cached is done at once here, and any result
can be used as an fd can.

Invariant: when a chain is over, every fd that a step of it opened is closed, unless it was taken out by `fd`.
"""

import asyncio
import errno
import os
from collections.abc import Callable, Generator, Iterator
from typing import Any

from ringloop import operations
from ringloop._request import make_request


class Promise:
    """A value that a chain will have: an argument for later steps."""

    def __init__(self, step: "Step", function: Callable[[Any], Any] | None) -> None:
        self._step = step
        self._function = function

    def then(self, function: Callable[[Any], Any]) -> "Promise":
        """A promise of function(value), such as `status.then(lambda status: status.st_size)`."""
        before = self._function
        chained = function if before is None else lambda value: function(before(value))
        return Promise(self._step, chained)

    def _value(self) -> Any:
        value = self._step.result()
        return value if self._function is None else self._function(value)


class Step(Promise):
    """One operation of a chain, and the promise of its result."""

    def __init__(self, chain: "Chain", number: int, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]):
        super().__init__(self, None)
        self._chain = chain
        self._number = number
        self._op = op
        self._args = args
        self._after: Step | None = kwargs.pop("after", None)
        self._kwargs = kwargs
        self._on_failure_of: Step | None = None
        self._over = False
        self._outcome: Any = None
        self._failure: BaseException | None = None
        self._was_run = False

    def __repr__(self) -> str:
        return f"<step {self._number} {self._op}>"

    def done(self) -> bool:
        """Whether it is over: it was run, or will not be."""
        return self._over

    def result(self) -> Any:
        """The result, or raises what `exception` is."""
        if self._failure is not None:
            raise self._failure
        if not self._over:
            raise asyncio.InvalidStateError(f"{self!r} is not done yet")
        return self._outcome

    def exception(self) -> BaseException | None:
        """What it failed with; an OSError with ECANCELED if it was not run as another step had failed."""
        if not self._over:
            raise asyncio.InvalidStateError(f"{self!r} is not done yet")
        return self._failure

    def _needs(self) -> list["Step"]:
        """The steps without whose results it cannot run."""
        values = [*self._args, *self._kwargs.values()]
        steps = [value._step for value in values if isinstance(value, Promise)]
        return steps if self._after is None else [*steps, self._after]

    def _blocked_by(self) -> "Step | None":
        return next((step for step in self._needs() if step._failure is not None), None)


class Chain:
    """A chain of operations, made by `ringloop.chain`; see there."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._position = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._request: Any = None
        self._current: Step | None = None  # of the request; None: it closes what the steps left open
        self._close_failure: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_cancelled = False
        self._has_failed = False
        self._started = False
        self._fds: dict[int, Step] = {}  # open, or being closed
        self._closing: int | None = None  # the one that the request closes
        self._kept: set[Step] = set()

    def __getattr__(self, op: str) -> Callable[..., Step]:
        if operations.ALIASES.get(op, op) not in operations.ENTRIES:
            raise AttributeError(f"there is no operation {op!r}; ringloop.capabilities() has them all")

        def add(*args: Any, **kwargs: Any) -> Step:
            return self._add(op, args, kwargs)

        return add

    def _add(self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
        if self._started:
            raise RuntimeError("the chain runs already")
        step = Step(self, len(self._steps) + 1, op, args, kwargs)
        for needed in step._needs():
            if needed._chain is not self:
                raise ValueError(f"{needed!r} is of another chain")
        self._steps.append(step)
        return step

    def on_failure(self, step: Step, op: str, /, *args: Any, **kwargs: Any) -> Step:
        """Adds an operation that runs only if `step` failed."""
        rescue = self._add(op, args, kwargs)
        rescue._on_failure_of = step
        return rescue

    def fd(self, step: Step) -> Step:
        """Takes the fd that `step` opens out of the chain: if all goes well, it is left to the caller."""
        self._kept.add(step)
        return step

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
        self._loop = asyncio.get_running_loop()
        cancellation: asyncio.CancelledError | None = None
        self._advance()
        while self._request is not None:
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
        """Begins steps until one has to be waited for, then closes what is open, then wakes the task."""
        while self._request is None:
            if self._position < len(self._steps):
                step = self._steps[self._position]
                self._position += 1
                self._begin(step)
            elif (fd := next(self._left_open(), None)) is not None:
                self._close(fd)
            else:
                if self._waiter is not None and not self._waiter.done():
                    self._waiter.set_result(None)
                return

    def _begin(self, step: Step) -> None:
        if step._on_failure_of is not None and not (
            step._on_failure_of._was_run and step._on_failure_of._failure is not None
        ):
            step._over = True
            return
        blocked_by = step._blocked_by()
        if self._is_cancelled:
            self._fail(step, asyncio.CancelledError())
        elif blocked_by is not None:
            error = OSError(errno.ECANCELED, f"{os.strerror(errno.ECANCELED)}: {blocked_by!r} failed")
            error.__cause__ = blocked_by._failure
            self._fail(step, error)
        else:
            try:
                request = self._make(step)
                step._was_run = True
                self._launch(step, request)
            except (Exception, asyncio.CancelledError) as error:
                # The latter of a future that a function was to take a value from.
                self._closing = None
                self._fail(step, error)

    def _make(self, step: Step) -> Any:
        def resolved(value: Any) -> Any:
            return value._value() if isinstance(value, Promise) else value

        args = tuple(resolved(value) for value in step._args)
        kwargs = {name: resolved(value) for name, value in step._kwargs.items()}
        if step._op == "close":
            fd = args[0] if args else kwargs.get("fd")
            self._closing = fd if fd in self._fds else None
        return make_request(step._op, args, kwargs)

    def _launch(self, step: Step | None, request: Any) -> None:
        self._current = step
        if request.launch(self._loop, self, True):
            self._finish(step, request)
        else:
            self._request = request

    def _finish(self, step: Step | None, request: Any) -> None:
        failure = request.failure()
        if step is None or not _was_cancelled(failure):
            self._closed()
        self._closing = None
        if failure is not None and self._is_cancelled:
            failure = asyncio.CancelledError()
        if step is None:
            self._close_failure = self._close_failure or failure
        elif failure is not None:
            self._fail(step, failure)
        else:
            step._outcome = request.result()
            step._over = True
            request.hand_over()
            self._fds.update(dict.fromkeys(request.fds, step))

    def _fail(self, step: Step, failure: BaseException) -> None:
        step._failure = failure
        step._over = True
        self._has_failed = True

    def _left_open(self) -> Iterator[int]:
        """The fds that no step closed: all of them where the chain failed, else those that nobody took."""
        failed = self._is_cancelled or self._has_failed
        return (fd for fd, step in self._fds.items() if failed or step not in self._kept)

    def _close(self, fd: int) -> None:
        self._closing = fd
        try:
            self._launch(None, make_request("close", (fd,), {}))
        except RuntimeError:  # another loop's executor, which was shut down
            self._closing = None
            self._close_all()

    def _completed(self, request: Any) -> None:
        self._request = None
        self._finish(self._current, request)
        self._advance()

    def _closed(self) -> None:
        """The fd that was being closed is not ours any more."""
        if self._closing is not None:
            self._fds.pop(self._closing, None)

    def _dropped(self, request: Any) -> None:
        """The loop closed."""
        self._request = None
        if not _was_cancelled(request.failure()):
            self._closed()
        self._close_all()

    def _close_all(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def _cancel(self) -> None:
        self._is_cancelled = True
        if self._request is None:
            # All steps are done, but nobody takes what they opened.
            self._advance()
        elif self._current is not None:
            self._request.cancel()

    def _abandon(self) -> None:
        """The coroutine was closed: nobody waits for the chain any more."""
        self._is_cancelled = True
        if self._request is None:
            self._close_all()
        else:
            self._request.cancel()

    def _conclude(self) -> Any:
        for step in self._steps:
            if step._failure is not None:
                step._failure.add_note(f"in {step!r} of a chain")
                raise step._failure
        if self._close_failure is not None:
            raise self._close_failure
        return self._steps[-1].result() if self._steps else None


def _was_cancelled(failure: OSError | None) -> bool:
    return failure is not None and failure.errno == errno.ECANCELED


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
    """
    return Chain()
