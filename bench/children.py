"""Child processes that are measured: how they are started, spoken to and ended.

A child prints one JSON object per line on stdout; its stderr is kept and shown when it fails.
Invariant: no child outlives its parent, however that ends. `Child` kills in ``__exit__``, and the kernel
kills when the parent is gone without that (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from bench.machine import ROOT

STDERR_LINES_SHOWN = 30
_PR_SET_PDEATHSIG = 1


class MeasurementError(Exception):
    """Something could not be measured; the message is for people and holds the child's stderr."""


class NotHereError(MeasurementError):
    """This machine does not have what is to be measured: nothing is wrong with who measures."""


def settle_child(cpu: int | None) -> None:
    """Called by a child first: pins it to core `cpu` and ties its life to its parent's."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})


class Child:
    """A Python child that runs ``-m MODULE ARGUMENTS…``; a context manager that ends it."""

    def __init__(self, what: str, module: str, arguments: Sequence[str], cpu: int | None) -> None:
        self.what = what
        command = [sys.executable, "-m", module, *arguments]
        if cpu is not None:
            command += ["--cpu", str(cpu)]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - __exit__ closes it
        self._received = b""
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._stderr
        )

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # SIGKILL at once: nothing is worth saving, and how long a shutdown takes is not measured here.
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._stderr.close()

    def read(self, timeout_s: float) -> dict[str, Any]:
        """The next line the child prints; MeasurementError if it ends or takes longer than `timeout_s`."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._received:
                if not selector.select(deadline - time.monotonic()):
                    raise self.failure(f"said nothing for {timeout_s:.0f} s")
                piece = os.read(self._process.stdout.fileno(), 65536)
                if not piece:
                    raise self.failure(self._ending())
                self._received += piece
        line, _, self._received = self._received.partition(b"\n")
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise self.failure(f"printed {line[:200]!r}") from None
        return answer

    def failure(self, reason: str) -> MeasurementError:
        """An error about this child that shows the end of what it wrote to stderr."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").splitlines()
        shown = "\n".join(f"    {line}" for line in lines[-STDERR_LINES_SHOWN:])
        return MeasurementError(f"{self.what} {reason}" + (f"; its stderr:\n{shown}" if shown else ""))

    def check_alive(self) -> None:
        """Raises MeasurementError if the child has ended."""
        if self._process.poll() is not None:
            raise self.failure(self._ending())

    def _ending(self) -> str:
        status = self._process.wait()
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with exit status {status}"
