"""Calls: one system call each, as an awaitable.

A call is like a coroutine: nothing happens before its first step, and it can be awaited once. What the kernel
has in memory is done in that step; everything else is submitted, and the task waits for its completion. Under
another loop than ringloop's the same request is executed by a thread of that loop's executor.

A result is collected when the coroutine gets it. What nobody collects, such as the fd of an open that was
cancelled too late, is given back.

Memory: a call holds what its request points into until its completion; the caller's own buffers are locked.
"""

import asyncio
import contextvars
import logging
import os
import warnings

cimport cython
from cpython.buffer cimport PyBuffer_Release
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memset
from posix.unistd cimport close as close_fd

from ringloop._core cimport LoopCore
from ringloop._flight cimport (
    RL_OP_POLL_ADD, RL_OP_READ, RL_OP_READV, RL_OP_WRITE, RL_OP_WRITEV, RL_SQE_FIXED_FILE, Flight, Operation,
    rl_sqe, rl_work,
)
from ringloop._running cimport running_loop


cdef extern from "<errno.h>" nogil:
    enum: EAGAIN, ECANCELED, EINTR, EMFILE, ENFILE, ENOMEM
    int errno

cdef extern from "<sys/stat.h>" nogil:
    ctypedef struct stat_buffer "struct stat":
        unsigned int st_mode
    int fstat(int fd, stat_buffer *buffer)
    bint S_ISBLK(unsigned int mode)
    bint S_ISREG(unsigned int mode)

cdef extern from "fifo.h" nogil:
    int64_t rl_fifo_execute(rl_work *work)

cdef extern from "Python.h":
    enum: PYGEN_RETURN, PYGEN_NEXT
    ctypedef void *sendfunc
    ctypedef struct PyAsyncMethods:
        sendfunc am_send
    ctypedef struct send_type "PyTypeObject":
        PyAsyncMethods *tp_as_async

cdef object Future = asyncio.Future
cdef object logger = logging.getLogger("ringloop")
#: The I/O priority of what a context starts, as ioprio_set(2) has it.
priority = contextvars.ContextVar("ringloop.io_priority", default=0)
cdef bint contexts_have_priorities = False
cdef set foreign_kinds = set()     # types of loops whose threads were used


class LentFuture(asyncio.Future):
    """Waits for a call that lends its caller's memory: cancelled, it hears of it when the kernel is done."""

    _call = None

    def cancel(self, msg=None):
        """Asks the kernel for the end of the call. The CancelledError comes with its completion."""
        if self.done():
            return False
        (<Call> self._call).cancel_asked = True
        (<Call> self._call).cancel_message = msg
        self._call.loop_cancel()
        return True


def use_priorities():
    """From now on calls look for their context's priority."""
    global contexts_have_priorities
    contexts_have_priorities = True


cdef bint moves_file_data(int opcode) noexcept:
    """Whether a ring takes a priority for it: of all others it refuses that."""
    return opcode == RL_OP_READ or opcode == RL_OP_WRITE or opcode == RL_OP_READV or opcode == RL_OP_WRITEV


cdef class Resident(Operation):
    """What a loop knows of the mounts, which tells what can be done at once. Learnt by a worker."""

    cdef rl_resident *known        # ours; NULL until it was learnt
    cdef bint is_learning          # from the submission until the outcome was taken over
    cdef bint is_hopeless          # it never will be: the kernel, or a filter, refuses what it takes
    cdef rl_work learning

    def __cinit__(self, Flight loop):
        self.loop = loop
        self.bounded = True
        self.learning.execute = learn
        self.work = &self.learning

    def __dealloc__(self):
        rl_resident_free(self.known)

    cdef rl_resident *current(self) except? NULL:
        """NULL while it is learnt (again)."""
        if self.known != NULL and rl_resident_is_current(self.known):
            return self.known
        if not self.is_learning and not self.is_hopeless:
            self.loop.submit(self)
            self.is_learning = True
        return NULL

    cdef int complete(self, int64_t result, uint32_t flags, object payload) except -1:
        self.discard(result, flags)
        return 0

    cdef void discard(self, int64_t result, uint32_t flags) noexcept:
        self.is_learning = False
        if result > 0:
            rl_resident_free(self.known)
            self.known = <rl_resident *> result
        elif result not in (-EMFILE, -ENFILE, -ENOMEM, -EAGAIN, -ECANCELED):
            self.is_hopeless = True


cdef rl_resident *resident_of(Flight loop) except? NULL:
    """NULL while nothing can be done at once."""
    if loop.residency is None:
        loop.residency = Resident(loop)
    return (<Resident> loop.residency).current()


cdef int64_t learn(rl_work *work) noexcept nogil:
    cdef rl_resident *known = rl_resident_learn()
    return <int64_t> known if known != NULL else -errno


# The collector would take the owner of the caller's memory out of `view`, which could then never be unlocked.
@cython.no_gc_clear
cdef class Call(Operation):
    """What functions that are system calls return: to be awaited, once."""

    def __cinit__(self, *args):
        memset(&self.request, 0, sizeof(self.request))
        # No result that could be given back, as 0 would be: that is an fd.
        self.outcome = RL_WOULD_BLOCK
        self.fifo_fd = -1

    def __del__(self):
        if self.stage == CALL_NEW and self.name is not None:
            warnings.warn(f"coroutine '{self.name}' was never awaited", RuntimeWarning, source=self)
        elif self.future is not None and not self.collected:
            # Its task was never resumed: the loop stopped or closed before.
            self.give_back()

    def __dealloc__(self):
        if self.lent:
            PyBuffer_Release(&self.view)
        if self.fifo_fd >= 0:
            close_fd(self.fifo_fd)

    def __repr__(self):
        return f"<call {self.name}>"

    @property
    def __name__(self):
        return self.name

    @property
    def __qualname__(self):
        return self.name

    # --- what the functions that make calls fill in

    cdef int for_entry(self, str name, uint8_t opcode, int fd) except -1:
        self.name = name
        self.bounded = True
        self.request.entry.sqe.opcode = opcode
        self.request.entry.sqe.fd = fd
        return 0

    cdef int for_number(self, str name, long number) except -1:
        self.name = name
        self.bounded = True
        self.by_number = True
        self.request.call.number = number
        return 0

    cdef rl_resident *resident(self):
        return NULL if self.loop is None else resident_of(self.loop)

    # --- what kinds of calls differ in

    cdef int64_t at_once(self) except? -1:
        """The outcome if it takes microseconds, else RL_WOULD_BLOCK."""
        return RL_WOULD_BLOCK

    cdef object value(self):
        """The result for the caller, of an outcome that is no error."""
        return None

    cdef void give_back(self) noexcept:
        """Frees what the outcome owns, as nobody collects it."""
        self.collected = True

    # --- the coroutine

    def __await__(self):
        if self.stage != CALL_NEW:
            raise RuntimeError("cannot reuse already awaited coroutine")
        return self

    def __next__(self):
        return self.step_of_generator()

    def send(self, value):
        """As a coroutine's: goes on. Raises StopIteration with the result."""
        if value is not None and self.stage == CALL_NEW:
            raise TypeError("can't send non-None value to a just-started coroutine")
        return self.step_of_generator()

    def throw(self, kind, value=None, traceback=None):
        """As a coroutine's: ends it with an exception. What is in flight is cancelled."""
        if self.stage == CALL_OVER:
            raise RuntimeError("cannot reuse already awaited coroutine")
        self.abandon()
        if isinstance(kind, BaseException):
            raise kind
        exc = kind() if value is None else value if isinstance(value, BaseException) else kind(value)
        raise exc.with_traceback(traceback)

    def close(self):
        """As a coroutine's: gives up. What is in flight is cancelled."""
        if self.stage != CALL_OVER:
            self.abandon()

    cdef object step_of_generator(self):
        result = self.step()
        if self.stage == CALL_OVER:
            raise StopIteration(result)
        return result

    cdef object step(self):
        """What the task is to wait for, or, with CALL_OVER, the result."""
        if self.stage == CALL_NEW or self.stage == CALL_YIELDED:
            return self.begin()
        if self.stage == CALL_OVER:
            raise RuntimeError("cannot reuse already awaited coroutine")
        if next(self.waiting, None) is not None:
            raise RuntimeError("await wasn't used with future")
        return self.finish()

    cdef object wait(self):
        """What the task is to wait for: the future."""
        self.stage = CALL_WAITING
        self.waiting = iter(self.future)
        pending = next(self.waiting, None)
        # A thread may have been done before asyncio asked it, from 3.14 on.
        return self.finish() if pending is None else pending

    cdef object begin(self):
        loop = running_loop()
        if loop is None:
            self.stage = CALL_OVER
            raise RuntimeError("no running event loop")
        if not isinstance(loop, LoopCore):
            return self.wait_in_a_thread(loop)
        self.loop = loop
        turn = self.loop.await_turn(self.stage == CALL_YIELDED)
        if turn is not None:
            self.stage = CALL_YIELDED
            return turn
        self.outcome = self.at_once()
        if self.outcome != RL_WOULD_BLOCK:
            return self.finish()
        self.make_future()
        self.start(self.loop)
        return self.wait()

    cdef int make_future(self) except -1:
        """What the task is to wait for in the next flight."""
        if self.lent:
            self.future = LentFuture(loop=self.loop)
            self.future._call = self
        else:
            self.future = Future(loop=self.loop)
        return 0

    cdef object finish(self):
        self.stage = CALL_OVER
        self.collected = True
        self.future = self.waiting = None
        self.unlock()
        if self.outcome < 0:
            raise self.error()
        return self.value()

    # --- under another loop than ringloop's

    cdef object wait_in_a_thread(self, object loop):
        tell_of_threads(loop)
        self.take_priority()
        self.choose_executor()
        self.future = loop.run_in_executor(None, self._execute)
        return self.wait()

    def _execute(self):
        cdef int64_t outcome = -EINTR
        while outcome == -EINTR and self.stage != CALL_OVER:
            with nogil:
                outcome = rl_execute_with_priority(&self.request.work)
            if self.only_once:
                break
        self.outcome = outcome
        self.executed = True
        if self.stage == CALL_OVER and not self.collected:
            self.give_back()

    # --- in flight

    cdef int choose_executor(self) noexcept:
        if self.by_number:
            self.request.work.execute = rl_execute_call if self.fifo_fd < 0 else rl_fifo_execute
            self.request.work.interruptible = True
        else:
            self.request.work.execute = rl_execute_sqe_work
            self.request.work.interruptible = rl_execute_interruptible(self.request.entry.sqe.opcode)
        return 0

    cdef int take_priority(self) except -1:
        """The context's, if it has no other."""
        if contexts_have_priorities and self.request.work.priority == 0:
            self.request.work.priority = priority.get()
        return 0

    cdef int start(self, Flight loop) except -1:
        self.make_ready(loop)
        return loop.submit(self)

    cdef bint is_for_worker(self) noexcept:
        """Whether no driver does it as the system call would.

        io_uring has a thread try the rest of a short write, and if that fails forgets to move the file's own
        position (Linux 6.18): what is written next would overwrite what was.
        """
        cdef rl_sqe *sqe = &self.request.entry.sqe
        cdef stat_buffer status
        if ((sqe.opcode == RL_OP_WRITE or sqe.opcode == RL_OP_WRITEV) and <int64_t> sqe.offset == -1
                and not sqe.flags & RL_SQE_FIXED_FILE):
            if fstat(sqe.fd, &status) == 0 and (S_ISREG(status.st_mode) or S_ISBLK(status.st_mode)):
                return True
        return self.needs_worker

    cdef int make_ready(self, Flight loop) except -1:
        """All that `submit` needs."""
        self.loop = loop
        self.take_priority()
        if self.request.work.priority != 0 and not self.by_number and moves_file_data(
                self.request.entry.sqe.opcode):
            self.request.entry.sqe.ioprio = self.request.work.priority
        if self.by_number or self.is_for_worker() or not loop.driver.calls.has_opcode(
                loop.driver, self.request.entry.sqe.opcode):
            self.choose_executor()
            self.work = &self.request.work
        if self.work == NULL and self.request.entry.sqe.opcode != RL_OP_POLL_ADD:
            # A driver's request must not outlive the run: no other thread could end it, or know what it did.
            self.settles = True
        return 0

    cdef void prepare(self, rl_sqe *sqe) noexcept:
        sqe[0] = self.request.entry.sqe

    cdef int complete(self, int64_t result, uint32_t flags, object payload) except -1:
        self.outcome = result
        if self.future is not None and not self.cancel_asked and self.loop.alive() and (
                result == -EINTR and not self.only_once or result == -ECANCELED and self.settles):
            # A signal that was for others (PEP 475), or the end of a run.
            return self.loop.submit(self)
        self.completed = True
        self.hand_over_fifo()
        if self.future is None:
            self.unlock()
            self.give_back()
        elif self.cancel_asked:
            Future.cancel(self.future, msg=self.cancel_message)
        elif not self.future.done():
            self.future.set_result(None)
        return 0

    cdef void discard(self, int64_t result, uint32_t flags) noexcept:
        self.outcome = result
        self.hand_over_fifo()
        self.give_back()

    def loop_cancel(self):
        """Asks for the end of what is in flight."""
        self.loop.cancel(self)

    cdef int abandon(self) except -1:
        """Nobody waits any more: ends what is in flight, or gives back what came of it."""
        stage, self.stage = self.stage, CALL_OVER
        if stage != CALL_WAITING:
            return 0
        if self.loop is None:
            # A thread has it. Whoever is later gives back.
            if self.executed:
                self.give_back()
        elif not self.completed:
            # In flight, or its completion is in the ready queue: that gives back.
            self.future = None
            self.loop.cancel(self)
        elif not self.collected:
            self.unlock()
            self.give_back()
        self.waiting = None
        return 0

    cdef int unlock(self) except -1:
        if self.lent:
            self.lent = False
            PyBuffer_Release(&self.view)
        return 0

    cdef void wait_for_writer(self, int fifo_fd) noexcept:
        """What was to be opened is: from now on the call is to wait until the FIFO has a writer."""
        memset(&self.request.call.number, 0, sizeof(self.request) - sizeof(self.request.work))
        self.fifo_fd = fifo_fd
        self.by_number = True
        self.request.call.arguments[0] = <uint64_t> fifo_fd

    cdef void hand_over_fifo(self) noexcept:
        """It is the outcome, or of no use."""
        if self.fifo_fd >= 0 and self.outcome < 0:
            close_fd(self.fifo_fd)
        self.fifo_fd = -1

    cdef object error(self):
        code = -self.outcome
        text = os.strerror(code)
        if self.path2 is not None:
            return OSError(code, text, self.path, None, self.path2)
        if self.path is not None:
            return OSError(code, text, self.path)
        return OSError(code, text)


cdef int tell_of_threads(object loop) except -1:
    """One line for each kind of loop that has no operations, when its threads are first used."""
    kind = type(loop)
    if kind not in foreign_kinds:
        foreign_kinds.add(kind)
        logger.debug("system calls that may block run in threads of the executor: the running loop is %s.%s, "
                     "not ringloop's", kind.__module__, kind.__qualname__)
    return 0


cdef int send(PyObject *self, PyObject *value, PyObject **result) except -1:
    """How the interpreter and tasks step a call: as its method, but with no exception made for the result."""
    cdef Call call = <Call> self
    result[0] = NULL
    if <object> value is not None and call.stage == CALL_NEW:
        raise TypeError("can't send non-None value to a just-started coroutine")
    returned = call.step()
    Py_INCREF(returned)
    result[0] = <PyObject *> returned
    return PYGEN_RETURN if call.stage == CALL_OVER else PYGEN_NEXT


# Cython knows no name for this slot. Types made from Call get it when they are made.
(<send_type *> Call).tp_as_async.am_send = <sendfunc> <void *> send
