"""`ringloop.syscall`: any system call by its number, on a worker thread; and which are refused, and why.

A worker thread serves everybody in turn, so that nothing may leave it changed, and no call may change what
the whole process relies on behind its back.
"""

import operator
from collections.abc import Mapping
from typing import Any

from ringloop._syscalls import numbers

_THREAD = "it changes the calling thread, and that is a worker which serves others next"
_PROCESS = "it changes the whole process while other threads run; call it where nothing else does"
_SIGNALS = "signals of worker threads are ringloop's: one of them interrupts what is cancelled"
_ENDS = "it ends, copies or replaces the process or the worker behind Python's back"
_MEMORY = "it changes memory or registers that the C library manages"

_WHY = {
    _THREAD: """
        setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid capset keyctl prctl
        arch_prctl seccomp personality ptrace unshare setns landlock_restrict_self lsm_set_self_attr iopl
        ioperm sched_setscheduler sched_setparam sched_setattr sched_setaffinity setpriority ioprio_set
        set_mempolicy pkey_alloc pkey_free
    """,
    _PROCESS: "chroot pivot_root chdir fchdir umask close_range",
    _SIGNALS: """
        rt_sigprocmask rt_sigaction rt_sigreturn rt_sigsuspend rt_sigtimedwait sigaltstack restart_syscall
    """,
    _ENDS: "exit exit_group clone clone3 fork vfork execve execveat",
    _MEMORY: "set_tid_address set_robust_list rseq brk set_thread_area modify_ldt",
}

#: The number of every system call that is named here or in the table of operations.
NUMBERS: Mapping[str, int] = numbers()

#: Why a system call is refused, by name.
REFUSED: Mapping[str, str] = {name: why for why, names in _WHY.items() for name in names.split()}

_REFUSED_NUMBERS = {NUMBERS[name]: name for name in REFUSED if name in NUMBERS}
_NUMBER_MAX = 0xFFFF


def number(name: str) -> int:
    """The number of a system call of the table on this processor."""
    return NUMBERS[name]


def check(nr: int, arguments: tuple[Any, ...]) -> None:
    """Raises what is wrong with a system call that is to run on a worker."""
    nr = operator.index(nr)
    if not 0 <= nr <= _NUMBER_MAX:
        raise ValueError(f"{nr} is no system call's number")
    name = _REFUSED_NUMBERS.get(nr)
    if name is not None:
        raise ValueError(f"{name} ({nr}) cannot be run on a worker thread: {REFUSED[name]}")
    if len(arguments) > 6:
        raise TypeError(f"a system call has six arguments at most, not {len(arguments)}")
