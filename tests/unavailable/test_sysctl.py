"""Where the administrator has switched io_uring off. The switch is the whole machine's: these tests run with
`--machine-wide` only, alone, and set it back."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.child import run_child

SWITCH = Path("/proc/sys/kernel/io_uring_disabled")

pytestmark = [
    pytest.mark.machine_wide,
    pytest.mark.skipif(not SWITCH.exists(), reason="this kernel has no such switch; it came with 6.6"),
]

TOLD = """
import asyncio, json, logging, os, ringloop
if os.geteuid() == 0 and {ordinary}:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
records = []
handler = logging.Handler()
handler.emit = records.append
logging.getLogger("ringloop").addHandler(handler)
loop = ringloop.new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
loop.close()
try:
    ringloop.new_event_loop("io_uring").close()
except ringloop.RingUnavailableError as error:
    cause = error.cause
else:
    cause = None
print(json.dumps([loop.driver, cause, [record.getMessage() for record in records]]))
"""


@pytest.fixture
def switch() -> Iterator[Callable[[int], None]]:
    """Sets kernel.io_uring_disabled. It is as before afterwards."""
    before = SWITCH.read_text()
    try:
        yield lambda value: SWITCH.write_text(f"{value}\n") and None
    finally:
        SWITCH.write_text(before)


def told(ordinary: bool) -> tuple[str, str | None, list[str]]:
    child = run_child(TOLD.format(ordinary=ordinary), env={"RINGLOOP_DRIVER": ""})
    assert child.stderr == ""
    driver, cause, warnings = json.loads(child.stdout)
    return driver, cause, warnings


@pytest.mark.parametrize("ordinary", [False, True], ids=["root", "ordinary"])
def test_for_every_process(ordinary: bool, switch: Callable[[int], None]) -> None:
    switch(2)
    driver, cause, warnings = told(ordinary)
    assert (driver, cause, len(warnings)) == ("epoll", "sysctl", 1)
    assert "kernel.io_uring_disabled is 2" in warnings[0]
    assert "sysctl -w kernel.io_uring_disabled=0" in warnings[0]


def test_for_all_but_a_group(switch: Callable[[int], None]) -> None:
    switch(1)
    assert told(ordinary=False) == ("io_uring", None, [])
    driver, cause, warnings = told(ordinary=True)
    assert (driver, cause, len(warnings)) == ("epoll", "sysctl", 1)
    assert "kernel.io_uring_group" in warnings[0]


def test_a_loop_that_runs_goes_on(switch: Callable[[int], None]) -> None:
    """The switch is about new rings."""
    with_loop = """
import asyncio, pathlib, ringloop
loop = ringloop.new_event_loop("io_uring")
async def main():
    pathlib.Path("/proc/sys/kernel/io_uring_disabled").write_text("2")
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b""
    writer.close()
    server.close()
loop.run_until_complete(main())
loop.close()
second = ringloop.new_event_loop()
print(second.driver)
second.close()
"""
    switch(0)
    child = run_child(with_loop, env={"RINGLOOP_DRIVER": ""})
    assert child.stdout == "epoll\n"
    assert child.stderr.startswith("io_uring is not available")
