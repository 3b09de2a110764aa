# Files sent by sendfile(2). See _sendfile.pyx.

from libc.stdint cimport int64_t

from ringloop._ops cimport Call, rl_resident_file
from ringloop._sock cimport ReadyWait, Sockets


cdef class FilePiece(Call):
    cdef FileSending sending
    cdef int socket_fd
    cdef int file_fd
    cdef int64_t position          # what the system call begins at, and is told by it where it ended
    cdef size_t asked_bytes
    cdef int64_t at_once(self) except? -1


cdef class FileSending:
    cdef Sockets loop
    cdef object sock
    cdef object file
    cdef bint never_waits          # the socket has O_NONBLOCK
    cdef rl_resident_file known    # of the file; all zero until the loop knows the mounts
    cdef int64_t position          # of the next byte
    cdef int64_t left_bytes        # -1: up to the end of the file
    cdef int64_t sent_bytes
    cdef bint waited               # for the socket, once at least
    cdef ReadyWait wait
    cdef FilePiece piece           # under way
    cdef object future             # of the wait under way
    cdef object error              # what ended it from outside

    cdef bint identify(self, FilePiece piece) except -1
    cdef FilePiece next_piece(self)
    cdef int count(self, FilePiece piece) except -1
    cdef object failure(self, int code)
    cdef int finish(self) except -1
