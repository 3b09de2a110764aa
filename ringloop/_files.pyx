"""What all file objects stand on: their calls, the order of these, and the raw file.

A method of a file object returns a `FileCall`: a coroutine whose first step does all that there is to do, if
that takes no waiting (`at_once`: the buffer has it, or the kernel has it in memory). Else a coroutine that
waits for system calls goes on, `_slow_…`. `at_once` checks the arguments. Where it returns NotImplemented it
has done no part of the call, so that it can be asked again.

Calls on one file object, and on the objects that it lies upon, are done one at a time, in order.
A call that was cancelled may leave a system call in flight: the next one on that file waits for its end.

Position: of a regular file it is kept here, and every system call is told it, so that a read that nobody
collects moves nothing. All other files have only the kernel's; what is read from them for nobody is kept for
the next read.
"""

import asyncio
import collections
import io
import warnings

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF

from ringloop._core cimport LoopCore
from ringloop._os cimport int64_argument
from ringloop._running cimport running_loop


cdef extern from "Python.h":
    ctypedef PyObject *(*iternextfunc)(PyObject *self) except? NULL
    ctypedef int (*sendfunc)(PyObject *self, PyObject *value, PyObject **result) except? -1
    ctypedef struct PyAsyncMethods:
        sendfunc am_send
    ctypedef struct PyTypeObject:
        iternextfunc tp_iternext
        PyAsyncMethods *tp_as_async
    PyObject *PyExc_StopIteration
    void PyErr_SetObject(PyObject *kind, PyObject *value)
    int PyIter_Send(object iterator, object value, PyObject **result) except -1
    void drop_reference "Py_DECREF"(PyObject *object)

cdef enum:
    FOREIGN_TURNS = 64             # calls done at once on another loop than ours before others' turn comes

cdef tuple NAMES = (
    "read", "read1", "readall", "readinto", "readinto1", "readline", "readlines", "next", "write",
    "writelines", "seek", "tell", "truncate", "flush", "peek", "close", "pread", "pwrite", "fsync",
    "fdatasync", "lock", "unlock", "detach", "enter", "exit",
)


# --- what any file object's arguments are

cdef tuple lock_range(object start, object length):
    """What a lock is of: an offset and a length, or None for all of the file."""
    return None if start is None else (int64_argument(start), int64_argument(length))


cdef Py_ssize_t size_of(object value) except? -2:
    """An argument that is an integer or None, which is -1."""
    if value is None:
        return -1
    if type(value) is int:
        return value
    if not hasattr(value, "__index__"):
        raise TypeError(f"argument should be integer or None, not '{type(value).__name__}'")
    return value


cdef object unsupported(str what):
    return io.UnsupportedOperation(what)


cdef int check_bytes(object data) except -1:
    """TypeError for what has no bytes."""
    cdef Py_buffer view
    if type(data) is not bytes:
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        PyBuffer_Release(&view)
    return 0


cdef int lock_writable(str method, object target, Py_buffer *view) except -1:
    """The memory of a `readinto`'s argument."""
    try:
        PyObject_GetBuffer(target, view, PyBUF_WRITABLE)
    except (TypeError, BufferError):
        raise TypeError(f"{method}() argument must be read-write bytes-like object, "
                        f"not {type(target).__name__}") from None
    return 0


# --- calls

@cython.freelist(32)
cdef class Attempt:
    """A coroutine that mostly is over with its first step."""

    def __dealloc__(self):
        if not self.started and not self.over:
            warnings.warn(f"coroutine '{self.call_name()}' was never awaited", RuntimeWarning, stacklevel=2)

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    def __repr__(self):
        return f"<call {self.call_name()}>"

    @property
    def __name__(self):
        return self.call_name()

    @property
    def __qualname__(self):
        return self.call_name()

    cdef object at_once(self, object loop):
        """The result, or NotImplemented where it has to be waited for; then nothing has happened."""
        raise NotImplementedError

    cdef object go_on(self):
        """The coroutine that waits for it."""
        raise NotImplementedError

    cdef str call_name(self):
        raise NotImplementedError

    def __await__(self):
        # anext() with a default asks before every step.
        if self.over:
            raise RuntimeError("cannot reuse already awaited coroutine")
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        """As a coroutine's: goes on. Raises StopIteration with the result."""
        cdef int step = self.step(value)
        result, self.result = self.result, None
        if step == STEP_YIELDS:
            return result
        raise StopIteration(result)

    def throw(self, kind, value=None, traceback=None):
        """As a coroutine's: raises an exception where it waits."""
        if self.over:
            raise RuntimeError("cannot reuse already awaited coroutine")
        if self.inner is None:
            self.over = True
            if isinstance(kind, BaseException):
                raise kind
            exc = kind() if value is None else value if isinstance(value, BaseException) else kind(value)
            raise exc.with_traceback(traceback)
        try:
            if isinstance(kind, BaseException):
                return self.inner.throw(kind)
            return self.inner.throw(kind, value, traceback)
        except BaseException:
            self.over = True
            raise

    def close(self):
        """As a coroutine's: gives up. What is in flight is cancelled."""
        self.over = True
        if self.inner is not None:
            self.inner.close()

    cdef int step(self, object value) except -1:
        """Goes on: what comes out is in `result`."""
        cdef PyObject *result = NULL
        cdef int sent
        if self.over:
            raise RuntimeError("cannot reuse already awaited coroutine")
        if not self.started:
            loop = running_loop()
            if isinstance(loop, LoopCore):
                self.pass_number = (<LoopCore> loop).pass_number
                if not self.takes_no_turn:
                    self.result = (<LoopCore> loop).await_turn(self.yielded)
                    if self.result is not None:
                        self.yielded = True
                        return STEP_YIELDS
            elif loop is None:
                self.over = True
                raise RuntimeError("no running event loop")
            else:
                self.is_foreign = True
            self.over = True
            self.result = self.at_once(loop)
            if self.result is not NotImplemented:
                return STEP_RETURNS
            self.inner = self.go_on()
            self.over = False
            self.started = True
        self.over = True
        sent = PyIter_Send(self.inner, value, &result)
        self.result = <object> result
        drop_reference(result)
        self.over = sent == STEP_RETURNS
        return sent


cdef PyObject *next_slot(PyObject *self) except? NULL:
    """`__next__`: what ends it sets no traceback, and no instance of StopIteration if Python needs none."""
    cdef Attempt attempt = <Attempt> self
    cdef int step = attempt.step(None)
    result, attempt.result = attempt.result, None
    if step == STEP_YIELDS:
        Py_INCREF(result)
        return <PyObject *> result
    if isinstance(result, (tuple, BaseException)):
        result = StopIteration(result)
    if result is not None:
        PyErr_SetObject(PyExc_StopIteration, <PyObject *> result)
    return NULL


cdef int send_slot(PyObject *self, PyObject *value, PyObject **target) except? -1:
    """PyIter_Send(), by which the tasks of C and, on Python 3.11, `await` go on: no StopIteration at all."""
    cdef Attempt attempt = <Attempt> self
    cdef int step = attempt.step(<object> value)
    result, attempt.result = attempt.result, None
    Py_INCREF(result)
    target[0] = <PyObject *> result
    return step


@cython.final
cdef class FileCall(Attempt):
    """What the methods of file objects return."""

    cdef object at_once(self, object loop):
        cdef Order order = self.file.order()
        if order.busy or not order.is_quiet(self) or (self.is_foreign and order.foreign_turn()):
            return NotImplemented
        self.was_tried = True
        return self.file.at_once(self)

    cdef object go_on(self):
        return in_turn(self, self.file)

    cdef str call_name(self):
        return NAMES[self.kind]


cdef class Order:
    """Calls on one file are done one at a time, in the order in which they began."""

    async def _acquire(self, call):
        """Waits for the turn that another has. A cancelled one leaves the line."""
        if self.line is None:
            self.line = collections.deque()
        turn = running_loop().create_future()
        place = turn, call
        self.line.append(place)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.release()
            elif place in self.line:
                # Else it was cancelled before, and who had the turn then has passed over it.
                self.line.remove(place)
            raise

    cdef int release(self) except -1:
        """Gives the turn to the next in the line."""
        while self.line:
            turn, call = self.line.popleft()
            loop = turn.get_loop()
            # Who waited on a loop that is closed never goes on.
            if not turn.done() and not loop.is_closed():
                self.hold(call, loop)
                turn.set_result(None)
                return 0
        self.busy = False
        self.holder = self.loop = None
        return 0

    cdef int hold(self, FileCall call, object loop) except -1:
        self.busy = True
        self.holder = call
        self.loop = loop
        return 0

    cdef int take_over(self, object loop) except -1:
        """What a loop that is closed would go on with is given up, and what it was not told is told."""
        if self.busy and self.loop.is_closed():
            self.holder.close()
        if self.threads is not None:
            for call in list(self.threads):
                call._tell_also(loop)
        return 0

    cdef bint is_quiet(self, FileCall call) noexcept:
        """Whether no system call is in flight that `call` must not overtake."""
        return self.in_flight == 0 or (
            self.behind and self.in_flight == 1 and call.kind == FILE_WRITE and call.file.writes_behind)

    async def _until_quiet(self, FileCall call):
        """Waits for the end of the system calls that cancelled ones have left in flight."""
        while not self.is_quiet(call):
            if self.quiet is None or self.quiet.get_loop().is_closed():
                self.quiet = running_loop().create_future()
            await asyncio.shield(self.quiet)

    cdef int ended(self) except -1:
        """One that was in flight is over."""
        self.in_flight -= 1
        if self.in_flight == 0 and self.quiet is not None:
            quiet, self.quiet = self.quiet, None
            tell(quiet)
        return 0

    cdef bint foreign_turn(self) noexcept:
        """Whether others shall run first."""
        self.turns += 1
        return self.turns > FOREIGN_TURNS


cdef int tell(object future) except -1:
    """Wakes who waits, if he still can: not on a loop that is closed."""
    if not future.done() and not future.get_loop().is_closed():
        future.set_result(None)
    return 0


async def in_turn(FileCall call, File file):
    """Waits for its turn on the file; then does it at once after all, or waits for what it takes."""
    cdef Order order = file.order()
    if order.busy or order.in_flight != 0:
        order.take_over(running_loop())
    if order.busy:
        await order._acquire(call)
    else:
        order.hold(call, running_loop())
    try:
        if not call.was_tried:
            if not order.is_quiet(call):
                await order._until_quiet(call)
            if order.turns > FOREIGN_TURNS:
                order.turns = 0
                await asyncio.sleep(0)
            # What was before it in line may have detached the file that lies below.
            file.order()
            result = file.at_once(call)
            if result is not NotImplemented:
                return result
        return await file.slowly(call)
    except asyncio.CancelledError:
        if call.kind == FILE_EXIT and file.is_regular():
            await leave_surely(call, file)
        raise
    finally:
        order.release()


async def leave_surely(FileCall call, File file):
    """Does the rest of an exit that was cancelled, as nobody else will: what is written to a regular file
    needs only the device to go on. An error of that is what the caller hears of."""
    while True:
        try:
            await file.order()._until_quiet(call)
            return await file.slowly(call)
        except asyncio.CancelledError:
            # The caller hears of the first one. What this one ended is begun again.
            continue


async def read_into(target, read):
    """What a `readinto` reads by `read`, which is told how much; how many bytes."""
    with memoryview(target).cast("B") as view:
        data = await read(len(view), None)
        view[:len(data)] = data
        return len(data)


cdef class File:
    """The methods that raw, buffered and text files have."""

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    cdef object at_once(self, FileCall call):
        """The call's result, or NotImplemented."""
        raise NotImplementedError

    cdef object slowly(self, FileCall call):
        return getattr(self, "_slow_" + <str> NAMES[call.kind])(call.one, call.two)

    async def _slow_next(self, _, __):
        line = await self._slow_readline(-1, None)
        if not line:
            self.at_end()
            raise StopAsyncIteration
        return line

    async def _slow_readlines(self, hint, _):
        cdef Py_ssize_t limit = size_of(hint)
        cdef Py_ssize_t length = 0
        cdef Py_ssize_t work = 0
        lines = []
        try:
            while True:
                line = self.line_now(-1)
                if line is NotImplemented:
                    line = await self._slow_readline(-1, None)
                if not line:
                    self.at_end()
                    return lines
                lines.append(line)
                length += len(line)
                if 0 < limit < length:
                    return lines
                work += len(line) + ITEM_WORK
                if work > WORK_AT_ONCE:
                    work = 0
                    await asyncio.sleep(0)
        except BaseException:
            self.put_back_lines(lines)
            raise

    def _slow_readinto(self, target, _):
        return read_into(target, self._slow_read)

    async def _slow_exit(self, _, __):
        await self._slow_close(None, None)

    cdef Order order(self):
        """That of the raw file below: one for all objects that lie upon it."""
        raise NotImplementedError

    cdef bint is_regular(self) except -1:
        """Whether its system calls end without anybody else's doing."""
        raise NotImplementedError

    cdef void flushed(self, Py_ssize_t count) noexcept:
        """So many bytes of what a write was given are written, whoever waits for it."""

    cdef object line_now(self, Py_ssize_t limit):
        """The next line, empty at the end, if it takes no waiting; else NotImplemented."""
        return NotImplemented

    cdef int put_back_lines(self, list lines) except -1:
        """What `readlines` had gathered before it failed or was cancelled is next again."""
        raise NotImplementedError

    cdef int at_end(self) except -1:
        """There is no further line."""
        return 0

    cdef FileCall call(self, FileCallKind kind, object one=None, object two=None):
        cdef FileCall call = FileCall.__new__(FileCall)
        call.file = self
        call.kind = kind
        call.one = one
        call.two = two
        # Who waits for his turn can be cancelled, and then the file would stay open.
        call.takes_no_turn = kind == FILE_EXIT
        return call

    def read(self, size=-1, /):
        """Up to `size` bytes or characters; all to the end if it is negative or None."""
        return self.call(FILE_READ, size)

    def readline(self, size=-1, /):
        """The next line with its end, at most `size` bytes or characters of it; empty at the end."""
        return self.call(FILE_READLINE, size)

    def readlines(self, hint=-1, /):
        """The lines that are left; with a positive `hint` no more once so many bytes or characters came."""
        return self.call(FILE_READLINES, hint)

    def __aiter__(self):
        return self

    def __anext__(self):
        return self.call(FILE_NEXT)

    def write(self, data, /):
        """Writes `data`; how many bytes or characters that were."""
        return self.call(FILE_WRITE, data)

    def writelines(self, lines, /):
        """Writes all of `lines`, with nothing between them."""
        return self.call(FILE_WRITELINES, lines)

    def seek(self, offset, whence=0, /):
        """Moves the position: from the start (0), from where it is (1), from the end (2). Returns it."""
        return self.call(FILE_SEEK, offset, whence)

    def tell(self):
        """The position; of a text file only good for seek()."""
        return self.call(FILE_TELL)

    def truncate(self, size=None, /):
        """Makes the file `size` bytes long; the position if None. The position stays. Returns the size."""
        return self.call(FILE_TRUNCATE, size)

    def flush(self):
        """Gives what was written to the kernel. What fails stays in the buffer."""
        return self.call(FILE_FLUSH)

    def close(self):
        """Flushes and closes. The file is closed even if flushing fails, and that then raises."""
        return self.call(FILE_CLOSE)

    def pread(self, length, offset, /):
        """Up to `length` bytes from `offset` on; the position stays."""
        return self.call(FILE_PREAD, length, offset)

    def pwrite(self, data, offset, /):
        """Writes all of `data`, bytes, at `offset`; the position stays."""
        return self.call(FILE_PWRITE, data, offset)

    def fsync(self):
        """Flushes, and waits until the device has the data and what the file system knows of the file."""
        return self.call(FILE_FSYNC)

    def fdatasync(self):
        """As fsync(), without what is not needed to read the data, such as times."""
        return self.call(FILE_FDATASYNC)

    def lock(self, *, shared=False, wait=True, start=None, length=0):
        """Locks the file against other openers of it who lock it: by flock(), or, from `start` on for
        `length` bytes (0: without end), by a lock of fcntl() that belongs to this file object.

        With wait=False raises BlockingIOError if another has it. May be cancelled while it waits.
        """
        return self.call(FILE_LOCK, (shared, wait), lock_range(start, length))

    def unlock(self, *, start=None, length=0):
        """Flushes, and gives back a lock() with the same `start` and `length`."""
        return self.call(FILE_UNLOCK, lock_range(start, length))

    def __aenter__(self):
        return self.call(FILE_ENTER)

    def __aexit__(self, *exc):
        """Closes. Cancelled meanwhile, a regular file is flushed and closed all the same before that is
        raised; any other stays open with what is not written yet, for `close()` or another `flush()`."""
        return self.call(FILE_EXIT)


cdef int take_short_ways(object kind) except -1:
    """Puts in place of what Cython makes of `__next__` and `send` what needs no exception to return."""
    (<PyTypeObject *> <PyObject *> kind).tp_iternext = next_slot
    (<PyTypeObject *> <PyObject *> kind).tp_as_async.am_send = send_slot
    return 0


take_short_ways(FileCall)
