# Calls: one system call each, as an awaitable. See _ops.pyx.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ringloop._flight cimport Flight, Operation, rl_sqe, rl_work


cdef extern from "execute.h" nogil:
    ctypedef struct rl_call_work "struct rl_call_work":
        rl_work work
        long number
        uint64_t arguments[6]
    ctypedef struct rl_sqe_work "struct rl_sqe_work":
        rl_work work
        rl_sqe sqe
    int64_t rl_execute_call(rl_work *work)
    int64_t rl_execute_sqe_work(rl_work *work)
    bint rl_execute_interruptible(uint8_t opcode)

cdef extern from "priority.h" nogil:
    int64_t rl_execute_with_priority(rl_work *work)

cdef extern from "resident.h" nogil:
    enum: RL_RESIDENT_BYTES_MAX, RL_WOULD_BLOCK
    ctypedef struct rl_statx_time "struct rl_statx_time":
        int64_t seconds
        uint32_t nanoseconds
    ctypedef struct rl_statx "struct rl_statx":
        uint32_t mask
        uint32_t block_bytes
        uint32_t link_count
        uint32_t uid
        uint32_t gid
        uint16_t mode
        uint64_t inode
        uint64_t size
        uint64_t blocks
        rl_statx_time accessed
        rl_statx_time born
        rl_statx_time changed
        rl_statx_time modified
        uint32_t rdev_major
        uint32_t rdev_minor
        uint32_t dev_major
        uint32_t dev_minor
    ctypedef struct rl_resident_file "struct rl_resident_file":
        uint32_t kind
        bint reads
        bint lacks_nowait
        bint writes
        bint waits_for_writer
        int fifo_fd
        uint64_t size
    ctypedef struct rl_resident "struct rl_resident"
    rl_resident *rl_resident_learn()
    void rl_resident_free(rl_resident *resident)
    bint rl_resident_is_current(rl_resident *resident)
    int rl_resident_open(rl_resident *resident, int dirfd, const char *path, int flags,
                         rl_resident_file *file, rl_statx *status)
    int rl_resident_open_unseen(rl_resident *resident, int dirfd, const char *path, int flags,
                                rl_resident_file *file, rl_statx *status)
    int rl_resident_show(int fd, rl_resident_file *file)
    int rl_resident_stat(rl_resident *resident, int dirfd, const char *path, int at_flags, rl_statx *status)
    int rl_resident_identify(rl_resident *resident, int fd, bint may_wait, rl_resident_file *file,
                             rl_statx *status)
    int64_t rl_resident_pread(int fd, rl_resident_file *file, void *buffer, size_t length, int64_t offset)
    int64_t rl_resident_read_rest(int fd, rl_resident_file *file, void *buffer, int64_t offset)
    int64_t rl_resident_pread_fd(
        rl_resident *resident, int fd, void *buffer, size_t length, int64_t offset)
    int64_t rl_resident_pwrite(
        int fd, rl_resident_file *file, const void *buffer, size_t length, int64_t offset)
    int64_t rl_resident_sendfile(
        int socket_fd, int fd, rl_resident_file *file, size_t length, int64_t offset)
    int rl_resident_close(int fd, rl_resident_file *file, bint was_just_opened)
    int rl_resident_close_fd(rl_resident *resident, int fd)
    int rl_resident_look(rl_resident *resident, int fd, uint32_t *kind, rl_statx *status)
    void rl_resident_forget(rl_resident_file *file)
    uint64_t *rl_resident_refusals(rl_resident *resident)
    uint64_t rl_resident_fd_class(int fd)


cdef union Request:
    rl_work work
    rl_sqe_work entry
    rl_call_work call

cdef enum CallStage:
    CALL_NEW          # nothing has happened
    CALL_YIELDED      # lets others run first
    CALL_WAITING      # for its completion
    CALL_OVER         # the coroutine has the result, or will never have it


cdef class Call(Operation):
    cdef str name
    cdef Request request
    cdef bint by_number            # request.call is it, else request.entry
    cdef bint needs_worker         # though the driver has the opcode
    cdef CallStage stage
    cdef int64_t outcome           # result or -errno, once complete
    cdef object path               # as the caller gave it, for errors
    cdef object path2
    cdef object kept               # what the request points into
    cdef object future             # what the task waits for; None: nobody waits
    cdef object waiting            # its iterator
    cdef object cancel_message
    cdef bint cancel_asked
    cdef Py_buffer view            # the caller's memory, locked while the kernel may touch it
    cdef bint lent                 # view is held
    cdef int fifo_fd               # what was opened unawares: see wait_for_writer(); -1: none
    cdef bint only_once            # a signal may interrupt it after it did what it does
    cdef bint executed             # by a thread, under another loop
    cdef bint completed            # the loop told of the last completion
    cdef bint collected            # the outcome was handed over, or given back

    cdef int for_entry(self, str name, uint8_t opcode, int fd) except -1
    cdef int for_number(self, str name, long number) except -1
    cdef rl_resident *resident(self)
    cdef int64_t at_once(self) except? -1
    cdef object value(self)
    cdef void give_back(self) noexcept
    cdef object step(self)
    cdef object step_of_generator(self)
    cdef object begin(self)
    cdef object finish(self)
    cdef object wait(self)
    cdef int make_future(self) except -1
    cdef object wait_in_a_thread(self, object loop)
    cdef int take_priority(self) except -1
    cdef int choose_executor(self) noexcept
    cdef int start(self, Flight loop) except -1
    cdef int make_ready(self, Flight loop) except -1
    cdef bint is_for_worker(self) noexcept
    cdef int abandon(self) except -1
    cdef int unlock(self) except -1
    cdef void wait_for_writer(self, int fifo_fd) noexcept
    cdef void hand_over_fifo(self) noexcept
    cdef object error(self)


cdef rl_resident *resident_of(Flight loop) except? NULL
cdef int tell_of_threads(object loop) except -1
