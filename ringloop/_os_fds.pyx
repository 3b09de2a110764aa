"""The functions of `os` on file descriptors: same names, arguments, results and exceptions, as calls.

A pipe, FIFO, socket or terminal is waited for, also with O_NONBLOCK, before it is read: a read that is
cancelled meanwhile has taken nothing.
"""

import asyncio
import os
import sys

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsSsize_t
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.sequence cimport PySequence_Check
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.unistd cimport close as close_fd, lseek as seek

from ringloop._flight cimport (
    RL_FSYNC_DATASYNC, RL_OP_CLOSE, RL_OP_FADVISE, RL_OP_FALLOCATE, RL_OP_FSYNC, RL_OP_FTRUNCATE,
    RL_OP_POLL_ADD, RL_OP_READ, RL_OP_READV, RL_OP_SPLICE, RL_OP_WRITE, RL_OP_WRITEV, RL_SQE_ASYNC,
    rl_work,
)
from ringloop._ops cimport (
    RL_RESIDENT_BYTES_MAX, RL_WOULD_BLOCK, Call, rl_resident_close_fd, rl_resident_file,
    rl_resident_forget, rl_resident_identify, rl_resident_look, rl_resident_pread_fd, rl_resident_pwrite,
    rl_statx,
)
from ringloop._os cimport (
    ChangeCall, address_of, audit, encoded_path, fd_of_path, int64_argument, int_argument, is_fd, plain_path,
)


cdef extern from "<errno.h>" nogil:
    enum: EAGAIN, EINVAL
    int errno

cdef extern from "<fcntl.h>" nogil:
    enum: F_DUPFD_CLOEXEC
    int fcntl(int fd, int command, ...)

cdef extern from "<poll.h>" nogil:
    enum: POLLIN

cdef extern from "<stdio.h>" nogil:
    enum: SEEK_SET, SEEK_CUR, SEEK_END

cdef extern from "<sys/stat.h>" nogil:
    bint S_ISREG(int mode)

cdef extern from "<sys/syscall.h>" nogil:
    enum: SYS_copy_file_range, SYS_lseek, SYS_read, SYS_pread64, SYS_preadv2, SYS_pwrite64, SYS_pwritev2
    enum: SYS_sendfile, SYS_sync, SYS_truncate

cdef extern from "<sys/uio.h>" nogil:
    ctypedef struct iovec "struct iovec":
        void *iov_base
        size_t iov_len

cdef extern from "prefetch.h" nogil:
    int64_t rl_prefetch_execute(rl_work *work)

cdef extern from "streams.h" nogil:
    enum: RL_FILE_STORED, RL_FILE_STREAM
    int rl_file_kind(int fd)
    int64_t rl_stream_readv(int fd, const iovec *vectors, int vector_count)

cdef extern from "Python.h":
    int PyObject_AsFileDescriptor(object file) except -1
    int _PyBytes_Resize(PyObject **text, Py_ssize_t length) except -1

cdef enum:
    VECTORS_MAX = 1024             # the kernel's UIO_MAXIOV
    IO_BYTES_MAX = 0x7FFFF000      # more is not moved by one system call
    OWN_POSITION = -1              # the offset that stands for it
    EVENT_BYTES = 8                # of an eventfd's counter

# What is copied is counted by a negative number: another message from 3.15 on, and sendfile() refuses it too.
cdef bint REFUSES_NEGATIVE_COUNTS = sys.version_info >= (3, 15)
# Flags that are unsigned are any integer's value, with its messages, from 3.14 on.
cdef bint UNSIGNED_IS_ANY_INTEGER = sys.version_info >= (3, 14)

cdef object Future = asyncio.Future


cdef object invalid():
    return OSError(EINVAL, os.strerror(EINVAL))


cdef Py_ssize_t count_argument(object value) except? -1:
    return PyLong_AsSsize_t(PyNumber_Index(value))


cdef object natural(object value):
    """An argument that is unsigned in C, whatever its size."""
    if UNSIGNED_IS_ANY_INTEGER:
        value = PyNumber_Index(value)
    elif not isinstance(value, int):
        raise TypeError("an integer is required")
    if value < 0:
        raise ValueError(
            "Cannot convert negative int" if UNSIGNED_IS_ANY_INTEGER else "value must be positive")
    return value


cdef uint32_t unsigned_argument(object value) except? 0xFFFFFFFF:
    """An argument that is an unsigned int in C."""
    value = natural(value)
    if value >> 32:
        too_large_for_long = value >> 64 and not UNSIGNED_IS_ANY_INTEGER
        raise OverflowError(
            "Python int too large to convert to C unsigned long" if too_large_for_long
            else "Python int too large for C unsigned int")
    return value


# --- reading and writing

cdef class TransferCall(Call):
    """Reads or writes at a position, or where the file stands."""

    cdef int fd
    cdef int64_t position
    cdef uint32_t flags            # RWF_*
    cdef bint reads
    cdef bint exact                # by the system call alone
    cdef bint streams              # readiness is waited for, and then attempt() reads
    cdef int watched_fd            # a copy of `fd`, while another loop than ringloop's watches it
    cdef object watching           # that loop

    def __cinit__(self):
        self.watched_fd = -1

    def __dealloc__(self):
        if self.watched_fd >= 0:
            close_fd(self.watched_fd)

    cdef object value(self):
        return self.outcome

    cdef int64_t from_memory(self) except? -1:
        return RL_WOULD_BLOCK

    cdef int64_t attempt(self) noexcept:
        """Reads what a stream has: the outcome, or -EAGAIN."""
        return -EAGAIN

    cdef int become_exact(self) except -1:
        """By number: a ring ignores the position where a file has none, and a directory where it reads 0."""
        raise NotImplementedError

    cdef int64_t at_once(self) except? -1:
        cdef int64_t outcome = self.from_memory()
        return self.settle() if outcome == RL_WOULD_BLOCK else outcome

    cdef int64_t settle(self) except? -1:
        """Decides how to do what is not in memory: the outcome, or RL_WOULD_BLOCK."""
        cdef int64_t outcome
        cdef int kind = rl_file_kind(self.fd)
        if kind == RL_FILE_STORED and not self.exact:
            return RL_WOULD_BLOCK
        if self.exact or self.position != OWN_POSITION:
            self.become_exact()
            return RL_WOULD_BLOCK
        if kind != RL_FILE_STREAM or not self.reads or self.flags != 0:
            return RL_WOULD_BLOCK
        outcome = self.attempt()
        if outcome != -EAGAIN:
            return outcome
        self.streams = True
        self.bounded = False
        memset(&self.request.entry.sqe, 0, sizeof(self.request.entry.sqe))
        self.request.entry.sqe.opcode = RL_OP_POLL_ADD
        self.request.entry.sqe.fd = self.fd
        self.request.entry.sqe.op_flags = POLLIN
        return RL_WOULD_BLOCK

    cdef object finish(self):
        if self.streams:
            self.end_watch()
            if self.outcome >= 0:
                self.outcome = self.attempt()
            if self.outcome == -EAGAIN:
                return self.wait_again()
        return Call.finish(self)

    cdef object wait_again(self):
        """Somebody else read what was there."""
        if self.loop is None:
            return self.watch(self.watching)
        self.completed = False
        self.make_future()
        self.loop.submit(self)
        return self.wait()

    # --- under another loop than ringloop's: threads could not be interrupted

    cdef object wait_in_a_thread(self, object loop):
        self.outcome = self.settle()
        if self.outcome != RL_WOULD_BLOCK:
            return self.finish()
        if self.streams:
            return self.watch(loop)
        return Call.wait_in_a_thread(self, loop)

    cdef object watch(self, object loop):
        """Waits by add_reader(), of a copy: the caller may have a reader of his own."""
        self.outcome = 0
        self.watched_fd = fcntl(self.fd, F_DUPFD_CLOEXEC, 0)
        if self.watched_fd < 0:
            raise OSError(errno, os.strerror(errno))
        self.watching = loop
        self.future = loop.create_future()
        loop.add_reader(self.watched_fd, self._ready)
        return self.wait()

    def _ready(self):
        if not self.future.done():
            self.future.set_result(None)

    cdef int end_watch(self) except -1:
        if self.watched_fd >= 0:
            fd, self.watched_fd = self.watched_fd, -1
            try:
                self.watching.remove_reader(fd)
            finally:
                close_fd(fd)
        return 0

    cdef int abandon(self) except -1:
        self.end_watch()
        if self.streams and self.loop is None:
            self.unlock()
        return Call.abandon(self)


cdef class ReadCall(TransferCall):
    cdef int64_t from_memory(self) except? -1:
        if self.request.entry.sqe.length > RL_RESIDENT_BYTES_MAX:
            return RL_WOULD_BLOCK      # it would be a part of what os.pread gives
        return rl_resident_pread_fd(
            self.resident(), self.fd, PyBytes_AS_STRING(self.kept), self.request.entry.sqe.length,
            self.position)

    cdef int64_t attempt(self) noexcept:
        cdef iovec vector
        vector.iov_base = PyBytes_AS_STRING(self.kept)
        vector.iov_len = <size_t> min(PyBytes_GET_SIZE(self.kept), IO_BYTES_MAX)
        return rl_stream_readv(self.fd, &vector, 1)

    cdef int become_exact(self) except -1:
        self.for_number(self.name, SYS_read if self.position == OWN_POSITION else SYS_pread64)
        self.request.call.arguments[0] = <uint64_t> self.fd
        self.request.call.arguments[1] = address_of(self.kept)
        self.request.call.arguments[2] = <uint64_t> PyBytes_GET_SIZE(self.kept)
        self.request.call.arguments[3] = <uint64_t> self.position
        return 0

    cdef object value(self):
        cdef PyObject *data
        if self.outcome == PyBytes_GET_SIZE(self.kept):
            return self.kept
        # Cut where it lies, which takes that nobody else refers to it.
        data = <PyObject *> self.kept
        Py_INCREF(self.kept)
        self.kept = None
        _PyBytes_Resize(&data, self.outcome)
        result = <object> data
        Py_DECREF(result)
        return result


cdef ReadCall read_call(str name, object fd, object length, object offset):
    cdef ReadCall call = ReadCall.__new__(ReadCall)
    cdef int number = int_argument(fd)
    cdef Py_ssize_t length_bytes = count_argument(length)
    cdef int64_t position = OWN_POSITION if offset is None else int64_argument(offset)
    if length_bytes < 0 or (offset is not None and position < 0):
        raise invalid()
    fill_read(call, name, number, length_bytes, position)
    return call


cdef int fill_read(ReadCall call, str name, int fd, Py_ssize_t length, int64_t position) except -1:
    call.fd = fd
    call.position = position
    call.reads = True
    call.exact = length == 0
    call.kept = PyBytes_FromStringAndSize(NULL, length)
    call.for_entry(name, RL_OP_READ, fd)
    call.request.entry.sqe.address = address_of(call.kept)
    call.request.entry.sqe.length = min(length, IO_BYTES_MAX)
    call.request.entry.sqe.offset = <uint64_t> position
    return 0


def read(fd, length, /):
    """As os.read(): up to `length` bytes from the file's position on; b"" at its end."""
    return read_call("read", fd, length, None)


def pread(fd, length, offset, /):
    """As os.pread(): up to `length` bytes from `offset` on, which does not move the file's position."""
    int64_argument(offset)
    return read_call("pread", fd, length, offset)


cdef class EventCall(ReadCall):
    cdef object value(self):
        data = ReadCall.value(self)
        if len(data) != EVENT_BYTES:
            raise invalid()
        return int.from_bytes(data, sys.byteorder)


def eventfd_read(fd):
    """As os.eventfd_read(): the counter, which is 0 then, or 1 of a semaphore. Waits until it is not 0."""
    cdef EventCall call = EventCall.__new__(EventCall)
    fill_read(call, "eventfd_read", PyObject_AsFileDescriptor(fd), EVENT_BYTES, OWN_POSITION)
    return call


cdef class ReadIntoCall(TransferCall):
    cdef int64_t from_memory(self) except? -1:
        if self.request.entry.sqe.length > RL_RESIDENT_BYTES_MAX:
            return RL_WOULD_BLOCK
        return rl_resident_pread_fd(
            self.resident(), self.fd, self.view.buf, self.request.entry.sqe.length, self.position)

    cdef int64_t attempt(self) noexcept:
        cdef iovec vector
        vector.iov_base = self.view.buf
        vector.iov_len = min(self.view.len, IO_BYTES_MAX)
        return rl_stream_readv(self.fd, &vector, 1)

    cdef int become_exact(self) except -1:
        self.for_number(self.name, SYS_read)
        self.request.call.arguments[0] = <uint64_t> self.fd
        self.request.call.arguments[1] = <uint64_t> self.view.buf
        self.request.call.arguments[2] = <uint64_t> self.view.len
        return 0


def readinto(fd, buffer, /):
    """As os.readinto() of Python 3.14: how many bytes from the file's position on went into `buffer`."""
    cdef ReadIntoCall call = ReadIntoCall.__new__(ReadIntoCall)
    call.fd = int_argument(fd)
    try:
        PyObject_GetBuffer(buffer, &call.view, PyBUF_WRITABLE)
    except (TypeError, BufferError):
        raise TypeError(
            "readinto() argument 2 must be read-write bytes-like object, not "
            + ("None" if buffer is None else type(buffer).__name__)) from None
    call.lent = True
    call.position = OWN_POSITION
    call.reads = True
    call.exact = call.view.len == 0
    call.for_entry("readinto", RL_OP_READ, call.fd)
    call.request.entry.sqe.address = <uint64_t> call.view.buf
    call.request.entry.sqe.length = min(call.view.len, IO_BYTES_MAX)
    call.request.entry.sqe.offset = <uint64_t> call.position
    return call


cdef class WriteCall(TransferCall):
    cdef int64_t from_memory(self) except? -1:
        cdef rl_resident_file file
        cdef rl_statx status
        cdef int64_t count
        memset(&file, 0, sizeof(file))
        if rl_resident_identify(self.resident(), self.fd, False, &file, &status) < 0:
            return RL_WOULD_BLOCK
        count = rl_resident_pwrite(
            self.fd, &file, self.view.buf, self.request.entry.sqe.length, self.position)
        rl_resident_forget(&file)
        return count

    cdef int become_exact(self) except -1:
        self.for_number(self.name, SYS_pwrite64)
        self.request.call.arguments[0] = <uint64_t> self.fd
        self.request.call.arguments[1] = <uint64_t> self.view.buf
        self.request.call.arguments[2] = <uint64_t> self.view.len
        self.request.call.arguments[3] = <uint64_t> self.position
        return 0


cdef WriteCall write_call(str name, object fd, object data, object offset):
    return fill_write(WriteCall.__new__(WriteCall), name, fd, data, offset)


cdef WriteCall fill_write(WriteCall call, str name, object fd, object data, object offset):
    call.fd = int_argument(fd)
    PyObject_GetBuffer(data, &call.view, PyBUF_SIMPLE)
    call.lent = True
    call.position = OWN_POSITION if offset is None else int64_argument(offset)
    if offset is not None and call.position < 0:
        raise invalid()
    call.for_entry(name, RL_OP_WRITE, call.fd)
    call.request.entry.sqe.address = <uint64_t> call.view.buf
    call.request.entry.sqe.length = min(call.view.len, IO_BYTES_MAX)
    call.request.entry.sqe.offset = <uint64_t> call.position
    return call


def write(fd, data, /):
    """As os.write(): how many bytes of `data` went to the file's position."""
    return write_call("write", fd, data, None)


def pwrite(fd, buffer, offset, /):
    """As os.pwrite(): how many bytes of `buffer` went to `offset`."""
    int64_argument(offset)
    return write_call("pwrite", fd, buffer, offset)


cdef class EventWriteCall(WriteCall):
    cdef object value(self):
        return None


def eventfd_write(fd, value):
    """As os.eventfd_write(): adds to the counter. Waits while that would be too large."""
    cdef int number = PyObject_AsFileDescriptor(fd)
    cdef uint64_t count
    value = natural(value)
    if value >> 64:
        raise OverflowError(
            "Python int too large for C unsigned long long" if UNSIGNED_IS_ANY_INTEGER
            else "int too big to convert")
    count = value
    return fill_write(
        EventWriteCall.__new__(EventWriteCall), "eventfd_write", number,
        int(count).to_bytes(EVENT_BYTES, sys.byteorder), None)


# --- several buffers

cdef class VectorCall(TransferCall):
    cdef Py_buffer *views          # ours, the first `held` of them locked
    cdef iovec *vectors            # ours
    cdef Py_ssize_t held

    def __dealloc__(self):
        self.release()
        self.lent = False
        PyMem_Free(self.views)
        PyMem_Free(self.vectors)

    cdef int release(self) noexcept:
        while self.held > 0:
            self.held -= 1
            PyBuffer_Release(&self.views[self.held])
        return 0

    cdef int unlock(self) except -1:
        self.lent = False
        return self.release()

    cdef int hold(self, object buffers, int access) except -1:
        cdef Py_ssize_t count = len(buffers)
        if count > VECTORS_MAX:
            raise OSError(EINVAL, os.strerror(EINVAL))
        self.views = <Py_buffer *> PyMem_Malloc(max(count, 1) * sizeof(Py_buffer))
        self.vectors = <iovec *> PyMem_Malloc(max(count, 1) * sizeof(iovec))
        if self.views == NULL or self.vectors == NULL:
            raise MemoryError
        while self.held < count:
            PyObject_GetBuffer(buffers[self.held], &self.views[self.held], access)
            self.vectors[self.held].iov_base = self.views[self.held].buf
            self.vectors[self.held].iov_len = self.views[self.held].len
            self.held += 1
        self.lent = True
        return 0

    cdef int64_t attempt(self) noexcept:
        return rl_stream_readv(self.fd, self.vectors, <int> self.held)

    cdef int become_exact(self) except -1:
        self.for_number(self.name, SYS_preadv2 if self.reads else SYS_pwritev2)
        self.request.call.arguments[0] = <uint64_t> self.fd
        self.request.call.arguments[1] = <uint64_t> self.vectors
        self.request.call.arguments[2] = <uint64_t> self.held
        self.request.call.arguments[3] = <uint64_t> self.position
        self.request.call.arguments[5] = self.flags
        return 0


cdef VectorCall vector_call(str name, uint8_t opcode, object fd, object buffers, object offset, object flags):
    cdef VectorCall call = VectorCall.__new__(VectorCall)
    call.fd = int_argument(fd)
    if not PySequence_Check(buffers):
        # CPython names the system call.
        raise TypeError(f"{'preadv2' if name == 'preadv' else name}() arg 2 must be a sequence")
    call.position = int64_argument(offset)
    call.flags = <uint32_t> int_argument(flags)
    call.reads = opcode == RL_OP_READV
    call.hold(buffers, PyBUF_WRITABLE if call.reads else PyBUF_SIMPLE)
    if call.position < OWN_POSITION:
        raise invalid()
    call.for_entry(name, opcode, call.fd)
    call.request.entry.sqe.address = <uint64_t> call.vectors
    call.request.entry.sqe.length = <uint32_t> call.held
    call.request.entry.sqe.offset = <uint64_t> call.position
    call.request.entry.sqe.op_flags = call.flags
    return call


def readv(fd, buffers, /):
    """As os.readv(): how many bytes went into the writable buffers, one after the other."""
    return vector_call("readv", RL_OP_READV, fd, buffers, OWN_POSITION, 0)


def preadv(fd, buffers, offset, flags=0, /):
    """As os.preadv(): how many bytes from `offset` on went into the buffers."""
    return vector_call("preadv", RL_OP_READV, fd, buffers, offset, flags)


def writev(fd, buffers, /):
    """As os.writev(): how many bytes of the buffers went to the file's position."""
    return vector_call("writev", RL_OP_WRITEV, fd, buffers, OWN_POSITION, 0)


def pwritev(fd, buffers, offset, flags=0, /):
    """As os.pwritev(): how many bytes of the buffers went to `offset`."""
    return vector_call("pwritev", RL_OP_WRITEV, fd, buffers, offset, flags)


# --- one file

cdef class CloseCall(Call):
    cdef int64_t at_once(self) except? -1:
        return rl_resident_close_fd(self.resident(), self.request.entry.sqe.fd)


def close(fd):
    """As os.close()."""
    cdef CloseCall call = CloseCall.__new__(CloseCall)
    call.for_entry("close", RL_OP_CLOSE, int_argument(fd))
    # By then the number may be another file's.
    call.only_once = True
    # A ring drops the file on the submitting thread, and that can take long.
    call.request.entry.sqe.flags = RL_SQE_ASYNC
    return call


cdef Call entry_call(str name, uint8_t opcode, int fd):
    cdef Call call = Call.__new__(Call)
    call.for_entry(name, opcode, fd)
    return call


def fsync(fd):
    """As os.fsync()."""
    return entry_call("fsync", RL_OP_FSYNC, PyObject_AsFileDescriptor(fd))


def sync():
    """As os.sync(): everything that is to be written anywhere, which can take long."""
    cdef Call call = Call.__new__(Call)
    call.for_number("sync", SYS_sync)
    return call


def fdatasync(fd):
    """As os.fdatasync()."""
    cdef Call call = entry_call("fdatasync", RL_OP_FSYNC, PyObject_AsFileDescriptor(fd))
    call.request.entry.sqe.op_flags = RL_FSYNC_DATASYNC
    return call


def ftruncate(fd, length, /):
    """As os.ftruncate()."""
    cdef int number = int_argument(fd)
    cdef int64_t length_bytes = int64_argument(length)
    cdef Call call
    audit("os.truncate", "in", number, <Py_ssize_t> length_bytes)
    if length_bytes < 0:  # which a ring does not look at
        raise invalid()
    call = entry_call("ftruncate", RL_OP_FTRUNCATE, number)
    call.request.entry.sqe.offset = <uint64_t> length_bytes
    return call


def truncate(path, length):
    """As os.truncate(). `path` may be a file descriptor."""
    cdef ChangeCall call
    cdef int64_t length_bytes
    if is_fd(path):
        return ftruncate(fd_of_path(path), length)
    call = ChangeCall.__new__(ChangeCall)
    call.path = plain_path("truncate", "path", path, "string, bytes, os.PathLike or integer")
    call.kept = encoded_path("truncate", "path", call.path)
    length_bytes = int64_argument(length)
    audit("os.truncate", "On", <PyObject *> call.path, <Py_ssize_t> length_bytes)
    call.for_number("truncate", SYS_truncate)
    call.request.call.arguments[0] = address_of(call.kept)
    call.request.call.arguments[1] = <uint64_t> length_bytes
    return call


def posix_fallocate(fd, offset, length, /):
    """As os.posix_fallocate(); but a file system that cannot reserve space raises EOPNOTSUPP."""
    cdef Call call = Call.__new__(Call)
    cdef int number = int_argument(fd)
    cdef int64_t from_offset = int64_argument(offset)
    cdef int64_t length_bytes = int64_argument(length)
    call.for_entry("posix_fallocate", RL_OP_FALLOCATE, number)
    call.request.entry.sqe.offset = <uint64_t> from_offset
    call.request.entry.sqe.address = <uint64_t> length_bytes
    return call


cdef class PrefetchCall(Call):
    cdef int choose_executor(self) noexcept:
        self.request.work.execute = rl_prefetch_execute
        return 0

    cdef object value(self):
        return self.outcome


def prefetch_piece(fd, offset, length):
    """Reads so much of a file into memory: how many bytes of it are there then."""
    cdef PrefetchCall call = PrefetchCall.__new__(PrefetchCall)
    cdef int number = PyObject_AsFileDescriptor(fd)
    cdef int64_t from_offset = int64_argument(offset)
    cdef int64_t length_bytes = int64_argument(length)
    call.for_number("prefetch", 0)
    call.request.call.arguments[0] = <uint64_t> number
    call.request.call.arguments[1] = <uint64_t> from_offset
    call.request.call.arguments[2] = <uint64_t> length_bytes
    return call


def posix_fadvise(fd, offset, length, advice, /):
    """As os.posix_fadvise()."""
    cdef Call call = Call.__new__(Call)
    cdef int number = int_argument(fd)
    cdef int64_t from_offset = int64_argument(offset)
    cdef int64_t length_bytes = int64_argument(length)
    cdef int kind = int_argument(advice)
    call.for_entry("posix_fadvise", RL_OP_FADVISE, number)
    call.request.entry.sqe.offset = <uint64_t> from_offset
    call.request.entry.sqe.op_flags = <uint32_t> kind
    if length_bytes >> 32 == 0:
        call.request.entry.sqe.length = <uint32_t> length_bytes
    else:  # an entry has 32 bits for it before 6.10
        call.request.entry.sqe.address = <uint64_t> length_bytes
        call.needs_worker = True
    return call


cdef class SeekCall(Call):
    cdef int64_t at_once(self) except? -1:
        cdef int fd = <int> self.request.call.arguments[0]
        cdef int whence = <int> self.request.call.arguments[2]
        cdef int64_t position
        cdef uint32_t kind = 0
        cdef rl_statx status
        if whence == SEEK_END:
            # A server may be asked how long its file is.
            if rl_resident_look(self.resident(), fd, &kind, &status) < 0 or not S_ISREG(status.mode):
                return RL_WOULD_BLOCK
        elif whence != SEEK_SET and whence != SEEK_CUR:
            return RL_WOULD_BLOCK
        position = seek(fd, <int64_t> self.request.call.arguments[1], whence)
        return position if position >= 0 else -errno

    cdef object value(self):
        return self.outcome


def lseek(fd, position, whence, /):
    """As os.lseek(): the new position. Done at once if `whence` is SEEK_SET or SEEK_CUR."""
    cdef SeekCall call = SeekCall.__new__(SeekCall)
    cdef int number = int_argument(fd)
    cdef int64_t to_position = int64_argument(position)
    cdef int from_where = int_argument(whence)
    call.for_number("lseek", SYS_lseek)
    call.request.call.arguments[0] = <uint64_t> number
    call.request.call.arguments[1] = <uint64_t> to_position
    call.request.call.arguments[2] = <uint64_t> from_where
    return call


# --- from one file to another

cdef class CopyCall(Call):
    cdef int64_t src_position
    cdef int64_t dst_position

    cdef object value(self):
        return self.outcome


cdef CopyCall copy_call(object count, object offset_src, object offset_dst):
    """A call with its positions, which are of no matter if they are None."""
    cdef CopyCall call = CopyCall.__new__(CopyCall)
    cdef Py_ssize_t count_bytes = count_argument(count)
    if count_bytes < 0:
        raise ValueError(
            "count cannot be negative" if REFUSES_NEGATIVE_COUNTS
            else "negative value for 'count' not allowed")
    call.src_position = OWN_POSITION if offset_src is None else int64_argument(offset_src)
    call.dst_position = OWN_POSITION if offset_dst is None else int64_argument(offset_dst)
    return call


def sendfile(out_fd, in_fd, offset, count):
    """As os.sendfile(): how many bytes of the file `in_fd` went to `out_fd`."""
    cdef CopyCall call = CopyCall.__new__(CopyCall)
    cdef int dst = int_argument(out_fd)
    cdef int src = int_argument(in_fd)
    cdef Py_ssize_t count_bytes
    if offset is not None:
        call.src_position = int64_argument(offset)
    count_bytes = count_argument(count)
    if count_bytes < 0 and REFUSES_NEGATIVE_COUNTS:
        raise ValueError("count cannot be negative")
    call.for_number("sendfile", SYS_sendfile)
    call.request.call.arguments[0] = <uint64_t> dst
    call.request.call.arguments[1] = <uint64_t> src
    call.request.call.arguments[2] = 0 if offset is None else <uint64_t> &call.src_position
    call.request.call.arguments[3] = <uint64_t> count_bytes
    return call


def copy_file_range(src, dst, count, offset_src=None, offset_dst=None):
    """As os.copy_file_range(): how many bytes of the file `src` went to the file `dst`."""
    cdef int src_fd = int_argument(src)
    cdef int dst_fd = int_argument(dst)
    cdef CopyCall call = copy_call(count, offset_src, offset_dst)
    call.for_number("copy_file_range", SYS_copy_file_range)
    call.request.call.arguments[0] = <uint64_t> src_fd
    call.request.call.arguments[1] = 0 if offset_src is None else <uint64_t> &call.src_position
    call.request.call.arguments[2] = <uint64_t> dst_fd
    call.request.call.arguments[3] = 0 if offset_dst is None else <uint64_t> &call.dst_position
    call.request.call.arguments[4] = <uint64_t> count_argument(count)
    return call


def splice(src, dst, count, offset_src=None, offset_dst=None, flags=0):
    """As os.splice(): how many bytes went from `src` to `dst`, one of which is a pipe."""
    cdef int src_fd = int_argument(src)
    cdef int dst_fd = int_argument(dst)
    cdef CopyCall call = copy_call(count, offset_src, offset_dst)
    cdef uint32_t splice_flags = unsigned_argument(flags)
    call.for_entry("splice", RL_OP_SPLICE, dst_fd)
    # It may wait for ever for the pipe's other end, and then would hold a thread of the kernel's.
    call.needs_worker = True
    call.request.entry.sqe.address = <uint64_t> call.src_position
    call.request.entry.sqe.offset = <uint64_t> call.dst_position
    call.request.entry.sqe.length = <uint32_t> min(count_argument(count), IO_BYTES_MAX)
    call.request.entry.sqe.op_flags = splice_flags
    call.request.entry.sqe.file_index = <uint32_t> src_fd
    return call
