# An open file, and the system calls on it. See _descriptor.pyx.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from ringloop._files cimport File, Order
from ringloop._ops cimport Call, rl_resident_file


cdef enum:
    PIECE_BYTES = 1 << 20          # no system call is asked for more
    STREAM_BYTES = 65536           # asked for where nobody knows how much there is


cdef class Descriptor


cdef class Layer(File):
    cdef bint covered              # another is upon it, whose end is also the end of this
    cdef Descriptor lowest(self)


cdef class Descriptor(Layer):
    cdef readonly object name
    cdef readonly bint closefd
    cdef int fd                    # -1: closed
    cdef bint reads
    cdef bint writes
    cdef bint appends
    cdef bint adds                 # what is written goes there, wherever the position is
    cdef bint creates
    cdef bint regular              # its position is ours; of other files the kernel keeps it
    cdef bint seeks
    cdef bint exposed              # others know the fd: the kernel's position follows ours
    cdef bint opened_now           # what `known` tells was seen when it was opened, in the loop's pass
    cdef uint32_t opened_pass      # of this number
    cdef bint identified           # `known` is as good as it gets
    cdef bint warned               # of not having been closed
    cdef uint16_t priority         # of its I/O; 0: the context's
    cdef int64_t position
    cdef int64_t absent_at         # where a read found something that is not in memory; -1: nowhere
    cdef uint32_t block_bytes
    cdef rl_resident_file known
    cdef bint locked               # by flock()
    cdef list locked_ranges        # and of it, by fcntl(): (start, end, kind), apart from each other
    cdef bytes leftover            # came in for a read that was cancelled
    cdef Order turns

    cdef int show(self) except -1
    cdef int check_open(self) except -1
    cdef int check_reads(self) except -1
    cdef int check_writes(self) except -1
    cdef int64_t read_now(self, char *target, size_t length, int64_t offset) noexcept
    cdef int64_t read_fully_now(self, char *target, size_t length, int64_t offset) except? -1
    cdef bint is_absent(self, int64_t offset) noexcept
    cdef int64_t size_now(self) noexcept
    cdef int locate(self) noexcept
    cdef int move_to(self, int64_t position) noexcept
    cdef int wrote(self, int64_t count) noexcept
    cdef int put_back(self, list pieces) except -1
    cdef int note_range(self, int kind, object start, object length) except -1
    cdef object read_call(self, bytes target, Py_ssize_t start, Py_ssize_t length, int64_t offset)
    cdef object write_call(self, object data, Py_ssize_t start, Py_ssize_t length, int64_t offset, File told)
    cdef object raw_call(self, str name, long number, uint64_t one=?, uint64_t two=?)
    cdef int warn_unclosed(self, object outermost) except -1
    cdef int close_plainly(self) noexcept


cdef class FileSystemCall(Call):
    cdef Descriptor file
    cdef object thread_loop        # whose thread has it; None: none
    cdef object heir               # the loop that is told if that one is closed
    cdef bint dropped              # no thread will have it: its executor was shut down

    cdef int start_in_a_thread(self, object loop) except -1
    cdef int never_executed(self) except -1
    cdef int tell_heir(self) except -1
    cdef bint leave_thread(self) except -1
    cdef int ended(self) except -1
    cdef int settle(self) noexcept


cdef class CloseCall(FileSystemCall):
    cdef bint owns_fd              # and has not closed it


cdef class LockCall(FileSystemCall):
    cdef bint by_flock(self) noexcept


cdef bytes lock_range(int kind, int64_t start, int64_t length)
cdef object numbered_call(
    FileSystemCall call, Descriptor file, str name, long number, uint64_t one, uint64_t two)
