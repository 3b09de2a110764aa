# Batches: many operations at once, bounded. See _batch.pyx.

from libc.stdint cimport uint64_t

from ringloop._core cimport LoopCore
from ringloop._request cimport Request


cdef class Item(Request):
    # One operation of a batch.
    cdef object cookie
    cdef Py_ssize_t index          # in the order given
    cdef object refusal            # why it could not begin; None: it could

    cdef object achieved(self)
    cdef object result_of_error(self)


cdef class Batch:
    cdef object loop               # None until it runs
    cdef object source             # iterator over what is still to begin
    cdef object added              # deque of (op, args, kwargs, cookie) that begin after those
    cdef Item held                 # waits for the loop's next pass; or None
    cdef list ready                # those that are over and not yet given, behind
    cdef Py_ssize_t given          # places of those that were, empty
    cdef object failure            # of the source, for the next who asks for a result; or None
    cdef set in_flight
    cdef list waiters              # futures of those who wait for a result
    cdef Py_ssize_t limit
    cdef Py_ssize_t taken          # from both
    cdef bint has_cookies
    cdef uint64_t tried_fds        # classes of fds of which a read was tried at once
    cdef bint cancelled
    cdef object __weakref__

    cdef Item next_item(self)
    cdef int pump(self) except -1
    cdef int launch(self, LoopCore loop, Item item) except -1
    cdef bint reads_with_others(self, LoopCore loop, Item item) except -1
    cdef int go_on_pumping(self) except -1
    cdef int wake(self) except -1
    cdef Py_ssize_t ready_count(self) noexcept
    cdef Item next_ready(self)
    cdef int give_back(self) except -1
