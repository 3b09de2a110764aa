# The heart's door: what the rooms above may use of it. See _core.pyx.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from ringloop._callbacks cimport Handle, rl_ready_entry
from ringloop._flight cimport Flight, Operation, rl_driver, rl_sqe


cdef class Watch(Operation):
    cdef int fd
    cdef uint32_t events
    cdef Handle handle
    cdef bint ended
    cdef object file               # what it was asked for with, if that was no number
    cdef uint64_t inode            # its, if it is a socket, else 0

    cdef int name(self, object file) except -1
    cdef bint is_gone(self) except -1
    cdef int hold(self, Handle handle) except -1
    cdef int start(self) except -1
    cdef int end(self) except -1


# What a forked child has to change of a loop before anything else: see mark_forked().
cdef struct ForkMark:
    ForkMark *next
    bint *forked
    bint *closed
    rl_driver **driver
    rl_driver *lost                # the parent's driver, until it is let go of


cdef class LoopCore(Flight):
    cdef bint forked
    cdef ForkMark fork_mark
    cdef bint enabled              # the driver is bound to a thread:
    cdef unsigned long owner
    cdef Watch bell

    cdef int enable(self) except -1
    cdef int change_thread(self) except -1
    cdef int reclaim(self) except -1
    cdef int take_driver(self, rl_driver *driver) except -1
    cdef int run_pass(self) except -1
    cdef int wait(self, int64_t timeout_ns) except -1
    cdef int run_ready(self) except -1
    cdef int end_pass(self) except -1
    cdef int handle_failed(self, rl_ready_entry *entry, object exc) except -1
    cdef int dispatch(self, rl_ready_entry *entry) except -1
    cdef int run_ready_debug(self) except -1
    cdef int settle(self) except -1
    cdef int end_driver(self) except -1
    cdef bint drain(self) except -1
    cdef int drop_queues(self) except -1
    cdef int drop_ready(self, bint callbacks_too) except -1
