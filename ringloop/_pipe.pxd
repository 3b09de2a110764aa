# Pipe transports: what the rooms above may use of them. See _pipe.pyx.

from libc.stdint cimport int64_t, uint32_t

from ringloop._callbacks cimport Handle
from ringloop._flight cimport Operation, rl_sqe
from ringloop._sock cimport Sockets
from ringloop._transport cimport Transport


cdef class PipePoll(Operation):
    cdef PipeTransport transport
    cdef uint32_t events
    cdef Handle handle                 # runs when the pipe is ready, and reports what its callback raises

    cdef int arm(self) except -1


cdef class PipeTransport(Transport):   # the number of its fd is still told after the end
    cdef object pipe                   # the caller's file object, ours to close; None once closed
    cdef unsigned int mode             # as fstat tells: what kind of file it is
    cdef bint ended                    # connection_lost is due, or was called
    cdef int full_times                # how often the pipe was found full, up to where it is widened
    cdef bint is_wide                  # counted among those that were widened
    cdef dict __dict__
    cdef object __weakref__

    cdef int open(self, Sockets loop, object pipe, object protocol, object extra, str refusal) except -1
    cdef bint wants(self, PipePoll poll) noexcept
    cdef bint is_busy(self) noexcept
    cdef int cancel_polls(self) except -1
    cdef int end(self, object exc) except -1
    cdef int finish_if_idle(self) except -1
    cdef void note_full(self) noexcept


cdef class ReadPipeTransport(PipeTransport):
    cdef PipePoll readable
    cdef bint messages                 # a socket of messages, which a short read would cut
    cdef bint large                    # the last read got much: the next goes straight into its object

    cdef object read_once(self)
    cdef object read_directly(self, Py_ssize_t size)
    cdef void note_size(self, Py_ssize_t count) noexcept


cdef class WritePipeTransport(PipeTransport):
    cdef PipePoll hangup
    cdef PipePoll writable
    cdef object queue                  # deque of bytes that the pipe has not taken yet
    cdef Py_ssize_t head_offset        # of the first: how much of it is gone
    cdef Py_ssize_t queued_bytes
    cdef int lost_writes               # as asyncio's _conn_lost

    cdef Py_ssize_t write_queue(self) except -2
    cdef int push(self, object data, Py_ssize_t offset) except -1
    cdef int clear(self) except -1
