# The functions of `os` on paths, and how their arguments are read. See _os.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from ringloop._ops cimport Call, rl_statx


cdef extern from "<fcntl.h>" nogil:
    enum: AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH

cdef extern from "Python.h":
    int audit "PySys_Audit"(const char *event, const char *format, ...) except -1


cdef class StatCall(Call):
    cdef rl_statx status

    cdef int look_at(self, str name, int fd, bytes path, int flags) except -1


# By number, and what it changes is not left half known by a signal.
cdef class ChangeCall(Call):
    pass


cdef uint64_t address_of(bytes text) noexcept
cdef int int_argument(object value) except? -1
cdef int64_t int64_argument(object value) except? -1
cdef int fd_of_path(object value) except? -1
cdef int directory_argument(object dir_fd) except? -1
cdef bint is_fd(object path) noexcept
cdef object plain_path(str function, str argument, object path, str kinds)
cdef bytes encoded_path(str function, str argument, object path)
cdef object like(object path, const char *text, Py_ssize_t length)
cdef object stat_result(rl_statx *status)
