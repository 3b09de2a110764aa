"""The file at the bottom of every file object: what open(…, buffering=0) returns."""

import fcntl
import os

cimport cython
from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.string cimport memcpy

from ringloop._descriptor cimport (
    PIECE_BYTES, STREAM_BYTES, Descriptor, CloseCall, LockCall, lock_range, numbered_call,
)
from ringloop._files cimport (
    FILE_CLOSE, FILE_ENTER, FILE_EXIT, FILE_FLUSH, FILE_NEXT, FILE_PREAD, FILE_PWRITE, FILE_READ,
    FILE_READALL, FILE_READINTO, FILE_READLINE, FILE_READLINES, FILE_SEEK, FILE_TELL, FILE_TRUNCATE,
    FILE_WRITE, FileCall, check_bytes, lock_writable, size_of,
)
from ringloop._os cimport int64_argument, int_argument
from ringloop._flight cimport RL_OP_CLOSE, RL_SQE_ASYNC
from ringloop._ops cimport RL_WOULD_BLOCK, rl_resident_close, rl_resident_forget, rl_resident_read_rest


cdef extern from "<errno.h>" nogil:
    enum: EINVAL, ESPIPE

cdef extern from "<fcntl.h>" nogil:
    enum: F_OFD_SETLK, F_OFD_SETLKW

cdef extern from "<sys/file.h>" nogil:
    enum: LOCK_EX, LOCK_SH, LOCK_NB, LOCK_UN

cdef extern from "<sys/syscall.h>" nogil:
    enum: SYS_fcntl, SYS_fdatasync, SYS_flock, SYS_fsync, SYS_ftruncate, SYS_lseek

cdef extern from "<unistd.h>" nogil:
    enum: SEEK_SET, SEEK_CUR, SEEK_END

# Beyond, the kernel knows whether a file on this file system can have such a position.
cdef int64_t POSITION_CERTAIN_MAX = 1_099_511_627_776


@cython.final
cdef class RawFile(Descriptor):
    """A file without a buffer: every call is a system call."""

    def __del__(self):
        # Of a cycle of garbage this may be the first whose end is called.
        if self.fd >= 0 and not self.covered:
            self.warn_unclosed(self)
            self.close_plainly()

    def __repr__(self):
        if self.fd < 0:
            return "<ringloop.RawFile [closed]>"
        return f"<ringloop.RawFile name={self.name!r} mode={self.mode!r} closefd={bool(self.closefd)}>"

    # --- what takes no waiting

    cdef object read_rest_now(self, const char *head, Py_ssize_t head_bytes):
        """`head` and the rest of the file, if that ends where it did when it was last seen."""
        cdef int64_t rest
        cdef int64_t count
        self.locate()
        rest = <int64_t> self.known.size - self.position
        if 0 < rest < PIECE_BYTES and not self.is_absent(self.position):
            # The zero behind the bytes is the room for one more: with that one read nobody sees the object.
            data = PyBytes_FromStringAndSize(NULL, head_bytes + rest)
            count = rl_resident_read_rest(
                self.fd, &self.known, PyBytes_AS_STRING(data) + head_bytes, self.position)
            if count == rest:
                return self.joined(data, head, head_bytes, count)
        return NotImplemented

    cdef object read_all_now(self, const char *head, Py_ssize_t head_bytes):
        """`head` and the rest of the file."""
        cdef int64_t rest
        cdef int64_t count
        data = self.read_rest_now(head, head_bytes)
        if data is not NotImplemented:
            return data
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
        return self.joined(data, head, head_bytes, count)

    cdef object joined(self, bytes data, const char *head, Py_ssize_t head_bytes, int64_t count):
        """`data`, into which `count` bytes were read behind the room for `head`."""
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
        cdef int64_t rest
        if length < 0:
            return self.read_all_now(NULL, 0)
        self.locate()
        if length > <int64_t> self.known.size - self.position:
            data = self.read_rest_now(NULL, 0)
            if data is not NotImplemented:
                return data
            # No more is asked for than there is, so that nobody has to look whether that was the end.
            rest = self.size_now()
            if rest == RL_WOULD_BLOCK:
                return NotImplemented
            length = min(length, max(rest - self.position, 0))
        if length > PIECE_BYTES:
            return NotImplemented
        data = PyBytes_FromStringAndSize(NULL, length)
        count = self.read_fully_now(PyBytes_AS_STRING(data), length, self.position)
        if count == RL_WOULD_BLOCK:
            return NotImplemented
        self.move_to(self.position + count)
        return data if count == length else data[:count]

    cdef object pread_now(self, object length, object offset):
        cdef Py_ssize_t wanted = <Py_ssize_t> int64_argument(length)
        cdef int64_t begin = int64_argument(offset)
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

    cdef object seek_now(self, object offset, object whence):
        cdef int64_t target = int64_argument(offset)
        cdef int64_t base = 0
        cdef int how = int_argument(whence)
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

    cdef object close_now(self, FileCall call):
        cdef bint was_just_opened = self.opened_now and self.opened_pass == call.pass_number
        cdef int64_t result
        if self.fd < 0:
            return None
        if not self.closefd:
            self.close_plainly()
            return None
        if self.turns.in_flight != 0:
            return NotImplemented
        result = rl_resident_close(self.fd, &self.known, was_just_opened)
        if result == RL_WOULD_BLOCK:
            return NotImplemented
        self.fd = -1
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return None

    cdef object at_once(self, FileCall call):
        cdef int kind = call.kind
        if kind == FILE_CLOSE or kind == FILE_EXIT:
            return self.close_now(call)
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

    # --- the calls that wait

    cdef int put_back_lines(self, list lines) except -1:
        return self.put_back(lines)

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

    async def _slow_write(self, data, _):
        # Not released but dropped: a call that was given up has it until the kernel is done with the memory.
        view = memoryview(data)
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
        cdef int how = int_argument(whence)
        cdef int64_t target = int64_argument(offset)
        if how == SEEK_CUR and self.regular:
            self.locate()  # the kernel has another position
            if target > INT64_MAX - self.position:
                raise OSError(EINVAL, os.strerror(EINVAL))
            target += self.position
            how = SEEK_SET
        result = await self.raw_call("lseek", SYS_lseek, <uint64_t> target, how)
        self.leftover = None
        self.position = result
        return result

    async def _slow_tell(self, _, __):
        return await self.raw_call("lseek", SYS_lseek, 0, SEEK_CUR) - len(self.leftover or b"")

    async def _slow_truncate(self, size, _):
        if size is None:
            self.locate()
            size = self.position if self.regular else await self._slow_tell(None, None)
        await self.raw_call("ftruncate", SYS_ftruncate, <uint64_t> <int64_t> int64_argument(size))
        return size

    async def _slow_close(self, _, __):
        cdef CloseCall call
        if self.fd < 0:
            return
        call = CloseCall.__new__(CloseCall)
        call.file = self
        call.for_entry("close", RL_OP_CLOSE, self.fd)
        # Never queued behind others, as it is not given up; and a ring would close on the loop's thread.
        call.bounded = False
        call.request.entry.sqe.flags = RL_SQE_ASYNC
        rl_resident_forget(&self.known)
        call.owns_fd = True
        self.fd = -1
        await call

    async def _slow_pread(self, length, offset):
        data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> int64_argument(length))
        offset = int64_argument(offset)
        done = 0
        while done < len(data):
            count = await self._pull(data, done, len(data) - done, offset + done)
            if count == 0:
                break
            done += count
        return data[:done]

    async def _slow_pwrite(self, data, offset):
        offset = int64_argument(offset)
        if offset < 0:
            raise OSError(EINVAL, os.strerror(EINVAL))
        if not self.seeks:
            raise OSError(ESPIPE, os.strerror(ESPIPE))
        # As in _slow_write().
        view = memoryview(data)
        done = 0
        while done < view.nbytes:
            done += await self._push(view, done, view.nbytes - done, None, offset + done)
        return done

    async def _slow_fsync(self, _, __):
        await self.raw_call("fsync", SYS_fsync)

    async def _slow_fdatasync(self, _, __):
        await self.raw_call("fdatasync", SYS_fdatasync)

    async def _slow_lock(self, how, where):
        cdef LockCall call = LockCall.__new__(LockCall)
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
        # Noted at once: a lock that is cancelled after this must not come back.
        if where is None:
            self.locked = False
            await self.raw_call("flock", SYS_flock, LOCK_UN)
        else:
            lock = lock_range(fcntl.F_UNLCK, where[0], where[1])
            self.note_range(fcntl.F_UNLCK, where[0], where[1])
            await self.raw_call("fcntl", SYS_fcntl, F_OFD_SETLK, <uint64_t> PyBytes_AS_STRING(lock))

    # --- what only a raw file has

    def readall(self):
        """All to the end."""
        return self.call(FILE_READALL)

    def readinto(self, buffer, /):
        """Fills `buffer`, as far as one read does; how many bytes."""
        return self.call(FILE_READINTO, buffer)
