"""CPython's own tests of asyncio, those of the running interpreter, with ringloop in the place of its loop.

A test that does not pass is run again on asyncio's loop: where it passes there, it has to pass on ringloop
each time that it is run again. What is left out is in cpython_left_out.toml, with the reasons.
"""

import importlib.util
import json
import os
import sys
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from suites.judging import fail_for_good, names_here
from suites.published import ROOT, TESTS, run_program
from support.marks import ringloop_only

PACKAGE = "test.test_asyncio"

pytestmark = [ringloop_only, pytest.mark.loop_suites, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class LeftOut:
    """Patterns of names, for this Python."""

    not_run: list[str]
    cannot_pass: list[str]

    @classmethod
    def load(cls) -> "LeftOut":
        data = tomllib.loads(Path(__file__).with_name("cpython_left_out.toml").read_text())
        return cls(*(names_here(data[key]) for key in ("not_run", "cannot_pass")))

    def of(self, module: str) -> "LeftOut":
        """What is left out of one module."""

        def chosen(names: list[str]) -> list[str]:
            return [name for name in names if name.startswith(f"{module}.")]

        return LeftOut(chosen(self.not_run), chosen(self.cannot_pass))


def all_modules() -> list[str]:
    """The modules of CPython's tests of asyncio; none where they are not installed."""
    try:
        found = importlib.util.find_spec(PACKAGE)
    except ModuleNotFoundError:
        return []
    where = found.submodule_search_locations if found else None
    return sorted(path.stem for path in Path(where[0]).glob("test_*.py")) if where else []


LEFT_OUT = LeftOut.load()
ALL_MODULES = all_modules()
MODULES = [module for module in ALL_MODULES if module not in LEFT_OUT.not_run]

needs_tests = pytest.mark.skipif(not ALL_MODULES, reason=f"this Python has no {PACKAGE}")


@dataclass(frozen=True)
class Outcome:
    """How a test ended."""

    outcome: str
    details: str = ""
    loops: int = 0
    seconds: float = 0


def run_tests(loop: str, tests: list[str], but: list[str], tmp_path: Path) -> dict[str, Outcome]:
    """Runs them in a child process, all of them or until one hangs; the outcome of each that was begun."""
    report = tmp_path / f"{loop}.jsonl"
    path = os.pathsep.join((str(ROOT), str(TESTS)))
    command = [sys.executable, "-m", "suites.cpython", str(report), loop]
    command += [*tests, *(f"--but={name}" for name in but)]
    done = run_program(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    outcomes: dict[str, Outcome] = {}
    for line in report.read_text().splitlines() if report.exists() else []:
        fields = json.loads(line)
        name = fields.pop("id")
        outcomes[name] = Outcome(**fields)
    begun = [name for name, outcome in outcomes.items() if outcome.outcome == "begun"]
    assert done.returncode == 0, f"{begun} ended the process:\n{done.stdout}{done.stderr}"
    return outcomes


def is_among(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@needs_tests
@pytest.mark.parametrize("module", MODULES or ["none"])
def test_what_passes_on_asyncio_passes(module: str, ringloop_driver: str, tmp_path: Path) -> None:
    left_out = LEFT_OUT.of(module)
    outcomes = run_tests("ringloop", [module], left_out.not_run, tmp_path)
    passed = [name for name, outcome in outcomes.items() if outcome.outcome == "passed"]
    unexpected = {name for name in outcomes.keys() - passed if not is_among(name, left_out.cannot_pass)}
    if unexpected:
        on_asyncio = run_tests("asyncio", sorted(unexpected), [], tmp_path)
        unexpected = {name for name in unexpected if on_asyncio[name].outcome == "passed"}

        def run_again(names: list[str]) -> set[str]:
            again = run_tests("ringloop", names, [], tmp_path)
            return {name for name in names if again[name].outcome != "passed"}

        unexpected = fail_for_good(unexpected, run_again)
    wrong = [f"{name}: {outcomes[name].outcome}\n{outcomes[name].details}" for name in sorted(unexpected)]
    wrong += [f"{name}: left out, but it passes" for name in passed if is_among(name, left_out.cannot_pass)]
    wrong += [
        f"{pattern}: left out, but there is no such test"
        for pattern in left_out.cannot_pass
        if not any(fnmatchcase(name, pattern) for name in outcomes)
    ]
    # That most were skipped is no success, nor that loops of asyncio's own were tested.
    expected = [name for name in outcomes if not is_among(name, left_out.cannot_pass)]
    if 2 * len(passed) < len(expected):
        wrong.append(f"only {len(passed)} of {len(expected)} passed")
    if not any(outcomes[name].loops for name in passed):
        wrong.append("no loop was made in the place of asyncio's")
    assert not wrong, "\n".join(wrong)


@needs_tests
def test_what_is_not_run_exists() -> None:
    names = LEFT_OUT.not_run + LEFT_OUT.cannot_pass
    assert not {name.partition(".")[0] for name in names} - set(ALL_MODULES)
