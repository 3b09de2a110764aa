"""Operations in flight: how they are submitted, cancelled and collected.

An operation goes to the driver, or, where a driver cannot do it without blocking, to the workers. What ends
by itself is bounded in flight: the others wait in line for their turn. Nothing here runs a callback.

Who may call: the loop's thread, under the GIL.
Memory: an operation in flight is referenced by the loop until its last completion is collected.
"""

import asyncio
import collections
import os

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from ringloop._callbacks cimport (
    RL_READY_COMPLETION, Callbacks, PyTypeObject, rl_ready_entry, rl_ready_push, rl_ready_reserve,
    traverseproc, visitproc,
)


cdef extern from "<errno.h>" nogil:
    enum: ECANCELED

cdef extern from "epoll.h" nogil:
    rl_driver *rl_epoll_create(uint32_t sq_entries, uint32_t cq_entries, int *error)

cdef enum:
    # What ends by itself: as many can be in flight, all others wait in line.
    BOUNDED_MAX = 512
    # How long calls are done at once in one pass, so that a coroutine that reads cached data in a loop
    # starves nobody; and after how many of them, 0.1 ms each at most, the clock is looked at.
    INLINE_NS_MAX = 300_000
    INLINE_STRIDE = 4
    # How many of those that wait for their turn have it in one pass.
    TURNS_MIN = 4
    TURNS_MAX = 1024
    # Threads for what the driver cannot do, or cannot do without blocking.
    WORKER_THREADS_MAX = 32
    WORKER_IDLE_NS = 5_000_000_000
    # When to ask again for the end of links that may not have begun.
    CANCEL_AGAIN_NS = 1_000_000
    # Provided receive buffers are emptied as their completions are collected, so that few suffice, and few
    # stay in the L2 cache.
    BUFFER_GROUP = 1
    BUFFER_COUNT = 64
    BUFFER_BYTES = 4096


cdef object Future = asyncio.Future


cdef inline void move(Operation operation, OperationState state) noexcept:
    """The only place where an operation changes its state."""
    ENSURE(
        (state == OPERATION_SUBMITTED and
         (operation.state == OPERATION_NEW or operation.state == OPERATION_QUEUED
          or operation.state == OPERATION_DONE))
        or (state == OPERATION_QUEUED and
            (operation.state == OPERATION_NEW or operation.state == OPERATION_DONE))
        or (state == OPERATION_CANCELLING and operation.state == OPERATION_SUBMITTED)
        or (state == OPERATION_DONE and
            (operation.state == OPERATION_SUBMITTED or operation.state == OPERATION_CANCELLING
             or operation.state == OPERATION_QUEUED))
    )
    operation.state = state


cdef rl_driver *create_epoll_driver(uint32_t sq_entries, uint32_t cq_entries, int *error) noexcept:
    return rl_epoll_create(sq_entries, cq_entries, error)


cdef void release_buffers(void *argument) noexcept nogil:
    if argument != NULL:
        rl_buffers_free(<rl_buffers *> argument)
        free(argument)


cdef class Operation:
    """One system call in flight: described by one SQE, submitted once, over with its last CQE.

    Rooms subclass it. While it is in flight the loop holds a reference, and every memory that the kernel may
    touch must be held by the operation.
    """

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    cdef void prepare(self, rl_sqe *sqe) noexcept:
        """Fills the zeroed SQE, all but user_data. Again when a loop moves to another thread."""

    cdef PyObject *collect(self, int64_t result, uint32_t flags) noexcept:
        """Takes what a CQE carries, such as a provided buffer, at once: a new reference or NULL.

        No Python code may run.
        """
        return NULL

    cdef int complete(self, int64_t result, uint32_t flags, object payload) except -1:
        """Runs from the loop's pass, in the order of the completions. Lets out only SystemExit and such."""
        return 0

    cdef void discard(self, int64_t result, uint32_t flags) noexcept:
        """Instead of `complete` when the loop closed: gives back what the result owns, such as an fd."""

    cdef int end_of_pass(self) except -1:
        """Runs after the pass's last callback, if the operation is in the loop's `awaiting_end`."""
        return 0

    cdef int before_fork(self) except -1:
        """The same when one of the pass's callbacks forks, inside of that."""
        return 0

    cdef object describe(self):
        """What a message about a slow callback calls it."""
        return repr(self)


cdef inline int take_completion(Flight flight, const rl_cqe *cqe) except -1:
    """Moves one to the ready queue."""
    cdef rl_ready_entry entry
    cdef Operation operation
    if cqe.user_data == 0:
        rl_driver_consumed(flight.driver)
        return 0
    if not rl_ready_reserve(&flight.ready):
        raise MemoryError
    entry.kind = RL_READY_COMPLETION
    entry.object = <void *> cqe.user_data
    entry.result = cqe.result
    entry.flags = cqe.flags
    rl_driver_consumed(flight.driver)
    operation = <Operation> entry.object
    if entry.flags & RL_CQE_MORE:
        Py_INCREF(operation)
    else:
        flight.leave_flight(operation)
        if operation.is_link:
            flight.links_in_flight -= 1
            if operation.was_cut:
                entry.result = -ECANCELED
    entry.payload = operation.collect(entry.result, entry.flags)
    rl_ready_push(&flight.ready, entry)
    return 0


cdef class Flight(Callbacks):
    """The part of the loop that holds what is in flight, and who executes it."""

    def __cinit__(self, *args, **kwargs):
        self.bell_fd = -1
        self.awaiting_end = []
        self.line = collections.deque()
        self.turn_line = collections.deque()
        self.turn_front = []

    cdef int flush(self) except -1:
        """Submits what is queued and collects what is complete, without waiting and without a callback."""
        raise NotImplementedError

    cdef bint alive(self) noexcept:
        return self.driver != NULL

    cdef rl_sqe *take_sqe(self) except NULL:
        cdef rl_sqe *sqe
        if self.driver == NULL:
            self._refuse()
        sqe = rl_driver_sqe(self.driver)
        if sqe == NULL:
            self.make_room(1)
            sqe = rl_driver_sqe(self.driver)
        return sqe

    cdef int make_room(self, uint32_t count) except -1:
        """For so many entries, at most as many as the queue has."""
        if rl_driver_room(self.driver) < count:
            self.flush()
            if rl_driver_room(self.driver) < count:
                raise RuntimeError("the submission queue is full and the kernel takes nothing from it")
        return 0

    cdef int submit(self, Operation operation) except -1:
        if self.driver == NULL:
            self._refuse()
        if operation.bounded:
            if self.bounded_in_flight >= BOUNDED_MAX:
                move(operation, OPERATION_QUEUED)
                self.line.append(operation)
                self.line_waits = True
                return 0
            self.bounded_in_flight += 1
        try:
            return self.submit_now(operation)
        except BaseException:
            self.bounded_in_flight -= operation.bounded
            raise

    cdef int submit_now(self, Operation operation) except -1:
        cdef rl_sqe *sqe
        if operation.work != NULL:
            return self.submit_work(operation)
        if operation.linked is not None:
            return self.submit_links(operation)
        sqe = self.take_sqe()
        operation.prepare(sqe)
        sqe.user_data = <uint64_t> <void *> operation
        self.enter_flight(operation)
        return 0

    cdef int submit_links(self, Operation operation) except -1:
        """Submits an operation and those linked to it as one: at most as many as the queue has entries.

        Each begins when the one before it has gone well; the others end with ECANCELED.
        """
        cdef rl_sqe *sqe
        cdef Operation link = operation, last = operation
        cdef uint32_t count = 0
        while link is not None:
            count += 1
            link = link.linked
        self.make_room(count)
        link = operation
        while link is not None:
            sqe = rl_driver_sqe(self.driver)
            link.prepare(sqe)
            sqe.user_data = <uint64_t> <void *> link
            if link.linked is not None:
                sqe.flags |= RL_SQE_IO_LINK
            link.was_cut = False
            self.links_in_flight += 1
            self.enter_flight(link)
            last = link
            link = link.linked
        if last is not operation:
            last.bounded = operation.bounded
            operation.bounded = False
        return 0

    cdef void mend_links(self) noexcept:
        """Keeps what was cut from its links from beginning by itself: a no-op that is cancelled."""
        cdef uint32_t place = 0
        cdef uint64_t user_data
        cdef rl_sqe *sqe
        cdef bint is_linked = True
        self.driver.links_cut = False
        while is_linked:
            sqe = rl_driver_untaken(self.driver, place)
            ENSURE(sqe != NULL)
            place += 1
            is_linked = sqe.flags & RL_SQE_IO_LINK
            user_data = sqe.user_data
            memset(sqe, 0, sizeof(sqe[0]))
            sqe.user_data = user_data
            (<Operation> <void *> user_data).was_cut = True

    cdef inline void enter_flight(self, Operation operation) noexcept:
        move(operation, OPERATION_SUBMITTED)
        Py_INCREF(operation)
        operation.before = NULL
        operation.behind = self.first_operation
        if self.first_operation != NULL:
            (<Operation> self.first_operation).before = <void *> operation
        self.first_operation = <void *> operation
        self.in_flight += 1
        self.settling += operation.settles

    cdef int submit_work(self, Operation operation) except -1:
        """Gives an operation to the workers; they see it before the loop waits the next time."""
        if self.workers == NULL:
            self.workers = rl_workers_create(self.bell_fd, WORKER_THREADS_MAX, WORKER_IDLE_NS)
            if self.workers == NULL:
                raise MemoryError
        operation.work.owner = <void *> operation
        self.enter_flight(operation)
        rl_workers_submit(self.workers, operation.work)
        return 0

    cdef int admit(self) except -1:
        """Submits those whose turn it is now, in the order they came."""
        cdef Operation operation
        while self.line and not self.line_stands and self.bounded_in_flight < BOUNDED_MAX:
            operation = self.line.popleft()
            if operation.state == OPERATION_QUEUED:
                self.bounded_in_flight += 1
                self.submit_now(operation)
        self.line_waits = bool(self.line)
        return 0

    cdef int cancel_line(self) except -1:
        """Ends the wait of all that are in line."""
        cdef Operation operation
        while self.line:
            operation = self.line.popleft()
            self.cancel(operation)
        return 0

    cdef inline void leave_flight(self, Operation operation) noexcept:
        """The reference that `submit` took is the caller's now."""
        move(operation, OPERATION_DONE)
        if operation.before != NULL:
            (<Operation> operation.before).behind = operation.behind
        else:
            self.first_operation = operation.behind
        if operation.behind != NULL:
            (<Operation> operation.behind).before = operation.before
        self.in_flight -= 1
        self.settling -= operation.settles
        self.bounded_in_flight -= operation.bounded

    cdef int cancel(self, Operation operation) except -1:
        """Asks for the end of an operation in flight; its last completion tells what came of it."""
        cdef rl_sqe *sqe
        if operation.state == OPERATION_QUEUED:
            move(operation, OPERATION_DONE)
            return self.push_completion(operation, -ECANCELED)
        if operation.state != OPERATION_SUBMITTED or self.driver == NULL:
            return 0
        if operation.work != NULL:
            rl_workers_cancel(self.workers, operation.work)
            move(operation, OPERATION_CANCELLING)
            return 0
        sqe = self.take_sqe()
        if operation.state != OPERATION_SUBMITTED:
            # It completed while room was made for the entry, which does nothing as it is.
            return 0
        sqe.opcode = RL_OP_ASYNC_CANCEL
        sqe.fd = -1
        sqe.address = <uint64_t> <void *> operation
        move(operation, OPERATION_CANCELLING)
        return 0

    cdef int cancel_at_once(self, Operation operation) except -1:
        """As `cancel`; when this returns the kernel has let go of the operation's file, if it could."""
        if operation.state != OPERATION_SUBMITTED or self.driver == NULL:
            return 0
        self.cancel(operation)
        self.flush()
        return 0

    cdef int cancel_links(self) except -1:
        """Asks again for the end of the links whose end was asked for.

        Nobody finds one that has not begun. The kernel begins it after the completion of the one before it,
        from task work or, a little later, on one of its own threads (io_wq_free_work, Linux 6.18).
        """
        cdef rl_sqe *sqe
        cdef void *item = self.first_operation
        while item != NULL and rl_driver_room(self.driver) > 0:
            if (<Operation> item).is_link and (<Operation> item).state == OPERATION_CANCELLING:
                sqe = rl_driver_sqe(self.driver)
                sqe.opcode = RL_OP_ASYNC_CANCEL
                sqe.fd = -1
                sqe.address = <uint64_t> item
            item = (<Operation> item).behind
        return 0

    cdef int await_cancelled(self) except -1:
        """Waits for a completion, as what is in flight was asked to end."""
        cdef int64_t timeout_ns = RL_WAIT_FOREVER
        if self.links_in_flight:
            # First by itself: each of these completes at once, and would end the wait.
            self.cancel_links()
            self.enter_and_collect(0, 0)
            if not self.links_in_flight:
                return 0
            timeout_ns = CANCEL_AGAIN_NS
        return self.enter_and_collect(1, timeout_ns)

    cdef int enter_and_collect(self, uint32_t wait_count, int64_t timeout_ns) except -1:
        cdef int error = self.driver.calls.enter(self.driver, wait_count, timeout_ns)
        self.collect()
        return self.entered(error)

    cdef int entered(self, int error) except -1:
        """What the driver's `enter` is followed by, before another one."""
        if self.driver.links_cut:
            self.mend_links()
        if error < 0:
            raise OSError(-error, os.strerror(-error), "io_uring_enter")
        return 0

    cdef int take_slot(self) noexcept:
        """The number of a slot for a file that nobody has, or 0."""
        cdef int slot
        if self.driver == NULL or not self.driver.capabilities & RL_CAN_USE_SLOTS:
            return 0
        for slot in range(RL_SLOT_COUNT):
            if not self.slots_taken >> slot & 1:
                self.slots_taken |= <uint64_t> 1 << slot
                return RL_SLOT_FIRST + slot
        return 0

    cdef void give_slot(self, int slot) noexcept:
        """It must be empty."""
        ENSURE(self.slots_taken >> (slot - RL_SLOT_FIRST) & 1)
        self.slots_taken &= ~(<uint64_t> 1 << (slot - RL_SLOT_FIRST))

    cdef int collect(self) except -1:
        """Moves completions to the ready queue. No callback runs and no Python code."""
        cdef const rl_cqe *cqe
        if self.driver.links_cut:
            self.mend_links()
        while True:
            cqe = rl_driver_completion(self.driver)
            if cqe == NULL:
                break
            take_completion(self, cqe)
        self.collect_works()
        if self.line_waits:
            self.admit()
        return 0

    cdef size_t collect_left_behind(self) except? 0:
        """As `collect`, for a driver that is given up. Returns how many operations the kernel is done with.

        What it ended unasked, as it does when the thread of a request has ended (io_fallback_tw, Linux 6.18),
        stays in flight: the loop's next driver gets it.
        """
        cdef const rl_cqe *cqe
        cdef size_t ended = 0
        while True:
            cqe = rl_driver_completion(self.driver)
            if cqe == NULL:
                return ended
            ended += cqe.user_data != 0 and not cqe.flags & RL_CQE_MORE
            if (cqe.result == -ECANCELED and cqe.user_data != 0
                    and (<Operation> <void *> cqe.user_data).state == OPERATION_SUBMITTED):
                rl_driver_consumed(self.driver)
            else:
                take_completion(self, cqe)

    cdef int collect_works(self) except -1:
        cdef rl_ready_entry entry
        cdef Operation operation
        if self.done_works == NULL and self.workers != NULL:
            self.done_works = rl_workers_collect(self.workers)
        while self.done_works != NULL:
            if not rl_ready_reserve(&self.ready):
                raise MemoryError
            entry.kind = RL_READY_COMPLETION
            entry.object = self.done_works.owner
            entry.result = self.done_works.result
            entry.flags = 0
            self.done_works = self.done_works.next
            operation = <Operation> entry.object
            self.leave_flight(operation)
            entry.payload = operation.collect(entry.result, 0)
            rl_ready_push(&self.ready, entry)
        return 0

    cdef rl_buffers *need_buffers(self) except NULL:
        """The group of provided receive buffers, made when a room first asks."""
        cdef rl_buffers *buffers
        cdef int error
        if self.buffers == NULL:
            if self.driver == NULL:
                self._refuse()
            buffers = <rl_buffers *> calloc(1, sizeof(rl_buffers))
            if buffers == NULL:
                raise MemoryError
            error = rl_buffers_allocate(buffers, BUFFER_GROUP, BUFFER_COUNT, BUFFER_BYTES)
            if error == 0:
                error = self.driver.calls.register_buffers(
                    self.driver, BUFFER_GROUP, buffers.ring, buffers.buffer_count)
                if error < 0:
                    rl_buffers_free(buffers)
            if error < 0:
                free(buffers)
                raise OSError(-error, os.strerror(-error), "io_uring_register")
            self.buffers = buffers
        return self.buffers

    cdef int push_completion(self, Operation operation, int64_t result) except -1:
        cdef rl_ready_entry entry
        if not rl_ready_reserve(&self.ready):
            raise MemoryError
        entry.object = <void *> operation
        entry.payload = NULL
        entry.kind = RL_READY_COMPLETION
        entry.result = result
        entry.flags = 0
        Py_INCREF(operation)
        rl_ready_push(&self.ready, entry)
        return 0

    cdef list list_operations(self):
        cdef void *item = self.first_operation
        operations = []
        while item != NULL:
            operations.append(<Operation> item)
            item = (<Operation> item).behind
        return operations

    cdef bint take_inline_turn(self) noexcept:
        """Whether one more call may be done at once in this pass. Else the caller lets others run first."""
        cdef timespec now
        cdef int64_t now_ns
        if self.inline_pass != self.pass_number:
            self.inline_pass = self.pass_number
            self.inline_count = 0
            self.inline_end_ns = 0
        if self.inline_end_ns < 0:
            return False
        self.inline_count += 1
        if self.inline_count % INLINE_STRIDE == 0:
            clock_gettime(CLOCK_MONOTONIC, &now)
            now_ns = <int64_t> now.tv_sec * 1_000_000_000 + now.tv_nsec
            if self.inline_end_ns == 0:
                self.inline_end_ns = now_ns + INLINE_NS_MAX
            elif now_ns >= self.inline_end_ns:
                self.inline_end_ns = -1
                return False
        self.inline_step = self.ready.head
        return True

    cdef object await_turn(self, bint waited):
        """None if a call may be done at once now; else a future to wait for before that is asked again.

        `waited`: it was waited for. In a step of a task that has done a call already, and may hold what that
        opened, the next one goes before those that have done nothing yet.
        """
        if self.take_inline_turn():
            self.turns_taken += waited
            return None
        turn = Future(loop=self)
        turn._asyncio_future_blocking = True
        if waited or self.inline_step == self.ready.head:
            self.turn_front.append(turn)
        else:
            self.turn_line.append(turn)
        self.turns_wait = True
        return turn

    cdef int grant_turns(self) except -1:
        """Lets as many go on as were in time in the last pass, or more if all were."""
        cdef uint32_t count
        if self.turns_taken < self.turns_granted:
            count = max(self.turns_taken, <uint32_t> TURNS_MIN)
        else:
            count = min(max(2 * self.turns_taken, <uint32_t> TURNS_MIN), <uint32_t> TURNS_MAX)
        self.turns_granted = self.turns_taken = 0
        self.turn_line.extendleft(reversed(self.turn_front))
        self.turn_front.clear()
        while self.turn_line and self.turns_granted < count:
            turn = self.turn_line.popleft()
            if not turn.done():
                turn.set_result(None)
                self.turns_granted += 1
        self.turns_wait = bool(self.turn_line)
        return 0

    cdef void publish_works(self) noexcept:
        """Lets the workers see what was submitted: once a pass."""
        if self.workers != NULL:
            rl_workers_publish(self.workers)

    cdef bint prepare_sleep(self) noexcept:
        """Whether the loop may wait now: from here on whatever the workers complete rings the bell."""
        return self.workers == NULL or rl_workers_prepare_sleep(self.workers)

    cdef void awake(self) noexcept:
        if self.workers != NULL:
            rl_workers_awake(self.workers)

    cdef void forget_workers(self) noexcept:
        """In a forked child, where their threads do not exist."""
        if self.workers != NULL:
            rl_workers_forked(self.workers)
            self.workers = NULL

    cdef dict count_works(self):
        cdef rl_workers_counters counters
        memset(&counters, 0, sizeof(counters))
        if self.workers != NULL:
            counters = rl_workers_count(self.workers)
        return {
            "worker_threads": counters.threads,
            "worker_threads_idle": counters.threads_idle,
            "works_queued": counters.queued,
            "works_running": counters.running,
            "works_completed": counters.completed,
        }

    cdef int end_workers(self) except -1:
        """Interrupts what can be, waits for the rest, and ends the threads."""
        cdef rl_workers *workers = self.workers
        cdef rl_work *works
        if workers == NULL:
            return 0
        self.collect_works()
        with nogil:
            works = rl_workers_destroy(workers)
        self.workers = NULL
        self.done_works = works
        return self.collect_works()


cdef traverseproc traverse_fields = (<PyTypeObject *> Flight).tp_traverse


cdef int traverse(PyObject *self, visitproc visit, void *argument) noexcept:
    """Also visits what is in flight, which the loop holds in a list of C pointers."""
    cdef void *item = (<Flight> self).first_operation
    cdef int result = traverse_fields(self, visit, argument)
    while item != NULL and result == 0:
        result = visit(<PyObject *> item, argument)
        item = (<Operation> item).behind
    return result


(<PyTypeObject *> Flight).tp_traverse = traverse
