# Datagram transports: what the rooms above may use of them. See _datagram.pyx.

from libc.stdint cimport uint16_t, uint32_t

from ringloop._flight cimport Operation, rl_sqe
from ringloop._transport cimport Transport


cdef extern from "<sys/uio.h>" nogil:
    ctypedef struct iovec "struct iovec":
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    ctypedef struct msghdr "struct msghdr":
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
    ctypedef struct mmsghdr "struct mmsghdr":
        msghdr msg_hdr
        unsigned int msg_len
    ctypedef struct sockaddr_storage "struct sockaddr_storage":
        unsigned short ss_family

cdef extern from "<netinet/in.h>" nogil:
    ctypedef struct in_addr "struct in_addr":
        uint32_t s_addr
    ctypedef struct in6_addr "struct in6_addr":
        uint32_t s6_addr32[4]
    ctypedef struct sockaddr_in "struct sockaddr_in":
        unsigned short sin_family
        uint16_t sin_port
        in_addr sin_addr
    ctypedef struct sockaddr_in6 "struct sockaddr_in6":
        unsigned short sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id

cdef enum:
    BATCH_MAX = 16                     # datagrams of one system call, and of one pass
    KNOWN_COUNT = 256                  # a power of two

cdef enum Outcome:
    SENT
    NO_ROOM
    FAILED                             # the protocol was told, or the transport ended


cdef class Inbox:
    cdef char *memory                  # ours, untouched pages but for what comes
    cdef mmsghdr messages[BATCH_MAX]
    cdef iovec parts[BATCH_MAX]
    cdef sockaddr_storage senders[BATCH_MAX]
    cdef sockaddr_in6 known[KNOWN_COUNT]   # or a sockaddr_in each; of family 0: none
    cdef list known_objects            # what Python code gets for each

    cdef int receive(self, DatagramTransport transport) except -2
    cdef object address_object(self, sockaddr_storage *address, unsigned int length)


cdef class ReceiveReadiness(Operation):
    cdef DatagramTransport transport   # None once the transport is finished
    cdef list pending                  # (bytes, address) or an OSError, received and not yet delivered
    cdef bint ready                    # an edge was told, and not everything received since
    cdef bint nudged                   # a completion of our own is in the ready queue
    cdef bint ended                    # the socket was closed by somebody else: nothing comes any more

    cdef int arm(self) except -1
    cdef int nudge(self) except -1
    cdef int receive(self) except -1
    cdef int receive_slowly(self) except -1
    cdef int end(self) except -1
    cdef int deliver(self) except -1


cdef class SendWhenRoom(Operation):
    cdef DatagramTransport transport
    cdef int fd                        # whose readiness is waited for
    cdef object probe                  # a socket of our own to ask; or None

    cdef int start(self) except -1
    cdef int connect_probe(self, object address) except -1
    cdef int close_probe(self) except -1


cdef class DatagramTransport(Transport):
    cdef object sock
    cdef int family
    cdef object address                # to which everything goes, as create_datagram_endpoint got it; or None
    cdef bint connected                # as asyncio sees it: the peer has a name
    cdef bint paired                   # there is a peer, but it has no name
    cdef Inbox inbox
    cdef ReceiveReadiness receive
    cdef SendWhenRoom send
    cdef object queue                  # deque of (bytes, address) that had no room
    cdef Py_ssize_t queued_bytes
    cdef Py_ssize_t header_bytes       # what a datagram in the queue counts beside its bytes
    cdef bint sends_empty
    cdef int connection_lost_count     # as asyncio's _conn_lost: connection_lost is due, and sends since
    cdef dict __dict__
    cdef object __weakref__

    cdef int begin(self, object waiter) except -1
    cdef Outcome try_send(self, object data, object address) except *
    cdef bint has_peer(self, object address) noexcept
    cdef int send_natively(self, object data, object address) except -1
    cdef int drop_first(self) except -1
    cdef int flush(self) except -1
    cdef int go_on_sending(self) except -1
    cdef int finish_if_idle(self) except -1
    cdef int count_lost_send(self) except -1
    cdef int callback_failed(self, object exc, str callback) except -1
