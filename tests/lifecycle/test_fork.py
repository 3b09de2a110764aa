"""fork() in the middle of things: the child must not use its copy of the loop, the parent goes on."""

import functools
from collections.abc import Callable

import pytest

from support import child
from support.loops import DRIVERS
from support.marks import ringloop_only


@pytest.fixture
def child_of_ringloop(ringloop_driver: str) -> Callable[..., child.Child]:
    name = next(name for name, driver in DRIVERS.items() if driver == ringloop_driver)
    return functools.partial(child.run_child, loop_name=name)


PRELUDE = """
import asyncio, os, signal, socket, sys, threading
from support.turns import turn

def in_child(function, *args):
    '''Forks; the child runs the function and exits with 0 if it returned True. The child's exit status.'''
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            status = 0 if function(*args) is True else 71
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def new_loop_works():
    loop = new_event_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.send(b"new")
    got = loop.run_until_complete(loop.sock_recv(ours, 10))
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()
    loop.close()
    ours.close()
    theirs.close()
    return got == b"new"

"""

STATES = {
    "before its first run": "loop = new_event_loop(); act()",
    "between two runs": "loop = new_event_loop(); loop.run_until_complete(asyncio.sleep(0)); act()",
    "inside a callback": """
loop = new_event_loop()
loop.call_soon(act)
loop.call_soon(loop.stop)
loop.run_forever()
""",
    "in a callback with things armed": """
loop = new_event_loop()
ours, theirs = socket.socketpair()
ours.setblocking(False)
loop.add_reader(theirs, int)
loop.call_later(3600, int)
waiting = loop.create_task(loop.sock_recv(ours, 10))
loop.run_until_complete(asyncio.sleep(0))
loop.call_soon(act)
loop.call_soon(loop.stop)
loop.run_forever()
waiting.cancel()
loop.run_until_complete(asyncio.wait([waiting]))
loop.remove_reader(theirs)
""",
    "inside a task with things armed": """
loop = new_event_loop()
ours, theirs = socket.socketpair()
ours.setblocking(False)
loop.add_reader(theirs, int)
async def main():
    waiting = asyncio.create_task(loop.sock_recv(ours, 10))
    loop.call_later(3600, int)
    await asyncio.sleep(0.001)
    act()
    waiting.cancel()
    await asyncio.wait([waiting])
loop.run_until_complete(main())
loop.remove_reader(theirs)
""",
    "after it was closed": """
loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
loop.close()
act()
""",
}
# The parent's loop works as before, whatever the child did.
PARENT_GOES_ON = """
if not loop.is_closed():
    print("parent", loop.run_until_complete(asyncio.sleep(0.001, "goes on")))
    loop.close()
else:
    print("parent goes on")
"""


@pytest.mark.parametrize("state", STATES)
def test_the_child_may_run_a_new_loop_and_the_parent_goes_on(run_child, state):
    child = run_child(
        PRELUDE + "def act(): print(in_child(new_loop_works), flush=True)\n" + STATES[state] + PARENT_GOES_ON
    )
    assert child.stdout == "0\nparent goes on\n", child.explain()


TOUCHES = {
    "call_soon": "loop.call_soon(int)",
    "call_later": "loop.call_later(0, int)",
    "call_at": "loop.call_at(0, int)",
    "call_soon_threadsafe": "loop.call_soon_threadsafe(int)",
    "add_reader": "loop.add_reader(pair[0], int)",
    "add_writer": "loop.add_writer(pair[0], int)",
    "run_forever": "loop.run_forever()",
    "run_until_complete": "loop.run_until_complete(loop.create_future())",
}


@ringloop_only
@pytest.mark.parametrize("state", ["between two runs", "inside a task with things armed"])
@pytest.mark.parametrize("touch", TOUCHES)
def test_a_child_that_touches_the_loop_gets_a_clear_error(child_of_ringloop, state, touch):
    child = child_of_ringloop(
        PRELUDE
        + f"""
pair = socket.socketpair()
def touch():
    try:
        {TOUCHES[touch]}
    except RuntimeError as error:
        print(error, flush=True)
        return True
def act():
    print(in_child(touch), flush=True)
"""
        + STATES[state]
        + PARENT_GOES_ON
    )
    message, *rest = child.stdout.splitlines()
    assert "fork" in message, child.explain()
    assert rest == ["0", "parent goes on"], child.explain()


@ringloop_only
def test_a_child_may_drop_ask_and_close_the_loop(child_of_ringloop):
    child = child_of_ringloop(
        PRELUDE
        + """
import gc
def touch():
    global loop
    repr(loop)
    loop.get_debug()
    loop.time()
    loop.remove_reader(0)
    loop.close()
    print(loop.is_closed(), flush=True)
    loop = None
    gc.collect()
    return True
loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
print(in_child(touch))
"""
        + PARENT_GOES_ON
    )
    assert child.stdout == "True\n0\nparent goes on\n", child.explain()


# Not inside a task: from 3.14 on asyncio's Task does not let SystemExit out in a forked child.
@pytest.mark.parametrize("state", [state for state in STATES if "task" not in state])
def test_a_child_that_ends_normally_ends_cleanly(run_child, state):
    """Not by os._exit: atexit hooks, finalisers and destructors run over the copies."""
    child = run_child(
        PRELUDE
        + """
def act():
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        # Unwinds through the loop, as sys.exit() does in a forked worker.
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
        + STATES[state]
        + PARENT_GOES_ON
    )
    assert child.stdout == "7\nparent goes on\n", child.explain()


def test_a_peer_sees_eof_though_a_forked_child_lives_on(run_child):
    """The child must not hold what the parent's loop had armed."""
    child = run_child(
        PRELUDE
        + """
loop = new_event_loop()
readable, writable = os.pipe()
release_read, release_write = os.pipe()
os.set_inheritable(writable, False)
loop.add_writer(writable, int)
loop.stop()
loop.run_forever()
pid = os.fork()
if pid == 0:
    os.close(writable)
    os.close(release_write)
    os.read(release_read, 1)
    os._exit(0)
loop.remove_writer(writable)
os.close(writable)
print(os.read(readable, 1))
loop.close()
os.close(release_write)
os.waitpid(pid, 0)
"""
    )
    assert child.stdout == "b''\n", child.explain()


def test_wake_ups_of_the_child_do_not_reach_the_parent_and_signals_reach_their_own(run_child):
    child = run_child(
        PRELUDE
        + """
got = []
loop = new_event_loop()
loop.add_signal_handler(signal.SIGUSR1, got.append, "parent's handler")
loop.run_until_complete(asyncio.sleep(0))

def signal_itself():
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    for _ in range(10):
        signal.raise_signal(signal.SIGUSR1)
    return new_loop_works()

print(in_child(signal_itself))
turn(loop, 5)
print(got)
signal.raise_signal(signal.SIGUSR1)
turn(loop, 5)
print(got)
loop.close()
"""
    )
    assert child.stdout == "0\n[]\n[\"parent's handler\"]\n", child.explain()


def test_multiprocessing_by_fork_from_within_a_running_loop(run_child):
    child = run_child(
        PRELUDE
        + """
import multiprocessing, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of fork() with threads, on newer Pythons
context = multiprocessing.get_context("fork")

async def in_worker(number):
    await asyncio.sleep(0.001)
    return number * number

def work(number, queue):
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        queue.put(runner.run(in_worker(number)))

async def main():
    loop = asyncio.get_running_loop()
    queue = context.SimpleQueue()
    workers = [context.Process(target=work, args=(number, queue)) for number in range(4)]
    for worker in workers:
        worker.start()
    results = sorted([await loop.run_in_executor(None, queue.get) for _ in workers])
    for worker in workers:
        await loop.run_in_executor(None, worker.join)
    print(results, [worker.exitcode for worker in workers])

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""
    )
    assert child.stdout == "[0, 1, 4, 9] [0, 0, 0, 0]\n", child.explain()


def test_a_process_pool_made_by_fork_serves_run_in_executor(run_child):
    child = run_child(
        PRELUDE
        + """
import multiprocessing, warnings
from concurrent.futures import ProcessPoolExecutor
warnings.simplefilter("ignore", DeprecationWarning)

async def main():
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        print(await asyncio.gather(*[loop.run_in_executor(pool, abs, -number) for number in range(6)]))

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""
    )
    assert child.stdout == "[0, 1, 2, 3, 4, 5]\n", child.explain()


def test_fork_while_another_thread_runs_a_loop(run_child):
    child = run_child(
        PRELUDE
        + """
import warnings
from support.waiting import wait_asleep
warnings.simplefilter("ignore", DeprecationWarning)
loop = new_event_loop()
thread = threading.Thread(target=loop.run_forever)
thread.start()
wait_asleep(thread.native_id)
print(in_child(new_loop_works))
loop.call_soon_threadsafe(loop.stop)
thread.join()
"""
        + PARENT_GOES_ON
    )
    assert child.stdout == "0\nparent goes on\n", child.explain()


def test_many_children_leave_the_parents_descriptors_alone(run_child):
    child = run_child(
        PRELUDE
        + """
from support.leaks import open_fds
loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
before = open_fds()
statuses = {in_child(new_loop_works) for _ in range(20)}
print(statuses, open_fds() == before)
"""
        + PARENT_GOES_ON
    )
    assert child.stdout == "{0} True\nparent goes on\n", child.explain()
