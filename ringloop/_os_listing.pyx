"""Directories: `listdir`, what `scandir` and `walk` are made of, and the entries they give.

A directory is read by a worker, in one go if it is not huge: nothing tells whether it is cached.

Memory: what a worker reads into is the Directory's, and the worker's alone while it reads. A Directory that
is closed meanwhile gives its memory and its file descriptor back when the worker is done.
"""

import os
import sys

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from ringloop._core cimport LoopCore
from ringloop._flight cimport Flight, rl_work
from ringloop._ops cimport CALL_OVER, CALL_YIELDED, Call, resident_of, rl_resident, rl_statx
from ringloop._os cimport (
    AT_FDCWD, AT_SYMLINK_NOFOLLOW, StatCall, encoded_path, fd_of_path, is_fd, like, plain_path,
)
from ringloop._running cimport running_loop


cdef extern from "<dirent.h>" nogil:
    enum: DT_UNKNOWN, DT_LNK, DT_REG

cdef extern from "<errno.h>" nogil:
    enum: EBADF, ECANCELED, EINTR, ENOENT

cdef extern from "<stdint.h>" nogil:
    size_t SIZE_MAX

cdef extern from "listing.h" nogil:
    ctypedef struct rl_listing "struct rl_listing":
        int dir_fd
        const char *path
        size_t bytes_max
        bint is_open
        bint is_over
        bint is_known
        rl_statx status
        uint64_t start
        size_t bytes
    ctypedef struct rl_listing_entry "struct rl_listing_entry":
        const char *name
        size_t name_bytes
        uint64_t inode
        uint8_t type
    int64_t rl_listing_execute(rl_work *work)
    bint rl_listing_next(const rl_listing *listing, size_t *position, rl_listing_entry *entry)
    void rl_listing_end(rl_listing *listing)

cdef extern from "resident.h" nogil:
    bint rl_resident_opens_in(rl_resident *resident, const rl_statx *directory)
    void rl_resident_listed(rl_resident *resident, uint64_t start, const char *directory,
                            size_t directory_bytes, const char *name, size_t name_bytes)

cdef extern from "<sys/stat.h>" nogil:
    enum: S_IFMT, S_IFDIR, S_IFLNK, S_IFREG

cdef enum:
    SCAN_BYTES = 1 << 20           # some 30,000 entries: scandir() holds no more at a time


cdef class Directory:
    """A directory that is being read, from which entries are taken. Its calls must not overlap."""

    cdef rl_listing listing        # ours; a worker's while is_reading
    cdef size_t position           # in what was read: the next entry
    cdef bytes encoded             # its path, which `listing` points into
    cdef readonly object path      # as errors tell it and entries begin with it; None: a file descriptor
    cdef int fd                    # where the entries are looked up
    cdef bint is_reading
    cdef bint was_read             # at least once
    cdef bint tells_files          # the loop is told of regular files
    cdef bint is_given_up          # closed

    def __cinit__(self, str function, path):
        memset(&self.listing, 0, sizeof(self.listing))
        self.fd = AT_FDCWD
        if is_fd(path):
            self.fd = self.listing.dir_fd = fd_of_path(path)
            return
        self.path = "." if path is None else plain_path(
            function, "path", path, "string, bytes, os.PathLike, integer or None")
        self.encoded = encoded_path(function, "path", self.path)
        self.listing.dir_fd = AT_FDCWD
        self.listing.path = PyBytes_AS_STRING(self.encoded)

    def __dealloc__(self):
        # No call is left: each holds its directory.
        rl_listing_end(&self.listing)

    @property
    def is_open(self):
        """Whether there is more to read, and nobody is reading it."""
        return not self.is_reading and self.listing.is_open

    @property
    def has_begun(self):
        """Whether entries were read, or will never be."""
        return self.was_read or self.is_given_up

    @property
    def is_over(self):
        """Whether there is nothing more to read."""
        return self.is_given_up or (not self.is_reading and self.listing.is_over)

    def close(self):
        """Gives up what is left."""
        self.is_given_up = True
        if not self.is_reading:
            rl_listing_end(&self.listing)

    def read(self):
        """A call that reads the next entries. After an error there are none, unless it was the first call."""
        cdef ScanCall call = ScanCall.__new__(ScanCall)
        prepare_listing(call, "scandir", self, SCAN_BYTES)
        # A task that is cancelled hears of it when the worker is done, and the file descriptor can be closed.
        call.lent = True
        return call

    def next_entry(self):
        """The next of the entries that were read, a DirEntry; None: there is no more of them."""
        cdef rl_listing_entry entry
        if self.is_reading or not rl_listing_next(&self.listing, &self.position, &entry):
            return None
        if self.tells_files and entry.type == DT_REG:
            self.tell_file(&entry)
        return entry_of(self, like(self.path, entry.name, entry.name_bytes), &entry)

    cdef int tell_file(self, rl_listing_entry *entry) except -1:
        """Its path will lead to a regular file: whoever opens it soon need not look first."""
        cdef rl_resident *known
        loop = running_loop()
        if isinstance(loop, LoopCore):
            known = resident_of(loop)
            if known != NULL:
                rl_resident_listed(
                    known, self.listing.start, self.listing.path, PyBytes_GET_SIZE(self.encoded), entry.name,
                    entry.name_bytes)
        return 0

    cdef int check_unread(self) except -1:
        if self.is_reading:
            raise RuntimeError("the directory is being read already")
        return 0

    cdef int begin_reading(self) except -1:
        self.check_unread()
        if self.position >= self.listing.bytes:
            self.position = self.listing.bytes = 0
        self.is_reading = True
        return 0

    cdef void end_reading(self, int64_t outcome) noexcept:
        self.is_reading = False
        if self.is_given_up:
            rl_listing_end(&self.listing)
        elif outcome >= 0:
            self.was_read = True
        elif self.was_read and outcome != -EINTR and outcome != -ECANCELED:
            self.listing.is_over = True


cdef class ListCall(Call):
    cdef Directory directory

    cdef int choose_executor(self) noexcept:
        self.request.work.execute = rl_listing_execute
        return 0

    cdef object error(self):
        # As `os` does: not if the file descriptor is none at all.
        if self.directory.path is None and self.outcome != -EBADF:
            self.path = self.directory.fd
        return Call.error(self)

    cdef object value(self):
        cdef size_t position = 0
        cdef rl_listing_entry entry
        found = []
        while rl_listing_next(&self.directory.listing, &position, &entry):
            found.append(like(self.directory.path, entry.name, entry.name_bytes))
        return found


cdef class ScanCall(ListCall):
    """Reads more into a Directory that others hold, too."""

    cdef object begin(self):
        if self.directory.is_reading:
            self.stage = CALL_OVER
        self.directory.check_unread()
        return ListCall.begin(self)

    cdef int start(self, Flight loop) except -1:
        self.directory.begin_reading()
        try:
            # What is listed is mostly opened soon: where that is done at once is known by then.
            resident_of(loop)
            return ListCall.start(self, loop)
        except BaseException:
            self.directory.end_reading(-EINTR)
            raise

    cdef int complete(self, int64_t result, uint32_t flags, object payload) except -1:
        cdef rl_listing *listing = &self.directory.listing
        cdef rl_resident *known
        try:
            ListCall.complete(self, result, flags, payload)
        finally:
            if self.completed:
                self.directory.end_reading(result)
        if self.completed and listing.is_known:
            known = self.resident()
            self.directory.tells_files = known != NULL and rl_resident_opens_in(known, &listing.status)
        return 0

    cdef void discard(self, int64_t result, uint32_t flags) noexcept:
        self.directory.end_reading(result)
        ListCall.discard(self, result, flags)

    def _execute(self):
        self.directory.begin_reading()
        try:
            ListCall._execute(self)
        finally:
            self.directory.end_reading(self.outcome)

    cdef object value(self):
        return None


cdef class TurnCall(Call):
    """Nothing but the turn that every call takes before it does something at once."""

    cdef object begin(self):
        loop = running_loop()
        if isinstance(loop, LoopCore):
            self.loop = loop
            turn = self.loop.await_turn(self.stage == CALL_YIELDED)
            if turn is not None:
                self.stage = CALL_YIELDED
                return turn
        self.outcome = 0
        return self.finish()


cdef int prepare_listing(ListCall call, str name, Directory directory, size_t bytes_max) except -1:
    directory.listing.bytes_max = bytes_max
    call.directory = directory
    call.path = directory.path
    call.for_number(name, 0)
    call.request.call.arguments[0] = <uint64_t> &directory.listing
    return 0


def turn():
    """A call that lets others run where much was done in this pass."""
    cdef TurnCall call = TurnCall.__new__(TurnCall)
    call.name = "scandir"
    return call


def listdir(path=None):
    """As os.listdir(): a list of names. `path` may be a file descriptor."""
    cdef ListCall call = ListCall.__new__(ListCall)
    sys.audit("os.listdir", path)
    prepare_listing(call, "listdir", Directory("listdir", path), SIZE_MAX)
    return call


# --- entries

cdef class DirEntry:
    """An entry of a directory, as os.DirEntry. What may have to ask the kernel is to be awaited."""

    cdef readonly object name      # str or bytes
    cdef object directory_path
    cdef object own_path
    cdef uint64_t number
    cdef int directory_fd
    cdef uint8_t type              # DT_*
    cdef object status             # an os.stat_result, or None
    cdef object status_unfollowed

    def __init__(self):
        raise TypeError(f"cannot create {type(self).__name__!r} instances")

    @property
    def path(self):
        """The entry's path: scandir()'s own path joined with the name."""
        if self.own_path is None:
            self.own_path = self.name
            if self.directory_path is not None:
                self.own_path = os.path.join(self.directory_path, self.name)
        return self.own_path

    def __fspath__(self):
        return self.path

    def __repr__(self):
        return f"<DirEntry {self.name!r}>"

    def inode(self):
        """The inode's number."""
        return self.number

    def stat(self, *, follow_symlinks=True):
        """As os.stat() of the entry; remembered."""
        return entry_call(self, "stat", 0, follow_symlinks)

    def is_dir(self, *, follow_symlinks=True):
        """Whether it is a directory or, if links are followed, leads to one."""
        return entry_call(self, "is_dir", S_IFDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks=True):
        """Whether it is a regular file or, if links are followed, leads to one."""
        return entry_call(self, "is_file", S_IFREG, follow_symlinks)

    def is_symlink(self):
        """Whether it is a symbolic link."""
        return entry_call(self, "is_symlink", S_IFLNK, False)

    def is_junction(self):
        """False: there are none here. Not to be awaited."""
        return False


cdef DirEntry entry_of(Directory directory, object name, rl_listing_entry *found):
    cdef DirEntry entry = DirEntry.__new__(DirEntry)
    entry.name = name
    entry.directory_path = directory.path
    entry.directory_fd = directory.fd
    entry.number = found.inode
    entry.type = found.type
    return entry


cdef class EntryCall(StatCall):
    """What a DirEntry is asked."""

    cdef DirEntry entry
    cdef unsigned int wanted       # S_IF*, or 0: the status itself
    cdef bint follows
    cdef object answer             # None: the file is to be looked at

    cdef object begin(self):
        if self.answer is None:
            return StatCall.begin(self)
        self.outcome = 0
        return self.finish()

    cdef object finish(self):
        if self.outcome == -ENOENT and self.wanted != 0:
            self.answer = False
            self.outcome = 0
        return StatCall.finish(self)

    cdef object value(self):
        if self.answer is not None:
            return self.answer
        status = StatCall.value(self)
        is_link = (self.status.mode & S_IFMT) == S_IFLNK
        if self.follows or not is_link:
            self.entry.status = status
        if not self.follows or (self.entry.type != DT_UNKNOWN and self.entry.type != DT_LNK):
            self.entry.status_unfollowed = status
        return status if self.wanted == 0 else (self.status.mode & S_IFMT) == self.wanted


cdef EntryCall entry_call(DirEntry entry, str name, unsigned int wanted, bint follows):
    cdef EntryCall call = EntryCall.__new__(EntryCall)
    status = entry.status if follows else entry.status_unfollowed
    call.entry = entry
    call.wanted = wanted
    call.follows = follows
    call.name = name
    if wanted != 0 and entry.type != DT_UNKNOWN and not (follows and entry.type == DT_LNK):
        call.answer = (<unsigned int> entry.type << 12) == wanted  # as <dirent.h>'s DTTOIF()
        return call
    if status is not None:
        call.answer = status if wanted == 0 else (<unsigned int> status.st_mode & S_IFMT) == wanted
        return call
    call.path = entry.path
    looked_up = entry.path if entry.directory_path is not None else entry.name
    encoded = encoded_path(name, "path", looked_up)
    call.look_at(name, entry.directory_fd, encoded, 0 if follows else AT_SYMLINK_NOFOLLOW)
    return call
