# A binary file with a buffer. See _buffered.pyx.

from libc.stdint cimport int64_t

from ringloop._files cimport FileCall
from ringloop._descriptor cimport Layer
from ringloop._raw cimport RawFile
from ringloop._write_behind cimport WriteBehind


cdef class BufferedFile(Layer):
    cdef RawFile raw_file          # None: detached
    cdef Py_ssize_t size           # of the buffer, at most
    cdef Py_ssize_t stride         # how much was read ahead the last time since a seek
    cdef bytes ahead               # read: what is between `ahead_begin` and `ahead_end` is next,
    cdef Py_ssize_t ahead_begin    # and the raw file's position is behind it
    cdef Py_ssize_t ahead_end
    cdef Py_ssize_t behind_size        # of the buffer for writing, at most
    cdef Py_ssize_t behind_size_max    # and what that may grow to
    cdef bytes behind              # written: what is between `behind_begin` and `behind_end` is to be
    cdef Py_ssize_t behind_begin   # written at the raw file's position
    cdef Py_ssize_t behind_end
    cdef WriteBehind queue         # what goes before it, and is perhaps being written; None: no write-behind

    cdef bint is_dirty(self) noexcept
    cdef int close_forgotten(self) except -1
    cdef int check_open(self, str doing) except -1
    cdef int check_reads(self, str method, str doing) except -1
    cdef int check_writes(self, str doing) except -1
    cdef Py_ssize_t room_for_reading(self) noexcept
    cdef int fill_now(self) except -1
    cdef bytes take(self, Py_ssize_t length)
    cdef const char *first_ahead(self) noexcept
    cdef object take_with(self, object data)
    cdef void forget_ahead(self) noexcept
    cdef bytes rest_ahead(self)
    cdef bytes take_line(self, Py_ssize_t limit)
    cdef object read_size_now(self, Py_ssize_t length)
    cdef object read1_now(self, Py_ssize_t length)
    cdef object read_to_now(self, str method, object target, bint is_once)
    cdef object line_now(self, Py_ssize_t limit)
    cdef object write_now(self, object data)
    cdef object keep_written(self, const char *data, Py_ssize_t length)
    cdef object queue_now(self, object data)
    cdef object queue_view(self, object data, const char *begin, Py_ssize_t length)
    cdef int hand_over(self) except -1
    cdef object seldom_at_once(self, FileCall call)
    cdef object seek_now(self, object offset, object whence)
    cdef object tell_now(self)
    cdef object close_now(self, FileCall call)
    cdef int rewind(self) except -1
    cdef int put_back(self, list pieces) except -1


cdef BufferedFile buffered_file(RawFile raw, Py_ssize_t size, Py_ssize_t size_max, Py_ssize_t behind_max)
