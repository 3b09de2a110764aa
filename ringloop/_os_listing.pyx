"""Directories: `listdir`, what `scandir` and `walk` are made of, and the entries they give.

A directory is read by a worker, in one go if it is not huge: nothing tells whether it is cached.
"""

import os
import sys

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memset

from ringloop._flight cimport rl_work
from ringloop._ops cimport Call
from ringloop._os cimport (
    AT_FDCWD, AT_SYMLINK_NOFOLLOW, StatCall, encoded_path, fd_of_path, is_fd, like, plain_path,
)


cdef extern from "<dirent.h>" nogil:
    enum: DT_UNKNOWN, DT_LNK

cdef extern from "<errno.h>" nogil:
    enum: EBADF, ENOENT

cdef extern from "<stdint.h>" nogil:
    size_t SIZE_MAX

cdef extern from "listing.h" nogil:
    ctypedef struct rl_listing "struct rl_listing":
        int dir_fd
        const char *path
        size_t bytes_max
        bint is_open
        bint is_over
        size_t bytes
    ctypedef struct rl_listing_entry "struct rl_listing_entry":
        const char *name
        size_t name_bytes
        uint64_t inode
        uint8_t type
    int64_t rl_listing_execute(rl_work *work)
    bint rl_listing_next(const rl_listing *listing, size_t *position, rl_listing_entry *entry)
    void rl_listing_end(rl_listing *listing)

cdef extern from "<sys/stat.h>" nogil:
    enum: S_IFMT, S_IFDIR, S_IFLNK, S_IFREG

cdef enum:
    SCAN_BYTES = 1 << 20           # some 30,000 entries: scandir() holds no more at a time


cdef class Directory:
    """A directory that is being read. Its calls must not overlap."""

    cdef rl_listing listing        # ours
    cdef bytes encoded             # its path, which `listing` points into
    cdef readonly object path      # as errors tell it and entries begin with it; None: a file descriptor
    cdef int fd                    # where the entries are looked up

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
        rl_listing_end(&self.listing)

    @property
    def is_open(self):
        """Whether there is more to read."""
        return self.listing.is_open

    def close(self):
        """Gives up what was not read."""
        rl_listing_end(&self.listing)
        self.listing.is_over = True

    def entries(self):
        """A call for the next entries, a list of DirEntry; an empty one at the end."""
        cdef ListCall call = list_call("scandir", self, SCAN_BYTES)
        call.makes_entries = True
        return call


cdef class ListCall(Call):
    cdef Directory directory
    cdef bint makes_entries

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
            name = like(self.directory.path, entry.name, entry.name_bytes)
            found.append(entry_of(self.directory, name, &entry) if self.makes_entries else name)
        self.directory.listing.bytes = 0
        return found


cdef ListCall list_call(str name, Directory directory, size_t bytes_max):
    cdef ListCall call = ListCall.__new__(ListCall)
    directory.listing.bytes_max = bytes_max
    call.directory = directory
    call.path = directory.path
    call.for_number(name, 0)
    call.request.call.arguments[0] = <uint64_t> &directory.listing
    return call


def listdir(path=None):
    """As os.listdir(): a list of names. `path` may be a file descriptor."""
    sys.audit("os.listdir", path)
    return list_call("listdir", Directory("listdir", path), SIZE_MAX)


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
