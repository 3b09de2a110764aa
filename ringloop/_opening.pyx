"""`ringloop.open`: builtins.open for coroutines.

What it returns is awaited or entered by `async with`. For reading, what the kernel has in memory is opened in
its first step; all else goes to the ring or to a worker. An opener is called by a thread of the executor.
"""

import asyncio
import errno
import os
import sys

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memchr
from posix.unistd cimport close as close_fd

from ringloop._buffered cimport BufferedFile, buffered_file
from ringloop._files cimport FILE_EXIT, Attempt, File, take_short_ways, unsupported
from ringloop._flight cimport RL_OP_OPENAT, RL_OP_STATX, RL_SQE_ASYNC
from ringloop._ops cimport (
    RL_WOULD_BLOCK, Call, rl_resident_file, rl_resident_identify, rl_resident_open_unseen, rl_statx,
    resident_of,
)
from ringloop._os cimport audit
from ringloop._raw cimport RawFile
from ringloop._text cimport text_file

from ringloop import opening


cdef extern from "Python.h":
    bytes PyUnicode_EncodeFSDefault(object path)

cdef extern from "<fcntl.h>" nogil:
    enum: AT_EMPTY_PATH, AT_FDCWD, F_GETFL, O_ACCMODE, O_APPEND, O_EXCL, O_RDONLY
    int fcntl(int fd, int command)

cdef extern from "<sys/stat.h>" nogil:
    bint S_ISDIR(int mode)
    bint S_ISREG(int mode)

cdef extern from "<sys/syscall.h>" nogil:
    enum: SYS_lseek

cdef extern from "<unistd.h>" nogil:
    enum: SEEK_CUR, SEEK_END

cdef enum:
    STATX_WANTED = 0xFFF           # STATX_BASIC_STATS and STATX_BTIME
    # As Python has it from 3.14 on: far fewer system calls than with one block.
    BUFFER_BYTES = 131072
    BUFFER_BYTES_MAX = 1048576
    BLOCK_BYTES_MAX = 8388608


@cython.final
cdef class Mode:
    """What the letters of a mode say."""

    cdef int flags                 # for open()
    cdef bint is_binary
    cdef bint reads
    cdef bint writes


cdef dict MODES = {}               # by the letters, in every order


cdef int learn_modes() except -1:
    cdef Mode mode
    for letters, flags in opening.MODES.items():
        mode = Mode.__new__(Mode)
        mode.flags = flags
        mode.is_binary = "b" in letters
        mode.reads = "r" in letters or "+" in letters
        mode.writes = (mode.flags & O_ACCMODE) != O_RDONLY
        MODES[letters] = mode
    return 0


learn_modes()
cdef bint WARNS_OF_ENCODING = sys.flags.warn_default_encoding


@cython.final
cdef class RawOpen(Call):
    """Opens a path that is not opened at once: an fd."""

    cdef object value(self):
        return self.outcome

    cdef void give_back(self) noexcept:
        self.collected = True
        if self.outcome >= 0:
            close_fd(<int> self.outcome)


@cython.final
cdef class RawStatus(Call):
    """What an fd is."""

    cdef rl_resident_file known
    cdef rl_statx status

    cdef int64_t at_once(self) except? -1:
        return rl_resident_identify(
            self.resident(), self.request.entry.sqe.fd, False, &self.known, &self.status)


@cython.final
cdef class Opening(Attempt):
    """What open() returns: awaited, or entered by `async with`, it is a file object."""

    cdef object path
    cdef object mode
    cdef object buffering
    cdef object encoding
    cdef object errors
    cdef object newline
    cdef object closefd
    cdef object opener
    cdef object write_behind
    cdef Mode known_mode           # None: the arguments are not checked yet
    cdef object opened
    cdef int fifo_fd               # what was opened unawares: see wait_for_writer(); -1: none

    def __cinit__(self):
        self.fifo_fd = -1

    def __dealloc__(self):
        if self.fifo_fd >= 0:
            close_fd(self.fifo_fd)

    cdef str call_name(self):
        return "open"

    def __aenter__(self):
        return self

    def __aexit__(self, *exc):
        if self.opened is None:
            raise RuntimeError("the file was not opened")
        return (<File> self.opened).call(FILE_EXIT)

    cdef bint is_common(self, Mode mode) except -1:
        """Whether all arguments are such that builtins.open does not refuse them and does not warn."""
        if mode is None or not (type(self.path) is str or type(self.path) is bytes) \
                or type(self.buffering) is not int or self.closefd is not True \
                or self.write_behind != 0 or WARNS_OF_ENCODING:
            return False
        if mode.is_binary:
            return self.encoding is None and self.errors is None and self.newline is None \
                and self.buffering != 1
        return (self.encoding is None or type(self.encoding) is str) \
            and (self.errors is None or type(self.errors) is str) \
            and (self.newline is None or type(self.newline) is str)

    cdef int check(self) except -1:
        """The arguments, as builtins.open does."""
        cdef Mode mode
        if self.known_mode is not None:
            return 0
        mode = MODES.get(self.mode) if type(self.mode) is str else None
        if self.is_common(mode):
            audit("open", "OOi", <PyObject *> self.path, <PyObject *> self.mode, mode.flags)
            self.known_mode = mode
            return 0
        self.path = opening.check(
            self.path, self.mode, self.buffering, self.encoding, self.errors, self.newline, self.closefd)
        self.write_behind = opening.check_write_behind(self.write_behind, self.mode, self.buffering)
        self.known_mode = MODES[self.mode]
        return 0

    cdef bytes encoded_path(self):
        cdef bytes encoded = PyUnicode_EncodeFSDefault(self.path) if type(self.path) is str else self.path
        if memchr(PyBytes_AS_STRING(encoded), 0, PyBytes_GET_SIZE(encoded)) != NULL:
            raise ValueError("embedded null byte")
        return encoded

    cdef RawOpen open_call(self):
        cdef RawOpen call = RawOpen.__new__(RawOpen)
        call.path = self.path
        call.kept = self.encoded_path()
        call.for_entry("open", RL_OP_OPENAT, AT_FDCWD)
        call.request.entry.sqe.address = <uint64_t> PyBytes_AS_STRING(call.kept)
        call.request.entry.sqe.length = 0o666
        call.request.entry.sqe.op_flags = self.known_mode.flags
        # In a ring's own context opening a FIFO would not wait for the other end (6.18).
        call.request.entry.sqe.flags = RL_SQE_ASYNC
        if self.fifo_fd >= 0:
            call.wait_for_writer(self.fifo_fd)
            self.fifo_fd = -1
        return call

    cdef object at_once(self, object loop):
        cdef rl_resident_file known
        cdef rl_statx status
        cdef RawFile raw
        cdef bytes encoded
        cdef int fd
        self.check()
        if self.opener is not None or type(self.path) is int or self.known_mode.writes or self.is_foreign:
            return NotImplemented
        encoded = self.encoded_path()
        fd = rl_resident_open_unseen(
            resident_of(loop), AT_FDCWD, PyBytes_AS_STRING(encoded), self.known_mode.flags, &known, &status)
        if fd == RL_WOULD_BLOCK:
            if known.waits_for_writer:
                self.fifo_fd = known.fifo_fd
            return NotImplemented
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd), self.path)
        raw = self.raw_file(fd)
        raw.known = known
        raw.identified = True
        raw.opened_now = True
        raw.opened_pass = self.pass_number
        self.take_status(raw, &status)
        return self.finish(raw)

    cdef object go_on(self):
        return open_slowly(self)

    cdef RawFile raw_file(self, int fd):
        cdef RawFile raw = RawFile.__new__(RawFile)
        raw.fd = fd
        raw.name = self.path
        raw.closefd = bool(self.closefd)
        raw.writes = self.known_mode.writes
        raw.reads = self.known_mode.reads
        raw.appends = raw.adds = (self.known_mode.flags & O_APPEND) != 0
        raw.creates = (self.known_mode.flags & O_EXCL) != 0
        return raw

    cdef int take_status(self, RawFile raw, rl_statx *status) except -1:
        if S_ISDIR(status.mode):
            raw.warned = True
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self.path)
        raw.regular = S_ISREG(status.mode)
        raw.seeks = raw.regular
        raw.block_bytes = status.block_bytes
        if raw.regular and raw.appends:
            raw.position = status.size
        return 0

    cdef object finish(self, RawFile raw):
        """The file object upon the raw file."""
        cdef BufferedFile buffered
        cdef int64_t size = self.buffering
        cdef int64_t size_max = size
        cdef bint is_text = not self.known_mode.is_binary
        cdef bint by_line = is_text and (size == 1 or (size < 0 and raw.isatty()))
        if size == 0 and not is_text:
            self.opened = raw
            return raw
        raw.warned = True
        if size == 0:
            raise ValueError("can't have unbuffered text I/O")
        if size < 0 or size == 1:
            size = min(<int64_t> raw.block_bytes, <int64_t> BLOCK_BYTES_MAX)
            size = max(size, BUFFER_BYTES) if raw.regular else size if size > 1 else BUFFER_BYTES
            size_max = max(size, BUFFER_BYTES_MAX) if raw.regular else size
        if raw.reads and raw.writes and not raw.seeks:
            raise unsupported("File or stream is not seekable.")
        buffered = buffered_file(raw, size, size_max, self.write_behind)
        self.opened = buffered
        if is_text:
            encoding, errors = opening.text_codec(self.encoding, self.errors, self.newline)
            self.opened = text_file(buffered, self.mode, encoding, errors, self.newline, by_line)
        raw.warned = False
        return self.opened


async def open_slowly(Opening asked):
    """Opens by system calls that may wait."""
    cdef RawStatus status
    cdef RawFile raw
    if type(asked.path) is int:
        raw = asked.raw_file(asked.path)
        raw.exposed = True
    elif asked.opener is not None:
        raw = asked.raw_file(await fd_by_opener(asked.opener, asked.path, asked.known_mode.flags))
    else:
        raw = asked.raw_file(await asked.open_call())
    # Until it is whole it closes itself without a word; but an fd of the caller's that is none is not closed.
    raw.warned = True
    status = RawStatus.__new__(RawStatus)
    status.kept = b""
    status.for_entry("fstat", RL_OP_STATX, raw.fd)
    status.request.entry.sqe.address = <uint64_t> PyBytes_AS_STRING(status.kept)
    status.request.entry.sqe.length = STATX_WANTED
    status.request.entry.sqe.offset = <uint64_t> &status.status
    status.request.entry.sqe.op_flags = AT_EMPTY_PATH
    try:
        await status
        raw.known = status.known
        raw.identified = raw.known.kind != 0
        asked.take_status(raw, &status.status)
        if type(asked.path) is int or asked.opener is not None:
            raw.adds = raw.appends or fcntl(raw.fd, F_GETFL) & O_APPEND != 0
            await find_position(raw)
        elif not raw.regular:
            await find_position(raw)
    except BaseException:
        # What was not opened, also because that was cancelled, is the caller's as it was.
        if type(asked.path) is int:
            raw.fd = -1
        raise
    result = asked.finish(raw)
    raw.warned = False
    return result


async def find_position(RawFile raw):
    """Of what has perhaps none, and of an fd that was somewhere, by whom it may be."""
    try:
        raw.position = await raw.raw_call("lseek", SYS_lseek, 0, SEEK_END if raw.appends else SEEK_CUR)
        raw.seeks = True
    except OSError:
        raw.seeks = False


async def fd_by_opener(opener, path, flags):
    """The fd that the opener answers, not inherited by child processes."""
    fd = await opening.OpenerCall(opener, path, flags).wait(asyncio.get_running_loop())
    if hasattr(fd, "__await__"):
        fd = await fd
    if not isinstance(fd, int):
        raise TypeError("expected integer from opener")
    if fd < 0:
        raise ValueError(f"opener returned {fd}")
    try:
        os.set_inheritable(fd, False)
    except OSError:
        opening.discard(fd)
        raise
    return fd


def open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None, *,
         write_behind=0):
    """As builtins.open(), with all its arguments and errors: await it, or use it in `async with`.

    The file objects have the methods of io's and of aiofiles', as coroutines. A buffer is at least 128 KiB
    for a regular file unless `buffering` says how large; that for writing grows to 1 MiB if it is filled
    again and again. `opener` is called by a thread; what it returns may
    be an awaitable.

    With `write_behind`, a number of bytes, a write to a regular file does not wait until the kernel has taken
    it, as long as no more than so many bytes wait for that beyond the buffer. They are written in order. What
    fails is raised by the next write, flush, close or other call that needs the file, and stays to be written
    until a flush succeeds. A write that is cancelled has written nothing.
    Raises ValueError if it is negative, or if the file has no buffer or is not open for writing.
    """
    cdef Opening call = Opening.__new__(Opening)
    call.path = file
    call.mode = mode
    call.buffering = buffering
    call.encoding = encoding
    call.errors = errors
    call.newline = newline
    call.closefd = closefd
    call.opener = opener
    call.write_behind = write_behind
    return call


take_short_ways(Opening)
