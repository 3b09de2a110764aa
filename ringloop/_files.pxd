# What all file objects stand on: their calls, and the order of these. See _files.pyx.

from libc.stdint cimport int64_t, uint32_t


cdef enum FileCallKind:
    FILE_READ, FILE_READ1, FILE_READALL, FILE_READINTO, FILE_READINTO1, FILE_READLINE, FILE_READLINES
    FILE_NEXT, FILE_WRITE, FILE_WRITELINES, FILE_SEEK, FILE_TELL, FILE_TRUNCATE, FILE_FLUSH, FILE_PEEK
    FILE_CLOSE, FILE_PREAD, FILE_PWRITE, FILE_FSYNC, FILE_FDATASYNC, FILE_LOCK, FILE_UNLOCK, FILE_DETACH
    FILE_ENTER, FILE_EXIT

cdef enum:
    # Of what is in memory: so many bytes are gone through before others run, and an item is as much work as
    WORK_AT_ONCE = 262144
    ITEM_WORK = 64

cdef enum Step:
    STEP_RETURNS = 0               # as PySendResult has them
    STEP_YIELDS = 1


cdef class File


cdef class Attempt:
    cdef object result             # what the step yields or returns
    cdef object inner              # the coroutine that goes on where not all could be done at once
    cdef bint started
    cdef bint over
    cdef bint yielded              # waited for its turn
    cdef bint is_foreign           # the running loop is not ringloop's
    cdef bint takes_no_turn
    cdef bint was_tried            # in this step of the task: it cannot be done at once
    cdef uint32_t pass_number      # of the loop, if it is ringloop's
    # Of FileCall, which must be no larger to be taken from the list of free ones.
    cdef File file
    cdef FileCallKind kind
    cdef object one
    cdef object two

    cdef object at_once(self, object loop)
    cdef object go_on(self)
    cdef str call_name(self)
    cdef int step(self, object value) except -1


cdef class FileCall(Attempt):
    pass


cdef class Order:
    cdef bint busy                 # a call has its turn
    cdef FileCall holder           # this one,
    cdef object loop               # on this loop
    cdef object line               # deque of those that wait for it, with their futures; None until one did
    cdef object threads            # list of system calls that threads of other loops than ours have
    cdef size_t in_flight          # system calls that are not over, also those that nobody waits for
    cdef bint behind               # one of them writes what was accepted before
    cdef object quiet              # future of those who wait until none is
    cdef uint32_t turns

    cdef int release(self) except -1
    cdef int hold(self, FileCall call, object loop) except -1
    cdef int take_over(self, object loop) except -1
    cdef int ended(self) except -1
    cdef bint foreign_turn(self) noexcept
    cdef bint is_quiet(self, FileCall call) noexcept


cdef class File:
    cdef bint writes_behind        # a write need not wait for the end of those before
    cdef object at_once(self, FileCall call)
    cdef object slowly(self, FileCall call)
    cdef Order order(self)
    cdef bint is_regular(self) except -1
    cdef void flushed(self, Py_ssize_t count) noexcept
    cdef object line_now(self, Py_ssize_t limit)
    cdef int put_back_lines(self, list lines) except -1
    cdef int at_end(self) except -1
    cdef FileCall call(self, FileCallKind kind, object one=?, object two=?)


cdef int tell(object future) except -1
cdef int take_short_ways(object kind) except -1
cdef Py_ssize_t size_of(object value) except? -2
cdef object unsupported(str what)
cdef int check_bytes(object data) except -1
cdef int lock_writable(str method, object target, Py_buffer *view) except -1
