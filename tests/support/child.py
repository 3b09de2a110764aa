"""Runs a piece of Python in a process of its own: for what may crash, hang, fork, exit or be interrupted."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from support.loops import DRIVERS

_TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Child:
    """How a child process ended."""

    returncode: int
    stdout: str
    stderr: str

    def explain(self) -> str:
        """All that is known, for a failure's message."""
        status = f"status {self.returncode}"
        if self.returncode < 0:
            status = signal.Signals(-self.returncode).name
        return f"child ended with {status}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


def run_child(
    code: str,
    *,
    loop_name: str = "asyncio",
    timeout: float = 30.0,
    status: int | None = 0,
    env: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
) -> Child:
    """Runs `code` with faulthandler on and `new_event_loop()` defined to make a loop of the kind `loop_name`.

    `timeout` is in seconds; a child that takes longer is aborted, tells where it was, and fails the test.
    `status` is the exit status to insist on (negative: the signal's number; None: any).
    `RINGLOOP_DRIVER` names the driver of that kind. `env` is added to the environment, `options` are the
    interpreter's.
    """
    prelude = (
        "import functools as _p, support.loops as _l; "
        f"new_event_loop = _p.partial(_l.new_event_loop, {loop_name!r})\n"
    )
    driver = {"RINGLOOP_DRIVER": DRIVERS[loop_name]} if loop_name in DRIVERS else {}
    path = os.pathsep.join([str(_TESTS), *(entry for entry in sys.path if entry)])
    with subprocess.Popen(
        [sys.executable, "-X", "faulthandler", *options, "-c", prelude + textwrap.dedent(code)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **driver, **(env or {})},
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            # To the whole session: a process that the child forked would keep the pipes open.
            os.killpg(process.pid, signal.SIGABRT)
            stdout, stderr = process.communicate()
            raise AssertionError(
                f"after {timeout} s: {Child(process.returncode, stdout, stderr).explain()}"
            ) from None
    child = Child(process.returncode, stdout, stderr)
    assert status is None or child.returncode == status, child.explain()
    return child
