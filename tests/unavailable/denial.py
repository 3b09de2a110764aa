"""Denies system calls to a program, as a container's seccomp profile does.

    python denial.py CALL=ERRNO … -- PROGRAM ARGUMENT …

Installs a seccomp filter and becomes the program: the filter stays over exec, and all else is permitted.
`run_denied` does so in a child process. Knows x86-64 and aarch64, where the calls have the same numbers.
"""

import ctypes
import errno
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Mapping

CALLS = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}

_NUMBERS = {**CALLS, "openat2": 437, "cachestat": 451}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # <linux/audit.h>
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38  # without it, a filter wants CAP_SYS_ADMIN
_SECCOMP_MODE_FILTER = 2
_RET_ALLOW = 0x7FFF0000
_RET_ERRNO = 0x00050000
_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_OFFSET_OF_NUMBER = 0  # in struct seccomp_data
_OFFSET_OF_ARCHITECTURE = 4


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install_filter(denied: Mapping[str, str]) -> None:
    """Makes the system calls fail in this process for ever: {"io_uring_setup": "EPERM"}."""

    def instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
        return struct.pack("=HBBI", code, if_true, if_false, value)

    program = [
        instruction(_LOAD_WORD, 0, 0, _OFFSET_OF_ARCHITECTURE),
        instruction(_JUMP_IF_EQUAL, 1, 0, _AUDIT_ARCH[platform.machine()]),
        instruction(_RETURN, 0, 0, _RET_ALLOW),
        instruction(_LOAD_WORD, 0, 0, _OFFSET_OF_NUMBER),
    ]
    for call, error in denied.items():
        program.append(instruction(_JUMP_IF_EQUAL, 0, 1, _NUMBERS[call]))
        program.append(instruction(_RETURN, 0, 0, _RET_ERRNO | getattr(errno, error)))
    program.append(instruction(_RETURN, 0, 0, _RET_ALLOW))

    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    structure = _Program(len(program), b"".join(program))
    for result in (
        libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero),
        libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.byref(structure)),
    ):
        if result != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "prctl")


def run_denied(denied: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs this interpreter with the arguments in a child process to which the calls are denied."""
    rules = [f"{call}={error}" for call, error in denied.items()]
    return subprocess.run(
        [sys.executable, __file__, *rules, "--", sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        check=False,
    )


if __name__ == "__main__":
    end_of_rules = sys.argv.index("--")
    install_filter(dict(rule.split("=") for rule in sys.argv[1:end_of_rules]))
    os.execvp(sys.argv[end_of_rules + 1], sys.argv[end_of_rules + 1 :])
