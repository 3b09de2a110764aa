# A text file. See _text.pyx.

from ringloop._buffered cimport BufferedFile
from ringloop._files cimport FileCall
from ringloop._descriptor cimport Layer


cdef class TextFile(Layer):
    cdef BufferedFile below        # None: detached
    cdef readonly str encoding
    cdef readonly str errors
    cdef readonly str mode
    cdef readonly bint line_buffering
    cdef str newline               # None, '', or what ends a line
    cdef str ending                # what `write` puts for '\n'
    cdef bint is_universal         # a line ends with any of the three
    cdef bint translates           # those that are read, to '\n'
    cdef bint telling
    cdef object decoder            # None until something is read
    cdef object encoder            # None until something is written that needs one
    cdef object encode_fast        # codecs' function, for encodings without a state
    cdef str characters            # decoded from the last piece that was read; from `used` on they are next
    cdef Py_ssize_t used
    cdef bint has_snapshot
    cdef object snapshot_flags     # the decoder's, before the last piece,
    cdef bytes snapshot_bytes      # and what it had to decode then
    cdef double bytes_per_character
    cdef Py_ssize_t before         # so many of the snapshot's come before the first of `characters`
    cdef list carry                # a line's beginning, from pieces before; it was not delivered
    cdef Py_ssize_t carried        # its length
    cdef object carry_flags        # the snapshot of the first of them
    cdef list carry_bytes
    cdef Py_ssize_t carry_used

    cdef int check_open(self) except -1
    cdef int check_reads(self) except -1
    cdef int need_decoder(self) except -1
    cdef int forget_read(self) except -1
    cdef int decode_piece(self, bytes piece) except -1
    cdef int read_piece_now(self) except -1
    cdef int carry_on(self) except -1
    cdef int put_back(self) except -1
    cdef int put_back_lines(self, list lines) except -1
    cdef Py_ssize_t find_pair(self, Py_ssize_t end) except -2
    cdef str take_last(self)
    cdef str take(self, Py_ssize_t length)
    cdef str take_line(self, Py_ssize_t limit)
    cdef object line_now(self, Py_ssize_t limit)
    cdef object read_size_now(self, Py_ssize_t length)
    cdef object read_all_now(self)
    cdef str decode_rest(self, bytes data)
    cdef object write_now(self, object text)
    cdef bytes encode(self, str text)
    cdef bytes prepare(self, object text)
    cdef bint wants_flush(self, str text)
    cdef int wrote(self) except -1
    cdef int sought(self, object cookie, object flags) except -1
    cdef int reset_encoder(self, bint at_start) except -1
    cdef object tell_now(self)
    cdef object find_cookie(self, object position)
    cdef object seek_simply(self, object cookie, object whence)
    cdef object seldom_at_once(self, FileCall call)


cdef TextFile text_file(
    BufferedFile below, str mode, str encoding, str errors, str newline, bint line_buffering)
