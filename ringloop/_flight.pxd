# Operations in flight, and the C interfaces of who executes them. See _flight.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ringloop._callbacks cimport Callbacks


cdef extern from "ensure.h" nogil:
    void ENSURE(bint condition)

ctypedef void (*release_function)(void *argument) noexcept nogil

cdef extern from "driver.h" nogil:
    enum:
        RL_OP_POLL_ADD, RL_OP_ASYNC_CANCEL, RL_OP_ACCEPT, RL_OP_RECV, RL_OP_SEND, RL_OP_SENDMSG
        RL_OP_RECVMSG, RL_OP_MSG_RING
        RL_OP_OPENAT, RL_OP_CLOSE, RL_OP_STATX, RL_OP_READ, RL_OP_WRITE, RL_OP_READV, RL_OP_WRITEV
        RL_OP_FSYNC, RL_OP_FTRUNCATE, RL_OP_FALLOCATE, RL_OP_FADVISE, RL_OP_SPLICE
        RL_OP_RENAMEAT, RL_OP_UNLINKAT, RL_OP_MKDIRAT, RL_OP_SYMLINKAT, RL_OP_LINKAT
        RL_OP_GETXATTR, RL_OP_FGETXATTR, RL_OP_SETXATTR, RL_OP_FSETXATTR
        RL_FSYNC_DATASYNC
        RL_SQE_ASYNC, RL_SQE_BUFFER_SELECT, RL_SQE_FIXED_FILE, RL_SQE_IO_LINK
        RL_RECV_MULTISHOT, RL_RECV_POLL_FIRST, RL_ACCEPT_MULTISHOT, RL_POLL_MULTISHOT
        RL_CANCEL_ALL, RL_CANCEL_ANY
        RL_CQE_BUFFER, RL_CQE_MORE, RL_CQE_SOCK_NONEMPTY, RL_CQE_BUFFER_SHIFT
        RL_CAN_RECV_MULTISHOT, RL_CAN_ACCEPT_MULTISHOT, RL_CAN_POLL_MULTISHOT, RL_CAN_CANCEL_ANY
        RL_CAN_POLL_FIRST, RL_CAN_HOLD_FILES, RL_CAN_READ_CACHED, RL_CAN_USE_SLOTS
        RL_SLOT_FIRST, RL_SLOT_COUNT
        RL_WAIT_FOREVER
    ctypedef struct rl_sqe "struct rl_sqe":
        uint8_t opcode
        uint8_t flags
        uint16_t ioprio
        int32_t fd
        uint64_t offset
        uint64_t address
        uint32_t length
        uint32_t op_flags
        uint64_t user_data
        uint16_t buffer_group
        uint32_t file_index
        uint64_t address3
    ctypedef struct rl_cqe "struct rl_cqe":
        uint64_t user_data
        int32_t result
        uint32_t flags
    ctypedef struct rl_driver_counters "struct rl_driver_counters":
        uint64_t enters
        uint64_t waits
        uint64_t submitted
        uint64_t completed
        uint64_t sq_full
        uint64_t cq_overflows
    ctypedef struct rl_buffer "struct rl_buffer"
    ctypedef struct rl_driver
    ctypedef struct rl_driver_calls "struct rl_driver_calls":
        const char *name
        int (*enable)(rl_driver *driver) noexcept nogil
        int (*enter)(rl_driver *driver, uint32_t wait_count, int64_t timeout_ns) noexcept nogil
        int (*adopt)(rl_driver *driver) noexcept nogil
        void (*destroy)(rl_driver *driver) noexcept nogil
        void (*abandon)(rl_driver *driver, release_function release, void *argument) noexcept nogil
        void (*forked)(rl_driver *driver) noexcept nogil
        int (*has_opcode)(rl_driver *driver, uint8_t opcode) noexcept nogil
        int (*register_buffers)(
            rl_driver *driver, uint16_t group, rl_buffer *ring, uint32_t entry_count) noexcept nogil
        int (*unregister_buffers)(rl_driver *driver, uint16_t group) noexcept nogil
    ctypedef struct rl_driver:
        const rl_driver_calls *calls
        uint32_t capabilities
        uint32_t setup_flags
        uint32_t features
        uint32_t sq_entries
        uint32_t cq_entries
        bint links_cut
        rl_driver_counters counters
    rl_sqe *rl_driver_sqe(rl_driver *driver)
    uint32_t rl_driver_room(const rl_driver *driver)
    rl_sqe *rl_driver_untaken(const rl_driver *driver, uint32_t place)
    bint rl_driver_wants_enter(const rl_driver *driver)
    bint rl_driver_wants_look(const rl_driver *driver)
    const rl_cqe *rl_driver_completion(const rl_driver *driver)
    void rl_driver_consumed(rl_driver *driver)
    int rl_driver_sweep(int timeout_ms)
    void rl_driver_sweep_forked()
    ctypedef struct rl_buffers "struct rl_buffers":
        rl_buffer *ring
        uint32_t buffer_bytes
        uint32_t buffer_count
        uint16_t group
    int rl_buffers_allocate(rl_buffers *buffers, uint16_t group, uint32_t buffer_count, uint32_t buffer_bytes)
    void rl_buffers_free(rl_buffers *buffers)
    uint8_t *rl_buffers_address(const rl_buffers *buffers, uint16_t buffer_id)
    void rl_buffers_recycle(rl_buffers *buffers, uint16_t buffer_id)


cdef extern from "workers.h" nogil:
    ctypedef struct rl_work:
        int64_t (*execute)(rl_work *work) noexcept nogil
        void *owner
        bint interruptible
        uint16_t priority
        int64_t result
        rl_work *next
    ctypedef struct rl_workers
    ctypedef struct rl_workers_counters "struct rl_workers_counters":
        uint32_t threads
        uint32_t threads_idle
        uint32_t queued
        uint32_t running
        uint64_t completed
    rl_workers_counters rl_workers_count(rl_workers *pool)
    rl_workers *rl_workers_create(int bell_fd, uint32_t thread_count_max, int64_t idle_ns)
    void rl_workers_submit(rl_workers *pool, rl_work *work)
    void rl_workers_publish(rl_workers *pool)
    int rl_workers_cancel(rl_workers *pool, rl_work *work)
    rl_work *rl_workers_collect(rl_workers *pool)
    bint rl_workers_prepare_sleep(rl_workers *pool)
    void rl_workers_awake(rl_workers *pool)
    rl_work *rl_workers_destroy(rl_workers *pool)
    void rl_workers_forked(rl_workers *pool)


cdef enum OperationState:
    OPERATION_NEW          # was never submitted
    OPERATION_QUEUED       # waits for its turn: what ends by itself is bounded in flight
    OPERATION_SUBMITTED    # the driver has it, or its SQE is queued
    OPERATION_CANCELLING   # a cancel is queued behind it; completions may still come
    OPERATION_DONE         # the last completion was collected; may be submitted again


cdef class Flight(Callbacks)


cdef class Operation:
    # While SUBMITTED or CANCELLING the loop holds one reference and the operation is in its list.
    cdef Flight loop
    cdef void *before
    cdef void *behind
    cdef OperationState state
    cdef rl_work *work     # inside the operation: what a worker executes; NULL: the driver has it
    cdef bint bounded      # ends by itself, and so waits for its turn when many are in flight
    cdef bint settles      # lends memory or makes progress that only its CQE tells: never outlives a run
    cdef Operation linked  # submitted with it, and begins when it has gone well; None: nothing does
    cdef bint is_link      # one of several that were submitted as one
    cdef bint was_cut      # from its links: it will not begin

    cdef void prepare(self, rl_sqe *sqe) noexcept
    cdef PyObject *collect(self, int64_t result, uint32_t flags) noexcept
    cdef int complete(self, int64_t result, uint32_t flags, object payload) except -1
    cdef void discard(self, int64_t result, uint32_t flags) noexcept
    cdef int end_of_pass(self) except -1
    cdef int before_fork(self) except -1
    cdef object describe(self)


cdef class Flight(Callbacks):
    cdef rl_driver *driver         # ours; NULL once closed, and in a forked child
    cdef rl_buffers *buffers       # ours, registered with the driver; NULL until a room asks
    cdef void *first_operation     # list of operations in flight, borrowed from the references they hold
    cdef size_t in_flight
    cdef list awaiting_end         # operations that asked for `end_of_pass`
    cdef uint32_t pass_number
    cdef rl_workers *workers       # ours; NULL until something needs one
    cdef rl_work *done_works       # collected from them, not yet in the ready queue
    cdef size_t bounded_in_flight
    cdef object line               # deque of bounded operations that wait for their turn
    cdef bint line_waits           # somebody may be in it
    cdef bint line_stands          # nobody's turn comes: a run ends
    cdef size_t settling           # how many in flight have `settles`
    cdef int bell_fd               # eventfd that ends a wait
    cdef Operation residency       # what _ops has learnt of the mounts; None until it asked
    cdef uint32_t inline_pass      # the last pass in which calls were done at once,
    cdef uint32_t inline_count     # how many,
    cdef int64_t inline_end_ns     # and until when more are; 0: not known yet, negative: no more
    cdef uint32_t inline_step      # the callback of that pass which did the last one, by its place in `ready`
    cdef object turn_line          # deque of futures of calls that are done at once in a later pass,
    cdef list turn_front           # and of those that go before them
    cdef bint turns_wait           # somebody may be in these
    cdef uint32_t turns_granted    # how many had their turn in this pass,
    cdef uint32_t turns_taken      # and how many of these were in time
    cdef uint64_t slots_taken      # a bit for each slot of the driver's that somebody has, the first's lowest
    cdef size_t links_in_flight

    cdef rl_sqe *take_sqe(self) except NULL
    cdef int make_room(self, uint32_t count) except -1
    cdef int submit(self, Operation operation) except -1
    cdef int submit_now(self, Operation operation) except -1
    cdef void enter_flight(self, Operation operation) noexcept
    cdef int submit_links(self, Operation operation) except -1
    cdef void mend_links(self) noexcept
    cdef int cancel_links(self) except -1
    cdef int await_cancelled(self) except -1
    cdef int enter_and_collect(self, uint32_t wait_count, int64_t timeout_ns) except -1
    cdef int entered(self, int error) except -1
    cdef int take_slot(self) noexcept
    cdef void give_slot(self, int slot) noexcept
    cdef int submit_work(self, Operation operation) except -1
    cdef int admit(self) except -1
    cdef int cancel_line(self) except -1
    cdef int cancel(self, Operation operation) except -1
    cdef int cancel_at_once(self, Operation operation) except -1
    cdef int flush(self) except -1
    cdef int collect(self) except -1
    cdef size_t collect_left_behind(self) except? 0
    cdef int collect_works(self) except -1
    cdef rl_buffers *need_buffers(self) except NULL
    cdef bint alive(self) noexcept
    cdef void leave_flight(self, Operation operation) noexcept
    cdef int push_completion(self, Operation operation, int64_t result) except -1
    cdef list list_operations(self)
    cdef bint take_inline_turn(self) noexcept
    cdef object await_turn(self, bint waited)
    cdef int grant_turns(self) except -1
    cdef void publish_works(self) noexcept
    cdef bint prepare_sleep(self) noexcept
    cdef void awake(self) noexcept
    cdef dict count_works(self)
    cdef int end_workers(self) except -1
    cdef void forget_workers(self) noexcept


cdef void release_buffers(void *argument) noexcept nogil

# The workers and their threads are linked into this room alone, and so is the driver that has some too.
cdef rl_driver *create_epoll_driver(uint32_t sq_entries, uint32_t cq_entries, int *error) noexcept
