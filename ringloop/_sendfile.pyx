"""Files sent to stream sockets by sendfile(2), as asyncio's Unix loop does, but never waiting for a disk.

A file goes out in pieces. A piece whose pages are all in memory is sent on the loop's thread; any other by a
worker, which waits for the disk and not for the socket. Each costs turns by its size, so that a pass sends no
more than a few MiB, for all of a loop's files together. When the socket is full its readiness is waited for.
The ring's SPLICE is no help: it always takes a thread, and may wait there for the socket.

Called by `ringloop.sending` for asyncio's `sock_sendfile` and `sendfile`, which check the arguments.
Invariant: when the call ends, in whatever way, no worker uses its fds any more, and the file's position tells
exactly how much was sent (before Python 3.14: unless nothing was).
"""

import asyncio
import errno as errors
import io
import os
from asyncio import trsock, unix_events

cimport cython
from libc.errno cimport EAGAIN, EINTR
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.string cimport memset

from ringloop._buffered cimport BufferedFile
from ringloop._files cimport File
from ringloop._ops cimport (
    CALL_OVER, RL_WOULD_BLOCK, Call, rl_resident_forget, rl_resident_identify, rl_resident_sendfile,
    rl_statx,
)
from ringloop._sock cimport ReadyWait, Sockets
from ringloop._stream cimport StreamTransport


cdef extern from "<errno.h>" nogil:
    enum: ECANCELED

cdef extern from "<fcntl.h>" nogil:
    enum: F_GETFL, O_NONBLOCK
    int fcntl(int fd, int command, ...)

cdef extern from "<poll.h>" nogil:
    enum: POLLOUT

cdef extern from "<stdio.h>" nogil:
    enum: SEEK_CUR, SEEK_SET

cdef extern from "<sys/syscall.h>" nogil:
    enum: SYS_sendfile

cdef extern from "<unistd.h>" nogil:
    int64_t lseek(int fd, int64_t offset, int whence)

cdef enum:
    PIECE_BYTES_MAX = 1024 * 1024
    TURN_BYTES = 64 * 1024             # sent at once for one of the pass's turns
    TO_THE_END = -1

# Later Pythons (3.14, and patches of earlier ones) have a file stand at `offset` also if nothing was sent,
# read from there where sendfile(2) does not do, and wait for a transport after each block.
OFFSET_IS_TRUE = (
    unix_events._UnixSelectorEventLoop._sock_sendfile_update_filepos.__code__.co_argcount == 3)
cdef object NotAvailable = asyncio.SendfileNotAvailableError
cdef object TransportSocket = trsock.TransportSocket


cdef int fd_or_none(object file) noexcept:
    """The fd that the file has now: closed meanwhile, its number may be another's."""
    try:
        return file.fileno()
    except Exception:
        return -1                      # which sendfile() refuses as EBADF, as it refuses a closed fd


@cython.final
cdef class FilePiece(Call):
    """One sendfile(2). Its result is the outcome: what an error means depends on what was sent before.

    It lends its fds, so a cancelled one is waited for: it ends soon, as it waits for the disk at most.
    """

    def __dealloc__(self):
        self.lent = False              # there is no buffer, see Call

    cdef int64_t at_once(self) except? -1:
        cdef FileSending sending = self.sending
        cdef int64_t outcome
        cdef int turns
        if sending.error is not None:
            return -ECANCELED
        if not sending.never_waits or not sending.identify(self):
            return RL_WOULD_BLOCK
        outcome = rl_resident_sendfile(
            self.socket_fd, self.file_fd, &sending.known, self.asked_bytes, self.position)
        turns = <int> max(outcome, 0) // TURN_BYTES
        while turns > 0:
            turns -= 1
            self.loop.take_inline_turn()
        return outcome

    cdef int unlock(self) except -1:
        self.lent = False
        return 0

    cdef object finish(self):
        self.stage = CALL_OVER
        self.collected = True
        self.future = self.waiting = None
        return None


cdef class FileSending:
    """One file on its way to one socket."""

    def __cinit__(self, Sockets loop, sock, file, int64_t offset, count):
        memset(&self.known, 0, sizeof(self.known))
        self.loop = loop
        self.sock = sock
        self.file = file
        self.position = offset
        self.left_bytes = min(count, INT64_MAX) if count else TO_THE_END

    def __dealloc__(self):
        rl_resident_forget(&self.known)

    cdef bint identify(self, FilePiece piece) except -1:
        """Whether it is known how to tell what of the file is in memory."""
        cdef rl_statx status
        if self.known.kind == 0:
            rl_resident_identify(piece.resident(), piece.file_fd, False, &self.known, &status)
        return self.known.kind != 0

    cdef FilePiece next_piece(self):
        cdef FilePiece piece = FilePiece.__new__(FilePiece)
        piece.sending = self
        piece.socket_fd = self.sock.fileno()
        piece.file_fd = fd_or_none(self.file)
        piece.position = self.position
        piece.asked_bytes = PIECE_BYTES_MAX
        if self.left_bytes != TO_THE_END:
            piece.asked_bytes = <size_t> min(self.left_bytes, PIECE_BYTES_MAX)
        piece.for_number("sendfile", SYS_sendfile)
        piece.lent = True
        piece.request.call.arguments[0] = <uint64_t> piece.socket_fd
        piece.request.call.arguments[1] = <uint64_t> piece.file_fd
        piece.request.call.arguments[2] = <uint64_t> &piece.position
        piece.request.call.arguments[3] = <uint64_t> piece.asked_bytes
        return piece

    cdef int count(self, FilePiece piece) except -1:
        """Adds what the piece sent, also when it was cancelled and had sent something all the same."""
        self.piece = None
        if piece.outcome > 0:
            self.position += piece.outcome
            self.sent_bytes += piece.outcome
            if self.left_bytes != TO_THE_END:
                self.left_bytes -= piece.outcome
        return 0

    async def run(self):
        """Sends all of it; how many bytes that were. Fewer than asked for if the file ends before."""
        cdef FilePiece piece
        self.wait = ReadyWait(self.loop, self.sock, POLLOUT)
        try:
            self.never_waits = fcntl(self.sock.fileno(), F_GETFL) & O_NONBLOCK != 0
            while self.left_bytes != 0:
                self.piece = piece = self.next_piece()
                try:
                    await piece
                finally:
                    self.count(piece)
                if self.error is not None:
                    raise self.error
                if piece.outcome == 0:
                    break
                if piece.outcome < 0 and piece.outcome != -EAGAIN and piece.outcome != -EINTR:
                    raise self.failure(<int> -piece.outcome)
                if piece.outcome != -EINTR and piece.outcome < <int64_t> piece.asked_bytes:
                    # The socket is full, or the file ends here: then it is writable, mostly, and that shows.
                    self.waited = True
                    self.future = self.wait.begin(self.sock.fileno())
                    await self.future
                    self.future = None
                    if self.error is not None:
                        raise self.error
        finally:
            self.finish()
        return self.sent_bytes

    cdef object failure(self, int code):
        """As asyncio: an error before anything was sent may be because this file cannot be sent so."""
        error = OSError(code, os.strerror(code))
        if self.sent_bytes == 0:
            error = NotAvailable("os.sendfile call failed")
        elif code == errors.ENOTCONN:
            cause = error
            error = ConnectionError("socket is not connected", code)
            error.__cause__ = cause
        return error

    cdef int finish(self) except -1:
        cdef int fd
        if self.sent_bytes or OFFSET_IS_TRUE:
            # It fails only for a file that was closed meanwhile, and for one without a position.
            fd = fd_or_none(self.file)
            lseek(fd, self.position, SEEK_SET)
        return self.wait.end()

    def interrupt(self, exc):
        """Ends it with exc: its connection ends."""
        self.error = exc
        if self.piece is not None:
            self.loop.cancel(self.piece)
        elif self.future is not None and not self.future.done():
            self.future.set_exception(exc)


def file_below(file):
    """Of a file of `ringloop.aiofiles` the one it lies upon; any other as it is."""
    below = getattr(file, "_file", None)
    return below if isinstance(below, File) else file


async def send_to_socket(loop, sock, file, offset, count):
    """What `loop._sock_sendfile_native` is to do."""
    cdef FileSending sending = begin_sending(loop, sock, file, offset, count)
    return 0 if sending is None else await sending.run()


async def send_to_transport(loop, transp, file, offset, count):
    """What `loop._sendfile_native` is to do."""
    cdef StreamTransport transport
    cdef FileSending sending
    if not isinstance(transp, StreamTransport):
        raise NotAvailable("sendfile syscall is not supported")
    transport = transp
    waiter = transport._make_empty_waiter()
    resume_reading = transport.is_reading()
    transport.pause_reading()
    try:
        await waiter
        if transport.is_closing():
            raise ConnectionError("Connection is closed by peer")
        sock = transport.socket_object()
        loop._check_sendfile_params(sock, file, offset, count)
        (<Sockets> loop).release_fd(transport.fd, transport)
        try:
            sending = begin_sending(loop, sock, file, offset, count)
            if sending is None:
                return 0
            transport.file_sending = sending
            return await sending.run()
        finally:
            transport.file_sending = None
            if transport.fd >= 0:
                (<Sockets> loop).claim_fd(transport.fd, transport)
    finally:
        transport._reset_empty_waiter()
        if resume_reading:
            transport.resume_reading()


cdef FileSending begin_sending(Sockets loop, object sock, object file, object offset, object count):
    """What is to be sent; None for an empty file. Raises as asyncio for what has no file."""
    try:
        fd = file.fileno()
    except (AttributeError, io.UnsupportedOperation):
        raise NotAvailable("not a regular file") from None
    try:
        size = os.fstat(fd).st_size
    except OSError:
        raise NotAvailable("not a regular file") from None
    if not count and not size:
        return None
    below = file_below(file)
    if isinstance(below, BufferedFile):
        # What it has read ahead would count as still to come, wherever the file stands afterwards.
        (<BufferedFile> below).seek_now(0, SEEK_CUR)
    if isinstance(sock, TransportSocket):
        sock = sock._sock
    loop.refuse_owned(sock.fileno(), sock.fileno())
    return FileSending(loop, sock, file, offset, count)
