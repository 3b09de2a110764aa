"""A binary file with a buffer: what open() returns for 'rb', 'wb', 'r+b' and so on.

There is one buffer for what was read ahead and one for what is to be written, and never something in both.
What is to be written leaves its buffer only when the kernel took it: a flush that fails or is cancelled loses
nothing. What a read has gathered before it failed or was cancelled is read ahead again. With write-behind a
full buffer goes into a queue, see _write_behind.pyx; every call but a write then waits until that is empty.
"""

import asyncio
import errno

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memchr, memcpy, memmove

from ringloop._files cimport (
    FILE_CLOSE, FILE_DETACH, FILE_ENTER, FILE_EXIT, FILE_FLUSH, FILE_NEXT, FILE_PEEK, FILE_PREAD, FILE_PWRITE,
    FILE_READ, FILE_READ1, FILE_READINTO, FILE_READINTO1, FILE_READLINE, FILE_READLINES, FILE_SEEK, FILE_TELL,
    FILE_TRUNCATE, FILE_WRITE, ITEM_WORK, WORK_AT_ONCE, FileCall, check_bytes, lock_writable, size_of,
    unsupported,
)
from ringloop._descriptor cimport PIECE_BYTES, STREAM_BYTES, Descriptor, Layer
from ringloop._ops cimport RL_WOULD_BLOCK
from ringloop._os cimport int64_argument, int_argument
from ringloop._raw cimport RawFile
from ringloop._write_behind cimport write_behind

from ringloop._files import read_into


cdef extern from "<unistd.h>" nogil:
    int64_t pwrite(int fd, const void *data, size_t length, int64_t offset)
    int64_t write(int fd, const void *data, size_t length)
    enum: SEEK_SET, SEEK_CUR, SEEK_END

cdef enum:
    SEEK_HOLE = 4                  # the last that lseek() has
    SMALL_BYTES = 4096             # the first size of a buffer: nobody knows the need yet
    # With write-behind: from here on a piece by itself costs less than to copy it.
    DIRECT_BYTES = 16384


cdef BufferedFile buffered_file(RawFile raw, Py_ssize_t size, Py_ssize_t size_max, Py_ssize_t behind_max):
    """Upon `raw`, with a buffer of `size` bytes, which for writing grows up to `size_max`, and `behind_max`
    bytes more that are written behind the writer."""
    cdef BufferedFile file = BufferedFile.__new__(BufferedFile)
    file.raw_file = raw
    raw.covered = True
    file.size = size
    file.behind_size = size
    file.behind_size_max = size_max
    if behind_max > 0 and raw.regular:
        file.queue = write_behind(raw, behind_max)
        file.writes_behind = True
    return file


@cython.final
cdef class BufferedFile(Layer):
    """A binary file with a buffer."""

    def __del__(self):
        if not self.covered and self.raw_file is not None and self.raw_file.fd >= 0:
            self.raw_file.warn_unclosed(self)
            self.close_forgotten()

    cdef int close_forgotten(self) except -1:
        """Nobody can wait. With a system call in flight the raw file closes itself, later."""
        cdef RawFile raw = self.raw_file
        self.covered = raw.covered = False
        if self.queue is not None:
            self.queue.settle_untold()
        if raw.fd >= 0 and raw.turns.in_flight == 0:
            write_plainly(raw, self)
            raw.close_plainly()
        return 0

    def __repr__(self):
        return f"<ringloop.BufferedFile name={self.name!r}>"

    @property
    def name(self):
        """The path or the fd that was opened."""
        return self.lowest().name

    @property
    def mode(self):
        """As io.FileIO's."""
        return self.lowest().mode

    @property
    def raw(self):
        """The file below."""
        return self.lowest()

    cdef Descriptor lowest(self):
        if self.raw_file is None:
            raise ValueError("raw stream has been detached")
        return self.raw_file

    cdef void flushed(self, Py_ssize_t count) noexcept:
        self.behind_begin += count
        if self.behind_begin >= self.behind_end:
            self.behind_begin = 0
            self.behind_end = 0

    cdef inline bint is_dirty(self) noexcept:
        return self.behind_end != 0 or (self.queue is not None and self.queue.waiting != 0)

    cdef int check_open(self, str doing) except -1:
        if self.raw_file.fd < 0:
            raise ValueError(f"{doing} closed file")
        return 0

    cdef int check_reads(self, str method, str doing) except -1:
        if not self.raw_file.reads:
            raise unsupported(method)
        return self.check_open(doing)

    cdef int check_writes(self, str doing) except -1:
        if not self.raw_file.writes:
            raise unsupported("write")
        return self.check_open(doing)

    # --- what takes no waiting

    cdef Py_ssize_t room_for_reading(self) noexcept:
        """How much to read ahead: little at first, then more and more."""
        if not self.raw_file.regular:
            return min(self.size, STREAM_BYTES)
        self.stride = min(self.size, max(2 * self.stride, SMALL_BYTES))
        return self.stride

    cdef int fill_now(self) except -1:
        """Reads more behind what is read ahead: 1, 0 at the end, -2 if it would block or there is no room."""
        cdef RawFile raw = self.raw_file
        cdef Py_ssize_t have = self.ahead_end - self.ahead_begin
        cdef Py_ssize_t room
        cdef int64_t count
        if not raw.regular or self.is_dirty():
            return -2
        raw.locate()
        if have == 0:
            room = self.room_for_reading()
            if self.ahead is None or PyBytes_GET_SIZE(self.ahead) < room:
                self.ahead = PyBytes_FromStringAndSize(NULL, room)
        elif self.ahead_begin != 0:
            memmove(PyBytes_AS_STRING(self.ahead), PyBytes_AS_STRING(self.ahead) + self.ahead_begin, have)
        self.ahead_begin = 0
        self.ahead_end = have
        room = PyBytes_GET_SIZE(self.ahead) - have
        if room == 0:
            return -2
        count = raw.read_now(PyBytes_AS_STRING(self.ahead) + have, room, raw.position)
        if count < 0:
            return -2
        raw.move_to(raw.position + count)
        self.ahead_end += count
        return count != 0

    cdef bytes take(self, Py_ssize_t length):
        """So much of what is read ahead."""
        data = PyBytes_FromStringAndSize(PyBytes_AS_STRING(self.ahead) + self.ahead_begin, length)
        self.ahead_begin += length
        return data

    cdef const char *first_ahead(self) noexcept:
        if self.ahead_end == self.ahead_begin:
            return NULL
        return PyBytes_AS_STRING(self.ahead) + self.ahead_begin

    cdef object take_with(self, object data):
        """`data`, which begins with all that is read ahead; or NotImplemented."""
        if data is not NotImplemented:
            self.forget_ahead()
        return data

    cdef void forget_ahead(self) noexcept:
        """The file moves away from what the buffer holds."""
        self.ahead_begin = self.ahead_end = 0

    cdef bytes rest_ahead(self):
        """A copy of what is read ahead: the buffer itself will change."""
        if self.ahead_end == self.ahead_begin:
            return b""
        return PyBytes_FromStringAndSize(
            PyBytes_AS_STRING(self.ahead) + self.ahead_begin, self.ahead_end - self.ahead_begin)

    cdef bytes take_line(self, Py_ssize_t limit):
        """The next line, if it is read ahead to its end or to the limit. Else None."""
        cdef Py_ssize_t have = self.ahead_end - self.ahead_begin
        cdef const char *begin
        cdef const char *end
        if have == 0:
            return None
        begin = PyBytes_AS_STRING(self.ahead) + self.ahead_begin
        if 0 <= limit < have:
            have = limit
        end = <const char *> memchr(begin, c"\n", have)
        if end != NULL:
            return self.take(end - begin + 1)
        return self.take(have) if have == limit else None

    cdef object read_size_now(self, Py_ssize_t length):
        cdef RawFile raw = self.raw_file
        cdef Py_ssize_t have = self.ahead_end - self.ahead_begin
        cdef int64_t count
        cdef int64_t rest
        cdef char *target
        if 0 <= length <= have:
            return self.take(length) if length != 0 else b""
        if self.is_dirty() or not raw.regular:
            return NotImplemented
        if length < 0:
            return self.take_with(raw.read_all_now(self.first_ahead(), have))
        if length - have < max(self.stride, min(SMALL_BYTES, self.size)):
            while self.ahead_end - self.ahead_begin < length:
                if have != 0 and PyBytes_GET_SIZE(self.ahead) < length:
                    return NotImplemented
                if self.fill_now() == 0:
                    length = self.ahead_end - self.ahead_begin
                elif self.ahead_end - self.ahead_begin <= have:
                    return NotImplemented
                have = self.ahead_end - self.ahead_begin
            return self.take(length) if length != 0 else b""
        raw.locate()
        if length - have > <int64_t> raw.known.size - raw.position:
            data = self.take_with(raw.read_rest_now(self.first_ahead(), have))
            if data is not NotImplemented:
                return data
            # No more memory is taken than there are bytes.
            rest = raw.size_now()
            if rest == RL_WOULD_BLOCK:
                return NotImplemented
            length = have + min(length - have, max(rest - raw.position, 0))
        if length > PIECE_BYTES:
            return NotImplemented
        data = PyBytes_FromStringAndSize(NULL, length)
        target = PyBytes_AS_STRING(data)
        count = raw.read_fully_now(target + have, length - have, raw.position)
        if count == RL_WOULD_BLOCK:
            return NotImplemented
        if have != 0:
            memcpy(target, PyBytes_AS_STRING(self.ahead) + self.ahead_begin, have)
        self.forget_ahead()
        raw.move_to(raw.position + count)
        return data if have + count == length else data[:have + count]

    cdef object read1_now(self, Py_ssize_t length):
        if length < 0:
            length = self.size
        if length == 0:
            return b""
        if self.ahead_end == self.ahead_begin:
            self.stride = max(self.stride, min(length, self.size) // 2)
            if length > self.size or self.fill_now() == -2:
                return NotImplemented
        length = min(length, self.ahead_end - self.ahead_begin)
        return self.take(length) if length != 0 else b""

    cdef object read_to_now(self, str method, object target, bint is_once):
        cdef Py_buffer view
        cdef Py_ssize_t have
        cdef int64_t count = 0
        cdef bint is_past = False
        lock_writable(method, target, &view)
        try:
            if self.is_dirty():
                return NotImplemented
            if view.len != 0 and self.ahead_end == self.ahead_begin and view.len < self.size:
                if self.fill_now() == -2:
                    return NotImplemented
            have = min(self.ahead_end - self.ahead_begin, view.len)
            if have < view.len and not (is_once and have != 0):
                self.raw_file.locate()
                if not self.raw_file.regular:
                    return NotImplemented
                count = self.raw_file.read_fully_now(
                    <char *> view.buf + have, view.len - have, self.raw_file.position)
                if count == RL_WOULD_BLOCK:
                    return NotImplemented
                self.raw_file.move_to(self.raw_file.position + count)
                is_past = True
            if have != 0:
                memcpy(view.buf, PyBytes_AS_STRING(self.ahead) + self.ahead_begin, have)
            self.ahead_begin += have
            if is_past:
                self.forget_ahead()
            return have + count
        finally:
            PyBuffer_Release(&view)

    cdef object line_now(self, Py_ssize_t limit):
        cdef int filled
        while True:
            line = self.take_line(limit)
            if line is not None:
                return line
            if limit == 0:
                return b""
            filled = self.fill_now()
            if filled == -2:
                return NotImplemented
            if filled == 0:
                return self.take(self.ahead_end - self.ahead_begin) if self.ahead_end != 0 else b""

    cdef object write_now(self, object data):
        cdef Py_buffer view
        if self.ahead_end != self.ahead_begin and not self.raw_file.regular:
            check_bytes(data)
            return NotImplemented
        if self.queue is not None:
            return self.queue_now(data)
        if type(data) is bytes:
            return self.keep_written(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return self.keep_written(<const char *> view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef object keep_written(self, const char *data, Py_ssize_t length):
        """Takes it into the buffer, if there is room."""
        cdef Py_ssize_t have = self.behind_end - self.behind_begin
        cdef bytes larger
        if have + length > self.behind_size:
            return NotImplemented
        self.rewind()
        if self.behind is None or self.behind_end + length > PyBytes_GET_SIZE(self.behind):
            larger = PyBytes_FromStringAndSize(
                NULL, min(self.behind_size, max(2 * (have + length), SMALL_BYTES)))
            if have != 0:
                memcpy(PyBytes_AS_STRING(larger), PyBytes_AS_STRING(self.behind) + self.behind_begin, have)
            self.behind = larger
            self.behind_begin = 0
            self.behind_end = have
        memcpy(PyBytes_AS_STRING(self.behind) + self.behind_end, data, length)
        self.behind_end += length
        return length

    cdef object queue_now(self, object data):
        """Takes it for write-behind, if there is room."""
        cdef Py_buffer view
        self.queue.tell_failure()
        if type(data) is bytes:
            return self.queue_view(data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return self.queue_view(None, <const char *> view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef object queue_view(self, object data, const char *begin, Py_ssize_t length):
        """`data` is the bytes object that has it, if there is one: then it is not copied."""
        cdef Py_ssize_t have = self.behind_end
        if length < DIRECT_BYTES and have + length <= self.behind_size:
            return self.keep_written(begin, length)
        if not self.queue.has_room(have + length):
            return NotImplemented
        self.rewind()
        self.hand_over()
        if length < DIRECT_BYTES and length <= self.behind_size:
            self.keep_written(begin, length)
        else:
            self.queue.append(PyBytes_FromStringAndSize(begin, length) if data is None else data)
        self.queue.go(self)
        return length

    cdef int hand_over(self) except -1:
        """Puts what is in the buffer into the queue."""
        if self.behind_end != 0:
            whole = self.behind_end == PyBytes_GET_SIZE(self.behind)
            self.queue.append(
                self.behind if whole
                else PyBytes_FromStringAndSize(PyBytes_AS_STRING(self.behind), self.behind_end))
            if whole:
                self.behind = None
            self.behind_end = 0
        return 0

    cdef int rewind(self) except -1:
        """Of a regular file: forgets what is read ahead."""
        if self.ahead_begin != self.ahead_end and self.raw_file.regular:
            self.raw_file.move_to(self.raw_file.position - (self.ahead_end - self.ahead_begin))
        self.forget_ahead()
        return 0

    cdef object seek_now(self, object offset, object whence):
        cdef RawFile raw = self.raw_file
        cdef int64_t target = int64_argument(offset)
        cdef int how = int_argument(whence)
        if how < 0 or how > SEEK_HOLE:
            raise ValueError(f"whence value {how} unsupported")
        self.check_open("seek of")
        if not raw.seeks:
            raise unsupported("File or stream is not seekable.")
        if self.is_dirty() or not raw.regular:
            return NotImplemented
        if how == SEEK_CUR:
            raw.locate()
            target += raw.position - (self.ahead_end - self.ahead_begin)
            how = SEEK_SET
        if how == SEEK_SET and not raw.exposed and raw.position - self.ahead_end <= target <= raw.position:
            if target >= 0:
                self.ahead_begin = <Py_ssize_t> (target - (raw.position - self.ahead_end))
                return target
        position = raw.seek_now(target, how)
        if position is not NotImplemented:
            self.forget_ahead()
            self.stride = 0
        return position

    cdef object tell_now(self):
        if not self.raw_file.regular:
            return NotImplemented
        self.raw_file.locate()
        return self.raw_file.position - (self.ahead_end - self.ahead_begin) \
            + (self.behind_end - self.behind_begin) + (0 if self.queue is None else self.queue.waiting)

    cdef object close_now(self, FileCall call):
        if self.is_dirty() and self.raw_file.fd >= 0:
            return NotImplemented
        return self.raw_file.close_now(call)

    cdef object at_once(self, FileCall call):
        cdef int kind = call.kind
        if kind == FILE_READ:
            size = size_of(call.one)
            if size < -1:
                raise ValueError("read length must be non-negative or -1")
            self.check_reads("read", "read of")
            return self.read_size_now(size)
        if kind == FILE_WRITE:
            self.check_writes("write to")
            return self.write_now(call.one)
        if kind == FILE_NEXT:
            self.check_reads("read", "readline of")
            line = self.line_now(-1)
            if line is not NotImplemented and not line:
                raise StopAsyncIteration
            return line
        if kind == FILE_READLINE:
            size = size_of(call.one)
            if size == 0 and not self.raw_file.reads:
                return b""
            self.check_reads("read", "readline of")
            return self.line_now(size)
        if kind == FILE_SEEK:
            return self.seek_now(call.one, call.two)
        if kind == FILE_CLOSE or kind == FILE_EXIT:
            return self.close_now(call)
        if kind == FILE_TELL:
            self.raw_file.check_open()
            return self.tell_now()
        return self.seldom_at_once(call)

    cdef object seldom_at_once(self, FileCall call):
        cdef int kind = call.kind
        if kind == FILE_READ1:
            self.check_reads("read1", "read of")
            return NotImplemented if self.is_dirty() else self.read1_now(size_of(call.one))
        if kind == FILE_READINTO:
            self.check_reads("read", "readinto of")
            return self.read_to_now("readinto", call.one, False)
        if kind == FILE_READINTO1:
            self.check_reads("read1", "readinto of")
            return self.read_to_now("readinto1", call.one, True)
        if kind == FILE_PEEK:
            int64_argument(call.one)
            self.check_reads("peek", "peek of")
            if self.ahead_end == self.ahead_begin and self.fill_now() == -2:
                return NotImplemented
            return self.rest_ahead()
        if kind == FILE_FLUSH:
            self.check_open("flush of")
            if self.is_dirty() or not self.raw_file.regular:
                return NotImplemented
            if self.raw_file.writes:
                self.rewind()
            return None
        if kind == FILE_TRUNCATE:
            self.check_open("truncate of")
            if not self.raw_file.writes:
                raise unsupported("truncate")
        elif kind == FILE_PREAD:
            return NotImplemented if self.is_dirty() else self.raw_file.pread_now(call.one, call.two)
        elif kind == FILE_PWRITE:
            self.raw_file.check_writes()
        else:
            self.raw_file.check_open()
            if kind == FILE_READLINES:
                self.check_reads("read", "readline of")
                size_of(call.one)
            elif kind == FILE_ENTER:
                return self
        return NotImplemented

    # --- the calls that wait

    async def _fill(self):
        """Reads ahead, where nothing is any more: how many bytes."""
        data = PyBytes_FromStringAndSize(NULL, self.room_for_reading())
        count = await self.raw_file._pull(data, 0, len(data))
        self.ahead = data
        self.ahead_begin = 0
        self.ahead_end = count
        return count

    cdef int put_back(self, list pieces) except -1:
        """What a read that failed or was cancelled had gathered is read ahead again."""
        pieces.append(self.rest_ahead())
        self.ahead = b"".join(pieces)
        self.ahead_begin = 0
        self.ahead_end = len(self.ahead)
        return 0

    cdef int put_back_lines(self, list lines) except -1:
        return self.put_back(lines)

    async def _clean(self):
        """Writes what is to be written."""
        if self.queue is not None:
            self.queue.tell_failure()
            self.hand_over()
            while self.queue.waiting != 0:
                await self.queue._progressed(self)
        while self.is_dirty():
            await self.raw_file._push(
                self.behind, self.behind_begin, self.behind_end - self.behind_begin, self)

    async def _slow_flush(self, _, __):
        await self._clean()
        if self.raw_file.regular and self.raw_file.writes:
            self.rewind()

    async def _slow_read(self, size, _):
        cdef Py_ssize_t length = size_of(size)
        cdef Py_ssize_t wanted
        cdef Py_ssize_t count
        await self._clean()
        pieces = []
        try:
            while length != 0:
                count = self.ahead_end - self.ahead_begin
                if count == 0 and 0 < length < self.size:
                    count = await self._fill()
                    if count == 0:
                        break
                if count != 0:
                    piece = self.take(min(count, length) if length > 0 else count)
                else:
                    wanted = PIECE_BYTES if self.raw_file.regular else STREAM_BYTES
                    piece = PyBytes_FromStringAndSize(NULL, min(wanted, length) if length > 0 else wanted)
                    self.forget_ahead()
                    count = await self.raw_file._pull(piece, 0, len(piece))
                    if count == 0:
                        break
                    piece = piece[:count]
                pieces.append(piece)
                if length > 0:
                    length -= len(piece)
        except BaseException:
            self.put_back(pieces)
            raise
        return b"".join(pieces)

    async def _slow_read1(self, size, _):
        cdef Py_ssize_t length = size_of(size)
        await self._clean()
        data = self.read1_now(length)
        if data is not NotImplemented:
            return data
        if length > self.size:
            piece = PyBytes_FromStringAndSize(NULL, length)
            self.forget_ahead()
            count = await self.raw_file._pull(piece, 0, length)
            return piece[:count]
        await self._fill()
        return self.take(min(self.size if length < 0 else length, self.ahead_end))

    def _slow_readinto1(self, target, _):
        return read_into(target, self._slow_read1)

    async def _slow_peek(self, _, __):
        await self._clean()
        if self.ahead_end == self.ahead_begin:
            await self._fill()
        return self.rest_ahead()

    async def _slow_readline(self, size, _):
        cdef Py_ssize_t limit = size_of(size)
        cdef Py_ssize_t have
        await self._clean()
        pieces = []
        try:
            while limit != 0:
                line = self.take_line(limit)
                if line is not None:
                    pieces.append(line)
                    break
                have = self.ahead_end - self.ahead_begin
                if have != 0:
                    pieces.append(self.take(have))
                    limit -= have if limit > 0 else 0
                if await self._fill() == 0:
                    break
        except BaseException:
            self.put_back(pieces)
            raise
        return b"".join(pieces)

    async def _make_room(self):
        """What a write waits for before anything of it is taken."""
        await self._clean()
        if self.ahead_end != self.ahead_begin and not self.raw_file.regular:
            await self.raw_file._slow_seek(self.ahead_begin - self.ahead_end, SEEK_CUR)
        self.rewind()

    async def _slow_write(self, data, _):
        cdef Py_ssize_t done = 0
        if self.queue is not None:
            while (count := self.queue_now(data)) is NotImplemented:
                await self.queue._progressed(self)
            return count
        await self._make_room()
        # Not released but dropped: a call that was given up has it until the kernel is done with the memory.
        view = memoryview(data).cast("B")
        kept = data if type(data) is bytes else view
        # Who fills it again and again has more to write: fewer and larger system calls.
        self.behind_size = min(2 * self.behind_size, self.behind_size_max)
        while view.nbytes - done > self.behind_size:
            done += await self.raw_file._push(kept, done, view.nbytes - done)
        self.write_now(view[done:])
        return view.nbytes

    async def _slow_writelines(self, lines, _):
        for count, line in enumerate(lines, 1):
            self.check_writes("write to")
            if self.write_now(line) is NotImplemented:
                await self._slow_write(line, None)
            # A full buffer waits by itself; with empty items it never is.
            if count % (WORK_AT_ONCE // ITEM_WORK) == 0:
                await asyncio.sleep(0)

    async def _slow_seek(self, offset, whence):
        cdef int64_t target = int64_argument(offset)
        await self._clean()
        position = self.seek_now(offset, whence)
        if position is not NotImplemented:
            return position
        if int64_argument(whence) == SEEK_CUR:
            target -= self.ahead_end - self.ahead_begin
        position = await self.raw_file._slow_seek(target, whence)
        self.forget_ahead()
        return position

    async def _slow_tell(self, _, __):
        return await self.raw_file._slow_tell(None, None) - (self.ahead_end - self.ahead_begin) \
            + (self.behind_end - self.behind_begin)

    async def _slow_truncate(self, size, _):
        await self._slow_flush(None, None)
        return await self.raw_file._slow_truncate(size, None)

    async def _slow_close(self, _, __):
        if self.raw_file.fd < 0:
            return
        try:
            await self._clean()
        except Exception:
            # As in io, the file is closed all the same. Cancelled, it stays open with all its bytes.
            self.flushed(self.behind_end)
            if self.queue is not None:
                self.queue.drop()
            await self.raw_file._slow_close(None, None)
            raise
        await self.raw_file._slow_close(None, None)

    async def _slow_detach(self, _, __):
        cdef RawFile raw
        await self._slow_flush(None, None)
        raw, self.raw_file = self.raw_file, None
        raw.covered = False
        return raw

    async def _slow_pread(self, length, offset):
        await self._clean()
        return await self.raw_file._slow_pread(length, offset)

    async def _slow_pwrite(self, data, offset):
        await self._slow_flush(None, None)
        return await self.raw_file._slow_pwrite(data, offset)

    async def _slow_fsync(self, _, __):
        await self._clean()
        await self.raw_file._slow_fsync(None, None)

    async def _slow_fdatasync(self, _, __):
        await self._clean()
        await self.raw_file._slow_fdatasync(None, None)

    async def _slow_lock(self, how, where):
        await self._slow_flush(None, None)
        await self.raw_file._slow_lock(how, where)
        # What was read before may have changed since.
        self.rewind()

    async def _slow_unlock(self, where, _):
        await self._clean()
        await self.raw_file._slow_unlock(where, None)

    # --- what a raw file has not

    def read1(self, size=-1, /):
        """Up to `size` bytes with at most one system call."""
        return self.call(FILE_READ1, size)

    def readinto(self, buffer, /):
        """Fills `buffer`, as far as the file goes; how many bytes."""
        return self.call(FILE_READINTO, buffer)

    def readinto1(self, buffer, /):
        """Fills `buffer` with at most one system call; how many bytes."""
        return self.call(FILE_READINTO1, buffer)

    def peek(self, size=0, /):
        """What is read ahead, at least a byte unless the file is at its end. The position stays."""
        return self.call(FILE_PEEK, size)

    def detach(self):
        """Flushes, and gives the raw file, apart from which this object is of no use any more."""
        return self.call(FILE_DETACH)

    def _give_fd(self):
        """The fd, whose position is where this object was; apart from it this object is of no use any more.

        As detach() for who cannot wait: BlockingIOError if there is something to wait for.
        """
        cdef RawFile raw = self.lowest()
        raw.check_open()
        if raw.turns.busy or raw.turns.in_flight != 0 or self.is_dirty():
            raise BlockingIOError(
                errno.EAGAIN, "cannot detach a file with a call that is not over, or with data to be flushed")
        self.rewind()
        fd = self.fileno()
        self.raw_file = None
        raw.warned = True
        raw.closefd = False
        raw.close_plainly()
        return fd


cdef int write_plainly(RawFile raw, BufferedFile file) except -1:
    """What nobody flushed, at the object's end, when nobody can wait."""
    cdef Py_ssize_t done = 0
    if file.queue is not None:
        file.hand_over()
        done = file.queue.first_done
        for piece in file.queue.pieces:
            if not write_piece(raw, PyBytes_AS_STRING(piece) + done, PyBytes_GET_SIZE(piece) - done):
                break
            done = 0
    elif file.is_dirty():
        write_piece(raw, PyBytes_AS_STRING(file.behind) + file.behind_begin,
                    file.behind_end - file.behind_begin)
    return 0


cdef bint write_piece(RawFile raw, const char *data, Py_ssize_t length) noexcept:
    """Whether all of it was written."""
    cdef int64_t count
    while length > 0:
        if raw.regular and not raw.adds:
            count = pwrite(raw.fd, data, length, raw.position)
        else:
            count = write(raw.fd, data, length)
        if count <= 0:
            return False
        raw.position += count
        data += count
        length -= count
    return True
