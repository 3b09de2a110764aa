"""Where a user may lock no memory: either the kernel does not count rings, or the error says so."""

import json

from support.marks import needs_io_uring
from unavailable.denial import CALLS, run_denied

CHILD = """
import ctypes, json, os, resource, sys
import ringloop
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
parameters = ctypes.create_string_buffer(120)
plain_fd = ctypes.CDLL(None).syscall(int(sys.argv[1]), 8, parameters)
if plain_fd >= 0:
    os.close(plain_fd)
try:
    ringloop.new_event_loop("io_uring").close()
except ringloop.RingUnavailableError as error:
    told = {**vars(error), "errno": error.errno}
else:
    told = None
print(json.dumps([plain_fd >= 0, told]))
"""


@needs_io_uring
def test_without_locked_memory() -> None:
    child = run_denied({}, "-c", CHILD, str(CALLS["io_uring_setup"]))
    assert child.returncode == 0, child.stderr
    kernel_gives_a_ring, told = json.loads(child.stdout)
    if kernel_gives_a_ring:  # between 5.12 and 6.13 only the control group is charged
        assert told is None
        return
    assert told["cause"] == "memlock"
    assert "io_uring_setup failed with ENOMEM" in told["found_by"]
    assert "RLIMIT_MEMLOCK is 0 bytes" in told["found_by"]
    assert "ulimit -l" in told["remedy"]
