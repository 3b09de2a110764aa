"""CPython's tests of asyncio, run by unittest, with ringloop in the place of asyncio's selector loop, or not.

    python -m suites.cpython REPORT ringloop|asyncio NAME… [--but=NAME…]

runs tests below test.test_asyncio and writes lines of JSON to REPORT: when a test begins, and when it ends.
It changes asyncio in its process, and is imported by nothing.
"""

import argparse
import asyncio
import faulthandler
import json
import sys
import time
import traceback
import types
import unittest
from asyncio import base_events, selector_events, unix_events
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import ringloop

PACKAGE = "test.test_asyncio"
#: More than any test takes: many give up after `test.support.SHORT_TIMEOUT`, which is 30.
TEST_SECONDS_MAX = 100


class SelectorEventLoop(ringloop.Loop):
    """Takes a selector as asyncio's does, and counts the loops."""

    made = 0

    def __init__(self, selector: Any = None) -> None:
        if selector is not None:
            selector.close()
        SelectorEventLoop.made += 1
        super().__init__()


class Mirrored(types.ModuleType):
    """A module of asyncio's: what a test puts in the place of these names in it, ringloop's modules get, too.

    Not `socket` and `os`: with a mock of those no loop of ringloop's could run.
    """

    NAMES = ("logger", "signal", "sys")

    def __setattr__(self, name: str, value: Any) -> None:
        replaced = self.__dict__.get(name)
        super().__setattr__(name, value)
        if name not in self.NAMES:
            return
        for module in list(sys.modules.values()):
            if module.__name__.startswith("ringloop.") and module.__dict__.get(name) is replaced:
                setattr(module, name, value)


def put_in_place() -> None:
    """From now on what makes asyncio's selector loop makes ringloop's."""
    for module in (asyncio, unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, SelectorEventLoop)
    policy: Any = unix_events
    name = "DefaultEventLoopPolicy" if sys.version_info < (3, 14) else "_DefaultEventLoopPolicy"
    getattr(policy, name)._loop_factory = SelectorEventLoop
    for mirrored in (base_events, selector_events, unix_events):
        mirrored.__class__ = Mirrored


class Report(unittest.TestResult):
    """Writes how each test ended and how many loops it made. What only a hook hears of fails the test."""

    def __init__(self, file: TextIO) -> None:
        super().__init__()
        self._file = file
        self._outcome = ""
        self._details: list[str] = []
        self._loops_before = 0
        self._began = 0.0

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._outcome, self._details = "passed", []
        self._loops_before = SelectorEventLoop.made
        self._began = time.monotonic()
        faulthandler.dump_traceback_later(TEST_SECONDS_MAX, exit=True)
        self._write(test, "begun")

    def stopTest(self, test: unittest.TestCase) -> None:
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)
        seconds = round(time.monotonic() - self._began, 3)
        loops = SelectorEventLoop.made - self._loops_before
        self._write(test, self._outcome, details="".join(self._details), loops=loops, seconds=seconds)

    def _write(self, test: unittest.TestCase, outcome: str, **fields: Any) -> None:
        print(json.dumps({"id": name_of(test), "outcome": outcome, **fields}), file=self._file, flush=True)

    def fail(self, error: Any) -> None:
        """Takes a triple as `sys.exc_info` gives."""
        self._outcome = "failed"
        self._details += traceback.format_exception(*error)

    def take_unraisable(self, unraisable: Any) -> None:
        """Is `sys.unraisablehook`."""
        self.fail((unraisable.exc_type, unraisable.exc_value, unraisable.exc_traceback))

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self.fail(err)
        if not isinstance(test, unittest.TestCase):  # what is made ready for a class or module
            self._write(test, "failed", details="".join(self._details))

    addError = addFailure

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self.fail(err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._outcome, self._details = "skipped", [reason]
        if not isinstance(test, unittest.TestCase):
            self._write(test, "skipped", details=reason)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._outcome, self._details = "failed", ["unexpected success"]


def name_of(test: unittest.TestCase) -> str:
    return test.id().removeprefix(f"{PACKAGE}.")


def each_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for part in suite:
        if isinstance(part, unittest.TestSuite):
            yield from each_of(part)
        else:
            yield part


def load(names: list[str], but: list[str]) -> unittest.TestSuite:
    """These tests without some, or those of some classes, all of which have to be there."""
    loader = unittest.defaultTestLoader
    tests = list(each_of(loader.loadTestsFromNames([f"{PACKAGE}.{name}" for name in names])))
    names_of = {test: {name_of(test), name_of(test).rpartition(".")[0]} for test in tests}
    unknown = set(but).difference(*names_of.values())
    if unknown:
        sys.exit(f"no such tests: {', '.join(sorted(unknown))}")
    return unittest.TestSuite(test for test in tests if names_of[test].isdisjoint(but))


def main(report: Path, loop: str, names: list[str], but: list[str]) -> None:
    if loop == "ringloop":
        put_in_place()
    from test import support

    support.verbose = 0
    support.use_resources = []
    with report.open("a") as file:
        result = Report(file)
        sys.unraisablehook = result.take_unraisable
        load(names, but).run(result)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("loop", choices=["ringloop", "asyncio"])
    parser.add_argument("names", nargs="+")
    parser.add_argument("--but", action="append", default=[])
    main(**vars(parser.parse_args()))
