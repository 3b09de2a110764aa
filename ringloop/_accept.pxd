# Accepting connections, and the loop's methods that make transports. See _accept.pyx.

from libc.stdint cimport int64_t, uint32_t

from ringloop._flight cimport Operation, rl_sqe
from ringloop._sock cimport Sockets


cdef class Accept(Operation):
    cdef object sock                   # the listening socket, the server's
    cdef int fd
    cdef int family
    cdef int kind
    cdef int ip_protocol
    cdef object protocol_factory
    cdef object server
    cdef tuple tls                     # sslcontext and the timeouts for handshake and shutdown; or None
    cdef bint ended
    cdef bint many                     # multishot: armed until it ends
    cdef object context                # the server's; each connection gets a copy

    cdef int advance(self, int64_t result, object context) except -1
    cdef int accepted(self, int fd, object context) except -1
    cdef int accepted_tls(self, int fd, object protocol, object context) except -1
    cdef int refused(self, int error) except -1
    cdef int end(self) except -1


cdef class Streams(Sockets):
    cdef dict accepts                  # id() of the listening socket, which it holds -> Accept
