"""containers/seccomp.json, put in place by libseccomp, as container runtimes do."""

import json
from pathlib import Path

from support.child import run_child
from support.marks import needs_io_uring

PROFILE = Path(__file__).parents[2] / "containers" / "seccomp.json"

UNDER_PROFILE = """
import asyncio, ctypes, errno, json, os, subprocess, sys

ALLOW, ERRNO, MASKED_EQ = 0x7FFF0000, 0x00050000, 7

class Comparison(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("operator", ctypes.c_int),
                ("value", ctypes.c_uint64), ("second", ctypes.c_uint64)]

seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p
seccomp.seccomp_rule_add_array.argtypes = [
    ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Comparison)]
seccomp.seccomp_load.argtypes = [ctypes.c_void_p]

profile = json.load(open({path!r}))
assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
context = seccomp.seccomp_init(ALLOW)
for rule in profile["syscalls"]:
    assert rule["action"] == "SCMP_ACT_ERRNO"
    comparisons = [Comparison(one["index"], MASKED_EQ, one["value"], one["valueTwo"])
                   for one in rule.get("args", ())]
    for name in rule["names"]:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        assert number != -1, f"libseccomp knows no {{name}}"
        array = (Comparison * len(comparisons))(*comparisons)
        result = seccomp.seccomp_rule_add_array(
            context, ERRNO | rule["errnoRet"], number, len(comparisons), array)
        assert result == 0, (name, result)
assert seccomp.seccomp_load(context) == 0

libc = ctypes.CDLL(None, use_errno=True)
for call in (lambda: libc.unshare(0x10000000), lambda: libc.mount(b"none", b"/", b"tmpfs", 0, None),
             lambda: libc.setns(0, 0)):
    assert call() == -1
    assert ctypes.get_errno() == errno.EPERM

import ringloop

async def main():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b""
    writer.close()
    server.close()
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(1)", stdout=subprocess.PIPE)
    assert (await child.communicate())[0] == b"1\\n"
    assert await asyncio.to_thread(os.getpid) == os.getpid()
    async with ringloop.open({path!r}) as file:
        json.loads(await file.read())

loop = ringloop.new_event_loop("io_uring")
loop.run_until_complete(main())
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
print(loop.driver)
"""


@needs_io_uring
def test_it_permits_io_uring_and_not_what_reaches_beyond_a_container() -> None:
    child = run_child(UNDER_PROFILE.format(path=str(PROFILE)))
    assert (child.stdout, child.stderr) == ("io_uring\n", "")


def test_it_names_each_call_once() -> None:
    rules = json.loads(PROFILE.read_text())["syscalls"]
    names = [name for rule in rules if "args" not in rule for name in rule["names"]]
    assert len(names) == len(set(names))
    assert not any(name.startswith("io_uring") for name in names)
