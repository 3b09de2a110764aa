"""Names and meanings of io_uring's numbers, for people: operations, setup flags, features, capabilities.

The numbers are the kernel's (include/uapi/linux/io_uring.h), but for CAPABILITIES, which are those of
native/driver.h. The version behind a name is the first kernel that has it. What a newer kernel adds is shown
by number until it has a name here.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple


class Meaning(NamedTuple):
    """What one bit of a mask stands for."""

    name: str
    kernel: str
    words: str


_OPERATIONS = """
    NOP READV WRITEV FSYNC READ_FIXED WRITE_FIXED POLL_ADD POLL_REMOVE SYNC_FILE_RANGE SENDMSG RECVMSG
    TIMEOUT TIMEOUT_REMOVE ACCEPT ASYNC_CANCEL LINK_TIMEOUT CONNECT FALLOCATE OPENAT CLOSE FILES_UPDATE
    STATX READ WRITE FADVISE MADVISE SEND RECV OPENAT2 EPOLL_CTL SPLICE PROVIDE_BUFFERS REMOVE_BUFFERS
    TEE SHUTDOWN RENAMEAT UNLINKAT MKDIRAT SYMLINKAT LINKAT MSG_RING FSETXATTR SETXATTR FGETXATTR
    GETXATTR SOCKET URING_CMD SEND_ZC SENDMSG_ZC READ_MULTISHOT WAITID FUTEX_WAIT FUTEX_WAKE FUTEX_WAITV
    FIXED_FD_INSTALL FTRUNCATE BIND LISTEN RECV_ZC EPOLL_WAIT READV_FIXED WRITEV_FIXED PIPE NOP128
    URING_CMD128
"""

#: By opcode.
OPERATIONS = tuple(_OPERATIONS.split())

#: By bit of the setup flags.
SETUP_FLAGS: Mapping[int, Meaning] = {
    0: Meaning("IOPOLL", "5.1", "completions are polled for on the device"),
    1: Meaning("SQPOLL", "5.1", "a kernel thread takes submissions"),
    2: Meaning("SQ_AFF", "5.1", "that thread stays on one CPU"),
    3: Meaning("CQSIZE", "5.5", "the completion queue has the size asked for"),
    4: Meaning("CLAMP", "5.6", "sizes beyond the kernel's limits are cut, not refused"),
    5: Meaning("ATTACH_WQ", "5.6", "worker threads are shared with another ring"),
    6: Meaning("R_DISABLED", "5.10", "made idle, started by the thread that runs the loop"),
    7: Meaning("SUBMIT_ALL", "5.18", "one bad submission does not stop those behind it"),
    8: Meaning("COOP_TASKRUN", "5.19", "completions wait for the next system call, no interrupt is sent"),
    9: Meaning("TASKRUN_FLAG", "5.19", "the ring shows when completion work is pending"),
    10: Meaning("SQE128", "5.19", "submissions of 128 bytes"),
    11: Meaning("CQE32", "5.19", "completions of 32 bytes"),
    12: Meaning("SINGLE_ISSUER", "6.0", "one thread alone submits"),
    13: Meaning("DEFER_TASKRUN", "6.1", "completion work runs when the loop waits, and at no other time"),
    14: Meaning("NO_MMAP", "6.5", "the application brings the rings' memory"),
    15: Meaning("REGISTERED_FD_ONLY", "6.5", "the ring has no file descriptor"),
    16: Meaning("NO_SQARRAY", "6.6", "submissions are taken in order, without an index"),
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
    17: Meaning("NO_IOWAIT", "6.15", "an idle loop does not count as waiting for disks"),
}

#: By bit of rl_driver.capabilities.
CAPABILITIES: Mapping[int, Meaning] = {
    0: Meaning("multishot receive", "6.0", "one request receives until the connection ends"),
    1: Meaning("multishot accept", "5.19", "one request accepts until the server closes"),
    2: Meaning("multishot poll", "5.13", "one request reports every readiness"),
    3: Meaning("cancel all", "5.19", "one request cancels everything in flight"),
    4: Meaning("poll first", "5.19", "a send waits for room before it is tried"),
    5: Meaning("tells pending", "5.1", "whether there is anything new costs no system call"),
    6: Meaning("holds files", "5.1", "a file that is closed under a wait stays open until the wait ends"),
}


def meanings(mask: int, names: Mapping[int, Meaning]) -> Iterator[Meaning]:
    """Yields the meaning of every bit that is set in the mask, the unknown ones by number."""
    for bit in range(mask.bit_length()):
        if mask >> bit & 1:
            yield names.get(bit, Meaning(f"bit {bit}", "newer", "not known to this version of ringloop"))


def operation_names(opcodes: Iterable[int]) -> list[str]:
    """Returns the names of the opcodes, of the unknown ones their numbers."""
    return [OPERATIONS[op] if op < len(OPERATIONS) else f"operation {op}" for op in opcodes]
