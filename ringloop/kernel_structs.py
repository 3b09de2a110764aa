"""The kernel's structs that operations take and give, to and from Python's own values.

`operations.py` names these functions in its table; they run once per operation and touch no descriptor.
Layouts are those of 64-bit Linux, the only one there are rings for that ringloop supports.
"""

import os
import platform
import socket
import struct
import time
from collections.abc import Iterable
from typing import Any

#: struct sockaddr_storage.
ADDRESS_BYTES = 128
#: The peer's address as an accept gives it: its length, then the address.
PEER_BYTES = 8 + ADDRESS_BYTES
#: struct siginfo, struct statfs.
SIGINFO_BYTES = 128
STATFS_BYTES = 120
#: struct epoll_event is packed on x86 alone.
EVENT = struct.Struct("=IQ" if platform.machine() == "x86_64" else "=IIQ")

_UTIME_NOW = (1 << 30) - 1
_STATFS_VALID = 0x20  # set in the flags by the kernel, not one of statvfs
_CONTROL_HEADER = struct.Struct("=Qii")


def pack_address(address: Any) -> bytes:
    """A struct sockaddr: of a path (str or bytes: AF_UNIX), or (host, port[, flow, scope]), the host numeric.

    Names are not resolved: that can take seconds and is the loop's getaddrinfo().
    """
    if isinstance(address, str | bytes):
        path = os.fsencode(address)
        if len(path) > 107:
            raise OSError("AF_UNIX path too long")
        end = b"" if path[:1] in (b"", b"\0") else b"\0"
        return struct.pack("=H", socket.AF_UNIX) + path + end
    if not isinstance(address, tuple) or len(address) not in (2, 4):
        raise TypeError(f"an address is a path, (host, port) or (host, port, flow, scope), not {address!r}")
    host, port, *rest = address
    if not 0 <= port <= 0xFFFF:
        raise OverflowError("port must be 0-65535.")
    if ":" in host or rest:
        flow, scope = rest or (0, 0)
        packed = socket.inet_pton(socket.AF_INET6, host)
        return (
            struct.pack("=H", socket.AF_INET6)
            + struct.pack("!HI", port, flow)
            + packed
            + struct.pack("=I", scope)
        )
    packed = socket.inet_pton(socket.AF_INET, host or "0.0.0.0")
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + packed + bytes(8)


def unpack_address(raw: bytes) -> Any:
    """The address in a struct sockaddr, as the socket module gives it; None if there is none."""
    if len(raw) < 2:
        return None
    (family,) = struct.unpack_from("=H", raw)
    if family == socket.AF_INET:
        (port,) = struct.unpack_from("!H", raw, 2)
        return socket.inet_ntop(socket.AF_INET, raw[4:8]), port
    if family == socket.AF_INET6:
        port, flow = struct.unpack_from("!HI", raw, 2)
        (scope,) = struct.unpack_from("=I", raw, 24)
        return socket.inet_ntop(socket.AF_INET6, raw[8:24]), port, flow & 0xFFFFF, scope
    if family == socket.AF_UNIX:
        path = raw[2:]
        return path if path[:1] == b"\0" else os.fsdecode(path.partition(b"\0")[0])
    return family, raw[2:]


def unpack_accepted(fd: int, room: bytes, _path: Any) -> tuple[int, Any]:
    """(fd, address) of an accept."""
    (length,) = struct.unpack_from("=I", room)
    return fd, unpack_address(room[8 : 8 + min(length, ADDRESS_BYTES)])


def unpack_pipe(_outcome: int, room: bytes, _path: Any) -> tuple[int, int]:
    """(read end, write end) of a pipe."""
    read_end, write_end = struct.unpack("=ii", room)
    return read_end, write_end


def pack_control(messages: Iterable[tuple[int, int, Any]]) -> bytes:
    """Ancillary data, as socket.sendmsg() takes it."""
    packed = b""
    for level, kind, data in messages:
        content = memoryview(data).tobytes()
        packed += _CONTROL_HEADER.pack(_CONTROL_HEADER.size + len(content), level, kind)
        packed += content + bytes(-len(content) % 8)
    return packed


def unpack_control(raw: bytes) -> list[tuple[int, int, bytes]]:
    """Ancillary data, as socket.recvmsg() gives it."""
    messages = []
    start = 0
    while len(raw) - start >= _CONTROL_HEADER.size:
        length, level, kind = _CONTROL_HEADER.unpack_from(raw, start)
        if length < _CONTROL_HEADER.size:
            break
        messages.append((level, kind, raw[start + _CONTROL_HEADER.size : start + length]))
        start += length + -length % 8
    return messages


def unpack_message(data: bytes, control: bytes, flags: int, name: bytes) -> Any:
    """(data, ancillary data, flags, address) as socket.recvmsg() gives them."""
    return data, unpack_control(control), flags, unpack_address(name)


def pack_deadline(seconds: float) -> bytes:
    """A struct __kernel_timespec: the moment in so many seconds from now, by CLOCK_MONOTONIC."""
    deadline_ns = time.monotonic_ns() + max(0, int(seconds * 1e9))
    return struct.pack("=qq", deadline_ns // 1_000_000_000, deadline_ns % 1_000_000_000)


def pack_times(ns: tuple[int, int] | None) -> bytes:
    """Two struct timespec of (accessed, modified) in nanoseconds; None: now."""
    if ns is None:
        return struct.pack("=qqqq", 0, _UTIME_NOW, 0, _UTIME_NOW)
    return b"".join(struct.pack("=qq", *divmod(moment, 1_000_000_000)) for moment in ns)


def pack_open_how(flags: int, mode: int, resolve: int) -> bytes:
    """A struct open_how."""
    return struct.pack("=QQQ", flags, mode, resolve)


def unpack_siginfo(_outcome: int, room: bytes, _path: Any) -> "os.waitid_result | None":
    """What os.waitid() gives; None if no child was in the state asked for."""
    number, _, code = struct.unpack_from("=iii", room)
    pid, uid, status = struct.unpack_from("=iIi", room, 16)
    return os.waitid_result((pid, uid, number, status, code)) if pid else None


def unpack_statfs(_outcome: int, room: bytes, _path: Any) -> os.statvfs_result:
    """What os.statvfs() gives, of a struct statfs."""
    _, block, blocks, free, available, files, files_free = struct.unpack_from("=7Q", room)
    fsid, name_max, fragment, flags = struct.unpack_from("=4Q", room, 56)
    numbers = (block, fragment or block, blocks, free, available, files, files_free, files_free)
    return os.statvfs_result((*numbers, flags & ~_STATFS_VALID, name_max, fsid))


def unpack_entries(length: int, room: bytes, _path: Any) -> list[tuple[str, int, int]]:
    """(name, inode, type as DT_*) of each entry in what getdents64() gave; `.` and `..` are among them."""
    entries = []
    start = 0
    while start < length:
        inode, _, size, kind = struct.unpack_from("=QqHB", room, start)
        name = room[start + 19 : start + size].partition(b"\0")[0]
        entries.append((os.fsdecode(name), inode, kind))
        start += size
    return entries


def unpack_link(length: int, room: bytes, path: Any) -> str | bytes:
    """What a symbolic link holds: bytes if the path was bytes."""
    return room[:length] if isinstance(path, bytes) else os.fsdecode(room[:length])


def unpack_directory(length: int, room: bytes, _path: Any) -> str:
    """The path that getcwd() gave."""
    return os.fsdecode(room[: length - 1])


def unpack_events(count: int, room: bytes, _path: Any) -> list[tuple[int, int]]:
    """(fd, events) of each event, as select.epoll.poll() gives them."""
    events = []
    for index in range(count):
        mask, *_, data = EVENT.unpack_from(room, index * EVENT.size)
        events.append((data & 0xFFFFFFFF, mask))
    return events
