# What every transport is. See _transport.pyx.

from ringloop._sock cimport Sockets


cdef class Transport:
    cdef Sockets loop
    cdef int fd                        # the file's; a socket's is -1 once closed
    cdef object protocol               # None after connection_lost
    cdef object context                # that all of the protocol's callbacks run in, as since 3.15
    cdef dict extra                    # what get_extra_info tells; None: nothing yet
    cdef bint closing                  # nothing is delivered any more
    cdef bint paused                   # nothing is delivered for now
    cdef bint lost_called              # connection_lost was, or is being called
    cdef bint protocol_paused
    cdef object high_water_bytes       # as they were given
    cdef object low_water_bytes

    cdef int introduce(self, object start_reading, object waiter) except -1
    cdef bint is_closed(self) noexcept
    cdef int close_fd(self) except -1
    cdef int open_fd(self) noexcept
    cdef list activity(self)
    cdef int stop_receiving(self) except -1
    cdef int go_on_receiving(self) except -1
    cdef int lose_soon(self, object exc) except -1
    cdef int call_connection_lost(self, object exc) except -1
    cdef int force_close(self, object exc) except -1
    cdef int fatal_error(self, object exc, str message) except -1
    cdef int report(self, object exc, str message) except -1

    cdef Py_ssize_t count_queued(self) except -1
    cdef int set_marks(self, object high, object low) except -1
    cdef int pause_protocol_if_full(self) except -1
    cdef int resume_protocol_if_drained(self) except -1
    cdef int resume_protocol(self) except -1
    cdef int tell_protocol(self, str name) except -1


cdef Py_ssize_t drop_front(object queue, Py_ssize_t count) except -1
