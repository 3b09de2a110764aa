"""Where a seccomp filter denies io_uring, as in Docker: loops use epoll, with one warning; asked for
io_uring, they raise a clear error; and the doctor tells."""

import errno
import json

import pytest

from support.marks import needs_io_uring
from unavailable.denial import CALLS, run_denied

pytestmark = needs_io_uring

denials = pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
calls = pytest.mark.parametrize("call", CALLS)

NEW_EVENT_LOOP = """
import json, os, ringloop
before = os.listdir("/proc/self/fd")
try:
    ringloop.new_event_loop("io_uring")
except ringloop.RingUnavailableError as error:
    values = {**vars(error), "errno": error.errno, "message": str(error)}
    values["is_os_error"] = isinstance(error, OSError)
    values["left_open"] = len(os.listdir("/proc/self/fd")) - len(before)
    print(json.dumps(values))
"""


@calls
@denials
def test_new_event_loop_names_cause_evidence_and_remedy(call: str, error: str) -> None:
    child = run_denied({call: error}, "-c", NEW_EVENT_LOOP)
    assert child.returncode == 0, child.stderr
    told = json.loads(child.stdout)
    assert told["is_os_error"]
    assert told["errno"] == getattr(errno, error)
    assert told["cause"] == "seccomp"
    assert f"{call} failed with {error}" in told["found_by"]
    assert "Seccomp: 2" in told["found_by"]
    assert "--security-opt seccomp=" in told["remedy"]
    for words in (told["reason"], told["found_by"], told["remedy"]):
        assert words in told["message"]
    assert told["left_open"] == 0


@calls
@denials
def test_the_doctor_tells_the_same_and_fails(call: str, error: str) -> None:
    child = run_denied({call: error}, "-m", "ringloop")
    assert child.returncode == 1, child.stderr
    assert not child.stderr
    report = " ".join(child.stdout.split())
    assert "io_uring does not work here cause seccomp: a seccomp filter refuses" in report
    assert f"found by {call} failed with {error}" in report
    assert "remedy permit io_uring_setup, io_uring_enter and io_uring_register" in report
    assert "seccomp: a filter is in place" in report


STARTS = pytest.mark.parametrize(
    "start",
    [
        "ringloop.Loop().run_until_complete(main())",
        "ringloop.run(main())",
        "ringloop.install(); asyncio.run(main())",
        "asyncio.Runner(loop_factory=ringloop.new_event_loop).run(main())",
    ],
)


@STARTS
def test_every_way_to_a_loop_raises_if_io_uring_is_asked_for(start: str) -> None:
    code = f"""
import asyncio, os, ringloop, warnings
warnings.simplefilter("ignore", RuntimeWarning)  # main is never awaited
os.environ["RINGLOOP_DRIVER"] = "io_uring"
async def main(): pass
try:
    {start}
except ringloop.RingUnavailableError as error:
    print(error.cause)
"""
    child = run_denied({"io_uring_setup": "EPERM"}, "-c", code)
    assert (child.stdout, child.stderr, child.returncode) == ("seccomp\n", "", 0)


WARNED = """
import asyncio, logging, sys, ringloop
records = []
handler = logging.Handler()
handler.emit = records.append
logging.getLogger("ringloop").addHandler(handler)
async def main():
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b""
    writer.close()
    server.close()
    print(loop.driver)
"""


@calls
@denials
def test_every_loop_uses_epoll_and_the_first_one_warns(call: str, error: str) -> None:
    code = (
        WARNED
        + """
for _ in range(3):
    ringloop.run(main())
for record in records:
    print(record.levelname, record.getMessage())
"""
    )
    child = run_denied({call: error}, "-W", "error", "-c", code)
    assert (child.stderr, child.returncode) == ("", 0)
    *drivers, warning = child.stdout.splitlines()
    assert drivers == ["epoll"] * 3
    assert warning.startswith("WARNING io_uring is not available, and so loops use epoll")
    assert f"{call} failed with {error}" in warning
    assert "--security-opt seccomp=" in warning
    assert "RINGLOOP_DRIVER=epoll" in warning


@calls
def test_without_memory_for_a_ring_loops_use_epoll(call: str) -> None:
    code = WARNED + "ringloop.run(main())\nprint(records[0].getMessage())"
    child = run_denied({call: "ENOMEM"}, "-W", "error", "-c", code)
    assert (child.stderr, child.returncode) == ("", 0)
    driver, warning = child.stdout.splitlines()
    assert driver == "epoll"
    assert f"{call} failed with ENOMEM" in warning
    assert "memory" in warning.partition("Remedy: ")[2] or "ulimit -l" in warning


@STARTS
def test_every_way_to_a_loop_leads_to_epoll(start: str) -> None:
    child = run_denied({"io_uring_setup": "ENOSYS"}, "-c", f"{WARNED}\n{start}\nprint(len(records))")
    assert (child.stdout, child.returncode) == ("epoll\n1\n", 0), child.stderr


def test_nobody_is_warned_who_asked_for_epoll() -> None:
    choice = "import os\nos.environ['RINGLOOP_DRIVER'] = 'epoll'"
    code = f"{choice}\n{WARNED}\nringloop.run(main())\nprint(records)"
    child = run_denied({"io_uring_setup": "EPERM"}, "-c", code)
    assert (child.stdout, child.stderr, child.returncode) == ("epoll\n[]\n", "", 0)


def test_a_ring_that_the_running_thread_may_not_enable_is_replaced() -> None:
    """A filter that is put in place between a loop's making and its first run."""
    code = f"""
import sys
sys.path.insert(0, sys.argv[1])
from unavailable.denial import install_filter
{WARNED}
loop = ringloop.new_event_loop()
assert loop.driver == "io_uring"
install_filter({{"io_uring_register": "EPERM"}})
loop.run_until_complete(main())
loop.close()
print(len(records))
"""
    child = run_denied({}, "-c", code, __file__.rpartition("/unavailable/")[0])
    assert (child.stdout, child.returncode) == ("epoll\n1\n", 0), child.stderr


def test_importing_needs_no_io_uring() -> None:
    child = run_denied(dict.fromkeys(CALLS, "EPERM"), "-W", "error", "-c", "import ringloop")
    assert (child.stderr, child.returncode) == ("", 0)


def test_a_loop_made_before_the_fork_does_not_vouch_for_the_child() -> None:
    code = """
import os, sys
sys.path.insert(0, sys.argv[1])
import ringloop
from unavailable.denial import install_filter
ringloop.new_event_loop().close()
if pid := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
install_filter({"io_uring_enter": "EPERM"})
try:
    ringloop.new_event_loop("io_uring")
except ringloop.RingUnavailableError as error:
    os._exit(0 if error.cause == "seccomp" else 2)
os._exit(1)
"""
    child = run_denied({}, "-c", code, __file__.rpartition("/unavailable/")[0])
    assert child.returncode == 0, child.stderr
