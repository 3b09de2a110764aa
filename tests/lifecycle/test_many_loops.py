"""Loops made, used and closed by the thousand leave nothing: no descriptor, no thread, no memory."""

import gc
import weakref

import pytest

PRELUDE = """
import asyncio, gc, os, socket, sys, threading
from support.leaks import open_fds, resident_bytes, thread_count
from support.waiting import wait_until

def made_and_closed():
    new_event_loop().close()

def run():
    loop = new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

def with_readers():
    loop = new_event_loop()
    pairs = [socket.socketpair() for _ in range(5)]
    for ours, theirs in pairs:
        loop.add_reader(ours, int)
        loop.add_writer(theirs, int)
    loop.call_later(3600, int)
    loop.stop()
    loop.run_forever()
    loop.close()
    for ours, theirs in pairs:
        ours.close()
        theirs.close()

def with_tasks_and_wake_ups():
    async def main():
        await asyncio.gather(*[asyncio.sleep(0) for _ in range(5)])
        asyncio.get_running_loop().call_soon_threadsafe(int)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())

def with_an_executor():
    async def main():
        await asyncio.to_thread(int)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())

def with_signal_handlers():
    import signal
    loop = new_event_loop()
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    loop.run_forever()
    loop.close()

def in_another_thread():
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

def closed_by_another_thread():
    loop = new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    thread = threading.Thread(target=loop.close)
    thread.start()
    thread.join()

def moved_between_threads():
    loop = new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    thread = threading.Thread(target=loop.run_until_complete, args=(asyncio.sleep(0),))
    thread.start()
    thread.join()
    loop.close()

def measure(use, warm_up_count, count):
    threads = thread_count()
    for _ in range(warm_up_count):
        use()
    gc.collect()
    fds, resident = open_fds(), resident_bytes()
    for _ in range(count):
        use()
    gc.collect()
    assert open_fds() == fds, (fds, open_fds())
    # A thread that was joined may still be on its last instructions.
    wait_until(lambda: thread_count() == threads, "no more threads than before")
    print((resident_bytes() - resident) / count)
"""

# How often each is done; less often where the kernel tears down rings in its own time.
USES = {
    "made_and_closed": 2000,
    "run": 2000,
    "with_readers": 500,
    "with_tasks_and_wake_ups": 500,
    "with_an_executor": 200,
    "with_signal_handlers": 500,
    "in_another_thread": 500,
    "closed_by_another_thread": 50,
    "moved_between_threads": 50,
}
#: What one loop may leave on average: the allocator's noise, and far below a ring's memory (tens of KiB).
LEFT_BYTES_MAX = 2500


@pytest.mark.parametrize("use", USES)
def test_nothing_is_left(run_child, use):
    count = USES[use]
    child = run_child(PRELUDE + f"measure({use}, {max(count // 5, 40)}, {count})")
    allowed = LEFT_BYTES_MAX * 2000 / count  # the noise is the process's, not the loop's
    assert float(child.stdout) < allowed, child.explain()
    assert child.stderr == ""


def test_many_loops_open_at_once(run_child):
    child = run_child(
        PRELUDE
        + """
before = open_fds()
loops = [new_event_loop() for _ in range(200)]
for _ in range(3):
    for loop in loops:
        loop.run_until_complete(asyncio.sleep(0))
for loop in loops:
    loop.close()
assert open_fds() == before
print("done")
"""
    )
    assert child.stdout == "done\n"


def test_a_dropped_loop_frees_what_it_held(run_child):
    child = run_child(
        PRELUDE
        + """
import warnings
warnings.simplefilter("ignore", ResourceWarning)

def dropped():
    loop = new_event_loop()
    ours, theirs = socket.socketpair()
    loop.add_reader(ours, int)
    loop.run_until_complete(asyncio.sleep(0))
    ours.close()
    theirs.close()
    del loop
    gc.collect()

measure(dropped, 20, 100)
"""
    )
    assert float(child.stdout) < 50_000, child.explain()


def test_the_loop_itself_is_freed(loop_factory):
    loop = loop_factory()
    loop.call_later(3600, print, loop)
    loop.create_future().add_done_callback(print)
    loop.close()
    alive = weakref.ref(loop)
    del loop
    gc.collect()
    assert alive() is None


def test_running_out_of_descriptors_is_an_oserror_and_leaves_no_descriptor(run_child):
    child = run_child(
        PRELUDE
        + """
import errno, resource
new_event_loop().close()
before = open_fds()
resource.setrlimit(resource.RLIMIT_NOFILE, (len(before) + 20, 4096))
loops = []
try:
    while True:
        loops.append(new_event_loop())
except OSError as error:
    print(errno.errorcode[error.errno])
for loop in loops:
    loop.close()
gc.collect()
assert open_fds() == before, (before, open_fds())
loop = new_event_loop()
print(loop.run_until_complete(asyncio.sleep(0, "usable")))
loop.close()
"""
    )
    assert child.stdout == "EMFILE\nusable\n", child.explain()
