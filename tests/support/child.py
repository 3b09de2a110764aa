"""Runs a piece of Python in a process of its own: for what may crash, hang, fork, exit or be interrupted."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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

    `timeout` is in seconds; a child that takes longer dumps all its threads' tracebacks and fails the test.
    `status` is the exit status to insist on (negative: the signal's number; None: any).
    `env` is added to the environment, `options` are the interpreter's.
    """
    prelude = (
        "import faulthandler as _f, functools as _p, support.loops as _l; "
        f"_f.dump_traceback_later({timeout}, exit=True); "
        f"new_event_loop = _p.partial(_l.new_event_loop, {loop_name!r})\n"
    )
    path = os.pathsep.join([str(_TESTS), *(entry for entry in sys.path if entry)])
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", *options, "-c", prelude + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout + 10,
        env={**os.environ, "PYTHONPATH": path, **(env or {})},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    child = Child(done.returncode, done.stdout, done.stderr)
    assert status is None or child.returncode == status, child.explain()
    return child
