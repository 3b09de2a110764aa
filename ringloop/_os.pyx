"""The functions of `os` that are one system call: same names, arguments, results and exceptions, as calls."""

import os

from cpython.buffer cimport PyBUF_SIMPLE, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint64_t
from posix.unistd cimport close as close_fd

from ringloop._flight cimport RL_OP_CLOSE, RL_OP_OPENAT, RL_OP_READ, RL_OP_STATX, RL_OP_WRITE, RL_SQE_ASYNC
from ringloop._ops cimport (
    RL_WOULD_BLOCK, Call, rl_resident_close, rl_resident_file, rl_resident_forget, rl_resident_identify,
    rl_resident_open, rl_resident_pread, rl_resident_pwrite, rl_resident_stat, rl_statx,
)


cdef extern from "<fcntl.h>" nogil:
    enum: AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, O_CLOEXEC

cdef extern from "<errno.h>" nogil:
    enum: EINVAL

cdef extern from "<sys/syscall.h>" nogil:
    enum: SYS_rmdir

cdef extern from "<string.h>" nogil:
    void *memset(void *target, int value, size_t count)

cdef enum:
    STATX_WANTED = 0xFFF           # STATX_BASIC_STATS and STATX_BTIME
    IO_BYTES_MAX = 0x7FFFF000      # more is not moved by one system call


cdef bytes path_bytes(str function, object path):
    """A path as the kernel takes it; raises what `os` does for what is none."""
    if isinstance(path, (str, bytes)):
        encoded = os.fsencode(path)
    elif hasattr(type(path), "__fspath__"):
        encoded = os.fsencode(path)
    else:
        raise TypeError(f"{function}: path should be string, bytes or os.PathLike, not {type(path).__name__}")
    if b"\0" in encoded:
        raise ValueError("embedded null byte")
    return encoded


cdef int directory_fd(object dir_fd) except? -1:
    return AT_FDCWD if dir_fd is None else dir_fd


cdef class OpenCall(Call):
    cdef object value(self):
        return self.outcome

    cdef int64_t at_once(self) except? -1:
        cdef rl_resident_file file
        cdef rl_statx status
        cdef int64_t fd
        memset(&file, 0, sizeof(file))
        fd = rl_resident_open(
            self.resident(), self.request.entry.sqe.fd, PyBytes_AS_STRING(self.kept),
            <int> self.request.entry.sqe.op_flags, &file, &status)
        rl_resident_forget(&file)
        return fd

    cdef void give_back(self) noexcept:
        self.collected = True
        if self.outcome >= 0:
            close_fd(<int> self.outcome)


def open(path, flags, mode=0o777, *, dir_fd=None):
    """As os.open(): a file descriptor, which child processes do not inherit."""
    cdef OpenCall call = OpenCall.__new__(OpenCall)
    call.path = path
    call.kept = path_bytes("open", path)
    call.for_entry("open", RL_OP_OPENAT, directory_fd(dir_fd))
    call.request.entry.sqe.address = <uint64_t> PyBytes_AS_STRING(call.kept)
    call.request.entry.sqe.length = mode
    call.request.entry.sqe.op_flags = <int> flags | O_CLOEXEC
    # In a ring's own context opening a FIFO would not wait for the other end (6.18).
    call.request.entry.sqe.flags = RL_SQE_ASYNC
    return call


cdef class StatCall(Call):
    cdef rl_statx status

    cdef object value(self):
        return stat_result(&self.status)

    cdef int64_t at_once(self) except? -1:
        return rl_resident_stat(
            self.resident(), self.request.entry.sqe.fd, PyBytes_AS_STRING(self.kept),
            <int> self.request.entry.sqe.op_flags, &self.status)


cdef object stat_result(rl_statx *status):
    """An os.stat_result of what statx() told."""
    cdef int64_t accessed_ns = status.accessed.seconds * 1_000_000_000 + status.accessed.nanoseconds
    cdef int64_t modified_ns = status.modified.seconds * 1_000_000_000 + status.modified.nanoseconds
    cdef int64_t changed_ns = status.changed.seconds * 1_000_000_000 + status.changed.nanoseconds
    return os.stat_result((
        status.mode, status.inode, os.makedev(status.dev_major, status.dev_minor), status.link_count,
        status.uid, status.gid, status.size,
        status.accessed.seconds, status.modified.seconds, status.changed.seconds,
        status.accessed.seconds + status.accessed.nanoseconds * 1e-9,
        status.modified.seconds + status.modified.nanoseconds * 1e-9,
        status.changed.seconds + status.changed.nanoseconds * 1e-9,
        accessed_ns, modified_ns, changed_ns, status.block_bytes, status.blocks,
        os.makedev(status.rdev_major, status.rdev_minor)))


def stat(path, *, dir_fd=None, follow_symlinks=True):
    """As os.stat(): an os.stat_result. `path` may be a file descriptor."""
    cdef StatCall call = StatCall.__new__(StatCall)
    call.path = path
    if isinstance(path, int):
        call.kept = b""
        call.for_entry("stat", RL_OP_STATX, path)
        call.request.entry.sqe.op_flags = AT_EMPTY_PATH
    else:
        call.kept = path_bytes("stat", path)
        call.for_entry("stat", RL_OP_STATX, directory_fd(dir_fd))
        call.request.entry.sqe.op_flags = 0 if follow_symlinks else AT_SYMLINK_NOFOLLOW
    call.request.entry.sqe.address = <uint64_t> PyBytes_AS_STRING(call.kept)
    call.request.entry.sqe.length = STATX_WANTED
    call.request.entry.sqe.offset = <uint64_t> &call.status
    return call


def rmdir(path):
    """As os.rmdir()."""
    cdef Call call = Call.__new__(Call)
    call.path = path
    call.kept = path_bytes("rmdir", path)
    call.for_number("rmdir", SYS_rmdir)
    call.request.call.arguments[0] = <uint64_t> PyBytes_AS_STRING(call.kept)
    return call


cdef class CloseCall(Call):
    cdef int64_t at_once(self) except? -1:
        cdef rl_resident_file file
        cdef rl_statx status
        memset(&file, 0, sizeof(file))
        if rl_resident_identify(self.resident(), self.request.entry.sqe.fd, False, &file, &status) < 0:
            return RL_WOULD_BLOCK
        return rl_resident_close(self.request.entry.sqe.fd, &file)


def close(fd):
    """As os.close()."""
    cdef CloseCall call = CloseCall.__new__(CloseCall)
    call.for_entry("close", RL_OP_CLOSE, fd)
    # A ring drops the file on the submitting thread, and that can take long.
    call.request.entry.sqe.flags = RL_SQE_ASYNC
    return call


cdef class ReadCall(Call):
    cdef int64_t at_once(self) except? -1:
        cdef rl_resident_file file
        cdef rl_statx status
        cdef int64_t count
        memset(&file, 0, sizeof(file))
        if rl_resident_identify(self.resident(), self.request.entry.sqe.fd, False, &file, &status) < 0:
            return RL_WOULD_BLOCK
        count = rl_resident_pread(
            self.request.entry.sqe.fd, &file, PyBytes_AS_STRING(self.kept), self.request.entry.sqe.length,
            <int64_t> self.request.entry.sqe.offset)
        rl_resident_forget(&file)
        return count

    cdef object value(self):
        return self.kept[:self.outcome]


def pread(fd, length, offset):
    """As os.pread(): up to `length` bytes from `offset` on, which does not move the file's position."""
    return read_call("pread", fd, length, offset)


def read(fd, length):
    """As os.read(): up to `length` bytes from the file's position on; b"" at its end."""
    return read_call("read", fd, length, -1)


cdef ReadCall read_call(str name, int fd, Py_ssize_t length, int64_t offset):
    cdef ReadCall call = ReadCall.__new__(ReadCall)
    if length < 0:
        raise OSError(EINVAL, os.strerror(EINVAL))
    call.kept = PyBytes_FromStringAndSize(NULL, length)
    call.for_entry(name, RL_OP_READ, fd)
    call.request.entry.sqe.address = <uint64_t> PyBytes_AS_STRING(call.kept)
    call.request.entry.sqe.length = min(length, IO_BYTES_MAX)
    call.request.entry.sqe.offset = <uint64_t> offset
    return call


cdef class WriteCall(Call):
    cdef int64_t at_once(self) except? -1:
        cdef rl_resident_file file
        cdef rl_statx status
        cdef int64_t count
        memset(&file, 0, sizeof(file))
        if rl_resident_identify(self.resident(), self.request.entry.sqe.fd, False, &file, &status) < 0:
            return RL_WOULD_BLOCK
        count = rl_resident_pwrite(
            self.request.entry.sqe.fd, &file, self.view.buf, self.request.entry.sqe.length,
            <int64_t> self.request.entry.sqe.offset)
        rl_resident_forget(&file)
        return count

    cdef object value(self):
        return self.outcome


def write(fd, data):
    """As os.write(): how many bytes of `data` went to the file's position."""
    return write_call("write", fd, data, -1)


def pwrite(fd, data, offset):
    """As os.pwrite(): how many bytes of `data` went to `offset`."""
    return write_call("pwrite", fd, data, offset)


cdef WriteCall write_call(str name, int fd, object data, int64_t offset):
    cdef WriteCall call = WriteCall.__new__(WriteCall)
    PyObject_GetBuffer(data, &call.view, PyBUF_SIMPLE)
    call.lent = True
    call.for_entry(name, RL_OP_WRITE, fd)
    call.request.entry.sqe.address = <uint64_t> call.view.buf
    call.request.entry.sqe.length = min(call.view.len, IO_BYTES_MAX)
    call.request.entry.sqe.offset = <uint64_t> offset
    return call
