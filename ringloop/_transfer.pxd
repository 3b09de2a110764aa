# How a stream's bytes come and go, and what that needs of the transport. See _transfer.pyx.

from libc.stdint cimport int64_t, uint32_t

from ringloop._flight cimport Operation, rl_sqe
from ringloop._transport cimport Transport


cdef extern from "<sys/uio.h>" nogil:
    ctypedef struct iovec "struct iovec":
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    ctypedef struct msghdr "struct msghdr":
        iovec *msg_iov
        size_t msg_iovlen

cdef enum:
    SEND_PARTS_MAX = 64


cdef class Endpoint(Transport):
    cdef Receive receive
    cdef Send send
    cdef bint buffered                 # the protocol is a BufferedProtocol
    cdef bint eof_written
    cdef int connection_lost_count     # as asyncio's _conn_lost: connection_lost is due, and writes since

    cdef int data_received(self, object data) except -1
    cdef int eof_received(self) except -1
    cdef object protocol_buffer(self)
    cdef int buffer_updated(self, Py_ssize_t count) except -1
    cdef int queue_drained(self) except -1
    cdef int all_sent(self) except -1
    cdef int finish_if_idle(self) except -1
    cdef object write_error(self, int error)
    cdef object keep_open(self)


cdef class Receive(Operation):
    cdef Endpoint transport     # None once the transport is finished
    cdef list pending                  # chunks (bytes), the end (None) or an error, not yet delivered
    cdef uint32_t readiness            # poll events that came while the protocol did not want any
    cdef bint large                    # to be armed by readiness, not as multishot receive
    cdef bint armed_large              # what is armed now
    cdef bint ended                    # the stream's end or an error was seen: never armed again
    cdef bint nudged                   # a completion of our own is in the ready queue
    cdef int small_in_a_row
    cdef uint32_t data_pass            # the last pass in which data was delivered
    cdef int error                     # the socket's, which the receive took from the kernel; 0: none

    cdef bint has_delivered(self) noexcept
    cdef int arm(self) except -1
    cdef int nudge(self) except -1
    cdef int advance(self, int64_t result, uint32_t flags, object payload) except -1
    cdef int take(self, int64_t result, uint32_t flags, object payload) except -1
    cdef int accept_item(self, object item) except -1
    cdef int deliver_pending(self) except -1
    cdef int read_ready(self, uint32_t events) except -1
    cdef int accept_end(self, uint32_t events) except -1
    cdef int receive_into_protocol(self, int available, uint32_t events) except -1


cdef class Send(Operation):
    cdef Endpoint transport
    cdef object queue                  # deque of bytes whose sending has not completed; None until needed
    cdef Py_ssize_t head_offset        # of the first: how much of it is gone
    cdef Py_ssize_t queued_bytes
    cdef list lent                     # what the kernel reads from now
    cdef iovec *parts                  # ours, SEND_PARTS_MAX of them; NULL until needed
    cdef msghdr message
    cdef bint polled                   # in flight is a poll for room: the kernel cannot wait before it sends
    cdef bint put_off                  # it has failed, and its completion is in the ready queue once more
    cdef bint held                     # what is queued waits for the end of the pass,
    cdef object kept_open              # and the end of this socket for that; or None
    cdef uint32_t pass_number          # of the last write,
    cdef uint32_t writes_in_pass       # how many there were in it,
    cdef uint32_t habit                # and in how many passes in a row there were several

    cdef bint hold(self) except -1
    cdef int let_go(self) except -1
    cdef int send_held(self) except -1
    cdef int release_socket(self) except -1
    cdef Py_ssize_t gather(self, list chunks, iovec *parts) noexcept
    cdef int start(self) except -1
    cdef int push(self, object data, Py_ssize_t offset) except -1
    cdef int advance(self, int64_t result) except -1
    cdef bint is_told_more(self) noexcept
    cdef int go_on(self) except -1
    cdef int drop_sent(self, Py_ssize_t count) except -1
    cdef int clear(self) except -1


cdef bint in_flight(Operation operation) noexcept
