"""The event loops that can be compared, by name.

A name is ``asyncio``, ``uvloop``, ``ringloop``, ``ringloop:DRIVER`` for one of its drivers, or one of the
latter two with ``@DIRECTORY`` for the ringloop built in another checkout. ``python -m bench.loops NAME``
makes and closes such a loop and prints what it is; the measuring programs run that in a child first, so that
a loop that cannot be had is an error at the start.

Invariant: this module imports no loop but the one asked for, and only when asked. Two builds of ringloop
never meet in one process.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

MODULES = ("asyncio", "uvloop", "ringloop")
DRIVERS = ("io_uring", "epoll")


class LoopNameError(ValueError):
    """A name that is none of the loops known here."""


@dataclass(frozen=True)
class LoopName:
    """One loop to measure: the module whose ``new_event_loop`` makes it, and where that is imported from.

    `driver` is what ringloop is told to take; without it, it chooses.
    """

    text: str
    module: str
    driver: str | None = None
    checkout: Path | None = None

    @property
    def label(self) -> str:
        """A short name for tables: ``ringloop@/some/where/old`` is ``ringloop@old``."""
        name = f"{self.module}:{self.driver}" if self.driver else self.module
        return f"{name}@{self.checkout.name}" if self.checkout else name

    @property
    def is_ringloop(self) -> bool:
        """Whether the bars apply to it."""
        return self.module == "ringloop"


def parse_loop(text: str) -> LoopName:
    """The loop called `text`; raises LoopNameError if there is none."""
    name, at, directory = text.strip().partition("@")
    module, colon, driver = name.partition(":")
    if module not in MODULES or ((at or colon) and module != "ringloop") or (colon and driver not in DRIVERS):
        known = ", ".join([*MODULES, *(f"ringloop:{each}" for each in DRIVERS)])
        raise LoopNameError(f"unknown loop {text!r}: use {known} or ringloop@DIRECTORY")
    if not at:
        return LoopName(name, module, driver or None)
    checkout = Path(directory).resolve()
    if not (checkout / "ringloop").is_dir():
        raise LoopNameError(f"{text!r}: there is no directory {checkout / 'ringloop'}")
    return LoopName(f"{name}@{checkout}", module, driver or None, checkout)


def parse_loops(text: str) -> list[LoopName]:
    """The loops of a comma-separated list, each once."""
    loops = [parse_loop(part) for part in text.split(",") if part.strip()]
    labels = [loop.label for loop in loops]
    if not loops or len(set(labels)) != len(labels):
        raise LoopNameError(f"{text!r}: name at least one loop, and each once")
    return loops


def select_loop(text: str) -> LoopName:
    """Makes this process take the loop `text` from where its name says; for child processes."""
    loop = parse_loop(text)
    if loop.driver:
        os.environ["RINGLOOP_DRIVER"] = loop.driver
    if loop.checkout:
        sys.path.insert(0, str(loop.checkout))
    module = importlib.import_module(loop.module)
    if loop.checkout and not Path(str(module.__file__)).is_relative_to(loop.checkout):
        raise ImportError(f"{text}: ringloop was imported from {module.__file__}")
    if not hasattr(module, "new_event_loop"):
        raise ImportError(f"{text}: the module has no new_event_loop (is it built?)")
    return loop


def factory_of(loop: LoopName) -> LoopFactory:
    """What makes a new loop of this kind."""
    factory: LoopFactory = importlib.import_module(loop.module).new_event_loop
    return factory


@dataclass(frozen=True)
class LoopFacts:
    """What a loop is on this machine."""

    kind: str
    version: str
    file: str
    driver: str | None


def describe(loop: LoopName) -> LoopFacts:
    """Makes a loop, looks at it, closes it."""
    module = importlib.import_module(loop.module)
    made = factory_of(loop)()
    try:
        driver = getattr(made, "driver", None)
        kind = f"{type(made).__module__}.{type(made).__qualname__}"
    finally:
        made.close()
    version = getattr(module, "__version__", None)
    if loop.module == "asyncio":
        version = "of Python {}.{}.{}".format(*sys.version_info)
    elif version is None:
        version = importlib.metadata.version(loop.module)
    return LoopFacts(kind, str(version), str(module.__file__), None if driver is None else str(driver))


def main() -> int:
    """Prints the facts of one loop as JSON; exit status 1 with a line on stderr if it cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m bench.loops", description=main.__doc__)
    parser.add_argument("loop")
    arguments = parser.parse_args()
    try:
        facts = describe(select_loop(arguments.loop))
    except (ImportError, OSError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(vars(facts)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
