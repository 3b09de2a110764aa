"""An open file: its fd, its position, and the system calls on it.

Position: of a regular file it is kept here, and every system call is told it, so that a read that nobody
collects moves nothing. Once somebody else knows the fd, the kernel's own position follows. Files that are not
regular have only the kernel's; what is read from them for a read that was cancelled is kept for the next.

A close comes after the end of every system call on the fd.
"""

import asyncio
import contextlib
import fcntl
import os
import struct
import warnings

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy
from posix.unistd cimport close as close_fd

from ringloop._core cimport LoopCore
from ringloop._files cimport File, Order, tell, unsupported
from ringloop._flight cimport (
    OPERATION_DONE, RL_CAN_READ_CACHED, RL_OP_POLL_ADD, RL_OP_READ, RL_OP_WRITE, RL_SQE_ASYNC, Flight,
)
from ringloop._running cimport running_loop
from ringloop.priorities import pair_of, priority_of

from ringloop._ops cimport (
    CALL_OVER, RL_WOULD_BLOCK, Call, rl_execute_with_priority, rl_resident_forget, rl_resident_identify,
    rl_resident_pread, rl_resident_pwrite, rl_resident_show, rl_statx, tell_of_threads,
)


cdef extern from "<errno.h>" nogil:
    enum: ECANCELED, EINTR

cdef extern from "<fcntl.h>" nogil:
    enum: F_OFD_SETLK

cdef extern from "<poll.h>" nogil:
    enum: POLLIN, POLLOUT

cdef extern from "<sys/file.h>" nogil:
    enum: LOCK_UN
    int flock(int fd, int operation)

cdef extern from "<sys/stat.h>" nogil:
    struct c_stat "stat":
        int64_t st_size
    int fstat(int fd, c_stat *status)

cdef extern from "<sys/syscall.h>" nogil:
    enum: SYS_flock

cdef extern from "<unistd.h>" nogil:
    enum: SEEK_SET, SEEK_CUR
    int isatty(int fd)
    int64_t lseek(int fd, int64_t offset, int whence)

cdef object LOCK_FORMAT = "hhqqi"
cdef object FILE_END = 1 << 63


# --- system calls

cdef class FileSystemCall(Call):
    """A system call on a file: known to it until it is over, also if nobody waits any more."""

    cdef int start(self, Flight loop) except -1:
        self.request.work.priority = self.file.priority
        Call.start(self, loop)
        self.file.turns.in_flight += 1
        return 0

    cdef int complete(self, int64_t result, uint32_t flags, object payload) except -1:
        Call.complete(self, result, flags, payload)
        if self.state == OPERATION_DONE:
            self.ended()
        return 0

    cdef void discard(self, int64_t result, uint32_t flags) noexcept:
        Call.discard(self, result, flags)
        self.ended()

    cdef int start_in_a_thread(self, object loop) except -1:
        cdef Execution execution
        tell_of_threads(loop)
        self.request.work.priority = self.file.priority
        self.take_priority()
        self.choose_executor()
        execution = Execution(self)
        try:
            thread = loop.run_in_executor(None, execution)
        except BaseException:
            execution.call = None  # it was not begun, and can be later
            raise
        self.file.turns.in_flight += 1
        self.thread_loop = loop
        if self.file.turns.threads is None:
            self.file.turns.threads = []
        self.file.turns.threads.append(self)
        # Not the thread's own future: cancelled before it begins, that would never tell.
        thread.add_done_callback(self._thread_did)
        return 0

    cdef object wait_in_a_thread(self, object loop):
        self.start_in_a_thread(loop)
        self.future = loop.create_future()
        return self.wait()

    def _execute(self):
        Call._execute(self)
        self.tell_heir()

    cdef int never_executed(self) except -1:
        """The executor let go of it undone: as if that had been refused."""
        self.dropped = True
        self.executed = True
        self.outcome = -ECANCELED
        return self.tell_heir()

    cdef int tell_heir(self) except -1:
        """On the thread: its own loop may be closed."""
        heir = self.heir
        if heir is not None:
            # That one may be closed too; whoever comes next finds that it was executed.
            with contextlib.suppress(RuntimeError):
                heir.call_soon_threadsafe(self._thread_did, None)
        return 0

    def _tell_also(self, loop):
        """If the loop that it began on is closed, tells this one."""
        if self.thread_loop.is_closed():
            # In this order: the thread does it in the other.
            self.heir = loop
            if self.executed:
                self._thread_did(None)

    def _thread_did(self, thread):
        if self.leave_thread():
            if self.stage == CALL_OVER:
                # It was given up. The thread may refer to it for a moment more.
                self.unlock()
            self.ended()
            if self.stage != CALL_OVER:
                # As a call of run_in_executor() that the executor drops.
                if self.dropped:
                    self.future.cancel()
                tell(self.future)

    cdef bint leave_thread(self) except -1:
        """Whether this is the first to tell that the thread is done with it."""
        if self.thread_loop is None:
            return False
        self.thread_loop = self.heir = None
        self.file.turns.threads.remove(self)
        return True

    cdef int ended(self) except -1:
        self.settle()
        self.file.absent_at = -1
        return self.file.turns.ended()

    cdef int settle(self) noexcept:
        """Takes over what it achieved, whoever waits."""
        return 0

    cdef object value(self):
        return self.outcome


@cython.final
cdef class Execution:
    """What an executor is given to do: a call, which hears of it if the executor lets go of it undone."""

    cdef FileSystemCall call

    def __cinit__(self, FileSystemCall call):
        self.call = call

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    def __call__(self):
        call, self.call = self.call, None
        call._execute()

    def __del__(self):
        if self.call is not None:
            self.call.never_executed()


@cython.final
cdef class ReadCall(FileSystemCall):
    """Reads into the bytes object that it keeps."""

    cdef int start(self, Flight loop) except -1:
        if self.file.known.reads and not self.file.known.lacks_nowait \
                and not loop.driver.capabilities & RL_CAN_READ_CACHED:
            # It waits for no peer and no server, so that a worker can have it among others.
            self.request.entry.sqe.flags = RL_SQE_ASYNC
        return FileSystemCall.start(self, loop)

    cdef int64_t at_once(self) except? -1:
        cdef Descriptor file = self.file
        cdef rl_statx status
        if file.regular and not file.identified and self.resident() != NULL:
            file.identified = True
            rl_resident_identify(self.resident(), file.fd, False, &file.known, &status)
        return file.read_now(
            <char *> self.request.entry.sqe.address, self.request.entry.sqe.length,
            <int64_t> self.request.entry.sqe.offset)

    cdef void give_back(self) noexcept:
        cdef Descriptor file = self.file
        self.collected = True
        if self.outcome > 0 and not file.regular:
            came = PyBytes_FromStringAndSize(
                <char *> self.request.entry.sqe.address, <Py_ssize_t> self.outcome)
            file.leftover = came if file.leftover is None else file.leftover + came


@cython.final
cdef class WriteCall(FileSystemCall):
    """Writes from the memory that it keeps or has locked; tells `told` how much."""

    cdef File told
    cdef bint moves                # the file's position

    cdef int64_t at_once(self) except? -1:
        cdef int64_t count = RL_WOULD_BLOCK
        if self.file.regular:
            count = rl_resident_pwrite(
                self.file.fd, &self.file.known, <void *> self.request.entry.sqe.address,
                self.request.entry.sqe.length, <int64_t> self.request.entry.sqe.offset)
        if count != RL_WOULD_BLOCK:
            self.outcome = count
            self.settle()
        return count

    cdef int settle(self) noexcept:
        cdef Descriptor file = self.file
        if self.outcome > 0:
            if self.moves and file.regular:
                file.wrote(self.outcome)
            if self.told is not None:
                self.told.flushed(<Py_ssize_t> self.outcome)
        return 0


@cython.final
cdef class CloseCall(FileSystemCall):
    """Closes the fd, also if it is cancelled before it began."""

    def __dealloc__(self):
        # It never began, such as on an executor that was shut down.
        if self.owns_fd:
            close_fd(self.request.entry.sqe.fd)

    cdef object begin(self):
        # It takes no turn: who waits for one can be cancelled, and nobody else knows the fd any more.
        loop = running_loop()
        self.stage = CALL_OVER
        if not isinstance(loop, LoopCore):
            return self.wait_in_a_thread(loop)
        self.future = asyncio.Future(loop=loop)
        self.start(loop)
        return self.wait()

    cdef int complete(self, int64_t result, uint32_t flags, object payload) except -1:
        if result == -ECANCELED and self.loop.alive():
            return self.loop.submit(self)
        self.owns_fd = False
        return FileSystemCall.complete(self, 0 if result == -EINTR else result, flags, payload)

    def _execute(self):
        # Also if nobody waits any more.
        cdef int64_t outcome
        self.owns_fd = False
        with nogil:
            outcome = rl_execute_with_priority(&self.request.work)
        self.outcome = 0 if outcome == -EINTR else outcome
        self.executed = True
        self.tell_heir()

    cdef void discard(self, int64_t result, uint32_t flags) noexcept:
        self.owns_fd = False
        if result == -ECANCELED:
            close_fd(self.request.entry.sqe.fd)
        FileSystemCall.discard(self, result, flags)


@cython.final
cdef class LockCall(FileSystemCall):
    """Takes a lock, and gives it back if nobody waits for it any more."""

    cdef void give_back(self) noexcept:
        cdef Descriptor file = self.file
        self.collected = True
        if self.outcome != 0 or file.fd < 0:
            return
        if not self.by_flock():
            give_back_range(file, self.kept)
        elif not file.locked:
            # Else it took the place of a lock that the file had before, and that the caller counts on. To go
            # back to a weaker one is to have none for a moment, in which another may take it.
            flock(file.fd, LOCK_UN)

    cdef object value(self):
        if self.by_flock():
            self.file.locked = True
        else:
            kind, _, start, length, _ = struct.unpack(LOCK_FORMAT, self.kept)
            self.file.note_range(kind, start, length)
        return self.outcome

    cdef bint by_flock(self) noexcept:
        return self.request.call.number == SYS_flock


cdef int give_back_range(Descriptor file, bytes lock) except -1:
    """Unlocks it, but for what of it was locked before: that is as it was."""
    _, _, start, length, _ = struct.unpack(LOCK_FORMAT, lock)
    start, end = ends_of(start, length)
    begin = start
    for first, last, kind in sorted(file.locked_ranges or ()):
        if first < end and last > start:
            set_range(file.fd, fcntl.F_UNLCK, begin, first)
            set_range(file.fd, kind, max(first, start), min(last, end))
            begin = last
    return set_range(file.fd, fcntl.F_UNLCK, begin, end)


cdef int set_range(int fd, int kind, object start, object end) except -1:
    if start < end:
        fcntl.fcntl(fd, F_OFD_SETLK, lock_range(kind, start, 0 if end == FILE_END else end - start))
    return 0


cdef tuple ends_of(object start, object length):
    """As fcntl() counts: a length of 0 is to the end of the file, a negative one lies before the start."""
    if length < 0:
        return start + length, start
    return start, start + length if length else FILE_END


cdef bytes lock_range(int kind, int64_t start, int64_t length):
    """A struct flock."""
    return struct.pack(LOCK_FORMAT, kind, 0, start, length, 0)


# --- files

cdef class Layer(File):
    """A file object: raw, or upon another."""

    cdef Descriptor lowest(self):
        """The raw file; ValueError if it was detached."""
        raise NotImplementedError

    cdef Order order(self):
        return self.lowest().turns

    cdef bint is_regular(self) except -1:
        return self.lowest().regular

    def fileno(self):
        """The file descriptor. From now on its own position follows that of this object."""
        cdef Descriptor raw = self.lowest()
        raw.check_open()
        if not raw.exposed:
            raw.show()
            raw.exposed = True
            if raw.regular:
                raw.move_to(raw.position)
        return raw.fd

    def isatty(self):
        """Whether it is a terminal."""
        cdef Descriptor raw = self.lowest()
        raw.check_open()
        return not raw.regular and isatty(raw.fd) == 1

    def readable(self):
        """Whether it was opened for reading."""
        cdef Descriptor raw = self.lowest()
        raw.check_open()
        return raw.reads

    def writable(self):
        """Whether it was opened for writing."""
        cdef Descriptor raw = self.lowest()
        raw.check_open()
        return raw.writes

    def seekable(self):
        """Whether it has a position: pipes and terminals have none."""
        cdef Descriptor raw = self.lowest()
        raw.check_open()
        return raw.seeks

    @property
    def io_priority(self):
        """The class and the level of its reads and writes; None: those of the context that makes them.

        May be set at any time, for what begins later: to None, to a class, or to a class and a level, as
        ringloop.io_priority takes them.
        """
        return pair_of(self.lowest().priority)

    @io_priority.setter
    def io_priority(self, value):
        if value is None:
            self.lowest().priority = 0
        else:
            self.lowest().priority = priority_of(value) if isinstance(value, str) else priority_of(*value)

    @property
    def closed(self):
        """Whether it is closed."""
        return self.lowest().fd < 0


cdef class Descriptor(Layer):
    """An open file. `fd` is its own, and is -1 when it is closed."""

    def __cinit__(self):
        self.fd = self.absent_at = -1
        self.turns = Order.__new__(Order)

    @property
    def mode(self):
        """As io.FileIO's: 'rb', 'rb+', 'wb', 'ab', 'ab+', 'xb' or 'xb+'."""
        if self.creates:
            return "xb+" if self.reads else "xb"
        if self.appends:
            return "ab+" if self.reads else "ab"
        if self.reads:
            return "rb+" if self.writes else "rb"
        return "wb"

    cdef Descriptor lowest(self):
        return self

    cdef int show(self) except -1:
        """Before others learn the fd."""
        cdef int error = rl_resident_show(self.fd, &self.known)
        if error < 0:
            raise OSError(-error, os.strerror(-error))
        return 0

    cdef int warn_unclosed(self, object outermost) except -1:
        if self.closefd and not self.warned:
            self.warned = True
            warnings.warn(f"unclosed file {outermost!r}", ResourceWarning, stacklevel=2, source=outermost)
        return 0

    cdef int close_plainly(self) noexcept:
        """At the object's end, when nobody can wait."""
        rl_resident_forget(&self.known)
        if self.closefd:
            close_fd(self.fd)
        self.fd = -1
        return 0

    cdef int check_open(self) except -1:
        if self.fd < 0:
            raise ValueError("I/O operation on closed file")
        return 0

    cdef int check_reads(self) except -1:
        self.check_open()
        if not self.reads:
            raise unsupported("File not open for reading")
        return 0

    cdef int check_writes(self) except -1:
        self.check_open()
        if not self.writes:
            raise unsupported("File not open for writing")
        return 0

    # --- what takes no waiting

    cdef int64_t read_now(self, char *target, size_t length, int64_t offset) noexcept:
        """Bytes, 0 at the end, -errno, or RL_WOULD_BLOCK. May be short."""
        cdef int64_t count
        if not self.regular or self.is_absent(offset):
            return RL_WOULD_BLOCK
        count = rl_resident_pread(self.fd, &self.known, target, length, offset)
        if count == RL_WOULD_BLOCK and self.known.reads:
            self.absent_at = offset
        return count

    cdef bint is_absent(self, int64_t offset) noexcept:
        """Whether a read found so at this place since a call on the file was last over.

        One read is tried by each layer of the file, and what is not in memory for one is not for the next.
        """
        return offset >= 0 and offset == self.absent_at

    cdef int64_t read_fully_now(self, char *target, size_t length, int64_t offset) except? -1:
        """As many as there are up to `length`, or RL_WOULD_BLOCK; errors too are for the waiting call."""
        cdef size_t done = 0
        cdef int64_t count
        if length > PIECE_BYTES:
            return RL_WOULD_BLOCK
        while done < length:
            count = self.read_now(target + done, length - done, offset + <int64_t> done)
            if count < 0:
                return RL_WOULD_BLOCK
            if count == 0:
                break
            done += <size_t> count
        return <int64_t> done

    cdef int64_t size_now(self) noexcept:
        """The file's size, or RL_WOULD_BLOCK."""
        cdef c_stat status
        if self.known.kind == 0 or fstat(self.fd, &status) < 0:
            return RL_WOULD_BLOCK
        self.known.size = <uint64_t> status.st_size
        return status.st_size

    cdef int locate(self) noexcept:
        """Of a regular file: learns the position if others could have moved it."""
        if self.exposed and self.regular:
            self.position = lseek(self.fd, 0, SEEK_CUR)
        return 0

    cdef int move_to(self, int64_t position) noexcept:
        self.position = position
        if self.exposed and self.regular:
            lseek(self.fd, position, SEEK_SET)
        return 0

    cdef int wrote(self, int64_t count) noexcept:
        """Of a regular file: so many bytes were written at the position, or at the end."""
        if self.adds:
            self.position = lseek(self.fd, 0, SEEK_CUR)
            return 0
        return self.move_to(self.position + count)

    # --- system calls

    cdef object read_call(self, bytes target, Py_ssize_t start, Py_ssize_t length, int64_t offset):
        cdef ReadCall call = ReadCall.__new__(ReadCall)
        call.file = self
        call.kept = target
        call.for_entry("read", RL_OP_READ, self.fd)
        # What waits for a peer does not take the place of what ends by itself.
        call.bounded = self.regular
        call.request.entry.sqe.address = <uint64_t> (PyBytes_AS_STRING(target) + start)
        call.request.entry.sqe.length = <uint32_t> min(length, PIECE_BYTES)
        call.request.entry.sqe.offset = <uint64_t> offset
        return call

    cdef object write_call(self, object data, Py_ssize_t start, Py_ssize_t length, int64_t offset, File told):
        cdef WriteCall call = WriteCall.__new__(WriteCall)
        call.file = self
        call.told = told
        call.moves = offset < 0
        call.for_entry("write", RL_OP_WRITE, self.fd)
        call.bounded = self.regular
        if type(data) is bytes:
            call.kept = data
            call.request.entry.sqe.address = <uint64_t> (PyBytes_AS_STRING(data) + start)
        else:
            PyObject_GetBuffer(data, &call.view, PyBUF_SIMPLE)
            call.lent = True
            call.request.entry.sqe.address = <uint64_t> (<char *> call.view.buf + start)
        if offset < 0 and self.regular and not self.adds:
            offset = self.position
        call.request.entry.sqe.length = <uint32_t> min(length, PIECE_BYTES)
        call.request.entry.sqe.offset = <uint64_t> offset
        return call

    cdef object raw_call(self, str name, long number, uint64_t one=0, uint64_t two=0):
        """A system call on the fd that a worker executes."""
        return numbered_call(FileSystemCall.__new__(FileSystemCall), self, name, number, one, two)

    async def _pull(self, target, start, length, offset=-1):
        """Reads once, at the position if there is no offset; how many bytes came into `target`."""
        cdef int64_t count
        if offset < 0 and self.leftover is not None:
            count = min(<Py_ssize_t> length, len(self.leftover))
            memcpy(PyBytes_AS_STRING(target) + <Py_ssize_t> start, PyBytes_AS_STRING(self.leftover), count)
            self.leftover = self.leftover[count:] or None
            return count
        at_position = offset < 0
        if at_position and self.regular:
            # What is absent there was looked for in this step of the task: nobody has moved it since.
            if not self.is_absent(self.position):
                self.locate()
            offset = self.position
        count = -1
        while count < 0:
            try:
                count = await self.read_call(target, start, length, offset)
            except BlockingIOError:
                await self._until_ready(POLLIN)
        if at_position:
            self.move_to(self.position + count)
        return count

    async def _push(self, data, start, length, told=None, offset=-1):
        """Writes once; how many bytes. A write that was cancelled tells `told` all the same."""
        if offset < 0:
            self.locate()
        while True:
            try:
                return await self.write_call(data, start, length, offset, told)
            except BlockingIOError:
                await self._until_ready(POLLOUT)

    async def _until_ready(self, events):
        """For pipes and such that somebody set to O_NONBLOCK: the ring then does not wait either."""
        cdef FileSystemCall call = FileSystemCall.__new__(FileSystemCall)
        call.file = self
        call.for_entry("poll", RL_OP_POLL_ADD, self.fd)
        call.bounded = False
        call.request.entry.sqe.op_flags = <uint32_t> <int> events
        await call

    cdef int note_range(self, int kind, object start, object length) except -1:
        """That fcntl() has locked a range, or unlocked it."""
        start, end = ends_of(start, length)
        kept = []
        for first, last, kind_then in self.locked_ranges or ():
            kept += [(first, min(last, start), kind_then)] if first < start else []
            kept += [(max(first, end), last, kind_then)] if last > end else []
        if kind != fcntl.F_UNLCK:
            kept.append((start, end, kind))
        self.locked_ranges = kept
        return 0

    cdef int put_back(self, list pieces) except -1:
        """Undoes the part of a read that was done before the rest failed or was cancelled."""
        data = b"".join(pieces)
        if self.regular:
            self.move_to(self.position - len(data))
        else:
            self.leftover = (data + (self.leftover or b"")) or None
        return 0


cdef object numbered_call(
        FileSystemCall call, Descriptor file, str name, long number, uint64_t one, uint64_t two):
    call.file = file
    call.for_number(name, number)
    call.request.call.arguments[0] = <uint64_t> file.fd
    call.request.call.arguments[1] = one
    call.request.call.arguments[2] = two
    return call
