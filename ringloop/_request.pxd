# Requests: one operation of the table, filled in and in flight. See _request.pyx.

from libc.stdint cimport uint64_t

from ringloop._core cimport LoopCore
from ringloop._ops cimport Call


cdef enum:
    ARGUMENTS_MAX = 8


cdef class Spec:
    # An entry of the table, in a form that is filled in without a look at Python's.
    cdef str name
    cdef int opcode                # -1: `number` is it
    cdef long number
    cdef int count
    cdef int kinds[ARGUMENTS_MAX]
    cdef int fields[ARGUMENTS_MAX]
    cdef int length_fields[ARGUMENTS_MAX]
    cdef uint64_t bits[ARGUMENTS_MAX]
    cdef list names                # of what callers give, with
    cdef list defaults
    cdef int given[ARGUMENTS_MAX]  # the place of each among what callers give; -1: it has its default
    cdef int given_count
    cdef object arrange
    cdef bint arrange_rarely
    cdef int arranged[ARGUMENTS_MAX]  # the place of each among what `arrange` returns
    cdef object convert
    cdef int result
    cdef bint opens                # the result owns fds
    cdef int success
    cdef bint at_once              # may be done at once
    cdef bint waits
    cdef bint interruptible
    cdef bint is_async
    cdef bint repeated
    cdef bint breaks_links

    cdef object bind(self, tuple given, dict named)


cdef class Lock:
    # The caller's memory, as long as this lives.
    cdef Py_buffer view


cdef class Request(Call):
    cdef Spec spec
    cdef object owner              # told of the end by _completed(request) or _dropped(request)
    cdef list locks                # views of the caller's memory
    cdef bytes kept_path           # the first path
    cdef list keeps                # what else the request points into
    cdef bint over                 # the outcome is final
    cdef readonly bint uses_slot   # instead of an fd
    cdef readonly int opened_slot  # where the file is that it opens; 0: its outcome is an fd

    cdef int ask(self, object operation, tuple given, Py_ssize_t first, dict named) except -1
    cdef int for_spec(self, Spec spec) except -1
    cdef int fill(self, object given, Py_ssize_t first, int *places) except -1
    cdef int keep(self, object memory) except -1
    cdef int fill_argument(self, int position, object value) except -1
    cdef int fill_memory(self, int position, int kind, object value) except -1
    cdef int fill_path(self, int position, object value) except -1
    cdef int fill_vector(self, int position, object buffers, bint writable) except -1
    cdef int fill_message_out(self, int position, object parts) except -1
    cdef int fill_message_in(self, int position, object sizes) except -1
    cdef int fill_word(self, int position, object value) except -1
    cdef int point(self, int position, const void *pointer, uint64_t length) except -1
    cdef int store(self, int field, uint64_t value) except -1
    cdef Lock lend(self, object value, bint writable)
    cdef bytes room(self, Py_ssize_t length)
    cpdef bint launch(self, object loop, object owner, bint may_be_at_once) except -1
    cpdef bint done_at_once(self, object loop) except -1
    cdef int join(self, LoopCore loop, object owner, Request linked) except -1
    cdef bint is_done_at_once(self) except -1
    cdef uint64_t small_read(self) noexcept
    cdef uint64_t refusals(self) except? 0
    cdef int launch_in_flight(self, object owner) except -1
    cdef bint goes_on(self) noexcept
    cdef int end(self) except -1
    cdef int tell_completed(self, object owner) except -1
    cdef int tell_dropped(self, object owner) except -1
    cdef object take_message(self)


cdef Spec spec_of(object name)
