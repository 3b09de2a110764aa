"""Other projects' own tests: fetched from the package index, and run by a pytest of their own."""

import faulthandler
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent


@dataclass(frozen=True)
class Suite:
    """A project's tests at one version, and which of them are left out."""

    project: str
    version: str
    arguments: tuple[str, ...]
    #: The test's name, without parameters, and why it cannot pass.
    left_out: dict[str, str]
    #: How many must pass at least: that all were skipped is no success.
    passed_min: int


def run_program(command: list[str], **others: Any) -> subprocess.CompletedProcess[str]:
    """Runs a program for ten minutes at most, which is longer than faulthandler lets a test take."""
    faulthandler.cancel_dump_traceback_later()
    return subprocess.run(command, capture_output=True, text=True, timeout=600, **others)


def fetch(suite: Suite, into: Path) -> Path:
    """The unpacked source distribution. The test is skipped if there is no network."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    # Its build is not wanted, but pip asks it for its name, and for that needs what it is built with.
    command += ["--no-binary", suite.project, "--dest", str(into), f"{suite.project}=={suite.version}"]
    done = run_program(command)
    archives = sorted(into.glob("*.tar.gz"))
    if done.returncode != 0 or not archives:
        if re.search(
            r"NewConnectionError|NameResolutionError|Temporary failure in name resolution", done.stderr
        ):
            pytest.skip("no network")
        pytest.fail(f"pip download {suite.project}: {done.stderr}")
    # Not by tarfile: how it is told to be careful differs between the versions of Python 3.11.
    subprocess.run(["tar", "--extract", "--file", archives[0], "--directory", into], check=True)
    return into / archives[0].name.removesuffix(".tar.gz")


def run(suite: Suite, source: Path, **environment: str) -> None:
    """Runs the tests and fails unless all pass but those left out, which must fail."""
    report = source / "report.xml"
    report.unlink(missing_ok=True)  # of the run before
    command = [sys.executable, "-m", "pytest", "-q", "-p", "suites.plugin", "-p", "no:cacheprovider"]
    command += [f"--junit-xml={report}", *suite.arguments]
    path = os.pathsep.join((str(ROOT), str(TESTS)))
    env = {**os.environ, **environment, "PYTHONPATH": path}
    env.pop("PYTEST_ADDOPTS", None)
    done = run_program(command, cwd=source, env=env)
    assert report.exists(), done.stdout + done.stderr
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = {case.get("name", "") for case in cases if {"failure", "error"} & {part.tag for part in case}}
    unexpected = {name for name in failed if name.partition("[")[0] not in suite.left_out}
    assert not unexpected, done.stdout[-20_000:]
    passed = {name.partition("[")[0] for name in suite.left_out} - {name.partition("[")[0] for name in failed}
    assert not passed, f"left out, but they pass: {passed}"
    assert sum(len(case) == 0 for case in cases) >= suite.passed_min, done.stdout
