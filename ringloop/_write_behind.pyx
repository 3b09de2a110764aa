"""Write-behind: a regular file's writes are accepted at once, and written while the writer goes on.

What is accepted is written in order, with one system call in flight at a time. An error stops it: the writer
is told with its next call, nothing is dropped, and what it does after that tries again.

Memory: pieces are bytes objects, held here until the kernel has taken them. While a system call is in flight
it holds the file object too, which is thus not closed under it.
"""

import collections

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t

from ringloop._core cimport LoopCore
from ringloop._descriptor cimport PIECE_BYTES, Descriptor, FileSystemCall
from ringloop._files cimport Order, tell
from ringloop._flight cimport RL_OP_WRITEV
from ringloop._ops cimport CALL_WAITING
from ringloop._running cimport running_loop


cdef extern from "<errno.h>" nogil:
    enum: ECANCELED, EINTR


cdef WriteBehind write_behind(Descriptor raw, Py_ssize_t limit):
    """For `raw`, a regular file that is written to."""
    cdef WriteBehind behind = WriteBehind.__new__(WriteBehind)
    behind.file = raw
    behind.limit = limit
    behind.pieces = collections.deque()
    behind.for_entry("write", RL_OP_WRITEV, raw.fd)
    # Nobody steps through it as through a coroutine.
    behind.stage = CALL_WAITING
    return behind


@cython.final
cdef class WriteBehind(FileSystemCall):
    """What a file is still to write, and the system call that writes it."""

    cdef bint has_room(self, Py_ssize_t length) noexcept:
        return self.waiting == 0 or self.waiting + length <= self.limit

    cdef int append(self, bytes piece) except -1:
        self.pieces.append(piece)
        self.waiting += PyBytes_GET_SIZE(piece)
        return 0

    cdef int tell_failure(self) except -1:
        """Raises what stopped it, once."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        return 0

    cdef int drop(self) except -1:
        """Gives up what could not be written."""
        self.pieces.clear()
        self.waiting = self.first_done = 0
        return 0

    cdef int go(self, object owner) except -1:
        """Begins to write unless it does."""
        if self.file.turns.behind or self.waiting == 0:
            return 0
        loop = running_loop()
        self.fill()
        if isinstance(loop, LoopCore):
            self.start(loop)
        else:
            self.start_in_a_thread(loop)
        self.file.turns.behind = True
        self.owner = owner
        return 0

    cdef int fill(self) except -1:
        """Takes as many pieces as one system call does."""
        cdef Py_ssize_t skipped = self.first_done
        cdef Py_ssize_t room = PIECE_BYTES
        cdef Py_ssize_t length
        cdef uint32_t count = 0
        for piece in self.pieces:
            length = min(PyBytes_GET_SIZE(piece) - skipped, room)
            self.parts[count].iov_base = PyBytes_AS_STRING(piece) + skipped
            self.parts[count].iov_len = <size_t> length
            room -= length
            skipped = 0
            count += 1
            if room == 0 or count == PARTS_MAX:
                break
        self.file.locate()
        self.request.entry.sqe.address = <uint64_t> &self.parts[0]
        self.request.entry.sqe.length = count
        self.request.entry.sqe.offset = <uint64_t> (-1 if self.file.adds else self.file.position)
        self.request.entry.sqe.ioprio = 0
        # Until it tells otherwise: a thread may never begin.
        self.outcome = -ECANCELED
        self.executed = False
        return 0

    def _thread_did(self, thread):
        if self.leave_thread():
            self.ended()

    cdef int settle_untold(self) except -1:
        """At the end of the file: takes over what a thread did, and another loop never told of."""
        if self.executed and self.leave_thread():
            self.file.turns.behind = False
            self.file.turns.in_flight -= 1
            self.settle()
        return 0

    cdef int take_priority(self) except -1:
        # What goes on after a completion has the priority of the writer's context, not of the callback's.
        if self.continues:
            if self.request.work.priority == 0:
                self.request.work.priority = self.priority
        else:
            FileSystemCall.take_priority(self)
            self.priority = self.request.work.priority if self.file.priority == 0 else 0
        return 0

    cdef int settle(self) noexcept:
        cdef Py_ssize_t done
        cdef Py_ssize_t size
        if self.outcome <= 0:
            return 0
        self.file.wrote(self.outcome)
        self.waiting -= <Py_ssize_t> self.outcome
        done = self.first_done + <Py_ssize_t> self.outcome
        while self.pieces:
            size = PyBytes_GET_SIZE(self.pieces[0])
            if done < size:
                break
            self.pieces.popleft()
            done -= size
        self.first_done = done
        return 0

    cdef int ended(self) except -1:
        """One system call is over. The next one begins before anybody could think that all is written."""
        cdef Order turns = self.file.turns
        owner, self.owner = self.owner, None
        turns.behind = False
        self.settle()
        # A run's end cancels it, too.
        if self.outcome < 0 and self.outcome != -EINTR and not (self.outcome == -ECANCELED and self.settles):
            self.failure = self.error()
        self.continues = True
        try:
            if self.failure is None:
                self.go(owner)
        except Exception:
            # An executor that takes nothing any more. Whoever uses the file next begins again, and is told if
            # that is still so.
            pass
        self.continues = False
        turns.ended()
        if self.progress is not None:
            progress, self.progress = self.progress, None
            tell(progress)
        return 0

    cdef void discard(self, int64_t result, uint32_t flags) noexcept:
        # The loop closed. What is not written stays here, for whoever uses the file next or for its end.
        self.outcome = result
        self.file.turns.behind = False
        self.settle()
        self.file.turns.ended()
        self.owner = None

    async def _progressed(self, owner):
        """Waits until some of it is written, or until it fails, which is raised."""
        self.go(owner)
        if self.file.turns.behind:
            self.progress = running_loop().create_future()
            await self.progress
        self.tell_failure()
