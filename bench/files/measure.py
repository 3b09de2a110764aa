"""Measures one work on files in one way once, in a fresh child process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.children import Child, MeasurementError, NotHereError
from bench.files import material, places
from bench.files.table import FileWorkload
from bench.files.ways import Way
from bench.generator import run_load
from bench.machine import BUILD, Cores
from bench.measure import START_TIMEOUT_S
from bench.rounds import Samples, run_rounds
from bench.workloads import Load

ROW_TIMEOUT_S = 300.0  # a tree of 50,000 files takes aiofiles long
SERVER_SHARE = 2.0  # of the seconds of other works: connections have to settle
LOADS = {
    "static-4k": Load(100, "http", path="/4k"),
    "static-1m": Load(10, "http", path="/1m"),
}


@dataclass(frozen=True)
class FileSample:
    """Time per call, us. `cpu_us` is of all threads of the process; the timer's lateness only for loops."""

    wall_us: float
    cpu_us: float
    late_p99_us: float | None = None


@contextmanager
def material_for(workloads: Sequence[FileWorkload], tree_files: int) -> Any:
    """The directory that holds what the workloads work on."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="files-", dir=BUILD) as name:
        directory = Path(name)
        material.make(directory, [workload.needs for workload in workloads], tree_files)
        places.make_mount_points(directory)
        yield directory


def _serve(workload: FileWorkload, way: Way, child: Child, cores: Cores, seconds: float) -> FileSample:
    port = int(child.read(START_TIMEOUT_S)["port"])
    try:
        report = run_load(
            LOADS[workload.name],
            where={"port": port},
            pid=child.pid,
            cpu=cores.client,
            warmup_s=seconds / 2,
            seconds=seconds * SERVER_SHARE,
        )
    except MeasurementError as error:
        child.check_alive()
        raise child.failure(f"was not measured: {error}") from None
    return FileSample(1e6 / report["requests_per_s"], report["server_cpu_us"])


def measure(workload: FileWorkload, way: Way, directory: Path, cores: Cores, seconds: float) -> FileSample:
    """One sample; MeasurementError, with the reason or the child's stderr, if there is none to be had."""
    arguments = [workload.name, "--way", way.kind, "--loop", way.loop.text]
    arguments += ["--material", str(directory), "--seconds", str(seconds)]
    what = f"workload {workload.name!r} by {way.label}"
    with Child(what, "bench.files", arguments, cores.server) as child:
        if not workload.row:
            return _serve(workload, way, child, cores, seconds)
        answer = child.read(ROW_TIMEOUT_S)
    if "unavailable" in answer:
        raise NotHereError(f"{what}: not to be had here: {answer['unavailable']}")
    return FileSample(**answer)


def measure_all(
    workloads: Sequence[FileWorkload],
    ways: Sequence[Way],
    cores: Cores,
    rounds: int,
    seconds: float,
    tree_files: int,
    announce: Callable[[str], None],
) -> Samples[FileSample]:
    """Interleaved rounds over all; what fails is left out, with its reason."""
    with material_for(workloads, tree_files) as directory:
        return run_rounds(
            workloads,
            lambda workload: [way for way in ways if way.kind in workload.kinds],
            rounds,
            lambda workload, way: measure(workload, way, directory, cores, seconds),
            announce,
            stop_at_failure=False,
        )


def count_samples(workloads: Sequence[FileWorkload], ways: Sequence[Way], rounds: int) -> int:
    """How many `measure_all` takes."""
    return rounds * sum(way.kind in workload.kinds for workload in workloads for way in ways)
