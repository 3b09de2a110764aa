"""The functions of `os` on paths: same names, arguments, results and exceptions, as calls.

The arguments are read, and auditing hooks are told, when the function is called; the system call is made when
what it returns is awaited.
"""

import os
import sys

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLong
from cpython.number cimport PyIndex_Check, PyNumber_Index
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport strlen
from posix.unistd cimport close as close_fd

from ringloop._flight cimport (
    RL_OP_LINKAT, RL_OP_MKDIRAT, RL_OP_OPENAT, RL_OP_RENAMEAT, RL_OP_STATX, RL_OP_SYMLINKAT, RL_OP_UNLINKAT,
    RL_SQE_ASYNC,
)
from ringloop._ops cimport (
    Call, rl_resident_file, rl_resident_forget, rl_resident_open, rl_resident_stat, rl_statx,
)


cdef extern from "<fcntl.h>" nogil:
    enum: AT_EACCESS, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, O_CLOEXEC

cdef extern from "<errno.h>" nogil:
    enum: EINVAL, ENOSYS

cdef extern from "<limits.h>" nogil:
    enum: INT_MIN, INT_MAX, PATH_MAX

cdef extern from "<sys/stat.h>" nogil:
    enum: S_IFIFO

cdef extern from "<sys/syscall.h>" nogil:
    enum: SYS_faccessat, SYS_mknodat, SYS_readlinkat

cdef extern from "<sys/sysmacros.h>" nogil:
    unsigned long makedev(unsigned int major, unsigned int minor)

cdef extern from "Python.h":
    object PyOS_FSPath(object path)
    object PyUnicode_EncodeFSDefault(object text)
    object PyUnicode_DecodeFSDefaultAndSize(const char *text, Py_ssize_t length)
    object PyStructSequence_New(PyTypeObject *kind)
    void PyStructSequence_SetItem(object record, Py_ssize_t index, PyObject *value)

cdef enum:
    STATX_WANTED = 0xFFF           # STATX_BASIC_STATS and STATX_BTIME
    SYSCALL_FACCESSAT2 = 439       # 5.8; the same on every processor

cdef str PATHS = "string, bytes or os.PathLike"
cdef str PATHS_AND_FDS = "string, bytes, os.PathLike or integer"

cdef object stat_result_type = os.stat_result
cdef Py_ssize_t stat_result_fields = os.stat_result.n_fields


def names_null_characters():
    """Whether this Python says in which argument a string has a null character, as it does of bytes."""
    try:
        os.stat("\0")
    except ValueError as error:
        return "path" in str(error)


cdef bint NAMES_NULLS = names_null_characters()
cdef bint LINK_FOLLOWS = sys.version_info >= (3, 14)


# --- arguments

cdef uint64_t address_of(bytes text) noexcept:
    return <uint64_t> PyBytes_AS_STRING(text)


cdef int int_argument(object value) except? -1:
    """An argument that is an int in C."""
    cdef long number = PyLong_AsLong(PyNumber_Index(value))
    if number < INT_MIN or number > INT_MAX:
        raise OverflowError("Python int too large to convert to C int")
    return <int> number


cdef int64_t int64_argument(object value) except? -1:
    """An argument that is an off_t in C, which would take a float for an integer."""
    return value if type(value) is int else PyNumber_Index(value)


cdef int fd_of_path(object value) except? -1:
    """A file descriptor in the place of a path, or a dir_fd."""
    index = PyNumber_Index(value)
    if index > INT_MAX:
        raise OverflowError("fd is greater than maximum")
    if index < INT_MIN:
        raise OverflowError("fd is less than minimum")
    return index


cdef int directory_argument(object dir_fd) except? -1:
    if dir_fd is None:
        return AT_FDCWD
    if not PyIndex_Check(dir_fd):
        raise TypeError(f"argument should be integer or None, not {type(dir_fd).__name__}")
    return fd_of_path(dir_fd)


cdef int audited(int directory) noexcept:
    """A directory as auditing hooks are told of it."""
    return -1 if directory == AT_FDCWD else directory


cdef bint is_fd(object path) noexcept:
    return PyIndex_Check(path) and not isinstance(path, (str, bytes))


cdef object plain_path(str function, str argument, object path, str kinds):
    """The string or bytes that a path is, as errors tell it; raises what `os` does for what is none."""
    if isinstance(path, (str, bytes)):
        return path
    if getattr(type(path), "__fspath__", None) is None:
        raise TypeError(f"{function}: {argument} should be {kinds}, not {type(path).__name__}")
    return PyOS_FSPath(path)


cdef bytes encoded_path(str function, str argument, object path):
    """What plain_path() returned, as the kernel takes it."""
    cdef bytes encoded = PyUnicode_EncodeFSDefault(path) if isinstance(path, str) else path
    if <Py_ssize_t> strlen(PyBytes_AS_STRING(encoded)) != PyBytes_GET_SIZE(encoded):
        if isinstance(path, str) and not NAMES_NULLS:
            raise ValueError("embedded null byte")
        raise ValueError(f"{function}: embedded null character in {argument}")
    return encoded


cdef object like(object path, const char *text, Py_ssize_t length):
    """A path that the kernel tells: bytes if `path` is, else a string."""
    if isinstance(path, bytes):
        return PyBytes_FromStringAndSize(text, length)
    return PyUnicode_DecodeFSDefaultAndSize(text, length)


cdef bytes take_path(Call call, str function, object path):
    """Makes `path` what the call is about; returns what the kernel takes."""
    cdef bytes encoded
    call.path = plain_path(function, "path", path, PATHS)
    call.kept = encoded = encoded_path(function, "path", call.path)
    return encoded


cdef tuple take_paths(Call call, str function, object src, object dst):
    call.path = plain_path(function, "src", src, PATHS)
    encoded_src = encoded_path(function, "src", call.path)
    call.path2 = plain_path(function, "dst", dst, PATHS)
    call.kept = (encoded_src, encoded_path(function, "dst", call.path2))
    return call.kept


# --- opening and looking

cdef class OpenCall(Call):
    cdef object value(self):
        return self.outcome

    cdef int64_t at_once(self) except? -1:
        cdef rl_resident_file file
        cdef rl_statx status
        cdef int64_t fd
        fd = rl_resident_open(
            self.resident(), self.request.entry.sqe.fd, PyBytes_AS_STRING(self.kept),
            <int> self.request.entry.sqe.op_flags, &file, &status)
        if file.waits_for_writer:
            self.wait_for_writer(file.fifo_fd)
        rl_resident_forget(&file)
        return fd

    cdef void give_back(self) noexcept:
        self.collected = True
        if self.outcome >= 0:
            close_fd(<int> self.outcome)


def open(path, flags, mode=0o777, *, dir_fd=None):
    """As os.open(): a file descriptor, which child processes do not inherit."""
    cdef OpenCall call = OpenCall.__new__(OpenCall)
    cdef bytes encoded = take_path(call, "open", path)
    cdef int open_flags = int_argument(flags)
    cdef int permissions = int_argument(mode)
    cdef int directory = directory_argument(dir_fd)
    audit("open", "OOi", <PyObject *> call.path, <PyObject *> None, open_flags | O_CLOEXEC)
    call.for_entry("open", RL_OP_OPENAT, directory)
    call.request.entry.sqe.address = address_of(encoded)
    call.request.entry.sqe.length = permissions
    call.request.entry.sqe.op_flags = open_flags | O_CLOEXEC
    # In a ring's own context opening a FIFO would not wait for the other end (6.18).
    call.request.entry.sqe.flags = RL_SQE_ASYNC
    return call


cdef class StatCall(Call):
    cdef object value(self):
        return stat_result(&self.status)

    cdef int64_t at_once(self) except? -1:
        return rl_resident_stat(
            self.resident(), self.request.entry.sqe.fd, PyBytes_AS_STRING(self.kept),
            <int> self.request.entry.sqe.op_flags, &self.status)

    cdef int look_at(self, str name, int fd, bytes path, int flags) except -1:
        """What is asked for, of a path, or with AT_EMPTY_PATH of the file `fd`."""
        self.kept = path
        self.for_entry(name, RL_OP_STATX, fd)
        self.request.entry.sqe.op_flags = flags
        self.request.entry.sqe.address = address_of(path)
        self.request.entry.sqe.length = STATX_WANTED
        self.request.entry.sqe.offset = <uint64_t> &self.status
        return 0


cdef inline void put(object record, Py_ssize_t index, object value):
    Py_INCREF(value)
    PyStructSequence_SetItem(record, index, <PyObject *> value)


cdef inline void put_time(object record, Py_ssize_t index, int64_t seconds, uint32_t nanoseconds):
    """A time as whole seconds, as a float and in nanoseconds: the fields are 3 apart."""
    put(record, index, seconds)
    put(record, index + 3, seconds + nanoseconds * 1e-9)
    if -9_000_000_000 < seconds < 9_000_000_000:  # in nanoseconds they fit 64 bits
        put(record, index + 6, seconds * 1_000_000_000 + nanoseconds)
    else:
        put(record, index + 6, (<object> seconds) * 1_000_000_000 + nanoseconds)


cdef object stat_result(rl_statx *status):
    """An os.stat_result of what statx() told."""
    cdef Py_ssize_t index
    record = PyStructSequence_New(<PyTypeObject *> stat_result_type)
    put(record, 0, status.mode)
    put(record, 1, status.inode)
    put(record, 2, makedev(status.dev_major, status.dev_minor))
    put(record, 3, status.link_count)
    put(record, 4, status.uid)
    put(record, 5, status.gid)
    put(record, 6, status.size)
    put_time(record, 7, status.accessed.seconds, status.accessed.nanoseconds)
    put_time(record, 8, status.modified.seconds, status.modified.nanoseconds)
    put_time(record, 9, status.changed.seconds, status.changed.nanoseconds)
    put(record, 16, status.block_bytes)
    put(record, 17, status.blocks)
    put(record, 18, makedev(status.rdev_major, status.rdev_minor))
    for index in range(19, stat_result_fields):
        put(record, index, None)
    return record


def stat(path, *, dir_fd=None, follow_symlinks=True):
    """As os.stat(): an os.stat_result. `path` may be a file descriptor."""
    cdef StatCall call = StatCall.__new__(StatCall)
    cdef int directory
    if is_fd(path):
        if dir_fd is not None:
            raise ValueError("stat: can't specify dir_fd without matching path")
        if not follow_symlinks:
            raise ValueError("stat: cannot use fd and follow_symlinks together")
        call.path = path
        call.look_at("stat", fd_of_path(path), b"", AT_EMPTY_PATH)
        return call
    call.path = plain_path("stat", "path", path, PATHS_AND_FDS)
    encoded = encoded_path("stat", "path", call.path)
    directory = directory_argument(dir_fd)
    call.look_at("stat", directory, encoded, 0 if follow_symlinks else AT_SYMLINK_NOFOLLOW)
    return call


def lstat(path, *, dir_fd=None):
    """As os.lstat(): an os.stat_result, of the link itself if the path is one."""
    cdef StatCall call = StatCall.__new__(StatCall)
    cdef bytes encoded = take_path(call, "lstat", path)
    cdef int directory = directory_argument(dir_fd)
    call.look_at("lstat", directory, encoded, AT_SYMLINK_NOFOLLOW)
    return call


def fstat(fd):
    """As os.fstat(): an os.stat_result."""
    cdef StatCall call = StatCall.__new__(StatCall)
    call.look_at("fstat", int_argument(fd), b"", AT_EMPTY_PATH)
    return call


cdef class AccessCall(Call):
    cdef object finish(self):
        # Whatever the reason is, there is no access; but a kernel may be too old to be asked.
        if self.outcome < 0 and self.outcome != -ENOSYS:
            self.outcome = 1
        return Call.finish(self)

    cdef object value(self):
        return self.outcome == 0


def access(path, mode, *, dir_fd=None, effective_ids=False, follow_symlinks=True):
    """As os.access(): whether the path can be used so. With flags it needs Linux 5.8."""
    cdef AccessCall call = AccessCall.__new__(AccessCall)
    cdef bytes encoded = take_path(call, "access", path)
    cdef int wanted = int_argument(mode)
    cdef int directory = directory_argument(dir_fd)
    cdef int flags = (AT_EACCESS if effective_ids else 0) | (0 if follow_symlinks else AT_SYMLINK_NOFOLLOW)
    call.for_number("access", SYSCALL_FACCESSAT2 if flags else SYS_faccessat)
    call.request.call.arguments[0] = <uint64_t> directory
    call.request.call.arguments[1] = address_of(encoded)
    call.request.call.arguments[2] = <uint64_t> wanted
    call.request.call.arguments[3] = flags
    return call


cdef class ReadlinkCall(Call):
    cdef char target[PATH_MAX]

    cdef object value(self):
        return like(self.path, self.target, self.outcome)


def readlink(path, *, dir_fd=None):
    """As os.readlink(): where a symbolic link leads to."""
    cdef ReadlinkCall call = ReadlinkCall.__new__(ReadlinkCall)
    cdef bytes encoded = take_path(call, "readlink", path)
    cdef int directory = directory_argument(dir_fd)
    call.for_number("readlink", SYS_readlinkat)
    call.request.call.arguments[0] = <uint64_t> directory
    call.request.call.arguments[1] = address_of(encoded)
    call.request.call.arguments[2] = <uint64_t> &call.target[0]
    call.request.call.arguments[3] = sizeof(call.target)
    return call


# --- what changes directories

def mkdir(path, mode=0o777, *, dir_fd=None):
    """As os.mkdir()."""
    cdef Call call = Call.__new__(Call)
    cdef bytes encoded = take_path(call, "mkdir", path)
    cdef int permissions = int_argument(mode)
    cdef int directory = directory_argument(dir_fd)
    audit("os.mkdir", "Oii", <PyObject *> call.path, permissions, audited(directory))
    call.for_entry("mkdir", RL_OP_MKDIRAT, directory)
    call.request.entry.sqe.address = address_of(encoded)
    call.request.entry.sqe.length = permissions
    return call


cdef Call unlink_call(str function, const char *event, object path, object dir_fd, uint32_t flags):
    cdef Call call = Call.__new__(Call)
    cdef bytes encoded = take_path(call, function, path)
    cdef int directory = directory_argument(dir_fd)
    audit(event, "Oi", <PyObject *> call.path, audited(directory))
    call.for_entry(function, RL_OP_UNLINKAT, directory)
    call.request.entry.sqe.address = address_of(encoded)
    call.request.entry.sqe.op_flags = flags
    return call


def rmdir(path, *, dir_fd=None):
    """As os.rmdir()."""
    return unlink_call("rmdir", "os.rmdir", path, dir_fd, AT_REMOVEDIR)


def unlink(path, *, dir_fd=None):
    """As os.unlink()."""
    return unlink_call("unlink", "os.remove", path, dir_fd, 0)


def remove(path, *, dir_fd=None):
    """As os.remove()."""
    return unlink_call("remove", "os.remove", path, dir_fd, 0)


cdef Call rename_call(str function, object src, object dst, object src_dir_fd, object dst_dir_fd):
    cdef Call call = Call.__new__(Call)
    cdef tuple encoded = take_paths(call, function, src, dst)
    cdef int src_directory = directory_argument(src_dir_fd)
    cdef int dst_directory = directory_argument(dst_dir_fd)
    audit("os.rename", "OOii", <PyObject *> call.path, <PyObject *> call.path2, audited(src_directory),
          audited(dst_directory))
    call.for_entry(function, RL_OP_RENAMEAT, src_directory)
    call.request.entry.sqe.address = address_of(encoded[0])
    call.request.entry.sqe.length = <uint32_t> dst_directory
    call.request.entry.sqe.offset = address_of(encoded[1])
    return call


def rename(src, dst, *, src_dir_fd=None, dst_dir_fd=None):
    """As os.rename()."""
    return rename_call("rename", src, dst, src_dir_fd, dst_dir_fd)


def replace(src, dst, *, src_dir_fd=None, dst_dir_fd=None):
    """As os.replace()."""
    return rename_call("replace", src, dst, src_dir_fd, dst_dir_fd)


def link(src, dst, *, src_dir_fd=None, dst_dir_fd=None, follow_symlinks=True):
    """As os.link()."""
    cdef Call call = Call.__new__(Call)
    cdef tuple encoded = take_paths(call, "link", src, dst)
    cdef int src_directory = directory_argument(src_dir_fd)
    cdef int dst_directory = directory_argument(dst_dir_fd)
    audit("os.link", "OOii", <PyObject *> call.path, <PyObject *> call.path2, audited(src_directory),
          audited(dst_directory))
    call.for_entry("link", RL_OP_LINKAT, src_directory)
    call.request.entry.sqe.address = address_of(encoded[0])
    call.request.entry.sqe.length = <uint32_t> dst_directory
    call.request.entry.sqe.offset = address_of(encoded[1])
    # Before 3.14 os.link() without a directory is link(), and Linux's does not follow.
    if follow_symlinks and (LINK_FOLLOWS or src_directory != AT_FDCWD or dst_directory != AT_FDCWD):
        call.request.entry.sqe.op_flags = AT_SYMLINK_FOLLOW
    return call


def symlink(src, dst, target_is_directory=False, *, dir_fd=None):
    """As os.symlink(). `target_is_directory` means nothing here."""
    cdef Call call = Call.__new__(Call)
    cdef tuple encoded = take_paths(call, "symlink", src, dst)
    cdef int directory = directory_argument(dir_fd)
    audit("os.symlink", "OOi", <PyObject *> call.path, <PyObject *> call.path2, audited(directory))
    call.for_entry("symlink", RL_OP_SYMLINKAT, directory)
    call.request.entry.sqe.address = address_of(encoded[0])
    call.request.entry.sqe.offset = address_of(encoded[1])
    return call


cdef class ChangeCall(Call):
    cdef int choose_executor(self) noexcept:
        Call.choose_executor(self)
        self.request.work.interruptible = False
        return 0


cdef ChangeCall node_call(str function, object path, int mode, uint64_t device, object dir_fd):
    cdef ChangeCall call = ChangeCall.__new__(ChangeCall)
    cdef bytes encoded = take_path(call, function, path)
    cdef int directory = directory_argument(dir_fd)
    call.path = None  # errors of these two do not tell it
    call.for_number(function, SYS_mknodat)
    call.request.call.arguments[0] = <uint64_t> directory
    call.request.call.arguments[1] = address_of(encoded)
    call.request.call.arguments[2] = <uint64_t> mode
    call.request.call.arguments[3] = device
    return call


def mkfifo(path, mode=0o666, *, dir_fd=None):
    """As os.mkfifo()."""
    return node_call("mkfifo", path, (int_argument(mode) & 0o7777) | S_IFIFO, 0, dir_fd)


def mknod(path, mode=0o600, device=0, *, dir_fd=None):
    """As os.mknod()."""
    cdef uint64_t number = device
    if number >> 32:
        raise OSError(EINVAL, os.strerror(EINVAL))
    return node_call("mknod", path, int_argument(mode), number, dir_fd)
