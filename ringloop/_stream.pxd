# Stream transports: what the rooms above may use of them. See _stream.pyx.

from ringloop._sock cimport Sockets
from ringloop._transfer cimport Endpoint


cdef extern from "<netinet/in.h>" nogil:
    ctypedef struct in6_addr "struct in6_addr":
        pass
    ctypedef struct sockaddr_in6 "struct sockaddr_in6":
        unsigned short sin6_family
        unsigned short sin6_port
        unsigned int sin6_flowinfo
        in6_addr sin6_addr
        unsigned int sin6_scope_id


# A protocol that takes received bytes by a call in C instead of buffer_updated; its errors are reported so.
cdef class Receiver:
    cdef int take(self, object data) except -1


cdef class StreamTransport(Endpoint):
    cdef object sock                   # then the owner of fd; None until somebody asks for one
    cdef int family
    cdef int kind
    cdef int ip_protocol
    cdef sockaddr_in6 own_address      # or a sockaddr_in; of family 0 where there is none
    cdef sockaddr_in6 peer_address
    cdef Receiver receiver             # the same, if it is one
    cdef object server
    cdef object empty_waiter           # while a sendfile is under way: done when the queue is empty
    cdef object file_sending           # what then sends; see _sendfile.pyx
    cdef dict __dict__
    cdef object __weakref__

    cdef int begin(self, object waiter) except -1
    cdef int end_sendfile(self, object exc) except -1
    cdef int read_addresses(self) except -1
    cdef int feed_buffered(self, object data) except -1
    cdef object socket_object(self)
    cdef bint is_plain_writer(self) noexcept
    cdef int write_bytes(self, object data) except -1
    cdef int count_lost_write(self) except -1
    cdef int shut_down(self) except -1


cdef StreamTransport accepted_transport(
    Sockets loop, int fd, int family, int kind, int ip_protocol, object protocol, object server,
    object context)
cdef StreamTransport socket_transport(
    Sockets loop, object sock, object protocol, object waiter, object extra, object server, object context)
