# Flow control towards a protocol that writes. See _flow.pyx.

from ringloop._sock cimport Sockets


cdef class FlowControl:
    cdef Sockets loop
    cdef object protocol
    cdef bint protocol_paused
    cdef object high_water_bytes       # as they were given
    cdef object low_water_bytes

    cdef Py_ssize_t count_queued(self) except -1
    cdef int begin_flow(self) except -1
    cdef int set_marks(self, object high, object low) except -1
    cdef int pause_protocol_if_full(self) except -1
    cdef int resume_protocol_if_drained(self) except -1
    cdef int resume_protocol(self) except -1
    cdef int tell_protocol(self, object method, str message) except -1
    cdef int report(self, object exc, str message) except -1
