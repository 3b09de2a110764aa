"""Runs `python -m ringloop …` and other Python in a child process, as a user does from a shell."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from support.loops import why_no_ring


def run_python(
    *arguments: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdout: int | IO[str] = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """Runs this interpreter, every warning an error; `env` is added to the environment."""
    # Where io_uring is refused, a loop that was not told to take epoll warns.
    plain = {name: value for name, value in os.environ.items() if name != "RINGLOOP_DRIVER" or why_no_ring()}
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        cwd=cwd,
        env={**plain, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry), **(env or {})},
        stdin=subprocess.DEVNULL,
        check=False,
    )


def ringloop_command(
    *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m ringloop` with the arguments."""
    return run_python("-m", "ringloop", *arguments, cwd=cwd, env=env)
