"""Measures one workload on one loop once, in a fresh child process."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from bench.children import Child, MeasurementError
from bench.generator import run_load
from bench.loops import LoopFacts, LoopName
from bench.machine import ROOT, Cores
from bench.workloads import Workload

START_TIMEOUT_S = 20.0
MICRO_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Pace:
    """How long things take."""

    warmup_s: float
    seconds: float
    micro_s: float


@dataclass(frozen=True)
class Sample:
    """One measurement. CPU time is the measured process's, per request or call; the rest only for servers."""

    cpu_us: float
    requests_per_s: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    p999_us: float | None = None
    server_busy: float | None = None
    client_busy: float | None = None


def loop_facts(loop: LoopName) -> LoopFacts:
    """What `loop` is, found out in a child; MeasurementError with the reason if it cannot be had."""
    command = [sys.executable, "-m", "bench.loops", loop.text]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if ended.returncode != 0:
        reason = ended.stderr.strip().splitlines()[-1:] or [f"exit status {ended.returncode}"]
        raise MeasurementError(f"the loop {loop.text!r} cannot be used here: {reason[0]}")
    return LoopFacts(**json.loads(ended.stdout))


def start_server(server: str, loop: LoopName, cores: Cores) -> Child:
    """The child that serves, still starting: its first line tells where."""
    return Child(
        f"server {server!r} on {loop.label}", "bench.servers", [server, "--loop", loop.text], cores.server
    )


def _measure_server(workload: Workload, loop: LoopName, cores: Cores, pace: Pace) -> Sample:
    assert workload.load is not None
    with start_server(workload.server, loop, cores) as server:
        where = server.read(START_TIMEOUT_S)
        try:
            report = run_load(
                workload.load,
                where=where,
                pid=server.pid,
                cpu=cores.client,
                warmup_s=pace.warmup_s,
                seconds=pace.seconds,
            )
        except MeasurementError as error:
            server.check_alive()  # a server that died is the better explanation
            raise server.failure(f"was not measured: {error}") from None
        server.check_alive()
    latency = report["latency_us"]
    return Sample(
        cpu_us=report["server_cpu_us"],
        requests_per_s=report["requests_per_s"],
        p50_us=latency["p50"],
        p99_us=latency["p99"],
        p999_us=latency["p999"],
        server_busy=report["server_busy"],
        client_busy=report["client_busy"],
    )


def _measure_micro(workload: Workload, loop: LoopName, cores: Cores, pace: Pace) -> Sample:
    arguments = [workload.name, "--loop", loop.text, "--seconds", str(pace.micro_s)]
    what = f"workload {workload.name!r} on {loop.label}"
    with Child(what, "bench.micro", arguments, cores.server) as child:
        return Sample(cpu_us=float(child.read(MICRO_TIMEOUT_S)["cpu_us"]))


def measure(workload: Workload, loop: LoopName, cores: Cores, pace: Pace) -> Sample:
    """One sample; MeasurementError, with the child's stderr, if there is none to be had."""
    if workload.load:
        return _measure_server(workload, loop, cores, pace)
    return _measure_micro(workload, loop, cores, pace)
