"""Where no file descriptor is left, a loop that cannot be made says so; one that runs goes on."""

import errno
import json

from support.child import run_child
from support.marks import needs_io_uring, ringloop_only

LIMITED = """
import asyncio, json, os, resource, ringloop

LIMITS = resource.getrlimit(resource.RLIMIT_NOFILE)

def open_fds():
    return sorted(int(name) for name in os.listdir("/proc/self/fd"))

def lowest_free():
    fd = os.open("/dev/null", os.O_RDONLY)
    os.close(fd)
    return fd

def permit(count):
    '''Permits so many more files; None: as many as before.'''
    soft = LIMITS[0] if count is None else lowest_free() + count
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, LIMITS[1]))

ringloop.open, ringloop.os, ringloop.submit  # imports take descriptors, too
ringloop.run(asyncio.sleep(0))
"""


@ringloop_only
def test_no_loop_is_half_made(ringloop_driver: str) -> None:
    child = run_child(
        LIMITED
        + """
before = open_fds()
errors = []
for count in range(100):
    permit(count)
    try:
        loop = ringloop.new_event_loop()
    except OSError as error:
        errors.append(error.errno)
    else:
        break
    finally:
        permit(None)
    assert open_fds() == before
assert loop.driver == os.environ["RINGLOOP_DRIVER"]
loop.run_until_complete(asyncio.sleep(0))
loop.close()
assert open_fds() == before
print(json.dumps(errors))
"""
    )
    errors = json.loads(child.stdout)
    assert set(errors) == {errno.EMFILE}
    assert len(errors) >= 2  # for what the driver waits by, and for the bell


@needs_io_uring
def test_nobody_is_sent_to_epoll_for_it() -> None:
    child = run_child(
        LIMITED
        + """
permit(0)
try:
    ringloop.new_event_loop()
except ringloop.RingUnavailableError as error:
    print(error.errno, error.cause)
permit(None)
loop = ringloop.new_event_loop()
print(loop.driver)
loop.close()
""",
        env={"RINGLOOP_DRIVER": ""},
    )
    assert child.stdout == f"{errno.EMFILE} file descriptors\nio_uring\n"
    assert child.stderr == ""


@ringloop_only
def test_a_loop_that_runs_goes_on(ringloop_driver: str) -> None:
    child = run_child(
        LIMITED
        + """
async def refused(awaitable):
    try:
        await awaitable
    except OSError as error:
        return error.errno

async def main():
    loop = asyncio.get_running_loop()
    received = asyncio.Queue()
    accepted = asyncio.Event()
    async def serve(reader, writer):
        accepted.set()
        received.put_nowait(await reader.readline())
        writer.write(b"answer\\n")
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address)
    await accepted.wait()
    permit(0)
    errors = [
        await refused(ringloop.os.open("/dev/null", os.O_RDONLY)),
        await refused(ringloop.open("/dev/null", "rb")),
        await refused(asyncio.open_connection(*address)),
        await refused(ringloop.submit("openat", "/dev/null", os.O_RDONLY)),
    ]
    # What is open works on.
    size = (await ringloop.os.stat("/")).st_size
    await asyncio.sleep(0.01)
    permit(None)
    writer.write(b"question\\n")
    assert await received.get() == b"question\\n"
    assert await reader.readline() == b"answer\\n"
    writer.close()
    os.close(await ringloop.os.open("/dev/null", os.O_RDONLY))
    server.close()
    return errors

print(json.dumps(ringloop.run(main())))
"""
    )
    assert set(json.loads(child.stdout)) == {errno.EMFILE}
    assert child.stderr == ""
