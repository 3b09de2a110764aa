"""`ringloop.patch`: has libraries that call file functions by threads call ringloop instead.

Only where a loop of ringloop's runs; everywhere else they do as before. What one library needs is in
`patched_NAME.py`: a function `replacements()` that returns, for each attribute to be replaced, its owner,
its name and its new value.
"""

import importlib
import importlib.metadata
from types import TracebackType
from typing import Self

_MODULES = {"aiofiles": "ringloop.patched_aiofiles", "anyio": "ringloop.patched_anyio"}

# What is patched: how often, and what was there before.
_counts: dict[str, int] = {}
_originals: dict[str, list[tuple[object, str, object]]] = {}


class Patch:
    """What `patch` returns: `undo()` takes it back, as the end of a `with` does."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def __repr__(self) -> str:
        return f"<ringloop.Patch {', '.join(self._names) or 'undone'}>"

    def undo(self) -> None:
        """Takes the patch back, unless another one of the same library still stands.

        Does nothing the second time. Files that are open keep working.
        """
        names, self._names = self._names, ()
        for name in names:
            _counts[name] -= 1
            if _counts[name] == 0:
                for owner, attribute, original in reversed(_originals.pop(name)):
                    setattr(owner, attribute, original)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.undo()


def patch(*names: str) -> Patch:
    """Routes the file functions of the libraries named, "anyio" or "aiofiles", to ringloop.

    Programs and frameworks that use them gain without a change, also where they imported a function before.
    It has an effect only in coroutines of a loop of ringloop's. Patching again changes nothing, but has to be
    undone as often.

    Returns a Patch, whose `undo()` takes it back; it may be used in `with`. Raises ValueError for another
    name, or none, and ImportError for a library that is not installed, or whose version has not the parts
    that are replaced; then nothing is patched.
    """
    unknown = [name for name in names if name not in _MODULES]
    if unknown or not names:
        what = f"cannot patch {unknown[0]!r}" if unknown else "nothing to patch"
        raise ValueError(f"{what}: ringloop.patch() takes {' and '.join(map(repr, sorted(_MODULES)))}")
    names = tuple(dict.fromkeys(names))
    made = {name: _replacements(name) for name in names if not _counts.get(name)}
    for name in names:
        _counts[name] = _counts.get(name, 0) + 1
        if name in made:
            _originals[name] = [
                (owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in made[name]
            ]
            for owner, attribute, value in made[name]:
                setattr(owner, attribute, value)
    return Patch(names)


def _replacements(name: str) -> list[tuple[object, str, object]]:
    made: list[tuple[object, str, object]] = importlib.import_module(_MODULES[name]).replacements()
    for owner, attribute, _ in made:
        if not hasattr(owner, attribute):
            version = importlib.metadata.version(name)
            raise ImportError(f"cannot patch {name} {version}: {owner!r} has no {attribute!r}", name=name)
    return made
