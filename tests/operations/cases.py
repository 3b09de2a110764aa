"""For every operation a call that succeeds and one that fails, and the blocking calls that do the same.

A case is made for a `World`: (the operation's arguments, a function that does the same by blocking). Where a
result is an fd, the blocking side says what the fd is: see `test_table.py`.
"""

import ctypes
import fcntl
import os
import select
import socket
import stat
import time
from collections.abc import Callable
from typing import Any

from operations.world import LIBC, World, libc_call

Case = tuple[tuple[Any, ...], Callable[[], Any]]
FADV_RANDOM = os.POSIX_FADV_RANDOM
MADV_WILLNEED = 3
BAD_FD = 1 << 20


def same(function: Callable[..., Any], *arguments: Any) -> Case:
    """The blocking call takes the same arguments."""
    return arguments, lambda: function(*arguments)


def word(value: int) -> Any:
    return bytearray(value.to_bytes(4, "little"))


def read_into(fd: int, offset: int) -> Callable[[], int]:
    return lambda: os.preadv(fd, [bytearray(10)], offset)


def names(fd: int) -> list[str]:
    return sorted([".", "..", *os.listdir(fd)])


def waited(pid: int) -> Case:
    def wait() -> tuple[int, int]:
        result = os.waitid(os.P_PID, pid, os.WEXITED)
        assert result
        return result.si_code, result.si_status

    return (os.P_PID, pid, os.WEXITED), wait


def shared_lock(world: World) -> Case:
    return same(fcntl.flock, world.open(), fcntl.LOCK_SH)


def bad_lock(world: World) -> Case:
    return same(fcntl.flock, BAD_FD, fcntl.LOCK_SH)


def connected(world: World) -> Case:
    address = world.listener().getsockname()
    client, other = world.new_socket(), world.new_socket()
    return (client, address), lambda: other.connect(address)


def refused(world: World) -> Case:
    listener = world.listener()
    address = listener.getsockname()
    listener.close()
    client, other = world.new_socket(), world.new_socket()
    return (client, address), lambda: other.connect(address)


def bound_twice(world: World) -> Case:
    taken = world.listener().getsockname()
    first, second = world.new_socket(), world.new_socket()
    return (first, taken), lambda: second.bind(taken)


def copied(world: World) -> Case:
    src, dst = world.open(), world.keep(os.open(world.path("new"), os.O_RDWR | os.O_CREAT))
    return same(os.copy_file_range, src, dst, 100, 5, 0)


def sent(world: World) -> Case:
    left, _ = world.sockets()
    return same(os.sendfile, left.fileno(), world.open(), 5, 100)


def message(world: World) -> Case:
    left, _ = world.sockets()
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, world.open().to_bytes(4, "little"))]
    return same_method(left, "sendmsg", [b"ab", b"cd"], control)


def same_method(object_: Any, name: str, *arguments: Any) -> Case:
    return (object_, *arguments), lambda: getattr(object_, name)(*arguments)


def received(world: World) -> Case:
    left, right = world.sockets()
    right.send(b"one")
    return (left, 100, 64), lambda: (b"one", [], 0, None)


GOOD: dict[str, Callable[[World], Case]] = {
    "nop": lambda w: ((), lambda: None),
    "openat": lambda w: same(os.open, w.path("file"), os.O_RDONLY),
    "openat2": lambda w: same(os.open, w.path("folder"), os.O_RDONLY | os.O_DIRECTORY),
    "close": lambda w: same(os.close, w.open()),
    "read": lambda w: same(os.pread, w.open(), 20, 5),
    "readinto": lambda w: ((fd := w.open(), bytearray(10), 3), read_into(fd, 3)),
    "write": lambda w: same(os.pwrite, w.open(), b"abc", 7),
    "readv": lambda w: same(os.preadv, w.open(), [bytearray(7), bytearray(9)], 990),
    "writev": lambda w: same(os.pwritev, w.open(), [b"abc", bytearray(b"de")], 995),
    "statx": lambda w: same(os.stat, w.path("file")),
    "fsync": lambda w: same(os.fsync, w.open()),
    "fdatasync": lambda w: same(os.fdatasync, w.open()),
    "fallocate": lambda w: ((fd := w.open(), 0, 0, 5000), lambda: os.posix_fallocate(fd, 0, 5000)),
    "ftruncate": lambda w: same(os.ftruncate, w.open(), 123),
    "fadvise": lambda w: ((fd := w.open(), 0, 0, FADV_RANDOM),
                          lambda: os.posix_fadvise(fd, 0, 0, FADV_RANDOM)),
    "madvise": lambda w: ((m := w.memory(), MADV_WILLNEED), lambda: m.madvise(MADV_WILLNEED)),
    "sync_file_range": lambda w: ((w.open(), 0, 100, 2), lambda: None),
    "renameat": lambda w: same(os.rename, w.path("file"), w.path("other")),
    "unlinkat": lambda w: same(os.unlink, w.path("link")),
    "mkdirat": lambda w: same(os.mkdir, w.path("new"), 0o750),
    "symlinkat": lambda w: same(os.symlink, "file", w.path("new")),
    "linkat": lambda w: same(os.link, w.path("file"), w.path("new")),
    "getxattr": lambda w: same(os.getxattr, w.path("file"), "user.color"),
    "setxattr": lambda w: same(os.setxattr, w.path("file"), "user.size", b"big"),
    "fgetxattr": lambda w: same(os.getxattr, w.open(), "user.color"),
    "fsetxattr": lambda w: same(os.setxattr, w.open(), "user.size", b"big"),
    "splice": lambda w: same(os.splice, w.pipe(b"spliced")[0], w.open(), 4),
    "tee": lambda w: ((w.pipe(b"teed")[0], w.pipe()[1], 100), lambda: 4),
    "pipe": lambda w: ((), os.pipe),
    "socket": lambda w: ((socket.AF_INET, socket.SOCK_STREAM), lambda: socket.socket().detach()),
    "connect": connected,
    "accept": lambda w: ((s := w.called(),), lambda: s.accept()[0].detach()),
    "bind": lambda w: ((w.new_socket(), ("127.0.0.1", 0)), lambda: w.new_socket().bind(("127.0.0.1", 0))),
    "listen": lambda w: ((w.new_socket(), 5), lambda: w.new_socket().listen(5)),
    "shutdown": lambda w: ((s := w.sockets()[0], socket.SHUT_WR), lambda: s.shutdown(socket.SHUT_WR)),
    "send": lambda w: ((s := w.sockets()[0], b"hello"), lambda: s.send(b"hello")),
    "recv": lambda w: ((w.pair_with(b"hello"), 100), lambda: b"hello"),
    "recv_into": lambda w: ((w.pair_with(b"hello"), bytearray(3)), lambda: 3),
    "sendmsg": message,
    "recvmsg": received,
    "poll": lambda w: ((w.pipe(b"x")[0], select.POLLIN), lambda: select.POLLIN),
    "timeout": lambda w: same(time.sleep, 0.001),
    "futex_wait": lambda w: ((word(1), 0), lambda: _raise(OSError(11, os.strerror(11)))),
    "futex_wake": lambda w: ((word(0),), lambda: 0),
    "waitid": lambda w: waited(w.child()),
    "epoll_wait": lambda w: ((e := w.epoll()[0],), lambda: e.poll()),
    "msg_ring": lambda w: ((), lambda: None),
    "getdents64": lambda w: ((fd := w.open("folder", os.O_RDONLY),), lambda: names(fd)),
    "readlink": lambda w: same(os.readlink, w.path("link")),
    "access": lambda w: ((w.path("file"), os.R_OK), lambda: None),
    "chmod": lambda w: same(os.chmod, w.path("file"), 0o640),
    "chown": lambda w: same(os.chown, w.path("file"), os.getuid(), os.getgid()),
    "utimensat": lambda w: ((w.path("file"), (1_000_000_007, 2)),
                            lambda: os.utime(w.path("file"), ns=(1_000_000_007, 2))),
    "statfs": lambda w: same(os.statvfs, w.path("file")),
    "flock": shared_lock,
    "copy_file_range": copied,
    "sendfile": sent,
    "mknod": lambda w: same(os.mknod, w.path("new"), stat.S_IFIFO | 0o600),
    "getcwd": lambda w: same(os.getcwd),
}  # fmt: skip


def _raise(error: BaseException) -> None:
    raise error


BAD: dict[str, Callable[[World], Case]] = {
    "openat": lambda w: same(os.open, w.path("none"), os.O_RDONLY),
    "openat2": lambda w: same(os.open, w.path("none"), os.O_RDONLY),
    "close": lambda w: same(os.close, BAD_FD),
    "read": lambda w: same(os.pread, w.open("folder", os.O_RDONLY), 20, 5),
    "readinto": lambda w: ((BAD_FD, bytearray(10), 3), read_into(BAD_FD, 3)),
    "write": lambda w: same(os.pwrite, w.open("file", os.O_RDONLY), b"abc", 7),
    "readv": lambda w: same(os.preadv, BAD_FD, [bytearray(7)], 0),
    "writev": lambda w: same(os.pwritev, w.open("file", os.O_RDONLY), [b"abc"], 0),
    "statx": lambda w: same(os.stat, w.path("file/none")),
    "fsync": lambda w: same(os.fsync, w.pipe()[0]),
    "fdatasync": lambda w: same(os.fdatasync, BAD_FD),
    "fallocate": lambda w: ((BAD_FD, 0, 0, 10), lambda: os.posix_fallocate(BAD_FD, 0, 10)),
    "ftruncate": lambda w: same(os.ftruncate, w.open("file", os.O_RDONLY), 1),
    "fadvise": lambda w: same(os.posix_fadvise, w.pipe()[0], 0, 0, FADV_RANDOM),
    "madvise": lambda w: ((m := w.memory(), 12345), lambda: m.madvise(12345)),
    "sync_file_range": lambda w: same(libc_sync, w.pipe()[0], 0, 100, 2),
    "renameat": lambda w: same(os.rename, w.path("none"), w.path("other")),
    "unlinkat": lambda w: same(os.unlink, w.path("folder")),
    "mkdirat": lambda w: same(os.mkdir, w.path("file")),
    "symlinkat": lambda w: same(os.symlink, "file", w.path("link")),
    "linkat": lambda w: same(os.link, w.path("none"), w.path("new")),
    "getxattr": lambda w: same(os.getxattr, w.path("file"), "user.none"),
    "setxattr": lambda w: same(os.setxattr, w.path("none"), "user.size", b"big"),
    "fgetxattr": lambda w: same(os.getxattr, BAD_FD, "user.color"),
    "fsetxattr": lambda w: same(os.setxattr, BAD_FD, "user.size", b"big"),
    "splice": lambda w: same(os.splice, w.open(), w.open(), 4),
    "tee": lambda w: same(libc_tee, w.open(), w.pipe()[1], 4),
    "pipe": lambda w: same(os.pipe2, 1 << 30),
    "socket": lambda w: ((255, 1), lambda: socket.socket(255, 1)),
    "connect": refused,
    "accept": lambda w: ((s := w.new_socket(),), s.accept),
    "bind": bound_twice,
    "listen": lambda w: ((s := w.sockets()[0], 5), lambda: s.listen(5)),
    "shutdown": lambda w: ((s := w.new_socket(), socket.SHUT_WR), lambda: s.shutdown(socket.SHUT_WR)),
    "send": lambda w: ((s := w.new_socket(), b"x"), lambda: s.send(b"x")),
    "recv": lambda w: ((s := w.new_socket(), 1), lambda: s.recv(1)),
    "recv_into": lambda w: ((s := w.new_socket(), bytearray(1)), lambda: s.recv(1)),
    "sendmsg": lambda w: ((s := w.new_socket(), [b"x"]), lambda: s.sendmsg([b"x"])),
    "recvmsg": lambda w: ((s := w.new_socket(), 1), lambda: s.recvmsg(1)),
    "poll": lambda w: ((BAD_FD, select.POLLIN), lambda: os.fstat(BAD_FD)),
    "futex_wait": lambda w: ((word(1), 0), lambda: _raise(OSError(11, os.strerror(11)))),
    "futex_wake": lambda w: ((word(1), 1, 0), lambda: _raise(OSError(22, os.strerror(22)))),
    "waitid": lambda w: same(os.waitid, os.P_PID, os.getpid(), os.WEXITED),
    "epoll_wait": lambda w: ((w.open(),), lambda: _raise(OSError(22, os.strerror(22)))),
    "msg_ring": lambda w: ((w.open(),), lambda: _raise(OSError(77, os.strerror(77)))),
    "getdents64": lambda w: ((w.open(),), lambda: os.listdir(w.open())),
    "readlink": lambda w: same(os.readlink, w.path("file")),
    "access": lambda w: ((w.path("none"), os.R_OK), lambda: os.stat(w.path("none"))),
    "chmod": lambda w: same(os.chmod, w.path("none"), 0o640),
    "chown": lambda w: same(os.chown, w.path("none"), 0, 0),
    "utimensat": lambda w: ((w.path("none"),), lambda: os.utime(w.path("none"))),
    "statfs": lambda w: same(os.statvfs, w.path("none")),
    "flock": bad_lock,
    "copy_file_range": lambda w: same(os.copy_file_range, BAD_FD, w.open(), 5),
    "sendfile": lambda w: same(os.sendfile, BAD_FD, w.open(), 0, 5),
    "mknod": lambda w: same(os.mknod, w.path("file"), stat.S_IFIFO | 0o600),
}  # fmt: skip


def libc_sync(fd: int, offset: int, length: int, flags: int) -> int:
    call = LIBC.sync_file_range
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return libc_call("sync_file_range", fd, offset, length, flags)


def libc_tee(src: int, dst: int, count: int) -> int:
    return libc_call("tee", src, dst, ctypes.c_size_t(count), 0)
