"""Ctrl-C in every kind of wait. Each in its own process: an interrupt that goes astray ends only that."""

import pytest

# Defines: interrupt_when_asleep(), which sends SIGINT once the main thread sleeps in its loop's wait.
PRELUDE = """
import asyncio, os, signal, socket, threading
from support.waiting import when_asleep

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

def interrupt_when_asleep():
    return when_asleep(interrupt)

def raises_keyboard_interrupt(call, *args):
    try:
        call(*args)
    except KeyboardInterrupt:
        print("interrupted")
    else:
        print("not interrupted")

"""
# A loop that was interrupted can be run again and closed.
USABLE = """
print(loop.is_running(), loop.run_until_complete(asyncio.sleep(0, "usable")))
loop.close()
"""

WAITS = {
    "idle run_forever": """
loop = new_event_loop()
interrupt_when_asleep()
raises_keyboard_interrupt(loop.run_forever)
""",
    "a sleep": """
loop = new_event_loop()
interrupt_when_asleep()
raises_keyboard_interrupt(loop.run_until_complete, asyncio.sleep(3600))
for task in asyncio.all_tasks(loop):
    task.cancel()
""",
    "a storm of callbacks": """
loop = new_event_loop()
turns = 0
def storm():
    global turns
    turns += 1
    if turns == 100:
        threading.Thread(target=interrupt).start()
    if not stopped:
        loop.call_soon(storm)
stopped = False
loop.call_soon(storm)
raises_keyboard_interrupt(loop.run_forever)
stopped = True
""",
    "a callback": """
loop = new_event_loop()
loop.call_soon(interrupt)
raises_keyboard_interrupt(loop.run_forever)
""",
    "a socket's wait": """
loop = new_event_loop()
ours, theirs = socket.socketpair()
ours.setblocking(False)
interrupt_when_asleep()
raises_keyboard_interrupt(loop.run_until_complete, loop.sock_recv(ours, 10))
for task in asyncio.all_tasks(loop):
    task.cancel()
""",
    "a reader's wait": """
loop = new_event_loop()
ours, theirs = socket.socketpair()
loop.add_reader(ours, print)
interrupt_when_asleep()
raises_keyboard_interrupt(loop.run_forever)
loop.remove_reader(ours)
""",
    "an executor's wait": """
loop = new_event_loop()
release = threading.Event()
interrupt_when_asleep()
raises_keyboard_interrupt(loop.run_until_complete, loop.run_in_executor(None, release.wait))
release.set()
""",
    "a run in debug mode": """
loop = new_event_loop()
loop.set_debug(True)
interrupt_when_asleep()
raises_keyboard_interrupt(loop.run_forever)
""",
}


@pytest.mark.parametrize("name", WAITS)
def test_ctrl_c_interrupts_and_leaves_the_loop_usable(run_child, name):
    child = run_child(PRELUDE + WAITS[name] + USABLE)
    assert child.stdout == "interrupted\nFalse usable\n", child.explain()
    assert child.stderr == ""


def test_ctrl_c_ends_a_program_that_does_not_expect_it(run_child):
    child = run_child(
        PRELUDE
        + """
loop = new_event_loop()
interrupt_when_asleep()
loop.run_forever()
""",
        status=-2,
    )
    assert child.stderr.rstrip().endswith("KeyboardInterrupt")


def test_ctrl_c_in_a_runner_cancels_the_main_task(run_child):
    child = run_child(
        PRELUDE
        + """
async def main():
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        print("cancelled")
        await asyncio.sleep(0.001)
        print("cleaned up")
        raise

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    interrupt_when_asleep()
    raises_keyboard_interrupt(runner.run, main())
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    )
    assert child.stdout == "cancelled\ncleaned up\ninterrupted\nTrue\n", child.explain()
    assert child.stderr == ""


def test_ctrl_c_in_a_runner_may_be_answered(run_child):
    child = run_child(
        PRELUDE
        + """
async def main():
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        return "answered"

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    interrupt_when_asleep()
    print(runner.run(main()))
"""
    )
    assert child.stdout == "answered\n", child.explain()


def test_a_second_ctrl_c_in_a_runner_interrupts_at_once(run_child):
    child = run_child(
        PRELUDE
        + """
async def main():
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        interrupt_when_asleep()
        await asyncio.sleep(3600)

runner = asyncio.Runner(loop_factory=new_event_loop)
interrupt_when_asleep()
raises_keyboard_interrupt(runner.run, main())
runner.close()
""",
        status=None,
    )
    assert child.stdout == "interrupted\n", child.explain()


def test_ctrl_c_as_a_loops_signal_handler(run_child):
    child = run_child(
        PRELUDE
        + """
loop = new_event_loop()
loop.add_signal_handler(signal.SIGINT, lambda: (print("handler"), loop.stop()))
interrupt_when_asleep()
loop.run_forever()
loop.close()
loop = new_event_loop()
interrupt_when_asleep()
raises_keyboard_interrupt(loop.run_forever)
loop.close()
"""
    )
    assert child.stdout == "handler\ninterrupted\n", child.explain()


def test_ctrl_c_while_the_loop_runs_in_another_thread_reaches_the_main_thread(run_child):
    child = run_child(
        PRELUDE
        + """
from support.waiting import wait_asleep
loop = new_event_loop()
thread = threading.Thread(target=loop.run_forever)
thread.start()
wait_asleep(thread.native_id)
raises_keyboard_interrupt(lambda: (interrupt(), threading.Event().wait(20)))
loop.call_soon_threadsafe(loop.stop)
thread.join()
loop.close()
"""
    )
    assert child.stdout == "interrupted\n", child.explain()
