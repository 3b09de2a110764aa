"""Names and meanings of io_uring's numbers, for people: operations, setup flags, features, capabilities.

The numbers are the kernel's (include/uapi/linux/io_uring.h), but for CAPABILITIES, which are those of
native/driver.h. The version behind a name is the first kernel that has it. What a newer kernel adds is shown
by number until it has a name here.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple


class Meaning(NamedTuple):
    """What one bit of a mask stands for, and what a loop pays where it is absent (nothing, if empty)."""

    name: str
    kernel: str
    words: str
    without: str = ""


_OPERATIONS = {
    "5.1": "NOP READV WRITEV FSYNC READ_FIXED WRITE_FIXED POLL_ADD POLL_REMOVE",
    "5.2": "SYNC_FILE_RANGE",
    "5.3": "SENDMSG RECVMSG",
    "5.4": "TIMEOUT",
    "5.5": "TIMEOUT_REMOVE ACCEPT ASYNC_CANCEL LINK_TIMEOUT CONNECT",
    "5.6": "FALLOCATE OPENAT CLOSE FILES_UPDATE STATX READ WRITE FADVISE MADVISE SEND RECV OPENAT2 EPOLL_CTL",
    "5.7": "SPLICE PROVIDE_BUFFERS REMOVE_BUFFERS",
    "5.8": "TEE",
    "5.11": "SHUTDOWN RENAMEAT UNLINKAT",
    "5.15": "MKDIRAT SYMLINKAT LINKAT",
    "5.18": "MSG_RING",
    "5.19": "FSETXATTR SETXATTR FGETXATTR GETXATTR SOCKET URING_CMD",
    "6.0": "SEND_ZC",
    "6.1": "SENDMSG_ZC",
    "6.7": "READ_MULTISHOT WAITID FUTEX_WAIT FUTEX_WAKE FUTEX_WAITV",
    "6.8": "FIXED_FD_INSTALL",
    "6.9": "FTRUNCATE",
    "6.11": "BIND LISTEN",
    "6.15": "RECV_ZC EPOLL_WAIT READV_FIXED WRITEV_FIXED",
    "6.16": "PIPE",
    "6.19": "NOP128 URING_CMD128",
}

#: By opcode.
OPERATIONS = tuple(name for names in _OPERATIONS.values() for name in names.split())

#: By opcode: the first kernel that has it.
OPERATION_KERNELS = tuple(kernel for kernel, names in _OPERATIONS.items() for _ in names.split())

#: By bit of the setup flags.
SETUP_FLAGS: Mapping[int, Meaning] = {
    0: Meaning("IOPOLL", "5.1", "completions are polled for on the device"),
    1: Meaning("SQPOLL", "5.1", "a kernel thread takes submissions"),
    2: Meaning("SQ_AFF", "5.1", "that thread stays on one CPU"),
    3: Meaning("CQSIZE", "5.5", "the completion queue has the size asked for"),
    4: Meaning("CLAMP", "5.6", "sizes beyond the kernel's limits are cut, not refused"),
    5: Meaning("ATTACH_WQ", "5.6", "worker threads are shared with another ring"),
    6: Meaning("R_DISABLED", "5.10", "made idle, started by the thread that runs the loop"),
    7: Meaning(
        "SUBMIT_ALL",
        "5.18",
        "one bad submission does not stop those behind it",
        "one system call more after each submission that the kernel refuses",
    ),
    8: Meaning("COOP_TASKRUN", "5.19", "completions wait for the next system call, no interrupt is sent"),
    9: Meaning(
        "TASKRUN_FLAG",
        "5.19",
        "the ring shows when completion work is pending",
        "completions interrupt callbacks that compute",
    ),
    10: Meaning("SQE128", "5.19", "submissions of 128 bytes"),
    11: Meaning("CQE32", "5.19", "completions of 32 bytes"),
    12: Meaning(
        "SINGLE_ISSUER",
        "6.0",
        "one thread alone submits",
        "the kernel locks the ring for each submission",
    ),
    13: Meaning(
        "DEFER_TASKRUN",
        "6.1",
        "completion work runs when the loop waits, and at no other time",
        "completion work runs in the middle of callbacks, at any system call",
    ),
    14: Meaning("NO_MMAP", "6.5", "the application brings the rings' memory"),
    15: Meaning("REGISTERED_FD_ONLY", "6.5", "the ring has no file descriptor"),
    16: Meaning(
        "NO_SQARRAY",
        "6.6",
        "submissions are taken in order, without an index",
        "the kernel reads an index for each submission",
    ),
    17: Meaning("HYBRID_IOPOLL", "6.13", "polling for completions sleeps first"),
    18: Meaning("CQE_MIXED", "6.18", "completions of 16 and of 32 bytes"),
}

#: By bit of the features.
FEATURES: Mapping[int, Meaning] = {
    0: Meaning("SINGLE_MMAP", "5.4", "both queues in one mapping"),
    1: Meaning("NODROP", "5.5", "no completion is lost when the queue is full"),
    2: Meaning("SUBMIT_STABLE", "5.5", "what a submission points to is read at submission"),
    3: Meaning("RW_CUR_POS", "5.6", "reads and writes at the file's position"),
    4: Meaning("CUR_PERSONALITY", "5.6", "requests run with the submitter's credentials"),
    5: Meaning("FAST_POLL", "5.7", "sockets wait without a thread"),
    6: Meaning("POLL_32BITS", "5.9", "polls take every event"),
    7: Meaning("SQPOLL_NONFIXED", "5.11", "a submission thread works with any file"),
    8: Meaning("EXT_ARG", "5.11", "waits take a timeout"),
    9: Meaning("NATIVE_WORKERS", "5.12", "worker threads belong to the process"),
    10: Meaning("RSRC_TAGS", "5.13", "registered files and buffers can be tagged"),
    11: Meaning("CQE_SKIP", "5.17", "successes can be left unreported"),
    12: Meaning("LINKED_FILE", "5.17", "chained requests may use a file that the chain opens"),
    13: Meaning("REG_REG_RING", "6.3", "registering by a registered ring"),
    14: Meaning("RECVSEND_BUNDLE", "6.10", "several buffers in one receive or send"),
    15: Meaning("MIN_TIMEOUT", "6.12", "waits take a least time"),
    16: Meaning("RW_ATTR", "6.14", "reads and writes take attributes"),
    17: Meaning(
        "NO_IOWAIT",
        "6.15",
        "an idle loop does not count as waiting for disks",
        "a sleeping loop counts as waiting for a disk, in top and in the load average",
    ),
}

#: By bit of rl_driver.capabilities.
CAPABILITIES: Mapping[int, Meaning] = {
    0: Meaning(
        "multishot_recv",
        "6.1",  # the kernel's is of 6.0, which no flag tells from 5.19
        "one request receives until the connection ends",
        "a receive is submitted for each message",
    ),
    1: Meaning(
        "multishot_accept",
        "5.19",
        "one request accepts until the server closes",
        "an accept is submitted for each connection",
    ),
    2: Meaning(
        "multishot_poll",
        "5.13",
        "one request reports every readiness",
        "a poll is armed again after each event",
    ),
    3: Meaning(
        "cancel_any",
        "5.19",
        "one request cancels everything in flight",
        "a loop that closes cancels its operations one by one",
    ),
    4: Meaning(
        "poll_first",
        "5.19",
        "a send waits for room before it is tried",
        "a send to a full socket is tried in vain before it waits",
    ),
    5: Meaning("tell_pending", "5.1", "whether there is anything new costs no system call"),
    6: Meaning("hold_files", "5.1", "a file that is closed under a wait stays open until the wait ends"),
    7: Meaning("read_cached", "5.1", "a batch's reads of what is cached take one system call for many"),
    8: Meaning(
        "slots",
        "5.17",
        "a chain opens a file and reads it in one submission",
        "a chain waits for an open before it submits what uses the file",
    ),
}


def meanings(mask: int, names: Mapping[int, Meaning]) -> Iterator[Meaning]:
    """Yields the meaning of every bit that is set in the mask, the unknown ones by number."""
    for bit in range(mask.bit_length()):
        if mask >> bit & 1:
            yield names.get(bit, Meaning(f"bit {bit}", "newer", "not known to this version of ringloop"))


def operation_names(opcodes: Iterable[int]) -> list[str]:
    """Returns the names of the opcodes, of the unknown ones their numbers."""
    return [OPERATIONS[op] if op < len(OPERATIONS) else f"operation {op}" for op in opcodes]
