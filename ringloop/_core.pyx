"""The heart: one pass over ready queue, timers and operations; threads, fork and the end.

A pass: submit what is queued and wait, collect completions, move due timers, run what was ready by then.
The heart knows operations, not what they do: sockets, files and transports are rooms above it.

Who may call: everything here runs on the loop's thread under the GIL, but for `call_soon_threadsafe`.
Memory: an operation in flight is referenced by the loop until its last completion is collected.
"""

import atexit
import os
import socket
import threading
import weakref
from asyncio import base_events
from asyncio.log import logger

from ringloop import errors

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_XDECREF
from libc.errno cimport EEXIST, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from posix.unistd cimport close, read, write

from ringloop._callbacks cimport (
    RL_READY_COMPLETION, Handle, call_handle, new_handle, report, retire, rl_ready_entry,
    rl_ready_pop, rl_ready_push, rl_timer, rl_timers_remove, run_handle, show_to_collector,
)
from ringloop._flight cimport (
    OPERATION_CANCELLING, OPERATION_DONE, OPERATION_SUBMITTED, RL_OP_ASYNC_CANCEL, RL_OP_POLL_ADD,
    RL_WAIT_FOREVER, Flight, Operation, create_epoll_driver, release_buffers, rl_buffers, rl_driver,
    rl_driver_room, rl_driver_sqe, rl_driver_sweep, rl_driver_sweep_forked, rl_driver_wants_enter,
    rl_driver_wants_look, rl_sqe,
)


cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int initial, int flags)
    enum: EFD_CLOEXEC, EFD_NONBLOCK

cdef extern from "<errno.h>" nogil:
    enum: ECANCELED

cdef extern from "<poll.h>" nogil:
    enum: POLLIN
    ctypedef struct pollfd "struct pollfd"
    int poll(pollfd *fds, unsigned long count, int timeout_ms)

cdef extern from "<sys/stat.h>" nogil:
    ctypedef struct stat_buffer "struct stat":
        unsigned int st_mode
        uint64_t st_ino
    int fstat(int fd, stat_buffer *buffer)
    bint S_ISSOCK(unsigned int mode)

cdef extern from "<pthread.h>" nogil:
    int pthread_atfork(void (*prepare)() noexcept, void (*parent)() noexcept, void (*child)() noexcept)

cdef extern from "ring.h" nogil:
    ctypedef struct rl_ring_failure "struct rl_ring_failure":
        int cause
        int error
        const char *call
    ctypedef struct rl_ring_hidden "struct rl_ring_hidden":
        uint32_t setup_flags
        uint32_t features
        uint32_t capabilities
        uint8_t opcodes[32]
    void rl_ring_hide(const rl_ring_hidden *hidden)
    rl_driver *rl_ring_create(uint32_t sq_entries, uint32_t cq_entries, rl_ring_failure *failure)
    int rl_ring_probe(rl_ring_failure *failure)

# A small ring: rings count against RLIMIT_MEMLOCK (8 MiB for an ordinary user), and closed ones for a while.
cdef enum:
    SQ_ENTRIES = 256
    CQ_ENTRIES = 4096
    # Bounds what a flush gathers when the network is faster than it: a thousand completions and more.
    FLUSH_PASSES_MAX = 64
    # Waiting for the kernel to let go of a ring that its own thread cannot drain (30 ms is usual), or of what
    # that thread executes.
    RELEASE_NAP_MS = 1
    RELEASE_NAPS_MAX = 1000


cdef object Socket = socket.socket
cdef object fileno_of = socket.SocketType.fileno
cdef object LIVE_LOOPS = weakref.WeakSet()
cdef ForkMark *fork_marks = NULL    # of all loops; changed with the GIL held


cdef void await_release() noexcept:
    """Waits for the kernel to let go of abandoned rings, a loop's former ones among them; frees them."""
    cdef int naps = 0
    while rl_driver_sweep(0) > 0 and naps < RELEASE_NAPS_MAX:
        naps += 1
        with nogil:
            poll(NULL, 0, RELEASE_NAP_MS)


@cython.final
cdef class Watch(Operation):
    """Runs a handle whenever an fd is ready, as epoll's level-triggered readiness does.

    One-shot polls, armed again after each run: a poll that finds its fd ready completes at once, which is
    what level-triggered means; io_uring's multishot poll tells edges only.
    """

    def __cinit__(self, LoopCore loop, int fd, uint32_t events, Handle handle):
        self.loop = loop
        self.fd = fd
        self.events = events
        self.hold(handle)

    cdef int hold(self, Handle handle) except -1:
        self.handle = handle
        show_to_collector(handle)
        return 0

    cdef int name(self, object file) except -1:
        """What callers call it by, beside its number."""
        cdef stat_buffer status
        if not isinstance(file, int):
            self.file = file
        if isinstance(file, Socket) and fstat(self.fd, &status) == 0:
            self.inode = status.st_ino
        return 0

    cdef bint is_gone(self) except -1:
        """Whether the socket was closed: the number may be another file's. Not, if it was detached."""
        cdef stat_buffer status
        return self.inode != 0 and fileno_of(self.file) != self.fd and (
            fstat(self.fd, &status) < 0 or not S_ISSOCK(status.st_mode) or status.st_ino != self.inode)

    cdef int start(self) except -1:
        self.ended = False
        self.loop.submit(self)
        return 0

    cdef int end(self) except -1:
        """No handle runs from here on, and when this returns the kernel holds the file no more."""
        self.ended = True
        self.loop.cancel_at_once(self)
        return 0

    cdef void prepare(self, rl_sqe *sqe) noexcept:
        sqe.opcode = RL_OP_POLL_ADD
        sqe.fd = self.fd
        sqe.op_flags = self.events

    cdef int complete(self, int64_t result, uint32_t flags, object payload) except -1:
        # An error is a file that was closed under us: epoll forgets such a one without a word.
        if self.ended or result < 0 or self.is_gone():
            return 0
        try:
            if not self.handle._cancelled:
                run_handle(self.handle)
        finally:
            # Also for the next run, if the handle ended this one: a Ctrl-C, or the end of the program.
            if not self.ended and self.state == OPERATION_DONE and self.loop.alive() and not self.is_gone():
                self.loop.submit(self)
        return 0

    cdef object describe(self):
        return base_events._format_handle(self.handle)


cdef rl_driver *create_driver(object name) except NULL:
    cdef rl_ring_failure failure
    cdef int error = 0
    cdef rl_driver *driver
    if name == "epoll":
        driver = create_epoll_driver(SQ_ENTRIES, CQ_ENTRIES, &error)
        if driver == NULL:
            raise OSError(-error, os.strerror(-error), "epoll_create1")
        return driver
    driver = rl_ring_create(SQ_ENTRIES, CQ_ENTRIES, &failure)
    if driver == NULL:
        raise errors.ring_unavailable(failure.cause, failure.error, failure.call.decode())
    return driver


cdef class LoopCore(Flight):
    """The part of the loop that runs per callback. `ringloop.Loop` makes asyncio's interface out of it."""

    def __cinit__(self, *args, **kwargs):
        global fork_marks
        self.fork_mark.forked = &self.forked
        self.fork_mark.closed = &self._closed
        self.fork_mark.driver = &self.driver
        self.fork_mark.next = fork_marks
        fork_marks = &self.fork_mark

    def __init__(self, driver):
        """`driver` is "io_uring" or "epoll"."""
        self.driver = create_driver(driver)
        self.bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.bell_fd < 0:
            raise OSError(errno, os.strerror(errno), "eventfd")
        self.bell = Watch(self, self.bell_fd, POLLIN, new_handle(self, self._answer_bell, (), None))
        self.bell.start()
        LIVE_LOOPS.add(self)

    def __dealloc__(self):
        global fork_marks
        cdef ForkMark **place = &fork_marks
        while place[0] != &self.fork_mark:
            place = &place[0].next
        place[0] = self.fork_mark.next
        # An unclosed loop was closed by __del__ before; what is left is a loop whose __init__ failed.
        if self.bell_fd >= 0:
            close(self.bell_fd)
        if self.driver != NULL:
            self.driver.calls.destroy(self.driver)

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    # --- waking a sleeping loop from elsewhere

    cdef int wake(self) except -1:
        cdef uint64_t one = 1
        self.asleep = False
        if write(self.bell_fd, &one, sizeof(one)) < 0:
            raise OSError(errno, os.strerror(errno), "eventfd")
        return 0

    def _answer_bell(self):
        cdef uint64_t count = 0
        # EAGAIN is a bell answered before, by the poll that ended with the last run.
        read(self.bell_fd, &count, sizeof(count))

    def _watch_internal(self, int fd, callback):
        """Runs callback() whenever fd is readable, until the loop closes."""
        cdef Watch watch = Watch(self, fd, POLLIN, new_handle(self, callback, (), None))
        watch.start()
        return watch

    # --- operations

    cdef int flush(self) except -1:
        """Submits what is queued and collects what is complete, without waiting and without a callback."""
        cdef int error, passes = 0
        if self.driver == NULL:
            self._refuse()
        if self._thread_id is not None and self._thread_id != threading.get_ident():
            # A call from the wrong thread, which asyncio does not allow: the loop's own will submit it.
            self.wake()
            return 0
        if not self.enabled:
            self.enable()
        error = self.driver.calls.enter(self.driver, 0, 0)
        if error == -EEXIST:
            self.change_thread()
            error = self.driver.calls.enter(self.driver, 0, 0)
        self.collect()
        # One pass of the kernel's runs 20 items of task work (6.13), and a cancel's is behind all others.
        while error == 0 and passes < FLUSH_PASSES_MAX and rl_driver_wants_enter(self.driver):
            error = self.driver.calls.enter(self.driver, 0, 0)
            self.collect()
            passes += 1
        return self.entered(error)

    def _check_closed(self):
        if self._closed:
            self._refuse()

    def _refuse(self):
        if self.forked:
            raise RuntimeError(
                "This event loop was made before a fork and belongs to the parent process; make a new one")
        raise RuntimeError("Event loop is closed")

    # --- threads

    cdef int enable(self) except -1:
        """Binds the driver to the calling thread."""
        cdef int error = self.driver.calls.enable(self.driver)
        if error < 0:
            # Another thread than the one that tried a ring out, and a filter of its own.
            self.take_driver(create_driver(self._driver_refused(
                errors.ring_unavailable(errors.RingCause.REGISTER_REFUSED, -error, "io_uring_register"))))
        self.enabled = True
        self.owner = threading.get_ident()
        return 0

    cdef int change_thread(self) except -1:
        """Takes a new driver for the calling thread, as the old one's thread may have ended.

        Completions that it delivered are still in memory. Operations that lend memory never outlive a run:
        what is left are polls, accepts and receives, which from here on move nothing.
        """
        cdef rl_driver *driver = create_driver(self.driver.calls.name.decode())
        self.reclaim()
        self.take_driver(driver)
        # Arming more than the queue holds has enabled it already.
        if not self.enabled:
            self.enable()
        return 0

    cdef int reclaim(self) except -1:
        """Of another thread's driver: ends what would go on there, and collects what came of it.

        Without DEFER_TASKRUN (6.1) the kernel executes a request on the thread that submitted it, at any
        time: the result of an accept would arrive where nobody looks any more. That thread may be stuck in
        the kernel: a second is the most that this waits.
        """
        cdef rl_driver *driver = self.driver
        cdef rl_sqe *sqe
        cdef int naps = 0
        cdef size_t left, ended
        if driver.calls.adopt(driver) != 0:
            return 0
        operations = [
            operation for operation in self.list_operations() if (<Operation> operation).work == NULL]
        left = len(operations)
        for operation in operations:
            if rl_driver_room(driver) == 0:
                driver.calls.enter(driver, 0, 0)
                left -= self.collect_left_behind()
            sqe = rl_driver_sqe(driver)
            if sqe == NULL:
                break  # the kernel has no memory for what is queued: what it can end, it ends
            sqe.opcode = RL_OP_ASYNC_CANCEL
            sqe.fd = -1
            sqe.address = <uint64_t> <void *> operation
        while left and naps < RELEASE_NAPS_MAX:
            with nogil:
                driver.calls.enter(driver, 1, RELEASE_NAP_MS * 1000000)
            ended = self.collect_left_behind()
            left -= ended
            naps += ended == 0
        return 0

    def _driver_refused(self, error):
        """Returns the name of the driver to take instead of the loop's, or raises the error."""
        raise error

    cdef int take_driver(self, rl_driver *driver) except -1:
        """Abandons the loop's driver for another, and arms there again what was in flight."""
        cdef rl_driver *old = self.driver
        cdef rl_buffers *buffers = self.buffers
        cdef Operation operation
        cdef bint cancelled
        self.collect_left_behind()
        self.driver = driver
        self.buffers = NULL
        self.enabled = False
        old.calls.abandon(old, release_buffers, buffers)
        # Until then the old one keeps files open: a port closed meanwhile would not be free.
        await_release()
        if buffers != NULL:
            self.need_buffers()
        operations = self.list_operations()
        for item in reversed(operations):
            operation = item
            if operation.work != NULL:
                continue
            cancelled = operation.state == OPERATION_CANCELLING
            self.leave_flight(operation)
            Py_DECREF(operation)
            if cancelled:
                self.push_completion(operation, -ECANCELED)
            else:
                self.bounded_in_flight += operation.bounded
                self.submit_now(operation)
        return 0

    # --- the pass

    def _run(self):
        """Passes over the loop until `stop`. On the thread that it is bound to from now on."""
        self.flush()
        try:
            while True:
                self.run_pass()
                if self._stopping:
                    return
        finally:
            self.settle()

    cdef int run_pass(self) except -1:
        cdef int64_t timeout_ns = RL_WAIT_FOREVER
        if self.driver == NULL:
            self._refuse()
        self.pass_number += 1
        if self.turns_wait:
            self.grant_turns()
        if self.timers.count and not self.ready.count:
            timeout_ns = self.until_timer_ns()
        # Looked at last, as no Python code runs between this and the wait: a clock that somebody patched in
        # may have let another thread push meanwhile, which saw no need to ring the bell.
        if self.ready.count or self._stopping:
            timeout_ns = 0
        self.publish_works()
        if timeout_ns != 0:
            self.wait(timeout_ns)
        elif rl_driver_wants_look(self.driver):
            self.entered(self.driver.calls.enter(self.driver, 0, 0))
        self.collect()
        if self.timers.count:
            self.fire_timers()
        if self._debug:
            self.run_ready_debug()
        else:
            self.run_ready()
        if self.awaiting_end:
            self.end_pass()
        return 0

    cdef int wait(self, int64_t timeout_ns) except -1:
        cdef rl_driver *driver = self.driver
        cdef int error
        # Set and cleared under the GIL, and so seen by every thread that pushes while this one waits.
        self.asleep = True
        if not self.prepare_sleep():
            timeout_ns = 0
        with nogil:
            error = driver.calls.enter(driver, timeout_ns != 0, timeout_ns)
        self.asleep = False
        self.awake()
        self.entered(error)
        PyErr_CheckSignals()
        return 0

    cdef int run_ready(self) except -1:
        """Runs what is in the queue now; what that adds waits for the next pass."""
        cdef uint32_t count = self.ready.count
        cdef rl_ready_entry entry
        while count and not self.forked:
            # One frame for exceptions around many callbacks: it costs as much as calling one.
            try:
                while count and not self.forked:
                    count -= 1
                    entry = rl_ready_pop(&self.ready)
                    if entry.kind == RL_READY_COMPLETION:
                        self.dispatch(&entry)
                        continue
                    if not (<Handle> entry.object)._cancelled:
                        call_handle(<Handle> entry.object)
                    retire(entry.object)
            except BaseException as exc:
                self.handle_failed(&entry, exc)
        return 0

    cdef int end_pass(self) except -1:
        cdef Py_ssize_t count = 0
        operations = self.awaiting_end
        self.awaiting_end = []
        try:
            for operation in operations:
                count += 1
                (<Operation> operation).end_of_pass()
        finally:
            # After an error that ends the run: the others go on when it ends.
            self.awaiting_end[:0] = operations[count:]
        return 0

    cdef int handle_failed(self, rl_ready_entry *entry, object exc) except -1:
        """Reports what a callback or a completion raised. The end of the program goes on."""
        subject = <object> entry.object
        Py_DECREF(subject)
        if isinstance(exc, (SystemExit, KeyboardInterrupt)):
            raise exc
        if entry.kind != RL_READY_COMPLETION:
            return report(<Handle> subject, exc)
        # The protocol's, or one that no operation expects. It is that connection's or that call's affair.
        self.call_exception_handler({
            "message": f"Exception in callback {type(subject).__name__}.complete()",
            "exception": exc,
        })
        return 0

    cdef int dispatch(self, rl_ready_entry *entry) except -1:
        """Gives a completion to its operation, and drops the references that the queue held.

        If this raises, that to the operation is left to `handle_failed`.
        """
        if entry.payload == NULL:
            (<Operation> entry.object).complete(entry.result, entry.flags, None)
        else:
            payload = <object> entry.payload
            Py_DECREF(payload)
            (<Operation> entry.object).complete(entry.result, entry.flags, payload)
        Py_DECREF(<Operation> entry.object)
        return 0

    cdef int run_ready_debug(self) except -1:
        cdef uint32_t count = self.ready.count
        cdef rl_ready_entry entry
        while count and not self.forked:
            count -= 1
            entry = rl_ready_pop(&self.ready)
            subject = <object> entry.object
            started = self.time()
            if entry.kind == RL_READY_COMPLETION:
                try:
                    self.dispatch(&entry)
                except BaseException as exc:
                    self.handle_failed(&entry, exc)
            else:
                Py_DECREF(subject)
                show_to_collector(subject)
                if (<Handle> subject)._cancelled:
                    continue
                try:
                    self._current_handle = subject
                    run_handle(subject)
                finally:
                    self._current_handle = None
            elapsed = self.time() - started
            if elapsed >= self.slow_callback_duration:
                logger.warning("Executing %s took %.3f seconds", describe(subject), elapsed)
        return 0

    # --- the end

    cdef int settle(self) except -1:
        """Ends the operations that must not outlive a run, and collects what came of them.

        The thread that ran the loop may never touch it again, and no other could ask the kernel for these.
        """
        self.end_pass()
        if self.driver == NULL or self.settling == 0:
            return 0
        # Those in line stay there: admitted now, each would have to be ended in its turn.
        self.line_stands = True
        try:
            for operation in self.list_operations():
                if (<Operation> operation).settles:
                    self.cancel(operation)
            while self.settling:
                self.await_cancelled()
        finally:
            self.line_stands = False
        return 0

    def _close_core(self):
        """Ends the driver and drops what is queued. Nothing of the loop remains in the kernel."""
        self.end_driver()
        await_release()
        self.drop_queues()
        # Its fd is the loop's, and it refers to the loop: the collector would find it late.
        self.residency = None
        self.turn_line.clear()
        self.turn_front.clear()
        if self.bell_fd >= 0:
            close(self.bell_fd)
            self.bell_fd = -1
        self.bell = None

    cdef int end_driver(self) except -1:
        cdef rl_driver *driver = self.driver
        cdef rl_buffers *buffers = self.buffers
        if driver == NULL:
            return 0
        self.cancel_line()
        self.end_workers()
        drained = not self.enabled or self.drain()
        self.driver = NULL
        self.buffers = NULL
        for item in self.list_operations():
            self.leave_flight(item)
            Py_DECREF(item)
        if drained:
            driver.calls.destroy(driver)
            release_buffers(buffers)
        else:
            driver.calls.abandon(driver, release_buffers, buffers)
        return 0

    cdef bint drain(self) except -1:
        """Cancels all and waits for the last completion. False on a thread that cannot reach the driver."""
        cdef int error = self.driver.calls.enter(self.driver, 0, 0)
        if error == -EEXIST:
            self.reclaim()
            self.collect()
            return False
        self.collect()
        for operation in self.list_operations():
            self.cancel(operation)
        self.entered(error)
        while self.in_flight:
            self.await_cancelled()
        return True

    cdef int drop_queues(self) except -1:
        cdef rl_timer *timer
        while self.ready.count:
            self.drop_ready(True)
        while self.timers.count:
            timer = self.timers.nodes[self.timers.count - 1].timer
            subject = <object> timer.owner
            rl_timers_remove(&self.timers, timer)
            Py_DECREF(subject)
            show_to_collector(subject)
        return 0

    cdef int drop_ready(self, bint callbacks_too) except -1:
        """Drops the completions in the queue, and tells their operations. Callbacks stay in their order."""
        cdef uint32_t count = self.ready.count
        cdef rl_ready_entry entry
        while count:
            count -= 1
            entry = rl_ready_pop(&self.ready)
            if entry.kind != RL_READY_COMPLETION and not callbacks_too:
                rl_ready_push(&self.ready, entry)
                continue
            subject = <object> entry.object
            Py_DECREF(subject)
            if entry.kind == RL_READY_COMPLETION:
                (<Operation> subject).discard(entry.result, entry.flags)
                Py_XDECREF(<PyObject *> entry.payload)
            else:
                show_to_collector(subject)
        return 0

    def _forget_after_fork(self):
        """In a forked child: lets go of the parent's driver. Its memory is not even mapped here."""
        if self.fork_mark.lost != NULL:
            self.fork_mark.lost.calls.forked(self.fork_mark.lost)
            self.fork_mark.lost = NULL
        # What waits for the pass's end is the parent's to do: without a driver they forget it.
        self.end_pass()
        self.forget_workers()
        if self.bell_fd >= 0:
            close(self.bell_fd)
            self.bell_fd = -1

    def _counters(self):
        """What is in flight, the loop's bell apart, and what was done, as a dict of numbers."""
        cdef bint bell_is_armed = (
            self.bell is not None
            and (self.bell.state == OPERATION_SUBMITTED or self.bell.state == OPERATION_CANCELLING))
        counters = {
            # The bell's poll is over and armed again at any time: it would hide one that is left over.
            "in_flight": self.in_flight - bell_is_armed,
            "ready": self.ready.count,
            "timers": self.timers.count,
            "in_line": len(self.line),
            "slots_taken": (<object> self.slots_taken).bit_count(),
        } | self.count_works()
        if self.driver != NULL:
            counters["enters"] = self.driver.counters.enters
            counters["waits"] = self.driver.counters.waits
            counters["submitted"] = self.driver.counters.submitted
            counters["completed"] = self.driver.counters.completed
            counters["sq_full"] = self.driver.counters.sq_full
            counters["cq_overflows"] = self.driver.counters.cq_overflows
        return counters


cdef object describe(object subject):
    if isinstance(subject, Operation):
        return (<Operation> subject).describe()
    return base_events._format_handle(subject)


def hide(setup_flags, features, capabilities, bytes opcodes):
    """Lets rings that are made from now on look as if they lacked these: masks, and a bit for each opcode."""
    cdef rl_ring_hidden hidden
    if len(opcodes) != sizeof(hidden.opcodes):
        raise ValueError(f"opcodes must have {sizeof(hidden.opcodes)} bytes")
    hidden.setup_flags = setup_flags
    hidden.features = features
    hidden.capabilities = capabilities
    memcpy(hidden.opcodes, <const char *> opcodes, sizeof(hidden.opcodes))
    rl_ring_hide(&hidden)


def probe():
    """Runs a no-op through a throw-away ring. Returns None, or (cause, errno, system call) of the failure."""
    cdef rl_ring_failure failure
    if rl_ring_probe(&failure) == 0:
        return None
    return failure.cause, failure.error, failure.call.decode()


def driver_report(name):
    """Describes the driver of that name as a loop gets it here, as a dict.

    Raises RingUnavailableError if that is "io_uring" and there is none.
    """
    cdef rl_driver *driver = create_driver(name)
    try:
        return {
            "driver": driver.calls.name.decode(),
            "setup_flags": driver.setup_flags,
            "features": driver.features,
            "sq_entries": driver.sq_entries,
            "cq_entries": driver.cq_entries,
            "capabilities": driver.capabilities,
            "opcodes": [opcode for opcode in range(256) if driver.calls.has_opcode(driver, opcode)],
        }
    finally:
        driver.calls.destroy(driver)


cdef void mark_forked() noexcept nogil:
    """In a forked child, before any Python code: no loop of the parent's is to be used from here on.

    Other libraries' handlers may run before ours, those of os.register_at_fork() in the order in which they
    were registered, and they close what they have on a loop.
    """
    cdef ForkMark *mark = fork_marks
    while mark != NULL:
        mark.forked[0] = True
        mark.closed[0] = True
        if mark.driver[0] != NULL:
            mark.lost = mark.driver[0]
            mark.driver[0] = NULL
        mark = mark.next


def _before_fork():
    """What waits for the end of this thread's pass goes out: the child could write before that."""
    thread = threading.get_ident()
    for loop in list(LIVE_LOOPS):
        if loop._thread_id == thread:
            for operation in list((<LoopCore> loop).awaiting_end):
                (<Operation> operation).before_fork()


def _after_fork_in_child():
    rl_driver_sweep_forked()
    for loop in list(LIVE_LOOPS):
        loop._forget_after_fork()


def _at_exit():
    """Drains the rings of this thread. Others' memory stays: the kernel must not write into freed memory."""
    thread = threading.get_ident()
    for loop in list(LIVE_LOOPS):
        if loop._thread_id is None and (<LoopCore> loop).owner == thread:
            (<LoopCore> loop).end_driver()
            # No pass comes that would run them, and they hold what is waiting for its end, such as a file.
            (<LoopCore> loop).drop_ready(False)


if pthread_atfork(NULL, NULL, mark_forked) != 0:
    raise MemoryError
os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
