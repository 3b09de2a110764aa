"""The one table of operations: what each is called, takes and gives, and how it is served and cancelled.

`submit`, `batch` and `chain` execute what stands here, `capabilities` and the doctor print it as this machine
serves it, and docs/operations.md is written from it. The native half is _request.pyx: it fills a submission
queue entry, or the arguments of a system call, as an entry's `arguments` say.
"""

import errno
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from ringloop import kernel_structs as structs
from ringloop._core import driver_report
from ringloop.drivers import available_driver, requested_driver
from ringloop.kernel_names import OPERATIONS as OPCODES

#: The default of an argument that has none.
REQUIRED = object()

#: How an operation is served, best first. What is tried first comes first in `Entry.served`.
INLINE = "inline"  # at once, if the kernel has in memory what it takes
RING = "ring"  # by the ring without a thread
RING_WORKER = "ring worker"  # by the ring's worker threads
OWN_WORKER = "own worker"  # by ringloop's worker threads
DRIVER = "driver"  # by the epoll driver, at once
READINESS = "readiness"  # by the epoll driver: a call that does not wait, as soon as the fd is ready
TIMER = "timer"  # by the epoll driver's own timers
DRIVER_WORKER = "driver worker"  # by the epoll driver's worker threads

_O_CLOEXEC = os.O_CLOEXEC
_SOCK_CLOEXEC = os.O_CLOEXEC
_AT_EMPTY_PATH = 0x1000
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_REMOVEDIR = 0x200
_STATX_WANTED = 0xFFF  # STATX_BASIC_STATS and STATX_BTIME
_FUTEX_U32 = 2
_FSYNC_DATASYNC = 1
_TIMEOUT_ABS = 1


class Argument(NamedTuple):
    """One argument: what callers give, and the fields of the request that it goes to.

    `kind` is one of KINDS of _request.pyx. `field` is a field of the submission queue entry, or the number
    of the system call's argument; `length_field` is where the size of the memory goes that `field` points to.
    """

    name: str
    kind: str
    field: str
    length_field: str = ""
    default: Any = REQUIRED
    bits: int = 0  # set in the value, whatever the caller gave


class Entry(NamedTuple):
    """One operation."""

    name: str
    opcode: str  # by io_uring's name, "" if it has none
    number: str  # of the system call, where there is no opcode
    kernel: str  # the first that has the opcode, or the system call
    served: tuple[str, ...]
    call: str  # the blocking one that does the same
    result: str  # none, integer, fd, fds, bytes, stat, or the words for what `convert` makes
    arguments: tuple[Argument, ...]
    arrange: Callable[..., tuple[Any, ...]] | None = None  # what callers give -> the values of `arguments`
    arrange_rarely: bool = False  # only for keywords and for an integer in a path's place
    convert: Callable[..., Any] | None = None  # (outcome, memory that the kernel filled, path) -> result
    waits: bool = False  # for peers, timers or children: may never end by itself
    interruptible: bool = False  # ends at once when cancelled; else only before it begins
    success: int = 0  # the errno that is no failure
    is_async: bool = False  # IOSQE_ASYNC: the ring's own context would block, or answer otherwise
    repeated: bool = True  # after a signal that was for others (PEP 475)


_arg = Argument
_FD = _arg("fd", "fd", "fd")
_POSITION = _arg("offset", "position", "offset", default=-1)
_PATH = _arg("path", "path", "address")
_DIRECTORY = _arg("dir_fd", "directory", "fd", default=None)
_START = _arg("", "directory", "fd", default=None)  # where a relative path begins
_DST_START = _arg("", "directory", "length", default=None)
_NO_FLAGS = _arg("", "integer", "op_flags", default=0)


def _ring(name: str, kernel: str, call: str, result: str, *arguments: Argument, **more: Any) -> Entry:
    served = more.pop("served", (RING,))
    opcode = more.pop("opcode", name.upper())
    return Entry(name, opcode, "", kernel, served, call, result, arguments, **more)


def _own(name: str, number: str, kernel: str, result: str, *arguments: Argument, **more: Any) -> Entry:
    return Entry(name, "", number, kernel, (OWN_WORKER,), more.pop("call", number), result, arguments, **more)


def _constant(field: str, value: int) -> Argument:
    return Argument("", "constant", field, default=value)


def _room(field: str, byte_count: int, length_field: str = "") -> Argument:
    return Argument("", "room", field, length_field, default=byte_count)


_worker = partial(_ring, served=(RING_WORKER,))
_socket_wait = partial(_ring, waits=True, interruptible=True)


# --- arguments that need arranging: signatures are what callers see


def _openat2(
    path: Any, flags: int, mode: int = 0, resolve: int = 0, *, dir_fd: Any = None
) -> tuple[Any, ...]:
    return dir_fd, path, structs.pack_open_how(flags | _O_CLOEXEC, mode, resolve)


def _statx(path: Any, *, dir_fd: Any = None, follow_symlinks: bool = True) -> tuple[Any, ...]:
    if isinstance(path, int):
        return path, b"", _AT_EMPTY_PATH
    return dir_fd, path, 0 if follow_symlinks else _AT_SYMLINK_NOFOLLOW


def _renameat(
    src: Any, dst: Any, *, src_dir_fd: Any = None, dst_dir_fd: Any = None, flags: int = 0
) -> tuple[Any, ...]:
    return src_dir_fd, src, dst_dir_fd, dst, flags


def _linkat(
    src: Any, dst: Any, *, src_dir_fd: Any = None, dst_dir_fd: Any = None, flags: int = 0
) -> tuple[Any, ...]:
    return src_dir_fd, src, dst_dir_fd, dst, flags


def _timeout(seconds: float) -> tuple[Any, ...]:
    return (structs.pack_deadline(seconds),)


def _connect(fd: Any, address: Any) -> tuple[Any, ...]:
    return fd, structs.pack_address(address)


def _sendmsg(
    fd: Any, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None
) -> tuple[Any, ...]:
    name = b"" if address is None else structs.pack_address(address)
    return fd, (buffers, structs.pack_control(ancdata), name), flags


def _recvmsg(fd: Any, length: int, ancillary_length: int = 0, flags: int = 0) -> tuple[Any, ...]:
    return fd, (length, ancillary_length), flags


def _epoll_wait(fd: Any, event_count: int = 64) -> tuple[Any, ...]:
    if event_count <= 0:
        raise ValueError("event_count must be greater than zero")
    return fd, event_count * structs.EVENT.size, event_count


def _utimensat(
    path: Any, ns: tuple[int, int] | None = None, *, dir_fd: Any = None, follow_symlinks: bool = True
) -> tuple[Any, ...]:
    return dir_fd, path, structs.pack_times(ns), 0 if follow_symlinks else _AT_SYMLINK_NOFOLLOW


def _chown(
    path: Any, uid: int, gid: int, *, dir_fd: Any = None, follow_symlinks: bool = True
) -> tuple[Any, ...]:
    return dir_fd, path, uid, gid, 0 if follow_symlinks else _AT_SYMLINK_NOFOLLOW


_FILES = (
    _ring("nop", "5.1", "nothing", "none"),
    _ring(
        "openat", "5.6", "openat", "fd",
        _PATH, _arg("flags", "integer", "op_flags", bits=_O_CLOEXEC),
        _arg("mode", "integer", "length", default=0o777), _DIRECTORY,
        served=(INLINE, RING_WORKER), interruptible=True, is_async=True,
    ),
    _worker(
        "openat2", "5.6", "openat2", "fd", _DIRECTORY, _PATH, _arg("", "packed", "offset", "length"),
        arrange=_openat2, interruptible=True, is_async=True,
    ),
    _worker("close", "5.6", "close", "none", _FD,
            served=(INLINE, RING_WORKER), is_async=True, repeated=False),
    _ring(
        "read", "5.6", "pread", "bytes", _FD, _arg("length", "length", "address", "length"), _POSITION,
        served=(INLINE, RING), interruptible=True,
    ),
    _ring(
        "readinto", "5.6", "pread", "integer", _FD, _arg("buffer", "memory", "address", "length"), _POSITION,
        opcode="READ", served=(INLINE, RING), interruptible=True,
    ),
    _ring(
        "write", "5.6", "pwrite", "integer", _FD, _arg("data", "data", "address", "length"), _POSITION,
        served=(INLINE, RING_WORKER), interruptible=True,
    ),
    _ring(
        "readv", "5.1", "preadv", "integer",
        _FD, _arg("buffers", "memory list", "address", "length"), _POSITION,
        _arg("flags", "integer", "op_flags", default=0), interruptible=True,
    ),
    _worker(
        "writev", "5.1", "pwritev", "integer",
        _FD, _arg("buffers", "data list", "address", "length"), _POSITION,
        _arg("flags", "integer", "op_flags", default=0), interruptible=True,
    ),
    _worker(
        "statx", "5.6", "statx", "stat",
        _START, _PATH, _NO_FLAGS, _constant("length", _STATX_WANTED), _room("offset", 256),
        arrange=_statx, arrange_rarely=True, served=(INLINE, RING_WORKER),
    ),
    _worker("fsync", "5.1", "fsync", "none", _FD),
    _worker("fdatasync", "5.1", "fdatasync", "none",
            _FD, _constant("op_flags", _FSYNC_DATASYNC), opcode="FSYNC"),
    _worker(
        "fallocate", "5.6", "fallocate", "none", _FD, _arg("mode", "integer", "length"),
        _arg("offset", "integer", "offset"), _arg("length", "integer", "address"),
    ),
    _worker("ftruncate", "6.9", "ftruncate", "none", _FD, _arg("length", "integer", "offset")),
    _worker(
        "fadvise", "5.6", "posix_fadvise", "none",
        _FD, _arg("offset", "integer", "offset"), _arg("length", "integer", "length or address"),
        _arg("advice", "integer", "op_flags"),
    ),
    _worker(
        "madvise", "5.6", "madvise", "none",
        _arg("memory", "data", "address", "length or offset"), _arg("advice", "integer", "op_flags"),
    ),
    _worker(
        "sync_file_range", "5.2", "sync_file_range", "none", _FD, _arg("offset", "integer", "offset"),
        _arg("length", "integer", "length"), _arg("flags", "integer", "op_flags"),
    ),
    _worker(
        "renameat", "5.11", "renameat2", "none", _START, _PATH,
        _DST_START, _arg("", "path", "offset"), _NO_FLAGS, arrange=_renameat, arrange_rarely=True,
    ),
    _worker("unlinkat", "5.11", "unlinkat", "none",
            _PATH, _arg("flags", "integer", "op_flags", default=0), _DIRECTORY),
    _worker("mkdirat", "5.15", "mkdirat", "none",
            _PATH, _arg("mode", "integer", "length", default=0o777), _DIRECTORY),
    _worker("symlinkat", "5.15", "symlinkat", "none",
            _arg("src", "path", "address"), _arg("dst", "path", "offset"), _DIRECTORY),
    _worker(
        "linkat", "5.15", "linkat", "none", _START, _PATH,
        _DST_START, _arg("", "path", "offset"), _NO_FLAGS, arrange=_linkat, arrange_rarely=True,
    ),
    _worker(
        "getxattr", "5.19", "getxattr", "bytes", _arg("path", "path", "address3"),
        _arg("attribute", "text", "address"), _arg("size", "length", "offset", "length", default=65536),
    ),
    _worker(
        "setxattr", "5.19", "setxattr", "none", _arg("path", "path", "address3"),
        _arg("attribute", "text", "address"), _arg("value", "data", "offset", "length"),
        _arg("flags", "integer", "op_flags", default=0),
    ),
    _worker(
        "fgetxattr", "5.19", "fgetxattr", "bytes", _FD,
        _arg("attribute", "text", "address"), _arg("size", "length", "offset", "length", default=65536),
    ),
    _worker(
        "fsetxattr", "5.19", "fsetxattr", "none", _FD,
        _arg("attribute", "text", "address"), _arg("value", "data", "offset", "length"),
        _arg("flags", "integer", "op_flags", default=0),
    ),
    _worker(
        "splice", "5.7", "splice", "integer", _arg("src", "fd", "file_index"), _arg("dst", "fd", "fd"),
        _arg("count", "integer", "length"), _arg("offset_src", "position", "address", default=-1),
        _arg("offset_dst", "position", "offset", default=-1),
        _arg("flags", "integer", "op_flags", default=0), interruptible=True,
    ),
    _worker(
        "tee", "5.8", "tee", "integer", _arg("src", "fd", "file_index"), _arg("dst", "fd", "fd"),
        _arg("count", "integer", "length"), _arg("flags", "integer", "op_flags", default=0),
        interruptible=True,
    ),
    _ring(
        "pipe", "6.16", "pipe2", "fds", _arg("flags", "integer", "op_flags", default=0, bits=_O_CLOEXEC),
        _room("address", 8), convert=structs.unpack_pipe,
    ),
)  # fmt: skip

_SOCKETS = (
    _ring(
        "socket", "5.19", "socket", "fd", _arg("family", "integer", "fd"),
        _arg("type", "integer", "offset", bits=_SOCK_CLOEXEC),
        _arg("protocol", "integer", "length", default=0),
    ),
    _socket_wait(
        "connect", "5.5", "connect", "none", _FD, _arg("", "packed", "address", "offset"),
        arrange=_connect, repeated=False,
    ),
    _socket_wait(
        "accept", "5.5", "accept4", "(fd, address)", _FD,
        _arg("flags", "integer", "op_flags", default=0, bits=_SOCK_CLOEXEC),
        _arg("", "peer", "address", "offset", default=structs.PEER_BYTES), convert=structs.unpack_accepted,
    ),
    _ring("bind", "6.11", "bind", "none", _FD, _arg("", "packed", "address", "offset"), arrange=_connect),
    _ring("listen", "6.11", "listen", "none", _FD, _arg("backlog", "integer", "length", default=128)),
    _worker("shutdown", "5.11", "shutdown", "none", _FD, _arg("how", "integer", "length")),
    _socket_wait(
        "send", "5.6", "send", "integer", _FD, _arg("data", "data", "address", "length"),
        _arg("flags", "integer", "op_flags", default=0),
    ),
    _socket_wait(
        "recv", "5.6", "recv", "bytes", _FD, _arg("length", "length", "address", "length"),
        _arg("flags", "integer", "op_flags", default=0),
    ),
    _socket_wait(
        "recv_into", "5.6", "recv", "integer", _FD, _arg("buffer", "memory", "address", "length"),
        _arg("flags", "integer", "op_flags", default=0), opcode="RECV",
    ),
    _socket_wait(
        "sendmsg", "5.3", "sendmsg", "integer", _FD, _arg("", "message out", "address"),
        _arg("", "integer", "op_flags"), arrange=_sendmsg,
    ),
    _socket_wait(
        "recvmsg", "5.3", "recvmsg", "(data, ancdata, flags, address)", _FD,
        _arg("", "message in", "address"), _arg("", "integer", "op_flags"), arrange=_recvmsg,
    ),
)  # fmt: skip

_WAITS = (
    _socket_wait("poll", "5.1", "poll", "integer", _FD, _arg("events", "integer", "op_flags"),
                 opcode="POLL_ADD"),
    _socket_wait(
        "timeout", "5.4", "clock_nanosleep", "none", _arg("", "packed", "address"),
        _constant("length", 1), _constant("op_flags", _TIMEOUT_ABS), arrange=_timeout, success=errno.ETIME,
    ),
    _socket_wait(
        "futex_wait", "6.7", "futex", "none", _arg("memory", "data", "address"),
        _arg("value", "integer", "offset"), _arg("mask", "integer", "address3", default=0xFFFFFFFF),
        _arg("flags", "integer", "fd", default=0, bits=_FUTEX_U32),
    ),
    _ring(
        "futex_wake", "6.7", "futex", "integer", _arg("memory", "data", "address"),
        _arg("count", "integer", "offset", default=1),
        _arg("mask", "integer", "address3", default=0xFFFFFFFF),
        _arg("flags", "integer", "fd", default=0, bits=_FUTEX_U32),
    ),
    _socket_wait(
        "waitid", "6.7", "waitid", "os.waitid_result", _arg("idtype", "integer", "length"),
        _arg("id", "integer", "fd"), _arg("options", "integer", "file_index"),
        _room("offset", structs.SIGINFO_BYTES), convert=structs.unpack_siginfo,
    ),
    _socket_wait(
        "epoll_wait", "6.15", "epoll_wait", "[(fd, events), …]", _FD, _arg("", "room", "address"),
        _arg("", "integer", "length"), arrange=_epoll_wait, convert=structs.unpack_events,
    ),
    # The target's completion has user_data 0, which a loop of ringloop takes for a wake-up: any other number
    # would be an address to it.
    _ring("msg_ring", "5.18", "", "none", _FD, _arg("value", "integer", "length", default=0)),
)  # fmt: skip

_CALLS = (
    _own(
        "getdents64", "getdents64", "2.4", "[(name, inode, type), …]", _arg("fd", "fd", "0"),
        _arg("size", "room", "1", "2", default=32768), convert=structs.unpack_entries,
    ),
    _own(
        "readlink", "readlinkat", "2.6.16", "str or bytes", _arg("path", "path", "1"), _room("2", 4096, "3"),
        _arg("dir_fd", "directory", "0", default=None), convert=structs.unpack_link,
    ),
    _own(
        "access", "faccessat", "2.6.16", "none", _arg("path", "path", "1"), _arg("mode", "integer", "2"),
        _arg("dir_fd", "directory", "0", default=None),
    ),
    _own(
        "chmod", "fchmodat", "2.6.16", "none", _arg("path", "path", "1"), _arg("mode", "integer", "2"),
        _arg("dir_fd", "directory", "0", default=None),
    ),
    _own(
        "chown", "fchownat", "2.6.16", "none", _arg("", "directory", "0"), _arg("path", "path", "1"),
        _arg("", "integer", "2"), _arg("", "integer", "3"), _arg("", "integer", "4"), arrange=_chown,
    ),
    _own(
        "utimensat", "utimensat", "2.6.22", "none", _arg("", "directory", "0"), _arg("path", "path", "1"),
        _arg("", "packed", "2"), _arg("", "integer", "3"), arrange=_utimensat,
    ),
    _own(
        "statfs", "statfs", "1.0", "os.statvfs_result", _arg("path", "path", "0"),
        _room("1", structs.STATFS_BYTES), convert=structs.unpack_statfs,
    ),
    _own("flock", "flock", "2.0", "none", _arg("fd", "fd", "0"), _arg("operation", "integer", "1"),
         waits=True, interruptible=True),
    _own(
        "copy_file_range", "copy_file_range", "4.5", "integer",
        _arg("src", "fd", "0"), _arg("dst", "fd", "2"), _arg("count", "size", "4"),
        _arg("offset_src", "offset", "1", default=None), _arg("offset_dst", "offset", "3", default=None),
    ),
    _own(
        "sendfile", "sendfile", "2.2", "integer", _arg("out_fd", "fd", "0"), _arg("in_fd", "fd", "1"),
        _arg("offset", "offset", "2"), _arg("count", "size", "3"), interruptible=True,
    ),
    _own(
        "mknod", "mknodat", "2.6.16", "none", _arg("path", "path", "1"),
        _arg("mode", "integer", "2", default=0o600), _arg("device", "integer", "3", default=0),
        _arg("dir_fd", "directory", "0", default=None),
    ),
    _own("getcwd", "getcwd", "2.2", "str", _room("0", 4096, "1"), convert=structs.unpack_directory),
)  # fmt: skip

#: Any system call, by its number.
SYSTEM_CALL = _own(
    "syscall", "", "", "integer", *(_arg("", "word", str(position)) for position in range(6)),
    waits=True, interruptible=True,
)  # fmt: skip

#: Every operation, by name.
ENTRIES: Mapping[str, Entry] = {entry.name: entry for entry in (*_FILES, *_SOCKETS, *_WAITS, *_CALLS)}

#: Other names of operations, as the standard library has them.
ALIASES: Mapping[str, str] = {
    "open": "openat",
    "stat": "statx",
    "pread": "read",
    "pwrite": "write",
    "preadv": "readv",
    "pwritev": "writev",
    "rename": "renameat",
    "unlink": "unlinkat",
    "mkdir": "mkdirat",
    "symlink": "symlinkat",
    "link": "linkat",
}


def takes_slot(entry: Entry) -> bool:
    """Whether a slot of the ring's table of files can stand in the place of its fd, the first argument."""
    has_fd = bool(entry.opcode and entry.arguments) and entry.arguments[0] is _FD
    return has_fd and entry.name not in ("close", "epoll_wait", "msg_ring")


#: Whose failure keeps the kernel from beginning what is linked behind them. That of fsync, ftruncate, statx
#: and others does not (Linux 6.18: they complete without setting REQ_F_FAIL).
BREAK_LINKS = frozenset(("openat", "read", "readinto", "readv", "write", "writev"))


class Capability(NamedTuple):
    """How this machine serves an operation.

    `served` are the ways, the first tried first: "inline", "ring", "ring worker", "own worker"; over epoll
    "driver", "readiness", "timer" and "driver worker" instead of the ring's; empty where it cannot be had.
    `kernel` is the first that has it. `cancelled` says when a cancel ends it: "while it runs", or only
    "before it begins". `waits` tells that it may never end by itself.
    """

    name: str
    kernel: str
    served: tuple[str, ...]
    cancelled: str
    waits: bool
    result: str
    system_call: str


#: What the epoll driver does without a thread: at once, or when the fd is ready. The third kind may also be
#: about a stored file, and needs a thread for that.
_AT_ONCE = frozenset(("NOP", "SOCKET", "BIND", "LISTEN", "SHUTDOWN", "PIPE", "FUTEX_WAKE"))
_WHEN_READY = frozenset(("POLL_ADD", "ACCEPT", "CONNECT", "SEND", "RECV", "SENDMSG", "RECVMSG"))
_STREAMS = frozenset(("READ", "WRITE", "READV", "WRITEV"))


def _served_by_epoll(entry: Entry) -> tuple[str, ...]:
    """How the epoll driver serves an operation that it has."""
    inline = (INLINE,) if INLINE in entry.served else ()
    if entry.opcode in _AT_ONCE:
        return (*inline, DRIVER)
    if entry.opcode in _WHEN_READY:
        return (*inline, READINESS)
    if entry.opcode == "TIMEOUT":
        return (*inline, TIMER)
    return (*inline, READINESS, DRIVER_WORKER) if entry.opcode in _STREAMS else (*inline, DRIVER_WORKER)


def capability(entry: Entry, driver: str, opcodes: frozenset[int]) -> Capability:
    """How an operation is served over a driver that has these opcodes."""
    served = entry.served
    if entry.opcode and OPCODES.index(entry.opcode) not in opcodes:
        served = (*(way for way in served if way == INLINE), OWN_WORKER) if entry.call else ()
    elif entry.opcode and driver == "epoll":
        served = _served_by_epoll(entry)
    cancelled = "while it runs" if entry.interruptible else "before it begins"
    return Capability(entry.name, entry.kernel, served, cancelled, entry.waits, entry.result, entry.call)


def capabilities(driver: str | None = None) -> dict[str, Capability]:
    """The table of operations as this machine serves it, by name.

    `driver` is that of the loop that is meant (`loop.driver`); None: the one that a new loop takes. Other
    loops than ringloop's use threads for all. Raises what `ringloop.new_event_loop` does where there is no
    such loop.
    """
    driver = requested_driver(driver) or available_driver()
    opcodes = frozenset(driver_report(driver)["opcodes"])
    return {name: capability(entry, driver, opcodes) for name, entry in ENTRIES.items()}
