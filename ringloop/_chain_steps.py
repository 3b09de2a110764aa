"""The steps of a chain, and the promises of their results that other steps take as arguments.

chains.py makes and runs them, _chain_links.py finds out which go in one submission.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from ringloop import operations


class Promise:
    """A value that a chain will have: an argument for later steps."""

    step: "Step"
    function: Callable[[Any], Any] | None

    def __init__(self, step: "Step", function: Callable[[Any], Any]) -> None:
        self.step = step
        self.function = function

    def then(self, function: Callable[[Any], Any]) -> "Promise":
        """A promise of function(value), such as `status.then(lambda status: status.st_size)`."""
        before = self.function
        chained = function if before is None else lambda value: function(before(value))
        return Promise(self.step, chained)

    def value(self) -> Any:
        """What was promised. The step is over, and had no failure."""
        return self.step.outcome if self.function is None else self.function(self.step.outcome)


class Step(Promise):
    """One operation of a chain, and the promise of its result."""

    def __init__(self, chain: object, number: int, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.function = None
        self.chain = chain  # whose it is: a mark, as the chain itself would wait for the collector then
        self.number = number
        self.op = op
        self.args = args
        self.after: Step | None = kwargs.pop("after", None)
        self.kwargs = kwargs
        self.entry = operations.ENTRIES[operations.ALIASES.get(op, op)]
        # The arguments that other steps' results are, each with its place or its name.
        self.promises: list[tuple[int | str, Promise]] = [
            (place, value) for place, value in enumerate(args) if isinstance(value, Promise)
        ]
        for name, value in kwargs.items():
            if isinstance(value, Promise):
                self.promises.append((name, value))
        # The steps without whose results it cannot run.
        self.needs = [promise.step for _, promise in self.promises]
        if self.after is not None:
            self.needs.append(self.after)
        self.on_failure_of: Step | None = None
        self.is_kept = False
        self.over = False
        self.outcome: Any = None
        self.failure: BaseException | None = None
        self.was_run = False

    @property
    def step(self) -> "Step":  # type: ignore[override]
        """Itself: it is the promise of its own result."""
        return self

    def __repr__(self) -> str:
        return f"<step {self.number} {self.op}>"

    def done(self) -> bool:
        """Whether it is over: it was run, or will not be."""
        return self.over

    def result(self) -> Any:
        """The result, or raises what `exception` is.

        That of an fd is -1, unless it is taken out of the chain by `Chain.fd`: it is closed with the chain.
        """
        if self.failure is not None:
            raise self.failure
        if not self.over:
            raise asyncio.InvalidStateError(f"{self!r} is not done yet")
        is_hidden = self.entry.result == "fd" and not self.is_kept and self.outcome is not None
        return -1 if is_hidden else self.outcome

    def exception(self) -> BaseException | None:
        """What it failed with; an OSError with ECANCELED if it was not run as another step had failed."""
        if not self.over:
            raise asyncio.InvalidStateError(f"{self!r} is not done yet")
        return self.failure

    def blocked_by(self) -> "Step | None":
        """A step of those that has failed."""
        for step in self.needs:
            if step.failure is not None:
                return step
        return None
