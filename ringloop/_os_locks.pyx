"""`os.lockf`: POSIX locks of a part of a file, which belong to the process.

What waits for a lock is a worker's, which a cancel interrupts. A lock that was granted to a call which was
cancelled meanwhile is given back.
"""

import os
import sys

from cpython.number cimport PyNumber_Index
from libc.stdint cimport int64_t, uint64_t
from posix.unistd cimport lseek as seek

from ringloop._ops cimport Call
from ringloop._os cimport int_argument

cdef extern from "<errno.h>" nogil:
    enum: EACCES, EINVAL

cdef extern from "<fcntl.h>" nogil:
    enum: F_GETLK, F_SETLK, F_SETLKW, F_RDLCK, F_WRLCK, F_UNLCK
    ctypedef struct flock "struct flock":
        short l_type
        short l_whence
        int64_t l_start
        int64_t l_len
        int l_pid
    int fcntl(int fd, int command, ...)

cdef extern from "<stdio.h>" nogil:
    enum: SEEK_SET, SEEK_CUR

cdef extern from "<sys/syscall.h>" nogil:
    enum: SYS_fcntl

cdef extern from "<unistd.h>" nogil:
    enum: F_LOCK, F_TLOCK, F_ULOCK, F_TEST
    int getpid()


cdef class LockCall(Call):
    cdef flock lock                # the kernel reads it, and for F_TEST writes it
    cdef bint tests
    cdef bint takes

    cdef int64_t at_once(self) except? -1:
        self.find_position()
        return Call.at_once(self)

    cdef object wait_in_a_thread(self, object loop):
        self.find_position()
        return Call.wait_in_a_thread(self, loop)

    cdef void find_position(self) noexcept:
        """Where the file stands now, so that the same bytes are given back."""
        cdef int64_t position = seek(<int> self.request.call.arguments[0], 0, SEEK_CUR)
        if position >= 0:
            self.lock.l_whence = SEEK_SET
            self.lock.l_start = position

    cdef object value(self):
        if self.tests and self.lock.l_type != F_UNLCK and self.lock.l_pid != getpid():
            self.outcome = -EACCES
            raise self.error()
        return None

    cdef void give_back(self) noexcept:
        if not self.collected and self.takes and self.outcome == 0:
            self.lock.l_type = F_UNLCK
            fcntl(<int> self.request.call.arguments[0], F_SETLK, &self.lock)
        Call.give_back(self)


def lockf(fd, command, length, /):
    """As os.lockf(): locks or unlocks `length` bytes from the file's position on, or tests that.

    F_LOCK waits until it has the lock. Locks are the process's: tasks do not lock each other out by them.
    """
    cdef LockCall call = LockCall.__new__(LockCall)
    cdef int number = int_argument(fd)
    cdef int what = int_argument(command)
    cdef int64_t length_bytes = PyNumber_Index(length)
    sys.audit("os.lockf", number, what, length)
    if what != F_LOCK and what != F_TLOCK and what != F_ULOCK and what != F_TEST:
        raise OSError(EINVAL, os.strerror(EINVAL))
    call.tests = what == F_TEST
    call.takes = what == F_LOCK or what == F_TLOCK
    call.lock.l_type = F_RDLCK if call.tests else F_WRLCK if call.takes else F_UNLCK
    call.lock.l_len = length_bytes
    call.lock.l_whence = SEEK_CUR
    call.lock.l_start = 0
    call.for_number("lockf", SYS_fcntl)
    call.bounded = what != F_LOCK  # which may wait for ever
    call.request.call.arguments[0] = <uint64_t> number
    call.request.call.arguments[1] = F_GETLK if call.tests else F_SETLKW if what == F_LOCK else F_SETLK
    call.request.call.arguments[2] = <uint64_t> &call.lock
    return call
