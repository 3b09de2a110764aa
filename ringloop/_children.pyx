"""What of a child's end must not be interrupted.

A signal's handler, such as that of a Ctrl-C, may raise wherever the interpreter goes from one instruction to
the next: a status that waitpid() told and that was stored nowhere would be lost. Here are no such places.
"""

import os

cdef object exit_code_of = os.waitstatus_to_exitcode
cdef object WNOHANG = os.WNOHANG


def reap(process):
    """Reaps the child of a Popen object that has ended, which knows its status then, and returns that.

    None if it cannot be had right now. Raises ChildProcessError if somebody else has had it.
    """
    lock = process._waitpid_lock
    # Of another thread that waits for the child by the Popen object: it is about to get the status.
    if not lock.acquire(False):
        return None
    try:
        if process.returncode is None:
            pid, status = os.waitpid(process.pid, WNOHANG)
            if not pid:
                return None            # a debugger has not let go of it yet
            process.returncode = exit_code_of(status)
        return process.returncode
    finally:
        lock.release()


def give_up_pidfd(loop, pidfd):
    """The loop is no longer told of this child's end."""
    loop._remove_reader(pidfd)
    transport = loop._children.pop(pidfd)
    transport._pidfd = None
    os.close(pidfd)
