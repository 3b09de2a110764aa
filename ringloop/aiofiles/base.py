"""What the files of `ringloop.aiofiles` have in common: whom a method is passed on to, and the `async with`.

A method goes to a file object of ringloop, whose own methods are awaited, or by a thread to a blocking one.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

from ringloop import routes
from ringloop._files import File
from ringloop.loop import Loop


class Awaited:
    """A file object of ours upon one of ringloop's: what it has is awaited, too."""

    async def __aexit__(self, *exception: object) -> None:
        raise NotImplementedError


def takes_threads(executor: Any) -> bool:
    """Whether all is done by threads: the caller named those, and the loop has nothing else."""
    return executor is not None and not isinstance(asyncio.get_running_loop(), Loop)


async def in_thread(loop: Any, executor: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What the function returns, called by a thread of `executor`, or of the loop's if that is None."""
    if loop is None:
        loop = asyncio.get_running_loop()
    return await loop.run_in_executor(executor, functools.partial(function, *args, **kwargs))


def wrap(func: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """A coroutine function that does what the blocking `func` does.

    By an operation if `func` is one of the functions of `os` that ringloop has, else by a thread. It takes
    `loop` and `executor`, too.
    """
    route = routes.find(func)

    @functools.wraps(func)
    async def run(*args: Any, loop: Any = None, executor: Any = None, **kwargs: Any) -> Any:
        if route is None or takes_threads(executor):
            return await in_thread(loop, executor, func, *args, **kwargs)
        return await route(*args, **kwargs)

    return run


class AsyncBase:
    """A file whose methods are awaited."""

    def __init__(self, file: Any, loop: Any, executor: Any) -> None:
        self._file = file
        self._executor = executor
        self._ref_loop = loop

    @property
    def _loop(self) -> Any:
        return self._ref_loop or asyncio.get_running_loop()

    def __aiter__(self) -> Self:
        return self

    def __repr__(self) -> str:
        return f"{super().__repr__()} wrapping {self._file!r}"

    async def __anext__(self) -> Any:
        # Not the file's own: tell() would be refused in the middle of a text.
        if line := await self.readline():  # type: ignore[attr-defined]
            return line
        raise StopAsyncIteration

    async def _exit(self, exc_type: Any, exc: Any, traceback: Any) -> None:
        """At the end of `async with`."""
        if isinstance(self._file, (File, Awaited)):
            await self._file.__aexit__(exc_type, exc, traceback)
        else:
            await in_thread(None, None, self._file.__exit__, exc_type, exc, traceback)


class AsyncIndirectBase(AsyncBase):
    """A file that is looked up for every call."""

    def __init__(self, name: str, loop: Any, executor: Any, indirect: Callable[[], Any]) -> None:
        self._indirect = indirect
        self._name = name
        super().__init__(None, loop, executor)

    @property
    def _file(self) -> Any:
        return self._indirect()

    @_file.setter
    def _file(self, file: Any) -> None:
        """There is none to keep."""


class AiofilesContextManager(Awaitable[Any], AbstractAsyncContextManager[Any]):
    """What open() returns: awaited, or entered by `async with`, it is the file."""

    __slots__ = ("_coro", "_obj")

    def __init__(self, coro: Coroutine[Any, Any, Any]) -> None:
        self._coro = coro
        self._obj: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        if self._obj is None:
            self._obj = yield from self._coro.__await__()
        return self._obj

    async def __aenter__(self) -> Any:
        return await self

    async def __aexit__(self, exc_type: Any, exc: Any, traceback: Any) -> None:
        await self._obj._exit(exc_type, exc, traceback)
        self._obj = None


# --- the methods of file classes


def _awaited_method(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        file = self._file
        if isinstance(file, File):
            return getattr(file, name)(*args, **kwargs)
        return _elsewhere(self, name, args, kwargs)

    return method


async def _elsewhere(self: Any, name: str, args: Any, kwargs: Any) -> Any:
    method = getattr(self._file, name)
    if isinstance(self._file, Awaited):
        return await method(*args, **kwargs)
    return await in_thread(self._loop, self._executor, method, *args, **kwargs)


def _answered_method(name: str) -> Callable[..., Any]:
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self._file, (File, Awaited)):
            return getattr(self._file, name)(*args, **kwargs)
        return await _elsewhere(self, name, args, kwargs)

    return method


def _plain_method(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._file, name)(*args, **kwargs)

    return method


def _plain_property(name: str) -> property:
    return property(lambda self: getattr(self._file, name))


def file_methods(*, awaited: str = "", answered: str = "", plain: str = "", properties: str = "") -> Any:
    """Decorates a file class with methods and properties that pass on, whose names are given.

    `awaited`: coroutines with ringloop's files, too. `answered`: there they are known at once, but aiofiles
    has coroutines. `plain`: nobody waits.
    """
    kinds = (
        (awaited, _awaited_method),
        (answered, _answered_method),
        (plain, _plain_method),
        (properties, _plain_property),
    )

    def decorate(kind: Any) -> Any:
        for names, make in kinds:
            for name in names.split():
                member = make(name)
                if not isinstance(member, property):
                    member.__name__ = name
                    member.__qualname__ = f"{kind.__name__}.{name}"
                    member.__doc__ = f"As {name}() of the file objects of `io`."
                setattr(kind, name, member)
        return kind

    return decorate
