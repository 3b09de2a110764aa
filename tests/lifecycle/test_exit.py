"""The end of the interpreter with a loop in whatever state: no crash, no hang, no noise."""

import pytest

from support.child import run_child
from support.marks import ringloop_only

PRELUDE = "import asyncio, os, socket, sys, threading\nfrom support.waiting import wait_asleep\n"

# What is left when the main module has ended.
LEFT = {
    "a loop that never ran": "loop = new_event_loop()",
    "a loop that ran": "loop = new_event_loop()\nloop.run_until_complete(asyncio.sleep(0))",
    "a loop with everything armed": """
loop = new_event_loop()
ours, theirs = socket.socketpair()
ours.setblocking(False)
loop.add_reader(theirs, int)
loop.add_writer(theirs, int)
loop.call_later(3600, int)
task = loop.create_task(loop.sock_recv(ours, 10))
loop.run_until_complete(asyncio.sleep(0.001))
loop.call_soon(int)
task._log_destroy_pending = False
""",
    "a file that is sent": """
import tempfile
loop = new_event_loop()
ours, theirs = socket.socketpair()
ours.setblocking(False)
file = tempfile.TemporaryFile()
file.truncate(32 << 20)
task = loop.create_task(loop.sock_sendfile(ours, file))
loop.run_until_complete(loop.run_in_executor(None, theirs.recv, 1))
task._log_destroy_pending = False
""",
    "a loop in a reference cycle": """
loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
loop.itself = [loop]
loop.call_later(3600, int, loop)
""",
    "a loop kept by a module": """
os.kept_loop = loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
""",
    "a loop that ran in a thread that has ended": """
loop = new_event_loop()
readable, writable = os.pipe()
loop.add_reader(readable, int)
thread = threading.Thread(target=loop.run_until_complete, args=(asyncio.sleep(0.001),))
thread.start()
thread.join()
""",
    "a loop asleep in a daemon thread": """
loop = new_event_loop()
ours, theirs = socket.socketpair()
loop.add_reader(ours, int)
thread = threading.Thread(target=loop.run_forever, daemon=True)
thread.start()
wait_asleep(thread.native_id)
""",
    "a loop busy in a daemon thread": """
loop = new_event_loop()
started = threading.Event()
def storm():
    started.set()
    loop.call_soon(storm)
    loop.call_later(0, int)
loop.call_soon(storm)
thread = threading.Thread(target=loop.run_forever, daemon=True)
thread.start()
started.wait(20)
""",
    "many loops in daemon threads": """
loops = [new_event_loop() for _ in range(10)]
for loop in loops:
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    wait_asleep(thread.native_id)
""",
    "a pending async generator": """
loop = new_event_loop()
async def generator():
    yield 1
    yield 2
kept = generator()
loop.run_until_complete(anext(kept))
""",
    "a loop with a signal handler": """
import signal
loop = new_event_loop()
loop.add_signal_handler(signal.SIGUSR1, int)
loop.run_until_complete(asyncio.sleep(0))
""",
    "a thread that still calls in": """
loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
started = threading.Event()
def call():
    while True:
        loop.call_soon_threadsafe(int)
        started.set()
threading.Thread(target=call, daemon=True).start()
started.wait(20)
""",
}


@pytest.mark.parametrize("name", LEFT)
def test_exit_with(run_child, name):
    child = run_child(PRELUDE + LEFT[name] + '\nprint("end of main")\n')
    assert child.stdout == "end of main\n", child.explain()
    assert child.stderr == "", child.explain()


LINKS = """
import ringloop
loop = ringloop.new_event_loop()

async def wait_for_a_peer():
    async with ringloop.chain() as steps:
        fd = steps.open("/proc/self/status", os.O_RDONLY)
        steps.read(fd, 6)
        steps.read(os.pipe()[0], 10)
        steps.close(fd)
"""

LEFT_BY_A_CHAIN = {
    "links that were in flight when the loop stopped": """
task = loop.create_task(wait_for_a_peer())
task._log_destroy_pending = False
loop.run_until_complete(asyncio.sleep(0.001))
""",
    "links in flight in a daemon thread": """
thread = threading.Thread(target=loop.run_until_complete, args=(wait_for_a_peer(),), daemon=True)
thread.start()
wait_asleep(thread.native_id)
""",
}


@ringloop_only
@pytest.mark.parametrize("name", LEFT_BY_A_CHAIN)
def test_exit_with_a_chain_that_left(name):
    child = run_child(PRELUDE + LINKS + LEFT_BY_A_CHAIN[name] + '\nprint("end of main")\n')
    assert child.stdout == "end of main\n", child.explain()
    assert child.stderr == "", child.explain()


ENDINGS = {
    "sys.exit in a callback": ("loop.call_soon(sys.exit, 3)\nloop.run_forever()", 3),
    "sys.exit in a task": (
        """
async def main():
    await asyncio.sleep(0.001)
    sys.exit(3)
loop.run_until_complete(main())
""",
        3,
    ),
    "os._exit in a callback": ("loop.call_soon(os._exit, 3)\nloop.run_forever()", 3),
    "an exception out of main": ("loop.run_until_complete(asyncio.sleep(0))\n1 / 0", 1),
    "a loop closed by atexit": (
        "import atexit\natexit.register(loop.close)\nloop.run_until_complete(asyncio.sleep(0))",
        0,
    ),
    "a loop first run by atexit": (
        "import atexit\natexit.register(lambda: loop.run_until_complete(asyncio.sleep(0.001)))",
        0,
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_ending_by(run_child, name):
    code, status = ENDINGS[name]
    child = run_child(PRELUDE + "loop = new_event_loop()\n" + code, status=status)
    if status != 1:
        assert child.stderr == "", child.explain()


def test_a_loop_used_in_a_destructor_at_exit(run_child):
    child = run_child(
        PRELUDE
        + """
class Late:
    def __del__(self):
        try:
            loop = new_event_loop()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
        except RuntimeError:
            pass

sys.late = Late()
""",
        status=0,
    )
    assert "Fatal" not in child.stderr, child.explain()


def test_termination_by_a_signal_leaves_as_the_signal_says(run_child):
    run_child(
        PRELUDE + "loop = new_event_loop()\nloop.call_soon(os.kill, os.getpid(), 15)\nloop.run_forever()",
        status=-15,
    )
