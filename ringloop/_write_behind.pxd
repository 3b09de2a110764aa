# What is written while the writer goes on. See _write_behind.pyx.

from libc.stdint cimport uint16_t

from ringloop._descriptor cimport Descriptor, FileSystemCall


cdef extern from "<sys/uio.h>" nogil:
    ctypedef struct iovec "struct iovec":
        void *iov_base
        size_t iov_len

cdef enum:
    PARTS_MAX = 64                 # of one system call


cdef class WriteBehind(FileSystemCall):
    cdef Py_ssize_t limit          # so many bytes wait at most, or one piece
    cdef Py_ssize_t waiting        # bytes that are accepted and not written
    cdef object pieces             # deque of bytes, in order; of the first the kernel has
    cdef Py_ssize_t first_done     # so many bytes
    cdef uint16_t priority         # that of the context in which it began
    cdef bint continues            # begins again by itself
    cdef object owner              # the file object, which must live while this is in flight
    cdef object failure            # what stopped it, until somebody is told
    cdef object progress           # future of the one who waits; None: nobody
    cdef iovec parts[PARTS_MAX]    # what is in flight: memory of the first pieces

    cdef bint has_room(self, Py_ssize_t length) noexcept
    cdef int append(self, bytes piece) except -1
    cdef int go(self, object owner) except -1
    cdef int fill(self) except -1
    cdef int settle_untold(self) except -1
    cdef int tell_failure(self) except -1
    cdef int drop(self) except -1


cdef WriteBehind write_behind(Descriptor raw, Py_ssize_t limit)
