"""Pipe transports: one end of a pipe, FIFO, terminal, socket or character device, and its protocol.

Bytes are moved by non-blocking system calls when the pipe is ready, never by a request in the ring: others
may have the same end open (a terminal, an inherited standard input), and what a cancelled request had taken
out of it would be lost to them. Readiness is a one-shot poll, armed again as long as something is wanted.
A transport closes its file after the last completion of its polls: an armed poll holds the file, and the
other end would not hear of the close.

A pipe that is found full again and again is widened: at 64 KiB, two processes that pass much through it
spend most of their time falling asleep and waking each other.

Callbacks, their order, errors and texts are those of asyncio's pipe transports.
"""

import asyncio
import collections
import errno as errors
import os
from asyncio import constants, transports
from asyncio.log import logger
from itertools import islice

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t
from posix.unistd cimport read, write

from ringloop._callbacks cimport PyContext_CopyCurrent, new_handle, run_handle, show_to_collector
from ringloop._flight cimport RL_OP_POLL_ADD, ENSURE, Operation, rl_sqe
from ringloop._sock cimport Sockets, check_pollable
from ringloop._transfer cimport in_flight
from ringloop._transport cimport Transport, drop_front


cdef extern from "<fcntl.h>" nogil:
    enum: F_GETPIPE_SZ, F_SETPIPE_SZ
    int fcntl(int fd, int command, ...)

cdef extern from "<poll.h>" nogil:
    enum: POLLIN, POLLOUT

cdef extern from "<sys/socket.h>" nogil:
    enum: SOL_SOCKET, SO_TYPE, SOCK_STREAM
    int getsockopt(int fd, int level, int option, void *value, unsigned int *length)

cdef extern from "<sys/stat.h>" nogil:
    bint S_ISCHR(unsigned int mode)
    bint S_ISFIFO(unsigned int mode)
    bint S_ISSOCK(unsigned int mode)

cdef extern from "<sys/uio.h>" nogil:
    ctypedef struct iovec "struct iovec":
        void *iov_base
        size_t iov_len
    Py_ssize_t writev(int fd, const iovec *parts, int count)

cdef extern from "Python.h":
    object PyBytes_FromStringAndSize(const char *bytes, Py_ssize_t size)
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *bytes, Py_ssize_t size)
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t size) except -1

cdef enum:
    PIPE_BYTES = 64 * 1024             # what a pipe holds, unless somebody changed that; read in one call
    MESSAGE_BYTES_MAX = 256 * 1024     # of a socket of messages; asyncio's: the rest of a longer one is lost
    SMALL_BYTES_MAX = 16 * 1024        # up to this, copying costs less than a large object that is cut
    WRITE_PARTS_MAX = 64
    WIDE_PIPE_BYTES = 256 * 1024
    FULL_TIMES = 16                    # so often a pipe was found full before it is widened
    WIDE_PIPES_MAX = 32                # at a time: behind 64 MiB a user's new pipes are made small (4.5)

cdef char scratch[PIPE_BYTES]
cdef int wide_pipes = 0                # of all loops; changed with the GIL held

cdef object READ_TRANSPORT_CLASS = asyncio.ReadTransport
cdef object WRITE_TRANSPORT_CLASS = transports._FlowControlMixin
cdef object deque = collections.deque
cdef int LOST_WRITES_LOGGED = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES


cdef object os_error(int error):
    return OSError(error, os.strerror(error))


cdef object would_block():
    """After a call failed: None if it would have blocked; else raises the error."""
    if errno == EAGAIN or errno == EINTR:
        return None
    raise os_error(errno)


@cython.final
cdef class PipePoll(Operation):
    """Runs one of the transport's callbacks when its file is ready, again and again while that is wanted."""

    def __cinit__(self, PipeTransport transport, uint32_t events, callback):
        self.loop = transport.loop
        self.transport = transport
        self.events = events
        self.handle = new_handle(transport.loop, callback, (), transport.context)
        show_to_collector(self.handle)

    cdef int arm(self) except -1:
        if not in_flight(self) and self.loop.alive():
            self.loop.submit(self)
        return 0

    cdef void prepare(self, rl_sqe *sqe) noexcept:
        sqe.opcode = RL_OP_POLL_ADD
        sqe.fd = self.transport.fd
        sqe.op_flags = self.events

    cdef int complete(self, int64_t result, uint32_t flags, object payload) except -1:
        cdef PipeTransport transport = self.transport
        try:
            # An error is a file that its owner closed under us: epoll forgets such a one without a word.
            if result >= 0 and transport.wants(self):
                run_handle(self.handle)
        finally:
            if result >= 0 and transport.wants(self):
                self.arm()
            transport.finish_if_idle()
        return 0

    cdef object describe(self):
        return repr(self.handle)


cdef class PipeTransport(Transport):
    """What both directions share."""

    cdef int open(self, Sockets loop, object pipe, object protocol, object extra, str refusal) except -1:
        """Takes the pipe, unless it is of a kind that cannot be polled; that raises ValueError(refusal)."""
        cdef int fd = pipe.fileno()
        self.mode = os.fstat(fd).st_mode
        if not (S_ISFIFO(self.mode) or S_ISSOCK(self.mode) or S_ISCHR(self.mode)):
            raise ValueError(refusal)
        os.set_blocking(fd, False)
        self.loop = loop
        self.fd = fd
        self.pipe = pipe
        self.protocol = protocol
        self.context = PyContext_CopyCurrent()
        self.extra = {} if extra is None else dict(extra)
        self.extra["pipe"] = pipe
        return 0

    cdef bint wants(self, PipePoll poll) noexcept:
        """Whether the transport is interested in what this poll tells."""
        return False

    cdef bint is_busy(self) noexcept:
        """Whether the kernel holds the file for one of the polls."""
        return False

    cdef int cancel_polls(self) except -1:
        return 0

    cdef int end(self, object exc) except -1:
        """No more is read or written; connection_lost is called in the next pass."""
        self.closing = True
        self.cancel_polls()
        if not self.ended:
            self.ended = True
            self.lose_soon(exc)
        return 0

    cdef int call_connection_lost(self, object exc) except -1:
        if self.lost_called:
            return 0
        self.ended = True
        self.lost_called = True
        try:
            self.protocol.connection_lost(exc)
        finally:
            self.protocol = None
            if self.is_busy() and self.loop.alive():
                # The cancels were queued: when this returns the kernel has let go of the file.
                self.loop.flush()
            self.finish_if_idle()
        return 0

    cdef int finish_if_idle(self) except -1:
        """Closes the pipe once connection_lost was called and nothing in the kernel holds the file."""
        if not self.lost_called or self.pipe is None or self.is_busy():
            return 0
        return self.close_fd()

    cdef bint is_closed(self) noexcept:
        return self.pipe is None

    cdef int close_fd(self) except -1:
        global wide_pipes
        pipe = self.pipe
        self.pipe = None
        if self.is_wide:
            self.is_wide = False
            wide_pipes -= 1
        pipe.close()
        return 0

    cdef void note_full(self) noexcept:
        """The pipe was full. After so many times it is widened, unless somebody chose its size."""
        global wide_pipes
        if self.full_times >= FULL_TIMES or not S_ISFIFO(self.mode):
            return
        self.full_times += 1
        if self.full_times < FULL_TIMES or wide_pipes >= WIDE_PIPES_MAX:
            return
        if fcntl(self.fd, F_GETPIPE_SZ) != PIPE_BYTES:
            return
        # EPERM: the user's pipes hold too much already. Then it stays as it is.
        if fcntl(self.fd, F_SETPIPE_SZ, WIDE_PIPE_BYTES) >= 0:
            self.is_wide = True
            wide_pipes += 1


@cython.final
cdef class ReadPipeTransport(PipeTransport):
    """The end of a pipe that is read from. See asyncio.ReadTransport."""

    @property
    def __class__(self):
        # Users ask isinstance(…, asyncio.ReadTransport), which a cdef class cannot inherit from.
        return READ_TRANSPORT_CLASS

    cdef list activity(self):
        if self.pipe is None or self.loop.is_closed():
            return ["closed" if self.pipe is None else "open"]
        return ["polling" if in_flight(self.readable) and not self.paused else "idle"]

    cdef bint wants(self, PipePoll poll) noexcept:
        return not self.closing and not self.paused

    cdef bint is_busy(self) noexcept:
        return in_flight(self.readable)

    cdef int cancel_polls(self) except -1:
        return self.loop.cancel(self.readable)

    def _start_reading(self):
        if self.closing or self.paused:
            return
        check_pollable(self.fd)
        self.readable.arm()

    def _read_ready(self):
        try:
            data = self.read_once()
        except OSError as exc:
            self.fatal_error(exc, "Fatal read error on pipe transport")
            return
        if data is None:
            return
        if data:
            self.protocol.data_received(data)
            return
        if self.loop._debug:
            logger.info("%r was closed by peer", self)
        self.closing = True
        self.loop.call_soon(self.protocol.eof_received, context=self.context)
        self.end(None)

    cdef object read_once(self):
        """What is there, as bytes; None if that would block."""
        cdef Py_ssize_t count
        if self.messages:
            return self.read_directly(MESSAGE_BYTES_MAX)
        if self.large:
            return self.read_directly(PIPE_BYTES)
        # No Python code runs before the bytes are copied: one place serves all transports.
        count = read(self.fd, scratch, PIPE_BYTES)
        if count < 0:
            return would_block()
        self.note_size(count)
        return PyBytes_FromStringAndSize(scratch, count)

    cdef object read_directly(self, Py_ssize_t size):
        """The same, without a copy, into an object that is cut afterwards."""
        # A bare pointer: only an object with a single reference can be cut.
        cdef PyObject *chunk = new_bytes(NULL, size)
        cdef Py_ssize_t count
        if chunk == NULL:
            raise MemoryError
        count = read(self.fd, PyBytes_AS_STRING(<object> chunk), size)
        if count < 0:
            Py_DECREF(<object> chunk)
            return would_block()
        self.note_size(count)
        if count < size:
            _PyBytes_Resize(&chunk, count)
        data = <object> chunk
        Py_DECREF(data)
        return data

    cdef void note_size(self, Py_ssize_t count) noexcept:
        self.large = count > SMALL_BYTES_MAX
        if count >= PIPE_BYTES:
            self.note_full()

    cdef int force_close(self, object exc) except -1:
        return self.end(exc)

    cdef int fatal_error(self, object exc, str message) except -1:
        # EIO: a terminal's other side is gone. Any other error is reported.
        if exc.errno != errors.EIO:
            self.report(exc, message)
            return self.end(exc)
        return PipeTransport.fatal_error(self, exc, message)

    cdef int stop_receiving(self) except -1:
        # A poll under way may stay: whatever it tells, nothing is read.
        return 0

    cdef int go_on_receiving(self) except -1:
        check_pollable(self.fd)
        return self.readable.arm()

    def close(self):
        """Closes the pipe. What was not read yet stays in it."""
        if not self.closing:
            self.end(None)


@cython.final
cdef class WritePipeTransport(PipeTransport):
    """The end of a pipe that is written to. See asyncio.WriteTransport."""

    @property
    def __class__(self):
        # Users ask isinstance(…, asyncio.WriteTransport), which a cdef class cannot inherit from. asyncio's
        # own are of this subclass, and so by their type readable as well.
        return WRITE_TRANSPORT_CLASS

    cdef list activity(self):
        if self.pipe is None or self.loop.is_closed():
            return ["closed" if self.pipe is None else "open"]
        return ["polling" if self.queue else "idle", f"bufsize={self.queued_bytes}"]

    cdef bint wants(self, PipePoll poll) noexcept:
        return not self.ended and (poll is self.hangup or self.queued_bytes > 0)

    cdef bint is_busy(self) noexcept:
        return in_flight(self.hangup) or in_flight(self.writable)

    cdef int cancel_polls(self) except -1:
        self.loop.cancel(self.writable)
        return self.loop.cancel(self.hangup)

    def _watch_hangup(self):
        if not self.ended:
            self.hangup.arm()

    def _hung_up(self):
        """Nobody reads any more; or a socket's other side, which must not, has written."""
        if self.loop._debug:
            logger.info("%r was closed by peer", self)
        exc = BrokenPipeError() if self.queue else None
        self.clear()
        self.end(exc)

    # --- asyncio.WriteTransport

    def write(self, data):
        """Writes data, bytes-like. What the pipe does not take at once is queued."""
        cdef Py_buffer view
        cdef Py_ssize_t count = 0, length
        cdef int error
        assert isinstance(data, (bytes, bytearray, memoryview)), repr(data)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        length = view.len
        if length == 0 or self.lost_writes or self.closing:
            PyBuffer_Release(&view)
            if length:
                if self.lost_writes >= LOST_WRITES_LOGGED:
                    logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")
                self.lost_writes += 1
            return
        if self.queue:
            PyBuffer_Release(&view)
        else:
            count = write(self.fd, view.buf, length)
            error = errno
            PyBuffer_Release(&view)
            if count == length:
                return
            if count < 0:
                if error != EAGAIN and error != EINTR:
                    self.lost_writes += 1
                    self.fatal_error(os_error(error), "Fatal write error on pipe transport")
                    return
                count = 0
            if S_ISCHR(self.mode):
                check_pollable(self.fd)
            self.note_full()
        self.push(data, count)
        self.writable.arm()
        self.pause_protocol_if_full()

    def writelines(self, list_of_data):
        """Writes a list of bytes-like objects, as one write of them all."""
        self.write(b"".join(list_of_data))

    def _write_ready(self):
        cdef Py_ssize_t count = self.write_queue()
        if count < 0:
            if errno == EAGAIN or errno == EINTR:
                return
            exc = os_error(errno)
            self.clear()
            self.lost_writes += 1
            self.fatal_error(exc, "Fatal write error on pipe transport")
            return
        self.queued_bytes -= count
        self.head_offset = drop_front(self.queue, self.head_offset + count)
        if self.queue:
            self.note_full()
            return
        # Not before the queue is empty, whatever the low mark is: as asyncio's pipes.
        self.resume_protocol()
        if self.closing and not self.queue:
            self.cancel_polls()
            self.call_connection_lost(None)

    cdef Py_ssize_t write_queue(self) except -2:
        """Writes the front of the queue; how many bytes of it, or -1 and errno."""
        cdef iovec parts[WRITE_PARTS_MAX]
        cdef Py_ssize_t offset = self.head_offset
        cdef int index = 0
        for data in islice(self.queue, WRITE_PARTS_MAX):
            parts[index].iov_base = PyBytes_AS_STRING(data) + offset
            parts[index].iov_len = PyBytes_GET_SIZE(data) - offset
            offset = 0
            index += 1
        ENSURE(index > 0)
        return writev(self.fd, parts, index)

    cdef int push(self, object data, Py_ssize_t offset) except -1:
        """Queues data from offset on. What the caller may change is copied."""
        if not PyBytes_CheckExact(data):
            data = bytes(memoryview(data).cast("B")[offset:])
            offset = 0
        if offset:
            self.head_offset = offset
        self.queue.append(data)
        self.queued_bytes += PyBytes_GET_SIZE(data) - offset
        return 0

    cdef int clear(self) except -1:
        """Forgets what is queued."""
        self.queue.clear()
        self.head_offset = 0
        self.queued_bytes = 0
        return 0

    cdef int force_close(self, object exc) except -1:
        self.clear()
        return self.end(exc)

    def is_reading(self):
        """Raises NotImplementedError, as the next two do: nothing is read here, and so asyncio's."""
        raise NotImplementedError

    def pause_reading(self):
        """Raises NotImplementedError."""
        raise NotImplementedError

    def resume_reading(self):
        """Raises NotImplementedError."""
        raise NotImplementedError

    def can_write_eof(self):
        """Returns True: closing the pipe is what its reader takes for the end."""
        return True

    def write_eof(self):
        """Closes the pipe after what is queued was written."""
        if self.closing:
            return
        self.closing = True
        if not self.queue:
            self.end(None)

    def close(self):
        """Closes the pipe after what is queued was written."""
        self.write_eof()

    def abort(self):
        """Closes the pipe at once; what is queued is lost."""
        self.force_close(None)

    # --- flow control

    def get_write_buffer_size(self):
        """Returns how many bytes are queued."""
        return self.queued_bytes

    def get_write_buffer_limits(self):
        """Returns the low and the high water mark in bytes."""
        return self.low_water_bytes, self.high_water_bytes

    def set_write_buffer_limits(self, high=None, low=None):
        """Sets the marks in bytes: above `high` the protocol is paused, at `low` or below it is resumed."""
        self.set_marks(high, low)
        self.pause_protocol_if_full()

    cdef Py_ssize_t count_queued(self) except -1:
        return self.queued_bytes


cdef bint has_messages(int fd, unsigned int mode) noexcept:
    """Whether a read that is too short loses something: of a socket that is no stream of bytes."""
    cdef int kind = 0
    cdef unsigned int length = sizeof(kind)
    return S_ISSOCK(mode) and getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &length) == 0 and kind != SOCK_STREAM


class Pipes:
    """The loop's methods that make pipe transports, named as those of asyncio's Unix loop."""

    def _make_read_pipe_transport(self, pipe, protocol, waiter=None, extra=None):
        cdef ReadPipeTransport transport = ReadPipeTransport.__new__(ReadPipeTransport)
        transport.open(self, pipe, protocol, extra, "Pipe transport is for pipes/sockets only.")
        transport.readable = PipePoll(transport, POLLIN, transport._read_ready)
        transport.messages = has_messages(transport.fd, transport.mode)
        transport.introduce(transport._start_reading, waiter)
        return transport

    def _make_write_pipe_transport(self, pipe, protocol, waiter=None, extra=None):
        cdef WritePipeTransport transport = WritePipeTransport.__new__(WritePipeTransport)
        transport.open(
            self, pipe, protocol, extra, "Pipe transport is only for pipes, sockets and character devices")
        transport.hangup = PipePoll(transport, POLLIN, transport._hung_up)
        transport.writable = PipePoll(transport, POLLOUT, transport._write_ready)
        transport.queue = deque()
        transport.introduce(None if S_ISCHR(transport.mode) else transport._watch_hangup, waiter)
        return transport
