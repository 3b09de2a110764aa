# The file at the bottom of every file object. See _raw.pyx.

from libc.stdint cimport int64_t

from ringloop._descriptor cimport Descriptor
from ringloop._files cimport FileCall


cdef class RawFile(Descriptor):
    cdef object read_rest_now(self, const char *head, Py_ssize_t head_bytes)
    cdef object read_all_now(self, const char *head, Py_ssize_t head_bytes)
    cdef object joined(self, bytes data, const char *head, Py_ssize_t head_bytes, int64_t count)
    cdef object read_to_now(self, object target)
    cdef object pread_now(self, object length, object offset)
    cdef object seek_now(self, object offset, object whence)
    cdef object close_now(self, FileCall call)
    cdef object read_size_now(self, Py_ssize_t length)
