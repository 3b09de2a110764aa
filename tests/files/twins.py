"""A ringloop file beside a blocking one on an equal file: what each call does on both must be equal."""

import asyncio
import builtins
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ringloop

Outcome = tuple[str, Any]


def blocking(call: Callable[[], Any]) -> Outcome:
    """('returned', value), or ('raised', what tells one error from another)."""
    try:
        return "returned", call()
    except Exception as error:
        return "raised", told(error)


async def awaited(call: Callable[[], Any]) -> Outcome:
    """The same of a call that may have to be awaited."""
    try:
        value = call()
        return "returned", await value if inspect.isawaitable(value) else value
    except Exception as error:
        return "raised", told(error)


def told(error: Exception) -> tuple[str, str]:
    return type(error).__name__, str(error).replace("ringloop-", "").replace("blocking-", "")


class Twins:
    """Two equal files in `folder`, open in the same way."""

    def __init__(self, runner: asyncio.Runner, folder: Path, content: bytes) -> None:
        self.runner = runner
        self.paths = folder / "ringloop-file", folder / "blocking-file"
        for path in self.paths:
            path.write_bytes(content)
        self.ours: Any = None
        self.theirs: Any = None

    def open(self, *args: Any, write_behind: int = 0, **keywords: Any) -> None:
        self.ours = self.runner.run(self._open(*args, write_behind=write_behind, **keywords))
        self.theirs = builtins.open(self.paths[1], *args, **keywords)  # noqa: SIM115

    async def _open(self, *args: Any, **keywords: Any) -> Any:
        return await ringloop.open(self.paths[0], *args, **keywords)

    def same(self, method: str, *args: Any) -> Any:
        """Calls it on both; the result, or None after an error."""
        expected = blocking(lambda: getattr(self.theirs, method)(*args))
        found = self.runner.run(awaited(lambda: getattr(self.ours, method)(*args)))
        assert found == expected, (method, args)
        return expected[1] if expected[0] == "returned" else None

    def next(self) -> None:
        """One step of iteration."""
        expected = blocking(lambda: next(self.theirs, None))
        found = self.runner.run(awaited(lambda: anext(self.ours, None)))
        assert found == expected

    def tell_and_come_back(self) -> None:
        """What tell() of a text file answers is for its own seek() alone."""
        expected = blocking(self.theirs.tell)
        found = self.runner.run(awaited(self.ours.tell))
        if expected[0] == "raised":
            assert found == expected
            return
        self.same("read", 7)
        assert self.theirs.seek(expected[1]) == expected[1]
        assert self.runner.run(awaited(lambda: self.ours.seek(found[1]))) == found

    def close(self) -> None:
        self.same("close")
        assert self.paths[0].read_bytes() == self.paths[1].read_bytes()
