"""The file at the bottom of every file object: what open(…, buffering=0) returns, and its system calls.

Position: of a regular file it is kept here, and every system call is told it, so that a read that nobody
collects moves nothing. Once somebody else knows the fd, the kernel's own position follows. Files that are not
regular have only the kernel's; what is read from them for a read that was cancelled is kept for the next.

A close comes after the end of every system call on the fd.
"""

import fcntl
import os
import struct
import warnings

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy
from posix.unistd cimport close as close_fd

from ringloop._files cimport (
    FILE_CLOSE, FILE_ENTER, FILE_EXIT, FILE_FLUSH, FILE_NEXT, FILE_PREAD, FILE_PWRITE, FILE_READ,
    FILE_READALL, FILE_READINTO, FILE_READLINE, FILE_READLINES, FILE_SEEK, FILE_TELL, FILE_TRUNCATE, FILE_WRITE,
    File, FileCall, Order, check_bytes, index, lock_writable, size_of, unsupported,
)
from ringloop._flight cimport (
    OPERATION_DONE, RL_OP_CLOSE, RL_OP_POLL_ADD, RL_OP_READ, RL_OP_WRITE, RL_SQE_ASYNC, Flight,
)
from ringloop._ops cimport (
    CALL_OVER, RL_WOULD_BLOCK, Call, rl_resident_close, rl_resident_forget,
    rl_resident_identify, rl_resident_pread, rl_resident_pwrite, rl_statx,
)


cdef extern from "<errno.h>" nogil:
    enum: ECANCELED, EINVAL, ESPIPE

cdef extern from "<fcntl.h>" nogil:
    enum: F_OFD_SETLK, F_OFD_SETLKW

cdef extern from "<poll.h>" nogil:
    enum: POLLIN, POLLOUT

cdef extern from "<sys/file.h>" nogil:
    enum: LOCK_EX, LOCK_SH, LOCK_NB, LOCK_UN
    int flock(int fd, int operation)

cdef extern from "<sys/stat.h>" nogil:
    struct c_stat "stat":
        int64_t st_size
    int fstat(int fd, c_stat *status)

cdef extern from "<sys/syscall.h>" nogil:
    enum: SYS_fcntl, SYS_fdatasync, SYS_flock, SYS_fsync, SYS_ftruncate, SYS_lseek

cdef extern from "<unistd.h>" nogil:
    enum: SEEK_SET, SEEK_CUR, SEEK_END
    int isatty(int fd)
    int64_t lseek(int fd, int64_t offset, int whence)

# Beyond, the kernel knows whether a file on this file system can have such a position.
cdef int64_t POSITION_CERTAIN_MAX = 1_099_511_627_776


# --- system calls

cdef class RawCall(Call):
    """A system call on a file: known to it until it is over, also if nobody waits any more."""

    cdef int start(self, Flight loop) except -1:
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
        self.file.turns.in_flight -= 1
        self.settle()

    cdef object wait_in_a_thread(self, object loop):
        self.choose_executor()
        thread = loop.run_in_executor(None, self._execute)
        self.file.turns.in_flight += 1
        # Not the thread's own future: cancelled before it begins, that would never tell.
        thread.add_done_callback(self._thread_did)
        self.future = loop.create_future()
        return self.wait()

    def _thread_did(self, thread):
        self.ended()
        if self.stage != CALL_OVER and not self.future.done():
            self.future.set_result(None)

    cdef int ended(self) except -1:
        self.settle()
        return self.file.turns.ended()

    cdef int settle(self) noexcept:
        """Takes over what it achieved, whoever waits."""
        return 0

    cdef object value(self):
        return self.outcome


@cython.final
cdef class RawRead(RawCall):
    """Reads into the bytes object that it keeps."""

    cdef int64_t at_once(self) except? -1:
        cdef RawFile file = self.file
        cdef rl_statx status
        if file.regular and not file.identified and self.resident() != NULL:
            file.identified = True
            rl_resident_identify(self.resident(), file.fd, False, &file.known, &status)
        return file.read_now(
            <char *> self.request.entry.sqe.address, self.request.entry.sqe.length,
            <int64_t> self.request.entry.sqe.offset)

    cdef void give_back(self) noexcept:
        cdef RawFile file = self.file
        self.collected = True
        if self.outcome > 0 and not file.regular:
            came = PyBytes_FromStringAndSize(
                <char *> self.request.entry.sqe.address, <Py_ssize_t> self.outcome)
            file.leftover = came if file.leftover is None else file.leftover + came


@cython.final
cdef class RawWrite(RawCall):
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
        cdef RawFile file = self.file
        if self.outcome > 0:
            if self.moves and file.regular and file.appends:
                file.position = lseek(file.fd, 0, SEEK_CUR)
            elif self.moves and file.regular:
                file.move_to(file.position + self.outcome)
            if self.told is not None:
                self.told.flushed(<Py_ssize_t> self.outcome)
        return 0


@cython.final
cdef class RawClose(RawCall):
    """Closes the fd, also if it is cancelled before it began."""

    cdef int complete(self, int64_t result, uint32_t flags, object payload) except -1:
        if result == -ECANCELED and self.loop.alive():
            return self.loop.submit(self)
        return RawCall.complete(self, result, flags, payload)

    cdef void discard(self, int64_t result, uint32_t flags) noexcept:
        if result == -ECANCELED:
            close_fd(self.request.entry.sqe.fd)
        RawCall.discard(self, result, flags)


@cython.final
cdef class RawLock(RawCall):
    """Takes a lock, and gives it back if nobody waits for it any more."""

    cdef void give_back(self) noexcept:
        self.collected = True
        if self.outcome == 0 and self.file.fd >= 0:
            if self.by_flock():
                flock(self.file.fd, LOCK_UN)
            else:
                unlock_range(self.file.fd, self.kept)

    cdef bint by_flock(self) noexcept:
        return self.request.call.number == SYS_flock


cdef int unlock_range(int fd, bytes lock) noexcept:
    _, _, start, length, _ = struct.unpack("hhqqi", lock)
    fcntl.fcntl(fd, F_OFD_SETLK, lock_range(fcntl.F_UNLCK, start, length))
    return 0


cdef bytes lock_range(int kind, int64_t start, int64_t length):
    """A struct flock."""
    return struct.pack("hhqqi", kind, 0, start, length, 0)


# --- files

cdef class Layer(File):
    """A file object: raw, or upon another."""

    cdef RawFile lowest(self):
        """The raw file; ValueError if it was detached."""
        raise NotImplementedError

    cdef Order order(self):
        return self.lowest().turns

    def fileno(self):
        """The file descriptor. From now on its own position follows that of this object."""
        cdef RawFile raw = self.lowest()
        raw.check_open()
        if not raw.exposed:
            raw.exposed = True
            if raw.regular:
                raw.move_to(raw.position)
        return raw.fd

    def isatty(self):
        """Whether it is a terminal."""
        cdef RawFile raw = self.lowest()
        raw.check_open()
        return not raw.regular and isatty(raw.fd) == 1

    def readable(self):
        """Whether it was opened for reading."""
        cdef RawFile raw = self.lowest()
        raw.check_open()
        return raw.reads

    def writable(self):
        """Whether it was opened for writing."""
        cdef RawFile raw = self.lowest()
        raw.check_open()
        return raw.writes

    def seekable(self):
        """Whether it has a position: pipes and terminals have none."""
        cdef RawFile raw = self.lowest()
        raw.check_open()
        return raw.seeks

    @property
    def closed(self):
        """Whether it is closed."""
        return self.lowest().fd < 0


@cython.final
cdef class RawFile(Layer):
    """A file without a buffer: every call is a system call."""

    def __cinit__(self):
        self.fd = -1
        self.turns = Order()

    def __del__(self):
        if self.fd >= 0:
            self.warn_unclosed(self)
            self.close_plainly()

    def __repr__(self):
        if self.fd < 0:
            return "<ringloop.RawFile [closed]>"
        return f"<ringloop.RawFile name={self.name!r} mode={self.mode!r} closefd={bool(self.closefd)}>"

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

    cdef RawFile lowest(self):
        return self

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
        return rl_resident_pread(self.fd, &self.known, target, length, offset) if self.regular \
            else RL_WOULD_BLOCK

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
        return status.st_size

    cdef object read_all_now(self, const char *head, Py_ssize_t head_bytes):
        """`head` and the rest of the file."""
        cdef int64_t rest
        cdef int64_t count
        self.locate()
        rest = self.size_now()
        if rest == RL_WOULD_BLOCK:
            return NotImplemented
        rest = max(rest - self.position, 0)
        if rest > PIECE_BYTES:
            return NotImplemented
        data = PyBytes_FromStringAndSize(NULL, head_bytes + rest)
        count = self.read_fully_now(PyBytes_AS_STRING(data) + head_bytes, rest, self.position)
        if count != rest:
            return NotImplemented
        if head_bytes != 0:
            memcpy(PyBytes_AS_STRING(data), head, head_bytes)
        self.move_to(self.position + count)
        return data

    cdef object read_to_now(self, object target):
        cdef Py_buffer view
        cdef int64_t count
        lock_writable("readinto", target, &view)
        try:
            self.locate()
            count = self.read_fully_now(<char *> view.buf, view.len, self.position)
        finally:
            PyBuffer_Release(&view)
        if count == RL_WOULD_BLOCK:
            return NotImplemented
        self.move_to(self.position + count)
        return count

    cdef object read_size_now(self, Py_ssize_t length):
        cdef int64_t count
        if length < 0:
            return self.read_all_now(NULL, 0)
        if length > PIECE_BYTES:
            return NotImplemented
        self.locate()
        data = PyBytes_FromStringAndSize(NULL, length)
        count = self.read_fully_now(PyBytes_AS_STRING(data), length, self.position)
        if count == RL_WOULD_BLOCK:
            return NotImplemented
        self.move_to(self.position + count)
        return data if count == length else data[:count]

    cdef object pread_now(self, object length, object offset):
        cdef Py_ssize_t wanted = <Py_ssize_t> index(length)
        cdef int64_t begin = index(offset)
        cdef int64_t count
        self.check_reads()
        if wanted < 0 or begin < 0:
            raise OSError(EINVAL, os.strerror(EINVAL))
        if not self.seeks:
            raise OSError(ESPIPE, os.strerror(ESPIPE))
        if wanted > PIECE_BYTES:
            return NotImplemented
        data = PyBytes_FromStringAndSize(NULL, wanted)
        count = self.read_fully_now(PyBytes_AS_STRING(data), wanted, begin)
        if count == RL_WOULD_BLOCK:
            return NotImplemented
        return data if count == wanted else data[:count]

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

    cdef object seek_now(self, object offset, object whence):
        cdef int64_t target = index(offset)
        cdef int64_t base = 0
        cdef int how = <int> index(whence)
        if not self.regular or how > SEEK_END or how < 0:
            return NotImplemented
        if how == SEEK_CUR:
            self.locate()
            base = self.position
        elif how == SEEK_END:
            base = self.size_now()
            if base == RL_WOULD_BLOCK:
                return NotImplemented
        if target > POSITION_CERTAIN_MAX or target + base > POSITION_CERTAIN_MAX:
            return NotImplemented
        if target + base < 0:
            raise OSError(EINVAL, os.strerror(EINVAL))
        self.move_to(target + base)
        return self.position

    cdef object close_now(self):
        cdef int64_t result
        if self.fd < 0:
            return None
        if not self.closefd:
            self.close_plainly()
            return None
        if self.turns.in_flight != 0:
            return NotImplemented
        result = rl_resident_close(self.fd, &self.known)
        if result == RL_WOULD_BLOCK:
            return NotImplemented
        self.fd = -1
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return None

    cdef object at_once(self, FileCall call):
        cdef int kind = call.kind
        if kind == FILE_CLOSE or kind == FILE_EXIT:
            return self.close_now()
        if kind == FILE_READ:
            self.check_reads()
            return self.read_size_now(size_of(call.one))
        if kind == FILE_READALL:
            self.check_reads()
            return self.read_all_now(NULL, 0)
        if kind == FILE_READINTO:
            self.check_reads()
            return self.read_to_now(call.one)
        if kind in (FILE_READLINE, FILE_READLINES):
            self.check_reads()
            size_of(call.one)
        elif kind == FILE_NEXT:
            self.check_reads()
        elif kind == FILE_WRITE:
            self.check_writes()
            check_bytes(call.one)
        elif kind == FILE_SEEK:
            self.check_open()
            return self.seek_now(call.one, call.two)
        elif kind == FILE_TELL:
            self.check_open()
            self.locate()
            return self.position if self.regular else NotImplemented
        elif kind == FILE_PREAD:
            return self.pread_now(call.one, call.two)
        elif kind in (FILE_TRUNCATE, FILE_PWRITE):
            self.check_writes()
        elif kind == FILE_FLUSH:
            self.check_open()
            return None
        elif kind == FILE_ENTER:
            self.check_open()
            return self
        else:
            self.check_open()
        return NotImplemented

    # --- system calls

    cdef object read_call(self, bytes target, Py_ssize_t start, Py_ssize_t length, int64_t offset):
        cdef RawRead call = RawRead.__new__(RawRead)
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
        cdef RawWrite call = RawWrite.__new__(RawWrite)
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
        if offset < 0 and self.regular and not self.appends:
            offset = self.position
        call.request.entry.sqe.length = <uint32_t> min(length, PIECE_BYTES)
        call.request.entry.sqe.offset = <uint64_t> offset
        return call

    cdef object raw_call(self, str name, long number, uint64_t one=0, uint64_t two=0):
        """A system call on the fd that a worker executes."""
        return numbered_call(RawCall.__new__(RawCall), self, name, number, one, two)

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
        cdef RawCall call = RawCall.__new__(RawCall)
        call.file = self
        call.for_entry("poll", RL_OP_POLL_ADD, self.fd)
        call.bounded = False
        call.request.entry.sqe.op_flags = <uint32_t> <int> events
        await call

    # --- the calls that wait

    async def _slow_read(self, size, _):
        cdef Py_ssize_t length = size_of(size)
        if length < 0:
            return await self._slow_readall(None, None)
        data = PyBytes_FromStringAndSize(NULL, length)
        done = await self._pull(data, 0, length)
        try:
            while self.regular and 0 < done < length:
                count = await self._pull(data, done, length - done)
                if count == 0:
                    break
                done += count
        except BaseException:
            self.move_to(self.position - done)
            raise
        return data if done == length else data[:done]

    async def _slow_readall(self, _, __):
        pieces = []
        try:
            while True:
                piece = PyBytes_FromStringAndSize(NULL, PIECE_BYTES if self.regular else STREAM_BYTES)
                count = await self._pull(piece, 0, len(piece))
                if count == 0:
                    return b"".join(pieces)
                pieces.append(piece if count == len(piece) else piece[:count])
        except BaseException:
            self.put_back(pieces)
            raise

    cdef int put_back(self, list pieces) except -1:
        """Undoes the part of a read that was done before the rest failed or was cancelled."""
        data = b"".join(pieces)
        if self.regular:
            self.move_to(self.position - len(data))
        else:
            self.leftover = (data + (self.leftover or b"")) or None
        return 0

    async def _slow_readinto(self, target, _):
        with memoryview(target).cast("B") as view:
            data = await self._slow_read(len(view), None)
            view[:len(data)] = data
            return len(data)

    async def _slow_readline(self, size, _):
        cdef Py_ssize_t limit = size_of(size)
        cdef Py_ssize_t length = 0
        pieces = []
        try:
            while length != limit:
                # What is not regular cannot be put back: byte by byte.
                wanted = 1 if not self.regular else STREAM_BYTES if limit < 0 else limit - length
                piece = PyBytes_FromStringAndSize(NULL, min(wanted, STREAM_BYTES))
                count = await self._pull(piece, 0, len(piece))
                if count == 0:
                    break
                end = piece.find(b"\n", 0, count) + 1 or count
                if end != count:
                    self.move_to(self.position - count + end)
                pieces.append(piece[:end])
                length += end
                if piece[end - 1] == 10:
                    break
        except BaseException:
            self.put_back(pieces)
            raise
        return b"".join(pieces)

    async def _slow_next(self, _, __):
        line = await self._slow_readline(-1, None)
        if not line:
            raise StopAsyncIteration
        return line

    async def _slow_readlines(self, hint, _):
        return await lines_of(self, size_of(hint))

    async def _slow_write(self, data, _):
        with memoryview(data) as view:
            length = view.nbytes
            kept = data if type(data) is bytes else view
            done = await self._push(kept, 0, length)
            while self.regular and done < length:
                try:
                    done += await self._push(kept, done, length - done)
                except OSError:
                    # As one write() would say: so far it came.
                    break
            return done

    async def _slow_writelines(self, lines, _):
        for line in lines:
            self.check_writes()
            check_bytes(line)
            await self._slow_write(line, None)

    async def _slow_seek(self, offset, whence):
        result = await self.raw_call("lseek", SYS_lseek, <uint64_t> <int64_t> index(offset), index(whence))
        self.leftover = None
        self.position = result
        return result

    async def _slow_tell(self, _, __):
        return await self.raw_call("lseek", SYS_lseek, 0, SEEK_CUR) - len(self.leftover or b"")

    async def _slow_truncate(self, size, _):
        if size is None:
            self.locate()
            size = self.position if self.regular else await self._slow_tell(None, None)
        await self.raw_call("ftruncate", SYS_ftruncate, <uint64_t> <int64_t> index(size))
        return size

    async def _slow_close(self, _, __):
        cdef RawClose call
        if self.fd < 0:
            return
        call = RawClose.__new__(RawClose)
        call.file = self
        call.for_entry("close", RL_OP_CLOSE, self.fd)
        # Never queued behind others, as it is not given up; and a ring would close on the loop's thread.
        call.bounded = False
        call.request.entry.sqe.flags = RL_SQE_ASYNC
        rl_resident_forget(&self.known)
        self.fd = -1
        await call

    async def _slow_exit(self, _, __):
        await self._slow_close(None, None)

    async def _slow_pread(self, length, offset):
        data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> index(length))
        done = 0
        while done < len(data):
            count = await self._pull(data, done, len(data) - done, offset + done)
            if count == 0:
                break
            done += count
        return data[:done]

    async def _slow_pwrite(self, data, offset):
        offset = index(offset)
        if offset < 0:
            raise OSError(EINVAL, os.strerror(EINVAL))
        if not self.seeks:
            raise OSError(ESPIPE, os.strerror(ESPIPE))
        with memoryview(data) as view:
            done = 0
            while done < view.nbytes:
                done += await self._push(view, done, view.nbytes - done, None, offset + done)
            return done

    async def _slow_fsync(self, _, __):
        await self.raw_call("fsync", SYS_fsync)

    async def _slow_fdatasync(self, _, __):
        await self.raw_call("fdatasync", SYS_fdatasync)

    async def _slow_lock(self, how, where):
        cdef RawLock call = RawLock.__new__(RawLock)
        shared, wait = how
        if where is None:
            numbered_call(call, self, "flock", SYS_flock,
                          (LOCK_SH if shared else LOCK_EX) | (0 if wait else LOCK_NB), 0)
        else:
            call.kept = lock_range(fcntl.F_RDLCK if shared else fcntl.F_WRLCK, where[0], where[1])
            numbered_call(call, self, "fcntl", SYS_fcntl, F_OFD_SETLKW if wait else F_OFD_SETLK,
                          <uint64_t> PyBytes_AS_STRING(call.kept))
        # It can wait for ever.
        call.bounded = False
        await call

    async def _slow_unlock(self, where, _):
        if where is None:
            await self.raw_call("flock", SYS_flock, LOCK_UN)
        else:
            lock = lock_range(fcntl.F_UNLCK, where[0], where[1])
            await self.raw_call("fcntl", SYS_fcntl, F_OFD_SETLK, <uint64_t> PyBytes_AS_STRING(lock))

    # --- what only a raw file has

    def readall(self):
        """All to the end."""
        return self.call(FILE_READALL)

    def readinto(self, buffer, /):
        """Fills `buffer`, as far as one read does; how many bytes."""
        return self.call(FILE_READINTO, buffer)


cdef object numbered_call(RawCall call, RawFile file, str name, long number, uint64_t one, uint64_t two):
    call.file = file
    call.for_number(name, number)
    call.request.call.arguments[0] = <uint64_t> file.fd
    call.request.call.arguments[1] = one
    call.request.call.arguments[2] = two
    return call


async def lines_of(file, Py_ssize_t hint):
    """The lines that are left of any file; no more once they are longer than a positive `hint`."""
    cdef Py_ssize_t length = 0
    lines = []
    while True:
        line = await file._slow_readline(-1, None)
        if not line:
            return lines
        lines.append(line)
        length += len(line)
        if 0 < hint < length:
            return lines
