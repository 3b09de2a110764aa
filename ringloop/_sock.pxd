# Readiness and the caller's own sockets: what the rooms above may use of it. See _sock.pyx.

from libc.stdint cimport int64_t, uint32_t

from ringloop._core cimport LoopCore, Watch
from ringloop._flight cimport Operation, rl_sqe


cdef class ReadyWait(Operation):
    cdef object sock               # None once it is let go of
    cdef bint counts               # among the socket's users
    cdef int fd
    cdef int held_fd               # a copy that keeps the file open where the driver does not; or -1
    cdef uint32_t events
    cdef object future

    cdef object begin(self, int fd)
    cdef int end(self) except -1
    cdef int let_go(self) except -1


cdef class Sockets(LoopCore):
    cdef dict readers              # fd -> Watch
    cdef dict writers
    cdef set waits                 # the ReadyWaits of calls under way
    cdef void **owners             # by fd: the transport that owns it, borrowed; NULL: none
    cdef int owners_size

    cdef int claim_fd(self, int fd, object transport) except -1
    cdef void release_fd(self, int fd, object transport) noexcept
    cdef object transport_of(self, int fd)
    cdef int refuse_owned(self, object file, int fd) except -1
    cdef int watched_fd(self, object file) except -1
    cdef Watch watch(self, dict watches, object file, uint32_t events, object callback, tuple args)
    cdef bint unwatch(self, dict watches, int fd) except -1
    cdef int abandon_waits(self) except -1
    cdef int checked_socket(self, object sock) except? -1


cdef int fd_of(object file) except -1
cdef int fd_now(object sock, int fd) noexcept
cdef int check_pollable(int fd) except -1
cdef object try_recv(int fd, Py_ssize_t size)
cdef int get_writable(object target, Py_buffer *view) except -1
cdef Py_ssize_t try_recv_into(int fd, object target) except -2
