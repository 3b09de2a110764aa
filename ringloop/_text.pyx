"""A text file: decodes and encodes upon a binary file with a buffer, as io.TextIOWrapper does.

Bytes are decoded in pieces, as they are read. For tell(), which gives a position in bytes with what else it
takes to get there, there is a snapshot of the decoder's state before the last piece, and of that piece.

What a call takes from more than one piece is carried from piece to piece. If it fails or is cancelled there,
the next one begins with what was carried.
"""

import asyncio
import codecs
import io

cimport cython
from cpython.unicode cimport PyUnicode_FindChar, PyUnicode_Substring

from ringloop._buffered cimport BufferedFile
from ringloop._files cimport (
    FILE_CLOSE, FILE_DETACH, FILE_ENTER, FILE_EXIT, FILE_NEXT, FILE_PREAD, FILE_PWRITE, FILE_READ,
    FILE_READLINE, FILE_READLINES, FILE_SEEK, FILE_TELL, FILE_TRUNCATE, FILE_WRITE, ITEM_WORK, WORK_AT_ONCE,
    FileCall, size_of, unsupported,
)
from ringloop._os cimport int64_argument
from ringloop._descriptor cimport Descriptor, Layer


cdef enum:
    PIECE_BYTES = 8192             # as io's: positions then are the same
    PIECES_AT_ONCE = 64            # then others run first
    WORD_BITS = 64                 # of each part of what tell() answers

cdef object WORD = 0xFFFFFFFFFFFFFFFF

# What handles errors by the bytes in question alone. Others may look at all that is to be decoded.
cdef frozenset PLAIN_ERRORS = frozenset(
    ("strict", "ignore", "replace", "backslashreplace", "surrogateescape"))

# Encodings without a state and without a mark at their start.
cdef dict FAST = {
    "ascii": codecs.ascii_encode,
    "us-ascii": codecs.ascii_encode,
    "utf-8": codecs.utf_8_encode,
    "utf8": codecs.utf_8_encode,
    "latin-1": codecs.latin_1_encode,
    "latin1": codecs.latin_1_encode,
    "iso-8859-1": codecs.latin_1_encode,
}


cdef TextFile text_file(
        BufferedFile below, str mode, str encoding, str errors, str newline, bint line_buffering):
    """Upon `below`."""
    cdef TextFile file = TextFile.__new__(TextFile)
    file.below = below
    file.writes_behind = below.writes_behind
    file.mode = mode
    file.encoding = encoding
    file.errors = errors
    file.line_buffering = line_buffering
    file.newline = newline
    file.ending = newline or "\n"
    file.is_universal = not newline
    file.translates = newline is None
    file.telling = below.raw_file.seeks
    file.encode_fast = FAST.get(encoding.lower())
    file.characters = ""
    if below.raw_file.writes and below.raw_file.seeks and below.raw_file.position != 0:
        file.reset_encoder(False)
    below.covered = True
    return file


@cython.final
cdef class TextFile(Layer):
    """A text file."""

    def __del__(self):
        if self.below is not None and self.below.raw_file is not None and self.below.raw_file.fd >= 0:
            self.below.raw_file.warn_unclosed(self)
            self.below.close_forgotten()

    def __repr__(self):
        return f"<ringloop.TextFile name={self.name!r} mode={self.mode!r} encoding={self.encoding!r}>"

    @property
    def name(self):
        """The path or the fd that was opened."""
        return self.lowest().name

    @property
    def buffer(self):
        """The binary file below."""
        return self.below

    @property
    def newlines(self):
        """The line endings that were seen so far: None, one, or a tuple."""
        return getattr(self.decoder, "newlines", None)

    cdef Descriptor lowest(self):
        if self.below is None:
            raise ValueError("underlying buffer has been detached")
        return self.below.lowest()

    cdef int check_open(self) except -1:
        if self.below.lowest().fd < 0:
            raise ValueError("I/O operation on closed file.")
        return 0

    cdef int check_reads(self) except -1:
        self.check_open()
        if not self.below.raw_file.reads:
            raise unsupported("not readable")
        return 0

    # --- decoding

    cdef int need_decoder(self) except -1:
        if self.decoder is None:
            decoder = codecs.getincrementaldecoder(self.encoding)(self.errors)
            if self.is_universal:
                decoder = io.IncrementalNewlineDecoder(decoder, self.translates)
            self.decoder = decoder
        return 0

    cdef int forget_read(self) except -1:
        """What is decoded and was not delivered."""
        self.characters = ""
        self.used = 0
        self.before = 0
        self.carry = None
        self.carried = 0
        self.has_snapshot = False
        return 0

    cdef int decode_piece(self, bytes piece) except -1:
        """Decodes what was read; empty, it is the end. 0 at the end."""
        if self.telling:
            held, flags = self.decoder.getstate()
            self.snapshot_flags = flags
            self.snapshot_bytes = held + piece if held else piece
            self.has_snapshot = True
        self.characters = ""
        self.used = 0
        self.before = 0
        self.characters = self.decoder.decode(piece, not piece)
        self.bytes_per_character = len(piece) / len(self.characters) if self.characters else 0.0
        return 1 if piece else 0

    cdef int read_piece_now(self) except -1:
        """The next piece: 1, 0 at the end, -2 if it has to be waited for."""
        if self.below.is_dirty():
            return -2
        piece = self.below.read1_now(PIECE_BYTES)
        return -2 if piece is NotImplemented else self.decode_piece(piece)

    cdef int carry_on(self) except -1:
        """Before the next piece is read: keeps what is left of this one."""
        if self.used < len(self.characters):
            if self.carried == 0:
                self.carry = []
                self.carry_flags = self.snapshot_flags
                self.carry_bytes = []
                self.carry_used = self.before + self.used
            self.carry.append(PyUnicode_Substring(self.characters, self.used, len(self.characters)))
            self.carried += len(self.characters) - self.used
            self.used = len(self.characters)
        if self.carried != 0 and self.has_snapshot:
            self.carry_bytes.append(self.snapshot_bytes)
            self.snapshot_bytes = b""
        return 0

    cdef int put_back(self) except -1:
        """What a call carried that went no further is next again."""
        self.carry.append(PyUnicode_Substring(self.characters, self.used, len(self.characters)))
        self.characters = "".join(self.carry)
        self.used = 0
        self.carried = 0
        self.carry = None
        if self.has_snapshot:
            self.carry_bytes.append(self.snapshot_bytes)
            self.snapshot_bytes = b"".join(self.carry_bytes)
            self.snapshot_flags = self.carry_flags
            self.before = self.carry_used
        return 0

    cdef int put_back_lines(self, list lines) except -1:
        if self.carried != 0:
            self.put_back()
        lines.append(PyUnicode_Substring(self.characters, self.used, len(self.characters)))
        self.characters = "".join(lines)
        self.used = 0
        return 0

    cdef int at_end(self) except -1:
        self.telling = self.below.raw_file.seeks
        return 0

    cdef str take(self, Py_ssize_t length):
        """The carry and `length` characters of this piece."""
        cdef str text
        if self.used == 0 and length == len(self.characters):
            text = self.characters
        else:
            text = PyUnicode_Substring(self.characters, self.used, self.used + length)
        self.used += length
        if self.carried != 0:
            self.carry.append(text)
            text = "".join(self.carry)
            self.carry = None
            self.carried = 0
        return text

    cdef str take_line(self, Py_ssize_t limit):
        """The next line if its end or its limit is there, else None."""
        cdef Py_ssize_t end = len(self.characters)
        cdef Py_ssize_t carried = self.carried
        cdef Py_ssize_t found
        cdef Py_ssize_t other
        if self.used == end:
            return None
        if 0 <= limit and limit - carried < end - self.used:
            end = self.used + limit - carried
        if self.translates or not self.is_universal and len(self.newline) == 1:
            found = PyUnicode_FindChar(
                self.characters, u"\r" if self.newline == "\r" else u"\n", self.used, end, 1)
        elif self.is_universal:
            found = PyUnicode_FindChar(self.characters, u"\n", self.used, end, 1)
            other = PyUnicode_FindChar(self.characters, u"\r", self.used, found if found >= 0 else end, 1)
            if other >= 0:
                found = other + 1 if other + 1 == found else other
        else:
            found = self.find_pair(end)
        if found >= 0:
            return self.take(found + 1 - self.used)
        if 0 <= limit and end - self.used + carried == limit:
            return self.take(end - self.used)
        return None

    cdef Py_ssize_t find_pair(self, Py_ssize_t end) except -2:
        """The last character of an ending of two, which may come in two pieces; -1 if it is not there."""
        cdef Py_ssize_t found
        if self.carried != 0 and self.used < end and self.characters[self.used] == self.newline[1] \
                and (<str> self.carry[len(self.carry) - 1]).endswith(self.newline[0]):
            return self.used
        found = self.characters.find(self.newline, self.used, end)
        return found + 1 if found >= 0 else -1

    cdef str take_last(self):
        """At the end: what was carried there."""
        line = "".join(self.carry) if self.carried != 0 else ""
        self.forget_read()
        return line

    cdef object line_now(self, Py_ssize_t limit):
        cdef int got
        cdef int pieces = 0
        self.need_decoder()
        while True:
            line = self.take_line(limit)
            if line is not None:
                return line
            self.carry_on()
            got = -2 if pieces == PIECES_AT_ONCE else self.read_piece_now()
            if got == -2:
                return NotImplemented
            if got == 0 and not self.characters:
                return self.take_last()
            pieces += 1

    cdef object read_size_now(self, Py_ssize_t length):
        cdef int got
        cdef int pieces = 0
        self.need_decoder()
        while self.carried + len(self.characters) - self.used < length:
            self.carry_on()
            got = -2 if pieces == PIECES_AT_ONCE else self.read_piece_now()
            if got == -2:
                return NotImplemented
            if got == 0:
                break
            pieces += 1
        return self.take(min(length - self.carried, len(self.characters) - self.used))

    cdef object read_all_now(self):
        # What lies below in one call may be long only if it was put back there.
        if self.below.is_dirty() or self.below.ahead_end - self.below.ahead_begin > WORK_AT_ONCE:
            return NotImplemented
        self.need_decoder()
        data = self.below.read_size_now(-1)
        return data if data is NotImplemented else self.decode_rest(data)

    cdef str decode_rest(self, bytes data):
        rest = self.decoder.decode(data, True)
        text = self.take(len(self.characters) - self.used)
        self.forget_read()
        return text + rest if text else rest

    # --- encoding

    cdef bytes encode(self, str text):
        if self.encode_fast is not None:
            return self.encode_fast(text, self.errors)[0]
        if self.encoder is None:
            self.encoder = codecs.getincrementalencoder(self.encoding)(self.errors)
        return self.encoder.encode(text)

    cdef int reset_encoder(self, bint at_start) except -1:
        """Byte order marks are written at the start of a file only."""
        if self.encode_fast is not None:
            return 0
        if self.encoder is None:
            self.encoder = codecs.getincrementalencoder(self.encoding)(self.errors)
        if at_start:
            self.encoder.reset()
        else:
            self.encoder.setstate(0)
        return 0

    cdef bytes prepare(self, object text):
        """What `write` writes for it."""
        if self.newline is None or self.newline == "" or self.newline == "\n":
            return self.encode(text)
        return self.encode((<str> text).replace("\n", self.ending))

    cdef bint wants_flush(self, str text):
        return self.line_buffering and ("\n" in text or "\r" in text)

    cdef object write_now(self, object text):
        cdef BufferedFile below = self.below
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.check_open()
        if not below.raw_file.writes:
            raise unsupported("not writable")
        # An encoder with a state cannot be asked a second time.
        if self.encode_fast is None or self.wants_flush(text):
            return NotImplemented
        if below.write_now(self.prepare(text)) is NotImplemented:
            return NotImplemented
        self.wrote()
        return len(text)

    cdef int wrote(self) except -1:
        if self.characters or self.has_snapshot or self.carried != 0:
            self.forget_read()
        if self.decoder is not None:
            self.decoder.reset()
        return 0

    # --- positions

    cdef object tell_now(self):
        self.check_open()
        if not self.below.raw_file.seeks:
            raise unsupported("underlying stream is not seekable")
        if not self.telling:
            raise OSError("telling position disabled by next() call")
        if self.below.is_dirty():
            return NotImplemented
        position = self.below.tell_now()
        return position if position is NotImplemented else self.find_cookie(position)

    cdef object find_cookie(self, object position):
        """The bytes before the piece, the decoder's state there, and how much of it then makes `used`."""
        cdef Py_ssize_t skip = self.before + self.used
        if self.decoder is None or not self.has_snapshot:
            return position
        flags, piece = self.snapshot_flags, self.snapshot_bytes
        if self.carried != 0:
            flags, piece, skip = self.carry_flags, b"".join(self.carry_bytes) + piece, self.carry_used
        position -= len(piece)
        if skip == 0:
            return cookie_of(position, flags, 0, 0, 0)
        saved = self.decoder.getstate()
        try:
            return walk_to(self.decoder, position, flags, piece, skip, self.bytes_per_character)
        finally:
            self.decoder.setstate(saved)

    cdef object seek_simply(self, object cookie, object whence):
        """To a place that is a position in bytes and no more."""
        self.check_open()
        if not self.below.raw_file.seeks:
            raise unsupported("underlying stream is not seekable")
        how = int64_argument(whence)
        if how == 1 or how == 2:
            if cookie != 0:
                raise unsupported(f"can't do nonzero {'cur' if how == 1 else 'end'}-relative seeks")
            if how == 1 and not self.telling:
                raise OSError("telling position disabled by next() call")
            return NotImplemented
        if how != 0:
            raise ValueError(f"invalid whence ({how}, should be 0, 1 or 2)")
        if cookie < 0:
            raise ValueError(f"negative seek position {cookie!r}")
        if cookie >> (WORD_BITS - 1) != 0 or self.below.is_dirty():
            return NotImplemented
        position = self.below.seek_now(cookie, 0)
        if position is not NotImplemented:
            self.sought(cookie, 0)
        return position

    cdef int sought(self, object cookie, object flags) except -1:
        self.telling = True
        self.forget_read()
        if self.decoder is not None or flags != 0:
            self.need_decoder()
            if cookie == 0:
                self.decoder.reset()
            else:
                self.decoder.setstate((b"", flags))
                self.snapshot_flags = flags
                self.snapshot_bytes = b""
                self.has_snapshot = True
        if self.below.raw_file.writes:
            self.reset_encoder(cookie == 0)
        return 0

    # --- calls

    cdef object at_once(self, FileCall call):
        cdef int kind = call.kind
        if self.below is None:
            raise ValueError("underlying buffer has been detached")
        if self.carried != 0:
            # By a call that was given up, or by this one when it was asked before.
            self.put_back()
        if kind == FILE_NEXT:
            self.telling = False
            self.check_reads()
            line = self.line_now(-1)
            if line is not NotImplemented and not line:
                self.at_end()
                raise StopAsyncIteration
            return line
        if kind == FILE_READLINE:
            size = <Py_ssize_t> int64_argument(call.one)  # unlike the others, no None
            self.check_reads()
            return self.line_now(size)
        if kind == FILE_READ:
            size = size_of(call.one)
            self.check_reads()
            return self.read_size_now(size) if size >= 0 else self.read_all_now()
        if kind == FILE_WRITE:
            return self.write_now(call.one)
        return self.seldom_at_once(call)

    cdef object seldom_at_once(self, FileCall call):
        cdef int kind = call.kind
        if kind == FILE_CLOSE or kind == FILE_EXIT:
            return self.below.close_now(call)
        if kind == FILE_SEEK:
            return self.seek_simply(call.one, call.two)
        if kind == FILE_TELL:
            return self.tell_now()
        self.check_open()
        if kind == FILE_READLINES:
            size_of(call.one)
            self.telling = False
            self.check_reads()
        elif kind == FILE_TRUNCATE and not self.below.raw_file.writes:
            self.telling = self.below.raw_file.seeks
            raise unsupported("truncate")
        elif kind == FILE_PREAD:
            if not self.below.is_dirty():
                return self.below.raw_file.pread_now(call.one, call.two)
        elif kind == FILE_PWRITE:
            self.below.raw_file.check_writes()
        elif kind == FILE_ENTER:
            return self
        return NotImplemented

    # --- the calls that wait

    async def _read_piece(self):
        got = self.read_piece_now()
        if got == -2:
            got = self.decode_piece(await self.below._slow_read1(PIECE_BYTES, None))
        return got

    async def _slow_readline(self, size, _):
        cdef Py_ssize_t limit = size_of(size)
        cdef int pieces = 0
        self.need_decoder()
        while True:
            line = self.take_line(limit)
            if line is not None:
                return line
            self.carry_on()
            if await self._read_piece() == 0 and not self.characters:
                return self.take_last()
            pieces += 1
            if pieces % PIECES_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _slow_read(self, size, _):
        cdef Py_ssize_t length = size_of(size)
        cdef int pieces = 0
        self.need_decoder()
        if length < 0:
            return await self._decode_in_turns(await self.below._slow_read(-1, None))
        while self.carried + len(self.characters) - self.used < length:
            self.carry_on()
            if await self._read_piece() == 0:
                break
            pieces += 1
            if pieces % PIECES_AT_ONCE == 0:
                await asyncio.sleep(0)
        return self.take(min(length - self.carried, len(self.characters) - self.used))

    async def _decode_in_turns(self, bytes data):
        """As decode_rest(), but others run meanwhile."""
        cdef Py_ssize_t done = 0
        if len(data) <= WORK_AT_ONCE or self.errors not in PLAIN_ERRORS or is_punycode(self.encoding):
            return self.decode_rest(data)
        before = self.decoder.getstate()
        texts = []
        try:
            while len(data) - done > WORK_AT_ONCE:
                texts.append(self.decoder.decode(data[done:done + WORK_AT_ONCE]))
                done += WORK_AT_ONCE
                await asyncio.sleep(0)
            texts.append(self.decoder.decode(data[done:], True))
        except UnicodeDecodeError:
            # It tells where in all that there was to decode.
            self.decoder.setstate(before)
            return self.decode_rest(data)
        except BaseException:
            self.decoder.setstate(before)
            self.below.put_back([data])
            raise
        texts.insert(0, self.take(len(self.characters) - self.used))
        self.forget_read()
        return "".join(texts)

    async def _slow_write(self, text, _):
        encoder = self.encoder
        state = None if encoder is None else encoder.getstate()
        data = self.prepare(text)
        if self.below.write_now(data) is NotImplemented:
            behind = self.below.writes_behind
            try:
                # With write-behind it takes all or nothing.
                await (self.below._slow_write(data, None) if behind else self.below._make_room())
            except BaseException:
                # Nothing of it is taken: the next write begins as this one did, such as with a mark.
                self.encoder = encoder
                if encoder is not None:
                    encoder.setstate(state)
                raise
            if not behind:
                await self.below._slow_write(data, None)
        self.wrote()
        if self.wants_flush(text):
            await self.below._slow_flush(None, None)
        return len(text)

    async def _slow_writelines(self, lines, _):
        cdef Py_ssize_t work = 0
        for line in lines:
            if self.write_now(line) is NotImplemented:
                await self._slow_write(line, None)
            # A full buffer waits by itself; of empty items none ever is.
            work += ITEM_WORK
            if work > WORK_AT_ONCE:
                work = 0
                await asyncio.sleep(0)

    async def _slow_flush(self, _, __):
        self.telling = self.below.raw_file.seeks
        await self.below._slow_flush(None, None)

    async def _slow_tell(self, _, __):
        await self._slow_flush(None, None)
        position = self.below.tell_now()
        if position is NotImplemented:
            position = await self.below._slow_tell(None, None)
        return self.find_cookie(position)

    async def _slow_seek(self, cookie, whence):
        how = int64_argument(whence)
        if how == 1:
            cookie = await self._slow_tell(None, None)
        await self._slow_flush(None, None)
        if how == 2:
            position = await self.below._slow_seek(0, 2)
            self.forget_read()
            if self.decoder is not None:
                self.decoder.reset()
            if self.below.raw_file.writes:
                self.reset_encoder(position == 0)
            return position
        start, flags, length, needs_end, skip = parts_of(cookie)
        await self.below._slow_seek(start, 0)
        self.sought(cookie, flags)
        if skip:
            self.need_decoder()
            piece = await self.below._slow_read(length, None)
            self.characters = self.decoder.decode(piece, needs_end)
            self.snapshot_flags = flags
            self.snapshot_bytes = piece
            self.has_snapshot = True
            if len(self.characters) < skip:
                raise OSError("can't restore logical file position")
            self.used = skip
        return cookie

    async def _slow_truncate(self, size, _):
        await self._slow_flush(None, None)
        if size is None:
            size = self.below.tell_now()
        return await self.below._slow_truncate(None if size is NotImplemented else size, None)

    async def _slow_close(self, _, __):
        await self.below._slow_close(None, None)

    async def _slow_exit(self, _, __):
        await self.below._slow_close(None, None)

    async def _slow_detach(self, _, __):
        cdef BufferedFile below
        await self._slow_flush(None, None)
        below, self.below = self.below, None
        below.covered = False
        return below

    async def _slow_pread(self, length, offset):
        return await self.below._slow_pread(length, offset)

    async def _slow_pwrite(self, data, offset):
        return await self.below._slow_pwrite(data, offset)

    async def _slow_fsync(self, _, __):
        await self.below._slow_fsync(None, None)

    async def _slow_fdatasync(self, _, __):
        await self.below._slow_fdatasync(None, None)

    async def _slow_lock(self, how, where):
        await self.below._slow_lock(how, where)

    async def _slow_unlock(self, where, _):
        await self.below._slow_unlock(where, None)

    def detach(self):
        """Flushes, and gives the binary file below, apart from which this object is of no use any more."""
        return self.call(FILE_DETACH)

    def _give_fd(self):
        """As BufferedFile's."""
        self.lowest()
        fd = self.below._give_fd()
        self.below = None
        return fd


cdef bint is_punycode(str encoding) except -1:
    """The codec whose decoder takes each piece for all there is, and cannot read a line of two pieces."""
    return codecs.lookup(encoding).name == "punycode"


cdef object cookie_of(object position, object flags, object length, object needs_end, object skip):
    """A position for seek(): from `position` on, with the decoder's `flags`, decode `length` bytes, and the
    end if `needs_end`, and skip so many characters."""
    return position | flags << WORD_BITS | length << 2 * WORD_BITS | skip << 3 * WORD_BITS \
        | needs_end << 4 * WORD_BITS


cdef tuple parts_of(object cookie):
    return (cookie & WORD, cookie >> WORD_BITS & WORD, cookie >> 2 * WORD_BITS & WORD,
            cookie >> 4 * WORD_BITS != 0, cookie >> 3 * WORD_BITS & WORD)


cdef object walk_to(
        object decoder, object position, object flags, bytes piece, Py_ssize_t skip,
        double bytes_per_character):
    """Walks the decoder from the piece's start over `skip` characters, to the last place before where its
    state is nothing but flags. First in one stride that is likely to end near, then byte by byte."""
    cdef Py_ssize_t stride = min(<Py_ssize_t> (bytes_per_character * skip), len(piece))
    cdef Py_ssize_t back = 1
    cdef Py_ssize_t begin = 0
    cdef Py_ssize_t fed = 0
    cdef Py_ssize_t decoded = 0
    cdef Py_ssize_t i
    while stride > 0:
        decoder.setstate((b"", flags))
        decoded = len(decoder.decode(piece[:stride]))
        if decoded <= skip:
            held, stride_flags = decoder.getstate()
            if not held:
                flags = stride_flags
                skip -= decoded
                break
            stride -= len(held)
            back = 1
        else:
            stride -= back
            back *= 2
    if stride <= 0:
        stride = 0
        decoder.setstate((b"", flags))
    begin = stride
    start_flags = flags
    if skip == 0:
        return cookie_of(position + begin, start_flags, 0, False, 0)
    decoded = 0
    for i in range(stride, len(piece)):
        fed += 1
        decoded += len(decoder.decode(piece[i:i + 1]))
        held, flags = decoder.getstate()
        if not held and decoded <= skip:
            begin += fed
            skip -= decoded
            start_flags, fed, decoded = flags, 0, 0
        if decoded >= skip:
            return cookie_of(position + begin, start_flags, fed, False, skip)
    decoded += len(decoder.decode(b"", True))
    if decoded < skip:
        raise OSError("can't reconstruct logical file position")
    return cookie_of(position + begin, start_flags, fed, True, skip)
