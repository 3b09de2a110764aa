"""The table: for each function of `os`, the arguments that `ringloop.os` must answer as it does."""

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePath
from typing import Any


@dataclass(frozen=True)
class Fd:
    """Stands for an open file descriptor: of a path, or of an end of a pipe that has some bytes."""

    name: str
    flags: int = os.O_RDWR


@dataclass(frozen=True)
class Case:
    function: str
    args: tuple[Any, ...]
    keywords: dict[str, Any]

    def __str__(self) -> str:
        words = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.keywords.items())]
        return f"{self.function}({', '.join(words)})"[:120]


def case(function: str, *args: Any, **keywords: Any) -> Case:
    return Case(function, args, keywords)


FILE, DIRECTORY = Fd("file"), Fd("directory", os.O_RDONLY)
READABLE, WRITABLE = Fd("the pipe's read end"), Fd("the pipe's write end")
BAD_FD = 9_999
LONG = "x" * 300
TOO_LONG = "x/" * 3_000

# Paths that mean trouble for any function, and things that are none.
TROUBLE = [
    "nothing",
    "nothing/below",
    "file/below",
    "circle/below",
    LONG,
    TOO_LONG,
    "",
    b"nothing",
    "a\0b",
    b"a\0b",
]
NO_PATHS = [None, 1.5, [], object]
ON_A_PATH = ["stat", "lstat", "readlink", "listdir", "statvfs", "listxattr", "rmdir", "unlink", "remove"]
GOOD = ["file", "directory", "link", "link_to_directory", "broken", "circle", "fifo", "näme", "file/", "."]
SPELLED = [b"file", PurePath("file"), os.fsencode("näme"), "not-utf8-\udcff", b"not-utf8-\xff"]
PATHS = [*TROUBLE, *NO_PATHS, *GOOD, *SPELLED]
FDS = ["file", None, 1.5, 2**40, -(2**40), BAD_FD]


def looking() -> list[Case]:
    cases = []
    for path in PATHS:
        cases += [case(function, path) for function in ON_A_PATH]
        cases += [case("access", path, mode) for mode in (os.F_OK, os.R_OK, os.W_OK | os.X_OK)]
        cases += [case("stat", path, follow_symlinks=False), case("truncate", path, 5)]
        if path != "fifo":
            cases.append(case("truncate", path, "x"))
    for fd in (FILE, DIRECTORY, READABLE, BAD_FD, 2**40, -(2**40)):
        cases += [case("stat", fd), case("fstat", fd), case("statvfs", fd), case("fstatvfs", fd)]
        cases += [case("lstat", fd), case("access", fd, 0), case("readlink", fd), case("unlink", fd)]
        cases += [case("truncate", fd, 3), case("listxattr", fd)]
    cases += [case("listdir", fd) for fd in (FILE, DIRECTORY, BAD_FD, READABLE, 2**40)]
    cases += [case("fstat", "file"), case("fstat", None), case("fstatvfs", 1.5), case("listdir")]
    cases += [case("listdir", None)]
    cases += [case("stat", "inner", dir_fd=DIRECTORY), case("stat", "inner", dir_fd=FILE)]
    cases += [case("stat", "inner", dir_fd=BAD_FD), case("stat", "inner", dir_fd="x")]
    cases += [case("stat", FILE, dir_fd=3)]
    cases += [case("stat", FILE, follow_symlinks=False), case("lstat", "link", dir_fd=DIRECTORY)]
    cases += [case("access", "inner", os.R_OK, dir_fd=DIRECTORY)]
    cases += [case("access", "inner", os.R_OK, dir_fd=BAD_FD)]
    cases += [case("access", "file", os.R_OK, effective_ids=True)]
    cases += [case("access", "broken", 0, follow_symlinks=False)]
    cases += [case("access", "file", "x"), case("readlink", "../link", dir_fd=DIRECTORY)]
    cases += [case("readlink", b"link"), case("readlink", PurePath("link"))]
    return cases


def opening() -> list[Case]:
    cases = [case("open", path, os.O_RDONLY | os.O_NONBLOCK) for path in PATHS]
    cases += [case("open", path, os.O_RDWR | os.O_NONBLOCK) for path in ("directory", "file", "nothing")]
    cases += [case("open", "new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)]
    cases += [case("open", "file", os.O_CREAT | os.O_EXCL | os.O_WRONLY)]
    cases += [case("open", "file", os.O_TRUNC | os.O_WRONLY), case("open", "link", os.O_NOFOLLOW)]
    cases += [case("open", "file", os.O_DIRECTORY), case("open", "file", "x"), case("open", "file", 0, "x")]
    cases += [case("open", "inner", 0, dir_fd=DIRECTORY), case("open", "inner", 0, dir_fd=BAD_FD)]
    cases += [case("open", "fifo", os.O_WRONLY | os.O_NONBLOCK), case("open", "file", 2**40)]
    cases += [case("close", fd) for fd in (*FDS, -1, FILE, DIRECTORY, READABLE)]
    return cases


def changing() -> list[Case]:
    cases = []
    for path in PATHS:
        cases += [case("mkdir", path), case("chmod", path, 0o600), case("chown", path, -1, -1)]
        cases += [case("utime", path)]
        cases += [case("lchown", path, -1, -1), case("mkfifo", path), case("rename", path, "new")]
        cases += [case("rename", "file", path), case("replace", path, "other"), case("link", path, "new")]
        cases += [case("link", "file", path), case("symlink", path, "new"), case("symlink", "file", path)]
        cases += [case("rename", "directory", path), case("removedirs", path)]
        if path != TOO_LONG:  # os.makedirs() calls itself
            cases += [case("makedirs", path), case("makedirs", path, exist_ok=True)]
    cases += [case("mkdir", "new", 0o700), case("mkdir", "new", "x"), case("mkdir", "new", dir_fd=DIRECTORY)]
    cases += [case("mkdir", "bare"), case("rmdir", "bare"), case("rmdir", "below", dir_fd=DIRECTORY)]
    cases += [case("unlink", "inner", dir_fd=DIRECTORY), case("remove", "inner", dir_fd=BAD_FD)]
    cases += [case("rename", "inner", "inner", src_dir_fd=DIRECTORY)]
    cases += [case("rename", "file", "f", dst_dir_fd=DIRECTORY)]
    cases += [case("rename", "directory", "directory/below/new"), case("rename", "file", "bare")]
    cases += [case("link", "inner", "new", src_dir_fd=DIRECTORY)]
    cases += [case("link", "link", "new", follow_symlinks=False)]
    cases += [case("link", "link", "new"), case("link", "../link", "new", src_dir_fd=DIRECTORY)]
    cases += [case("symlink", "target", "new", True), case("symlink", "target", "new", dir_fd=DIRECTORY)]
    cases += [case("symlink", b"target", "new"), case("symlink", b"target", b"new")]
    cases += [case("link", b"file", "new")]
    cases += [case("mkfifo", "new", 0o600), case("mkfifo", "new", dir_fd=DIRECTORY)]
    cases += [case("mkfifo", "new", "x")]
    cases += [case("mknod", "new"), case("mknod", "file"), case("mknod", "nothing/new")]
    cases += [case("mknod", "new", 0o644)]
    cases += [case("mknod", "new", 0o20600, os.makedev(1, 3)), case("mknod", "new", 0o600, 2**40)]
    cases += [case("makedirs", "new/deep/er", 0o700), case("makedirs", "new/deep/.")]
    cases += [case("makedirs", "new/deep/")]
    cases += [case("makedirs", "file/x"), case("makedirs", b"new/deep")]
    cases += [case("removedirs", "directory/below")]
    cases += [case("removedirs", "bare/"), case("renames", "directory/inner", "new/deep/inner")]
    cases += [case("renames", "nothing", "new/deep"), case("renames", "directory/below", "new/below")]
    return cases


def attributes() -> list[Case]:
    cases = []
    for fd in (FILE, DIRECTORY, BAD_FD, 2**40):
        cases += [case("chmod", fd, 0o600), case("fchmod", fd, 0o600), case("chown", fd, -1, -1)]
        cases += [case("fchown", fd, 12, 13), case("utime", fd), case("utime", fd, ns=(1, 2))]
        cases += [case("lchown", fd, 1, 2)]
        cases += [case("utime", fd, dir_fd=3), case("utime", fd, follow_symlinks=False)]
        cases += [case("chown", fd, 1, 2, dir_fd=3), case("chown", fd, 1, 2, follow_symlinks=False)]
    cases += [case("chmod", "file", mode) for mode in (0, 0o777, 0o4755, "x", None, 2**40)]
    cases += [case("chmod", path, 0o600, follow_symlinks=False) for path in ("file", "link", "nothing")]
    cases += [case("chmod", "../link", 0o600, follow_symlinks=False, dir_fd=DIRECTORY)]
    cases += [case("chmod", "inner", 0o600, dir_fd=DIRECTORY), case("chmod", "inner", 0o600, dir_fd=BAD_FD)]
    for owner in (-1, 0, 7, 2**32 - 2, -2, "x", None, 1.5):
        cases += [case("chown", "file", owner, -1), case("chown", "file", -1, owner)]
        cases += [case("fchown", FILE, owner, 3)]
    cases += [case("chown", "link", 5, 6, follow_symlinks=False), case("lchown", "link", 5, 6)]
    cases += [case("chown", "inner", 5, 6, dir_fd=DIRECTORY)]
    for times in (
        (1, 2),
        (1.5, -1.25),
        (0.1, 1e9 + 0.123456789),
        None,
        5,
        (1,),
        (1, 2, 3),
        ("a", 2),
        (2**80, 1),
        (Fraction(1, 3), 2),
        (None, 2),
    ):
        cases += [case("utime", "file", times), case("utime", "link", times, follow_symlinks=False)]
    cases += [case("utime", "file", (float("nan"), 1)), case("utime", "file", (1e300, 1))]
    cases += [case("utime", "file", [1, 2])]
    for ns in ((1, 2), (10**18 + 5, -1), None, 5, (1,), ("a", 2), (1.5, 2), (2**100, 1)):
        cases += [case("utime", "file", ns=ns)]
    cases += [case("utime", "file", (1, 2), ns=(1, 2)), case("utime", "file", None, ns=(1, 2))]
    cases += [case("utime", "inner", (1, 2), dir_fd=DIRECTORY), case("utime", "inner", (1, 2), dir_fd="x")]
    cases += [case("utime", "file", times=(3, 4)), case("utime", path="file", times=(3, 4))]
    for path in (*TROUBLE, *NO_PATHS[1:], "file", "link", FILE, DIRECTORY, BAD_FD):
        cases += [case("getxattr", path, "user.name"), case("removexattr", path, "user.name")]
        cases += [case("setxattr", path, "user.name", b"value"), case("listxattr", path)]
    for name in ("user.set", b"user.set", "user.none", "name", "a\0b", None, 5, LONG):
        cases += [case("getxattr", "file", name), case("setxattr", "file", name, b"v")]
        cases += [case("removexattr", FILE, name)]
    cases += [
        case("setxattr", "file", "user.set", b"v", flag) for flag in (os.XATTR_CREATE, os.XATTR_REPLACE, 99)
    ]
    cases += [
        case("setxattr", "file", "user.new", value) for value in ("x", bytearray(b"xy"), b"", b"x" * 100_000)
    ]
    cases += [case("getxattr", "link", "user.set", follow_symlinks=False), case("listxattr", "link")]
    cases += [case("listxattr", "link", follow_symlinks=False)]
    cases += [case("getxattr", FILE, "x", follow_symlinks=False)]
    cases += [case("setxattr", "link", "user.set", b"v", follow_symlinks=False)]
    cases += [case("removexattr", "link", "user.set", follow_symlinks=False)]
    cases += [case("removexattr", "link", "user.set")]
    return cases


def descriptors() -> list[Case]:
    cases = []
    for fd in (*FDS, FILE, DIRECTORY, READABLE, -1):
        cases += [case("read", fd, 7), case("read", fd, 0), case("pread", fd, 7, 3)]
        cases += [case("write", fd, b"new")]
        cases += [case("pwrite", fd, b"new", 3), case("readv", fd, [bytearray(3)])]
        cases += [case("writev", fd, [b"a", b"b"])]
        cases += [case("preadv", fd, [bytearray(3)], 2), case("pwritev", fd, [b"a", b"b"], 2)]
        cases += [case("fsync", fd)]
        cases += [case("fdatasync", fd), case("ftruncate", fd, 5), case("lseek", fd, 5, os.SEEK_SET)]
        cases += [case("posix_fallocate", fd, 0, 4096), case("posix_fadvise", fd, 0, 0, os.POSIX_FADV_RANDOM)]
        cases += [case("sendfile", fd, FILE, 0, 4), case("copy_file_range", fd, FILE, 4)]
        cases += [case("splice", fd, WRITABLE, 4)]
    for length in (-1, 1.5, "x", 2**63, 5_000):
        cases += [case("read", FILE, length), case("pread", FILE, length, 0), case("ftruncate", FILE, length)]
    for offset in (-1, -2, 1.5, "x", 2**63, 995, 5_000):
        cases += [case("pread", FILE, 10, offset), case("pwrite", FILE, b"xy", offset)]
        cases += [case("preadv", FILE, [bytearray(10)], offset), case("pwritev", FILE, [b"xy"], offset)]
    for data in ("text", None, bytearray(b"ab"), memoryview(b"abcd"), memoryview(b"abcd")[::2], b""):
        cases += [case("write", FILE, data), case("pwrite", FILE, data, 3), case("writev", FILE, [data])]
    for buffers in ([], (bytearray(4), bytearray(4)), [b"ro"], 5, None, [None], "ab", [bytearray(1)] * 1025):
        cases += [case("readv", FILE, buffers), case("preadv", FILE, buffers, 1)]
        cases += [case("preadv", FILE, buffers, 1, 0)]
    cases += [case("pwritev", FILE, buffers, 1) for buffers in ([], [b"a", b"bc"], 5, ["x"])]
    cases += [case("writev", FILE, buffers) for buffers in ([], [b"a", b"bc"], 5, ["x"])]
    cases += [case("preadv", FILE, [bytearray(1)], 0, flags) for flags in (1 << 30, "x")]
    for whence in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE, 99, "x"):
        cases += [case("lseek", FILE, offset, whence) for offset in (0, 5, -1, "x", 2**63)]
    cases += [case("lseek", READABLE, 0, os.SEEK_CUR), case("fsync", READABLE)]
    cases += [case("ftruncate", Fd("file", 0), 3)]
    cases += [
        case("posix_fallocate", FILE, offset, n)
        for offset, n in ((0, 0), (-1, 5), (5, -1), (900, 200), ("x", 1))
    ]
    cases += [case("posix_fadvise", FILE, 0, n, os.POSIX_FADV_WILLNEED) for n in (0, 100, 2**40, -1, "x")]
    cases += [case("posix_fadvise", FILE, 0, 0, 99), case("write", Fd("file", os.O_RDONLY), b"x")]
    cases += [case("read", Fd("file", os.O_WRONLY), 3), case("read", WRITABLE, 3), case("fsync", "x")]
    cases += copying() + locking() + [case("sync")]
    # New in Python 3.14.
    cases += reading_into() if hasattr(os, "readinto") else []
    return cases


def reading_into() -> list[Case]:
    buffers = [bytearray(7), bytearray(), memoryview(bytearray(9))[2:5], bytearray(5_000)]
    cases = [case("readinto", FILE, buffer) for buffer in (*buffers, b"ro", "x", None, [bytearray(1)])]
    for fd in (*FDS, DIRECTORY, READABLE, WRITABLE, -1):
        cases += [case("readinto", fd, bytearray(5)), case("readinto", fd, bytearray())]
    return cases


def locking() -> list[Case]:
    cases = []
    for command in (os.F_LOCK, os.F_TLOCK, os.F_ULOCK, os.F_TEST, 99, "x", None):
        cases += [case("lockf", FILE, command, length) for length in (0, 5, -1, 2**62, 2**63, "x", 1.5)]
        cases += [case("lockf", fd, command, 0) for fd in (*FDS, DIRECTORY, READABLE, -1)]
        cases += [case("lockf", Fd("file", os.O_RDONLY), command, 3)]
    return cases


def copying() -> list[Case]:
    other = Fd("other")
    cases = [case("sendfile", other, FILE, offset, 5) for offset in (0, 995, None, "x", -1, 2**63)]
    cases += [case("sendfile", other, FILE, 0, count) for count in (0, 5_000, "x", -1)]
    cases += [case("sendfile", WRITABLE, FILE, 3, 4), case("sendfile", other, DIRECTORY, 0, 4)]
    cases += [case("sendfile", out_fd=other, in_fd=FILE, offset=0, count=3)]
    for count in (0, 5, 5_000, -1, "x"):
        cases += [case("copy_file_range", FILE, other, count), case("splice", READABLE, other, count)]
    cases += [case("copy_file_range", FILE, other, 5, offset) for offset in (3, -1, "x", None)]
    cases += [case("copy_file_range", FILE, other, 5, 1, offset) for offset in (3, -1, "x", None)]
    cases += [case("copy_file_range", FILE, READABLE, 5), case("copy_file_range", DIRECTORY, other, 5)]
    cases += [case("splice", FILE, WRITABLE, 5, 3), case("splice", FILE, WRITABLE, 5, "x")]
    cases += [case("splice", FILE, other, 5)]
    cases += [case("splice", READABLE, other, 2, None, 1), case("splice", READABLE, other, 2, 1)]
    cases += [case("splice", READABLE, other, 2, flags=os.SPLICE_F_MOVE)]
    cases += [case("splice", READABLE, other, 2, flags=flags) for flags in ("x", None, -1, 2**40, 2**80)]
    return cases


CASES = [*looking(), *opening(), *changing(), *attributes(), *descriptors()]
