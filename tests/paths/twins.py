"""The same call on a pathlib.Path and on a ringloop.Path, in equal trees, and what came of each."""

import inspect
import os
import pathlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ringloop
from os_calls.differential import make_tree, tree


class Case:
    """`Path(path).method(*args)`. What is a Path in the arguments is one of the same class."""

    def __init__(self, path: str, method: str, *args: Any, **keywords: Any) -> None:
        self.path, self.method, self.args, self.keywords = path, method, args, keywords

    def __repr__(self) -> str:
        words = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.keywords.items())]
        return f"Path({self.path!r}).{self.method}({', '.join(words)})"[:150]

    def begin(self, cls: Any) -> Any:
        args = [cls(arg) if isinstance(arg, pathlib.PurePath) else arg for arg in self.args]
        return getattr(cls(self.path), self.method)(*args, **self.keywords)


def plain(value: Any) -> Any:
    """A result as both can have it in common."""
    if isinstance(value, pathlib.Path | ringloop.Path):
        return "path", str(value)
    if isinstance(value, os.stat_result):
        return value.st_mode, value.st_nlink, value.st_uid, value.st_size, value.st_mtime_ns
    if isinstance(value, BaseException):
        # What is no path is refused by `os` with the name of its class.
        message = str(value).replace("PosixPath(", "Path(")
        names = getattr(value, "filename", None), getattr(value, "filename2", None)
        return type(value), message, tuple(name if name is None else os.fspath(name) for name in names)
    return type(value)(map(plain, value)) if isinstance(value, list | tuple) else value


def by_pathlib(case: Case) -> Any:
    try:
        value = case.begin(pathlib.Path)
        if inspect.isgenerator(value) or hasattr(value, "__next__"):
            value = list(value)
    except Exception as error:
        value = error
    return plain(value)


async def by_ringloop(case: Case) -> Any:
    try:
        value = case.begin(ringloop.Path)
        if hasattr(value, "__anext__"):
            value = [found async for found in value]
        elif inspect.isawaitable(value):
            value = await value
    except Exception as error:
        value = error
    return plain(value)


async def different(
    cases: list[Case], root: Path, chdir: Callable[[Path], None], is_fresh: bool
) -> list[str]:
    """The cases whose results differ, or what they leave. `is_fresh`: none sees what the one before did."""
    found = []
    chdir(Path("/"))
    with tree(root, make_tree) as place:
        if not is_fresh:
            place.stand()
        for case in cases:
            outcomes = []
            for by in (by_pathlib, by_ringloop):
                if is_fresh:
                    place.stand()
                chdir(root)
                result: Any = by(case)
                if inspect.isawaitable(result):
                    result = await result
                outcomes.append((result, place.look() if is_fresh else None))
                chdir(Path("/"))
            if outcomes[0] != outcomes[1]:
                found.append(f"{case!r}\n  pathlib:  {outcomes[0]}\n  ringloop: {outcomes[1]}")
    return found
