# Batches: many operations at once, bounded. See _batch.pyx.

from ringloop._request cimport Request


cdef class Batch:
    cdef object loop               # None until it runs
    cdef object source             # iterator over what is still to begin
    cdef object added              # deque of (op, args, kwargs, cookie) that begin after those
    cdef object held               # a request that waits for the loop's next pass
    cdef object ready              # deque of requests that are over, and of (index, cookie, exception)
    cdef object failure            # of the source, for the next who asks for a result; or None
    cdef set in_flight
    cdef list waiters              # futures of those who wait for a result
    cdef Py_ssize_t limit
    cdef Py_ssize_t taken          # from both
    cdef bint has_cookies
    cdef bint cancelled
    cdef object __weakref__

    cdef object next_request(self)
    cdef object refused(self, Py_ssize_t index, object cookie, object exc)
    cdef int pump(self) except -1
    cdef int go_on_pumping(self) except -1
    cdef int wake(self) except -1
    cdef tuple outcome(self, object item)
    cdef object result_of_error(self, Request request)
    cdef int give_back(self) except -1
