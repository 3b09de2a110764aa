"""Builds and runs the load generator (bench/load, in C)."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from bench.children import MeasurementError
from bench.machine import BUILD
from bench.workloads import Load

SOURCES = Path(__file__).resolve().parent / "load"
PROGRAM = BUILD / "load"
GRACE_S = 30  # beyond warm-up and measured time: opening connections, waiting for a server that hangs


def build_generator() -> Path:
    """The program, compiled if a source is newer; MeasurementError if that fails."""
    sources = sorted(SOURCES.glob("*.c"))
    newest = max(path.stat().st_mtime_ns for path in SOURCES.iterdir())
    if PROGRAM.exists() and PROGRAM.stat().st_mtime_ns > newest:
        return PROGRAM
    BUILD.mkdir(parents=True, exist_ok=True)
    # Compiled aside and moved into place: another bench may be running the old one.
    with tempfile.TemporaryDirectory(dir=BUILD) as directory:
        fresh = Path(directory) / "load"
        compiler = shlex.split(os.environ.get("CC", "cc"))
        command = [*compiler, "-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", str(fresh)]
        command += [*map(str, sources), "-ldl"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise MeasurementError(f"no C compiler: {compiler[0]!r} was not found (set CC)") from None
        except subprocess.CalledProcessError as error:
            raise MeasurementError(f"the load generator does not compile:\n{error.stderr}") from None
        fresh.replace(PROGRAM)
    return PROGRAM


def run_load(
    load: Load, *, where: dict[str, int | str], pid: int, cpu: int | None, warmup_s: float, seconds: float
) -> dict[str, Any]:
    """Drives the server `pid`, which is `where` it says: the generator's report, or MeasurementError."""
    command = [str(build_generator()), "--mode", load.mode, "--pid", str(pid)]
    for kind, value in where.items():
        command += [f"--{kind}", str(value)]
    if load.tls:
        command += ["--tls"]
    command += ["--connections", str(load.connections), "--size", str(load.request_bytes)]
    command += ["--path", load.path]
    command += ["--warmup", f"{warmup_s:.3f}", "--seconds", f"{seconds:.3f}"]
    if cpu is not None:
        command += ["--cpu", str(cpu)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=warmup_s + seconds + GRACE_S)
    except subprocess.TimeoutExpired:
        raise MeasurementError("the load generator did not end in time") from None
    if not ended.stdout:
        raise MeasurementError(f"the load generator failed: {ended.stderr.strip()}")
    report: dict[str, Any] = json.loads(ended.stdout)
    errors = ", ".join(f"{kind}: {count}" for kind, count in report["errors"].items() if count)
    if report["failure"] or errors:
        reasons = [reason for reason in (report["failure"], errors, ended.stderr.strip()) if reason]
        raise MeasurementError("the clients met errors: " + "; ".join(reasons))
    return report
