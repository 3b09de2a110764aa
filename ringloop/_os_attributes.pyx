"""The functions of `os` on what a file has beside its data: same names, arguments, results and exceptions.

Mode, owner, times, extended attributes, and the file system that it is on.
"""

import math
import os
import sys

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.float cimport PyFloat_AsDouble
from cpython.number cimport PyIndex_Check, PyNumber_Index
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.time cimport timespec

from ringloop._flight cimport RL_OP_FGETXATTR, RL_OP_FSETXATTR, RL_OP_GETXATTR, RL_OP_SETXATTR
from ringloop._ops cimport Call
from ringloop._os cimport (
    AT_FDCWD, AT_SYMLINK_NOFOLLOW, ChangeCall, address_of, audit, directory_argument, encoded_path,
    fd_of_path, int_argument, is_fd, like, plain_path,
)


cdef extern from "<errno.h>" nogil:
    enum: ENOSYS, EOPNOTSUPP

cdef extern from "<sys/syscall.h>" nogil:
    enum: SYS_fchmod, SYS_fchmodat, SYS_fchown, SYS_fchownat, SYS_fstatfs, SYS_statfs, SYS_utimensat
    enum: SYS_listxattr, SYS_llistxattr, SYS_flistxattr, SYS_lgetxattr, SYS_lsetxattr
    enum: SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr

cdef extern from "<sys/statfs.h>" nogil:
    ctypedef struct file_system "struct statfs":
        long f_bsize
        uint64_t f_blocks
        uint64_t f_bfree
        uint64_t f_bavail
        uint64_t f_files
        uint64_t f_ffree
        int f_fsid "f_fsid.__val[0]"
        int f_fsid_high "f_fsid.__val[1]"
        long f_namelen
        long f_frsize
        long f_flags

cdef enum:
    SYSCALL_FCHMODAT2 = 452        # 6.6; the same on every processor
    XATTR_BYTES_MAX = 65536        # of a value, and of a list of names
    STATFS_IS_VALID = 0x20         # ST_VALID in f_flags: of no meaning outside the kernel

cdef str PATHS = "string, bytes or os.PathLike"
cdef str PATHS_AND_FDS = "string, bytes, os.PathLike or integer"
cdef str ANY_OR_NONE = "string, bytes, os.PathLike, integer or None"

# From Python 3.13 on errors of utime() tell the path, as those of the others do.
cdef bint UTIME_TELLS_PATHS = sys.version_info >= (3, 13)
# It takes integers and floats before 3.15, all real numbers since; what is neither, it names since 3.14.
cdef bint UTIME_TAKES_REALS = sys.version_info >= (3, 15)
cdef bint UTIME_NAMES_TYPES = sys.version_info >= (3, 14)
cdef str TIMES_ARE = "numbers" if UTIME_TAKES_REALS else "ints"

cdef object statvfs_result_type = os.statvfs_result


# --- arguments

cdef int target(Call call, str function, object path, str kinds) except? -2:
    """Makes `path` what the call is about: a file descriptor, or AT_FDCWD with `kept` for the kernel."""
    call.path = path
    if is_fd(path):
        call.kept = b""
        return fd_of_path(path)
    call.path = plain_path(function, "path", path, kinds)
    call.kept = encoded_path(function, "path", call.path)
    return AT_FDCWD


cdef int refuse_with_fd(str function, bint has_directory, bint follow_symlinks) except -1:
    """What cannot be said of a file descriptor."""
    if has_directory:
        raise ValueError(f"{function}: can't specify dir_fd without matching path")
    if not follow_symlinks:
        raise ValueError(f"{function}: cannot use fd and follow_symlinks together")
    return 0


cdef uint32_t owner_argument(str argument, object value) except? 4294967295:
    """A user or group; -1: unchanged."""
    if not PyIndex_Check(value):
        raise TypeError(f"{argument} should be integer, not {type(value).__name__}")
    number = PyNumber_Index(value)
    if number < -1:
        raise OverflowError(f"{argument} is less than minimum")
    if number > 0xFFFFFFFF:
        raise OverflowError(f"{argument} is greater than maximum")
    return <uint32_t> <int64_t> number


cdef int set_arguments(Call call, uint64_t first, uint64_t second, uint64_t third, uint64_t fourth) noexcept:
    call.request.call.arguments[0] = first
    call.request.call.arguments[1] = second
    call.request.call.arguments[2] = third
    call.request.call.arguments[3] = fourth
    return 0


# --- mode and owner

cdef class ChmodCall(ChangeCall):
    cdef bint follows
    cdef bint has_directory

    cdef object error(self):
        if self.follows or (self.outcome != -EOPNOTSUPP and self.outcome != -ENOSYS):
            return ChangeCall.error(self)
        if self.has_directory:
            return ValueError("chmod: cannot use dir_fd and follow_symlinks together")
        return NotImplementedError("chmod: follow_symlinks unavailable on this platform")


def chmod(path, mode, *, dir_fd=None, follow_symlinks=True):
    """As os.chmod(). `path` may be a file descriptor. Not to follow links needs Linux 6.6."""
    cdef ChmodCall call = ChmodCall.__new__(ChmodCall)
    cdef int fd = target(call, "chmod", path, PATHS_AND_FDS)
    cdef int permissions = int_argument(mode)
    cdef int directory = directory_argument(dir_fd)
    audit("os.chmod", "Oii", <PyObject *> call.path, permissions, -1 if directory == AT_FDCWD else directory)
    call.follows = follow_symlinks
    call.has_directory = directory != AT_FDCWD
    if is_fd(path):
        call.for_number("chmod", SYS_fchmod)
        set_arguments(call, <uint64_t> fd, <uint64_t> permissions, 0, 0)
    else:
        call.for_number("chmod", SYS_fchmodat if follow_symlinks else SYSCALL_FCHMODAT2)
        set_arguments(call, <uint64_t> directory, address_of(call.kept), <uint64_t> permissions,
                      0 if follow_symlinks else AT_SYMLINK_NOFOLLOW)
    return call


def fchmod(fd, mode):
    """As os.fchmod()."""
    cdef ChangeCall call = ChangeCall.__new__(ChangeCall)
    cdef int number = int_argument(fd)
    cdef int permissions = int_argument(mode)
    audit("os.chmod", "iii", number, permissions, -1)
    call.for_number("fchmod", SYS_fchmod)
    set_arguments(call, <uint64_t> number, <uint64_t> permissions, 0, 0)
    return call


cdef ChangeCall chown_call(
        str function, object path, object uid, object gid, object dir_fd, bint follow_symlinks, str kinds):
    cdef ChangeCall call = ChangeCall.__new__(ChangeCall)
    cdef int fd = target(call, function, path, kinds)
    cdef uint32_t user = owner_argument("uid", uid)
    cdef uint32_t group = owner_argument("gid", gid)
    cdef int directory = directory_argument(dir_fd)
    if is_fd(path):
        if dir_fd is not None:
            raise ValueError(f"{function}: can't specify both dir_fd and fd")
        refuse_with_fd(function, False, follow_symlinks)
    audit("os.chown", "OIIi", <PyObject *> call.path, user, group,
          -1 if directory == AT_FDCWD else directory)
    if is_fd(path):
        call.for_number(function, SYS_fchown)
        set_arguments(call, <uint64_t> fd, user, group, 0)
    else:
        call.for_number(function, SYS_fchownat)
        set_arguments(call, <uint64_t> directory, address_of(call.kept), user, group)
        call.request.call.arguments[4] = 0 if follow_symlinks else AT_SYMLINK_NOFOLLOW
    return call


def chown(path, uid, gid, *, dir_fd=None, follow_symlinks=True):
    """As os.chown(). `path` may be a file descriptor."""
    return chown_call("chown", path, uid, gid, dir_fd, follow_symlinks, PATHS_AND_FDS)


def lchown(path, uid, gid):
    """As os.lchown()."""
    if is_fd(path):
        plain_path("lchown", "path", path, PATHS)
    return chown_call("lchown", path, uid, gid, None, False, PATHS)


def fchown(fd, uid, gid):
    """As os.fchown()."""
    cdef Call call = chown_call("fchown", int_argument(fd), uid, gid, None, True, PATHS_AND_FDS)
    call.path = None
    return call


# --- times

cdef int64_t whole_seconds(object value) except? -1:
    try:
        return PyNumber_Index(value)
    except OverflowError:
        raise OverflowError("timestamp out of range for platform time_t") from None


cdef double real_seconds(object value) except? -1:
    """What is neither a float nor an integer. The messages are the running Python's."""
    if UTIME_TAKES_REALS:
        return PyFloat_AsDouble(value)
    if UTIME_NAMES_TYPES:
        kind = type(value)
        where = "" if kind.__module__ == "builtins" else kind.__module__ + "."
        raise TypeError(f"argument must be int or float, not {where}{kind.__qualname__}")
    return PyNumber_Index(value)


cdef int set_seconds(timespec *time, object value) except -1:
    """Seconds, the fraction of a float rounded down to nanoseconds."""
    if not isinstance(value, float):
        if PyIndex_Check(value):
            time.tv_sec = whole_seconds(value)
            time.tv_nsec = 0
            return 0
        value = real_seconds(value)
    if value != value:
        raise ValueError("Invalid value NaN (not a number)")
    fraction, whole = math.modf(value)
    fraction = math.floor(fraction * 1e9)
    if fraction < 0:
        fraction += 1e9
        whole -= 1
    if not -9223372036854775808.0 <= whole < 9223372036854775808.0:
        raise OverflowError("timestamp out of range for platform time_t")
    time.tv_sec = <int64_t> <double> whole
    time.tv_nsec = <long> <double> fraction
    return 0


cdef int set_nanoseconds(timespec *time, object value) except -1:
    seconds, nanoseconds = divmod(value, 1_000_000_000)
    time.tv_sec = whole_seconds(seconds)
    time.tv_nsec = nanoseconds
    return 0


cdef class UtimeCall(ChangeCall):
    cdef timespec times[2]         # of the last access and the last change


def utime(path, times=None, *, dir_fd=None, follow_symlinks=True, **keywords):
    """As os.utime(path, times=None, *, ns=…, dir_fd=None, follow_symlinks=True)."""
    cdef UtimeCall call = UtimeCall.__new__(UtimeCall)
    cdef int fd = target(call, "utime", path, PATHS_AND_FDS)
    cdef int directory = directory_argument(dir_fd)
    cdef uint64_t address = 0
    for keyword in keywords:
        if keyword != "ns":
            raise TypeError(f"{keyword!r} is an invalid keyword argument for utime()")
    has_ns = "ns" in keywords
    ns = keywords.get("ns")
    if times is not None and has_ns:
        raise ValueError("utime: you may specify either 'times' or 'ns' but not both")
    if times is not None or has_ns:
        pair = ns if has_ns else times
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError("utime: 'ns' must be a tuple of two ints" if has_ns else
                            f"utime: 'times' must be either a tuple of two {TIMES_ARE} or None")
        for index in range(2):
            if has_ns:
                set_nanoseconds(&call.times[index], pair[index])
            else:
                set_seconds(&call.times[index], pair[index])
        address = <uint64_t> &call.times[0]
    if is_fd(path):
        refuse_with_fd("utime", dir_fd is not None, follow_symlinks)
    audit("os.utime", "OOOi", <PyObject *> call.path, <PyObject *> times, <PyObject *> ns,
          -1 if directory == AT_FDCWD else directory)
    if not UTIME_TELLS_PATHS:
        call.path = None
    call.for_number("utime", SYS_utimensat)
    if is_fd(path):
        set_arguments(call, <uint64_t> fd, 0, address, 0)
    else:
        set_arguments(call, <uint64_t> directory, address_of(call.kept), address,
                      0 if follow_symlinks else AT_SYMLINK_NOFOLLOW)
    return call


# --- file systems

cdef class StatvfsCall(Call):
    cdef file_system found

    cdef object value(self):
        cdef file_system *found = &self.found
        high = <uint64_t> <uint32_t> found.f_fsid_high << 32
        return statvfs_result_type((
            found.f_bsize, found.f_frsize or found.f_bsize, found.f_blocks, found.f_bfree, found.f_bavail,
            found.f_files, found.f_ffree, found.f_ffree, found.f_flags & ~STATFS_IS_VALID, found.f_namelen,
            high | <uint32_t> found.f_fsid))


cdef StatvfsCall statvfs_call(str function, object path):
    cdef StatvfsCall call = StatvfsCall.__new__(StatvfsCall)
    cdef int fd = target(call, function, path, PATHS_AND_FDS)
    call.for_number(function, SYS_fstatfs if is_fd(path) else SYS_statfs)
    set_arguments(call, <uint64_t> fd if is_fd(path) else address_of(call.kept), <uint64_t> &call.found, 0, 0)
    return call


def statvfs(path):
    """As os.statvfs(): an os.statvfs_result. `path` may be a file descriptor."""
    return statvfs_call("statvfs", path)


def fstatvfs(fd, /):
    """As os.fstatvfs(): an os.statvfs_result."""
    cdef Call call = statvfs_call("fstatvfs", int_argument(fd))
    call.path = None
    return call


# --- extended attributes

cdef class AttributeCall(Call):
    cdef bytes data                # what the kernel fills

    cdef object value(self):
        return self.data[:self.outcome]


cdef class AttributesCall(AttributeCall):
    cdef object value(self):
        names = self.data[:self.outcome].split(b"\0")
        return [like("", PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)) for name in names if name]


cdef bytes bytes_argument(object value):
    """A copy: at most 64 KiB, and the kernel makes one, too."""
    cdef Py_buffer view
    PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)
    try:
        return PyBytes_FromStringAndSize(<const char *> view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


def getxattr(path, attribute, *, follow_symlinks=True):
    """As os.getxattr(): bytes. `path` may be a file descriptor."""
    cdef AttributeCall call = AttributeCall.__new__(AttributeCall)
    cdef int fd = target(call, "getxattr", path, PATHS_AND_FDS)
    cdef bytes encoded = call.kept
    cdef bytes name
    attribute = plain_path("getxattr", "attribute", attribute, PATHS)
    name = encoded_path("getxattr", "attribute", attribute)
    call.kept = (encoded, name)
    if is_fd(path):
        refuse_with_fd("getxattr", False, follow_symlinks)
    audit("os.getxattr", "OO", <PyObject *> call.path, <PyObject *> attribute)
    call.data = PyBytes_FromStringAndSize(NULL, XATTR_BYTES_MAX)
    if not follow_symlinks:
        call.for_number("getxattr", SYS_lgetxattr)
        set_arguments(call, address_of(encoded), address_of(name), address_of(call.data), XATTR_BYTES_MAX)
        return call
    call.for_entry("getxattr", RL_OP_FGETXATTR if is_fd(path) else RL_OP_GETXATTR, fd)
    call.request.entry.sqe.address = address_of(name)
    call.request.entry.sqe.offset = address_of(call.data)
    call.request.entry.sqe.length = XATTR_BYTES_MAX
    call.request.entry.sqe.address3 = address_of(encoded)
    return call


def setxattr(path, attribute, value, flags=0, *, follow_symlinks=True):
    """As os.setxattr(). `path` may be a file descriptor."""
    cdef Call call = Call.__new__(Call) if follow_symlinks else ChangeCall.__new__(ChangeCall)
    cdef int fd = target(call, "setxattr", path, PATHS_AND_FDS)
    cdef bytes encoded = call.kept
    cdef bytes name
    attribute = plain_path("setxattr", "attribute", attribute, PATHS)
    name = encoded_path("setxattr", "attribute", attribute)
    cdef bytes data = bytes_argument(value)
    cdef int how = int_argument(flags)
    call.kept = (encoded, name, data)
    if is_fd(path):
        refuse_with_fd("setxattr", False, follow_symlinks)
    audit("os.setxattr", "OOy#i", <PyObject *> call.path, <PyObject *> attribute,
          PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), how)
    if not follow_symlinks:
        call.for_number("setxattr", SYS_lsetxattr)
        set_arguments(call, address_of(encoded), address_of(name), address_of(data),
                      <uint64_t> PyBytes_GET_SIZE(data))
        call.request.call.arguments[4] = <uint64_t> how
        return call
    call.for_entry("setxattr", RL_OP_FSETXATTR if is_fd(path) else RL_OP_SETXATTR, fd)
    call.request.entry.sqe.address = address_of(name)
    call.request.entry.sqe.offset = address_of(data)
    call.request.entry.sqe.length = <uint32_t> PyBytes_GET_SIZE(data)
    call.request.entry.sqe.op_flags = <uint32_t> how
    call.request.entry.sqe.address3 = address_of(encoded)
    return call


def listxattr(path=None, *, follow_symlinks=True):
    """As os.listxattr(): a list of names. `path` may be a file descriptor."""
    cdef AttributesCall call = AttributesCall.__new__(AttributesCall)
    cdef int fd = target(call, "listxattr", "." if path is None else path, ANY_OR_NONE)
    if is_fd(path):
        refuse_with_fd("listxattr", False, follow_symlinks)
    audit("os.listxattr", "O", <PyObject *> (None if path is None else call.path))
    call.data = PyBytes_FromStringAndSize(NULL, XATTR_BYTES_MAX)
    if is_fd(path):
        call.for_number("listxattr", SYS_flistxattr)
    else:
        call.for_number("listxattr", SYS_listxattr if follow_symlinks else SYS_llistxattr)
    set_arguments(call, <uint64_t> fd if is_fd(path) else address_of(call.kept), address_of(call.data),
                  XATTR_BYTES_MAX, 0)
    return call


def removexattr(path, attribute, *, follow_symlinks=True):
    """As os.removexattr(). `path` may be a file descriptor."""
    cdef ChangeCall call = ChangeCall.__new__(ChangeCall)
    cdef int fd = target(call, "removexattr", path, PATHS_AND_FDS)
    cdef bytes encoded = call.kept
    cdef bytes name
    attribute = plain_path("removexattr", "attribute", attribute, PATHS)
    name = encoded_path("removexattr", "attribute", attribute)
    call.kept = (encoded, name)
    if is_fd(path):
        refuse_with_fd("removexattr", False, follow_symlinks)
    audit("os.removexattr", "OO", <PyObject *> call.path, <PyObject *> attribute)
    if is_fd(path):
        call.for_number("removexattr", SYS_fremovexattr)
    else:
        call.for_number("removexattr", SYS_removexattr if follow_symlinks else SYS_lremovexattr)
    set_arguments(call, <uint64_t> fd if is_fd(path) else address_of(encoded), address_of(name), 0, 0)
    return call
