"""Requests: one operation of the table, filled in by what a caller gave, and in flight.

`submit`, batches and chains make them; they are told of the end and then take the result, once. What nobody
takes, such as an fd, is given back when the request goes.

Memory: a request holds all that the kernel may touch until its last completion. The caller's own memory is
locked by views of it as long.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.number cimport PyNumber_Index
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset, strlen
from posix.unistd cimport close as close_fd

from ringloop._core cimport LoopCore
from ringloop._flight cimport (
    ENSURE, OPERATION_NEW, RL_OP_CLOSE, RL_OP_MSG_RING, RL_OP_OPENAT, RL_OP_READ, RL_OP_RECVMSG,
    RL_OP_STATX, RL_SQE_ASYNC, RL_SQE_FIXED_FILE, Flight, rl_sqe,
)
from ringloop._ops cimport (
    CALL_OVER, RL_RESIDENT_BYTES_MAX, RL_WOULD_BLOCK, Call, rl_execute_with_priority, rl_resident,
    rl_resident_close_fd, rl_resident_fd_class, rl_resident_file, rl_resident_forget, rl_resident_identify,
    rl_resident_open, rl_resident_pread_fd, rl_resident_pwrite, rl_resident_refusals, rl_resident_stat,
    rl_statx,
)
from ringloop._os cimport stat_result

from ringloop import kernel_structs, operations, syscalls


cdef extern from "Python.h":
    bytes PyUnicode_EncodeFSDefault(object text)

cdef extern from "<errno.h>" nogil:
    enum: ECANCELED, EINTR

cdef extern from "<fcntl.h>" nogil:
    enum: AT_FDCWD, O_CLOEXEC

cdef extern from "<sys/socket.h>" nogil:
    ctypedef struct iovec "struct iovec":
        void *iov_base
        size_t iov_len
    ctypedef struct msghdr "struct msghdr":
        void *msg_name
        uint32_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags

cdef enum:
    IO_BYTES_MAX = 0x7FFFF000      # more is not moved by one system call
    ADDRESS_BYTES = 128
    VECTORS_MAX = 1024             # the kernel's UIO_MAXIOV
    # To submit a read of more with others gains nothing, and a ring would copy all of it at once.
    SMALL_READ_BYTES = 16384
    # What the kernel says inside, and a cancelled request of a worker's may let out (6.18).
    RESTART_FIRST = 512
    RESTART_LAST = 516

cdef enum Kind:
    KIND_INTEGER, KIND_FD, KIND_DIRECTORY, KIND_POSITION, KIND_OFFSET, KIND_CONSTANT, KIND_PATH, KIND_TEXT
    KIND_PACKED, KIND_LENGTH, KIND_DATA, KIND_MEMORY, KIND_DATA_LIST, KIND_MEMORY_LIST, KIND_ROOM, KIND_PEER
    KIND_MESSAGE_OUT, KIND_MESSAGE_IN, KIND_WORD, KIND_SIZE

#: What callers give, by the table's words. "word" is an argument of a system call by number; a "size" has 64
#: bits, and an "integer" as many as the field, which is 32 of a system call's argument.
KINDS = [
    "integer", "fd", "directory", "position", "offset", "constant", "path", "text", "packed", "length",
    "data", "memory", "data list", "memory list", "room", "peer", "message out", "message in", "word",
    "size",
]

cdef enum Field:
    FIELD_FD = 6, FIELD_OFFSET, FIELD_ADDRESS, FIELD_LENGTH, FIELD_OP_FLAGS, FIELD_FILE_INDEX, FIELD_ADDRESS3
    FIELD_LENGTH_OR_ADDRESS, FIELD_LENGTH_OR_OFFSET, FIELD_NONE

FIELDS = [
    "0", "1", "2", "3", "4", "5", "fd", "offset", "address", "length", "op_flags", "file_index", "address3",
    "length or address", "length or offset", "",
]

cdef enum Result:
    RESULT_NONE, RESULT_INTEGER, RESULT_FD, RESULT_FDS, RESULT_BYTES, RESULT_STAT, RESULT_ACCEPTED
    RESULT_CONVERTED

RESULTS = ["none", "integer", "fd", "fds", "bytes", "stat", "(fd, address)"]

cdef object REQUIRED = operations.REQUIRED
cdef dict SPECS = {}
cdef Spec SYSTEM_CALL = None


cdef class Spec:
    """An entry of the table, compiled."""

    def __init__(self, entry):
        cdef int arranged_count = 0
        self.name = entry.name
        self.opcode = operations.OPCODES.index(entry.opcode) if entry.opcode else -1
        self.number = syscalls.number(entry.number) if entry.number else -1
        self.names = []
        self.defaults = []
        for argument in entry.arguments:
            self.kinds[self.count] = KINDS.index(argument.kind)
            self.fields[self.count] = FIELDS.index(argument.field)
            self.length_fields[self.count] = FIELDS.index(argument.length_field)
            self.bits[self.count] = argument.bits
            self.given[self.count] = self.arranged[self.count] = -1
            if argument.default is REQUIRED or argument.kind not in ("constant", "room"):
                self.arranged[self.count] = arranged_count
                arranged_count += 1
            if argument.default is REQUIRED or argument.name:
                self.given[self.count] = self.given_count
                self.given_count += 1
                self.names.append(argument.name)
            self.defaults.append(argument.default)
            self.count += 1
        self.arrange = entry.arrange
        self.arrange_rarely = entry.arrange_rarely
        self.convert = entry.convert
        self.result = RESULTS.index(entry.result) if entry.result in RESULTS else RESULT_CONVERTED
        self.opens = self.result == RESULT_FD or self.result == RESULT_FDS or self.result == RESULT_ACCEPTED
        self.success = entry.success
        self.at_once = entry.served[0] == operations.INLINE
        self.waits = entry.waits
        self.interruptible = entry.interruptible
        self.is_async = entry.is_async
        self.repeated = entry.repeated
        self.breaks_links = entry.name in operations.BREAK_LINKS

    cdef object bind(self, tuple given, dict named):
        """The values of the arguments that callers give, in the table's order."""
        if len(given) > self.given_count:
            raise TypeError(
                f"{self.name}() takes {self.given_count} arguments but {len(given)} were given")
        values = list(given)
        left = dict(named)
        for position in range(self.count):
            if self.given[position] < len(given):
                continue
            name = self.names[self.given[position]]
            value = left.pop(name, self.defaults[position])
            if value is REQUIRED:
                raise TypeError(f"{self.name}() missing required argument: {name!r}")
            values.append(value)
        if left:
            raise TypeError(f"{self.name}() got an unexpected keyword argument {next(iter(left))!r}")
        return values


cdef Spec spec_of(object name):
    """The entry of the table for a name or another name of it. Raises ValueError for none."""
    cdef Spec spec = SPECS.get(name)
    if spec is None:
        entry = operations.ENTRIES.get(operations.ALIASES.get(name, name))
        if entry is None:
            raise ValueError(f"there is no operation {name!r}; ringloop.capabilities() has them all")
        spec = SPECS[name] = Spec(entry)
    return spec


def make_request(operation, tuple given, dict named):
    """A request that is filled in and not in flight. Raises what bad arguments are."""
    cdef Request request = Request.__new__(Request)
    request.ask(operation, given, 0, named)
    return request


def make_call(long number, tuple arguments):
    """A request of a system call by its number, with whatever arguments."""
    global SYSTEM_CALL
    cdef Request request = Request.__new__(Request)
    if SYSTEM_CALL is None:
        SYSTEM_CALL = Spec(operations.SYSTEM_CALL)
    request.for_spec(SYSTEM_CALL)
    request.request.call.number = number
    for position, value in enumerate(arguments):
        request.fill_argument(position, value)
    return request


cdef inline object exact(object value):
    """An argument that must be an integer: C would take a float for one."""
    return value if type(value) is int else PyNumber_Index(value)


cdef inline int descriptor(object value) except? -1:
    """The number of an fd, or of an object that has one."""
    if type(value) is not int and hasattr(value, "fileno"):
        value = value.fileno()
    return exact(value)


cdef bytes text_for_kernel(object text):
    """A path or a name as the kernel takes it."""
    cdef bytes encoded = PyUnicode_EncodeFSDefault(text) if type(text) is str else os.fsencode(text)
    if <Py_ssize_t> strlen(PyBytes_AS_STRING(encoded)) != PyBytes_GET_SIZE(encoded):
        raise ValueError("embedded null byte")
    return encoded


cdef class Lock:
    """A view of the caller's memory: it can be neither freed nor resized while this lives."""

    def __dealloc__(self):
        PyBuffer_Release(&self.view)


cdef class Request(Call):
    """One operation: filled in, launched, and over with its outcome."""

    @property
    def lends(self):
        """Whether the kernel may touch memory of the caller's."""
        return self.locks is not None

    @property
    def fds(self):
        """The fds that the result owns."""
        cdef int kind = self.spec.result
        if self.outcome < 0 or self.opened_slot:
            return ()
        if kind == RESULT_FDS:
            return self.value()
        return (self.outcome,) if kind == RESULT_FD or kind == RESULT_ACCEPTED else ()

    @property
    def owns_fd(self):
        """Whether the result is an fd, alone."""
        return self.spec.result == RESULT_FD

    def __del__(self):
        # By a thread whose loop was closed before it was told, too.
        if (self.over or self.executed) and not self.collected:
            self.give_back()

    # --- filling in

    cdef int ask(self, object operation, tuple given, Py_ssize_t first, dict named) except -1:
        """Fills in what a caller gave, from `first` on."""
        cdef Spec spec = SPECS.get(operation)
        if spec is None:
            spec = spec_of(operation)
        self.for_spec(spec)
        if len(given) - first == spec.given_count and not named and (
                spec.arrange is None or spec.arrange_rarely and not isinstance(given[first], int)):
            return self.fill(given, first, spec.given)
        if spec.arrange is not None:
            return self.fill(spec.arrange(*given[first:], **named), 0, spec.arranged)
        return self.fill(spec.bind(given[first:], named), 0, spec.given)

    cdef int for_spec(self, Spec spec) except -1:
        self.spec = spec
        self.stage = CALL_OVER  # nobody steps through it as through a coroutine
        if spec.opcode >= 0:
            self.for_entry(spec.name, spec.opcode, 0)
        else:
            self.for_number(spec.name, spec.number)
        if spec.is_async:
            self.request.entry.sqe.flags = RL_SQE_ASYNC
        # What waits is bounded by its fds; in line behind it nothing else would ever go on.
        self.bounded = not spec.waits
        return 0

    cdef int fill(self, object given, Py_ssize_t first, int *places) except -1:
        """From `given`, where each argument has its place behind `first`, or -1 if it has its default."""
        cdef Spec spec = self.spec
        cdef int position
        for position in range(spec.count):
            if places[position] < 0:
                self.fill_argument(position, spec.defaults[position])
            else:
                self.fill_argument(position, given[first + places[position]])
        return 0

    cdef int keep(self, object memory) except -1:
        if self.keeps is None:
            self.keeps = []
        self.keeps.append(memory)
        return 0

    cdef int fill_argument(self, int position, object value) except -1:
        cdef int kind = self.spec.kinds[position]
        cdef int field = self.spec.fields[position]
        cdef int64_t number
        if kind == KIND_INTEGER or kind == KIND_CONSTANT:
            number = exact(value)
            if field < FIELD_FD and not -(<int64_t> 1 << 31) <= number <= <int64_t> 0xFFFFFFFF:
                raise OverflowError(f"{self.spec.name}(): an argument does not fit in 32 bits")
            return self.store(field, <uint64_t> number | self.spec.bits[position])
        if kind == KIND_SIZE:
            return self.store(field, <uint64_t> <int64_t> exact(value))
        if kind == KIND_FD:
            return self.store(field, <uint64_t> <int64_t> descriptor(value))
        if kind == KIND_DIRECTORY:
            return self.store(
                field, <uint64_t> <int64_t> (AT_FDCWD if value is None else descriptor(value)))
        if kind == KIND_POSITION:
            return self.store(field, <uint64_t> <int64_t> (-1 if value is None else exact(value)))
        if kind == KIND_PATH:
            return self.fill_path(position, value)
        if kind == KIND_DATA_LIST or kind == KIND_MEMORY_LIST:
            return self.fill_vector(position, value, kind == KIND_MEMORY_LIST)
        if kind == KIND_MESSAGE_OUT:
            return self.fill_message_out(position, value)
        if kind == KIND_MESSAGE_IN:
            return self.fill_message_in(position, value)
        if kind == KIND_WORD:
            return self.fill_word(position, value)
        return self.fill_memory(position, kind, value)

    cdef int fill_memory(self, int position, int kind, object value) except -1:
        cdef Lock lock
        cdef bytes memory
        cdef int64_t offset
        if kind == KIND_LENGTH or kind == KIND_ROOM:
            value = exact(value)
            if value < 0:
                raise ValueError(f"{self.spec.name}(): a length must not be negative")
        if kind == KIND_LENGTH:
            self.kept = memory = PyBytes_FromStringAndSize(NULL, min(value, IO_BYTES_MAX))
            return self.point(position, PyBytes_AS_STRING(memory), PyBytes_GET_SIZE(memory))
        elif kind == KIND_ROOM:
            self.kept = memory = self.room(value)
            return self.point(position, PyBytes_AS_STRING(memory), PyBytes_GET_SIZE(memory))
        elif kind == KIND_PEER:
            self.kept = memory = self.room(value)
            (<uint32_t *> PyBytes_AS_STRING(memory))[0] = ADDRESS_BYTES
            self.store(self.spec.fields[position], <uint64_t> (PyBytes_AS_STRING(memory) + 8))
            return self.store(self.spec.length_fields[position], <uint64_t> PyBytes_AS_STRING(memory))
        elif kind == KIND_OFFSET:
            if value is None:
                return 0
            offset = exact(value)
            memory = self.room(sizeof(offset))
            memcpy(PyBytes_AS_STRING(memory), &offset, sizeof(offset))
        elif kind == KIND_TEXT:
            memory = text_for_kernel(value)
        elif kind != KIND_MEMORY and type(value) is bytes:
            memory = value
        else:
            lock = self.lend(value, kind == KIND_MEMORY)
            return self.point(position, lock.view.buf, lock.view.len)
        self.keep(memory)
        return self.point(position, PyBytes_AS_STRING(memory), PyBytes_GET_SIZE(memory))

    cdef int fill_path(self, int position, object value) except -1:
        cdef bytes path = text_for_kernel(value)
        if self.path is None:
            self.path = value
            self.kept_path = path
        else:
            self.path2 = value
            self.keep(path)
        return self.point(position, PyBytes_AS_STRING(path), 0)

    cdef int fill_vector(self, int position, object buffers, bint writable) except -1:
        cdef Lock lock
        cdef iovec *vector
        cdef Py_ssize_t count = len(buffers)
        cdef Py_ssize_t index
        if count > VECTORS_MAX:
            raise ValueError(f"{self.spec.name}(): more than {VECTORS_MAX} buffers")
        cdef bytes memory = self.room(count * sizeof(iovec))
        vector = <iovec *> PyBytes_AS_STRING(memory)
        for index in range(count):
            lock = self.lend(buffers[index], writable)
            vector[index].iov_base = lock.view.buf
            vector[index].iov_len = lock.view.len
        self.keep(memory)
        return self.point(position, vector, count)

    cdef int fill_message_out(self, int position, object parts) except -1:
        buffers, control, name = parts
        buffers = tuple(buffers)
        cdef bytes memory = self.room(sizeof(msghdr))
        cdef msghdr *message = <msghdr *> PyBytes_AS_STRING(memory)
        for kept in (memory, control, name):
            self.keep(kept)
        self.fill_vector(position, buffers, False)
        message.msg_iov = <iovec *> self.request.entry.sqe.address
        message.msg_iovlen = len(buffers)
        message.msg_control = PyBytes_AS_STRING(control) if control else NULL
        message.msg_controllen = len(control)
        message.msg_name = PyBytes_AS_STRING(name) if name else NULL
        message.msg_namelen = len(name)
        return self.point(position, message, 0)

    cdef int fill_message_in(self, int position, object sizes) except -1:
        length, control_length = sizes
        if length < 0 or control_length < 0:
            raise ValueError(f"{self.spec.name}(): a length must not be negative")
        cdef bytes memory = self.room(sizeof(msghdr) + sizeof(iovec))
        cdef msghdr *message = <msghdr *> PyBytes_AS_STRING(memory)
        cdef iovec *vector = <iovec *> (message + 1)
        self.keeps = [self.room(length), memory, self.room(control_length), self.room(ADDRESS_BYTES)]
        vector.iov_base = PyBytes_AS_STRING(self.keeps[0])
        vector.iov_len = length
        message.msg_iov = vector
        message.msg_iovlen = 1
        message.msg_control = PyBytes_AS_STRING(self.keeps[2])
        message.msg_controllen = control_length
        message.msg_name = PyBytes_AS_STRING(self.keeps[3])
        message.msg_namelen = ADDRESS_BYTES
        return self.point(position, message, 0)

    cdef int fill_word(self, int position, object value) except -1:
        cdef Lock lock
        if value is None:
            return 0
        if isinstance(value, int):
            if not -(1 << 63) <= value < 1 << 64:
                raise OverflowError("a system call's argument has 64 bits")
            return self.store(position, <uint64_t> (value & 0xFFFF_FFFF_FFFF_FFFF))
        if isinstance(value, (str, bytes)):
            value = os.fsencode(value)
            self.keep(value)
            return self.store(position, <uint64_t> PyBytes_AS_STRING(value))
        lock = self.lend(value, False)
        return self.store(position, <uint64_t> lock.view.buf)

    cdef int point(self, int position, const void *pointer, uint64_t length) except -1:
        self.store(self.spec.fields[position], <uint64_t> pointer)
        cdef int field = self.spec.length_fields[position]
        if field == FIELD_LENGTH:
            length = min(length, <uint64_t> IO_BYTES_MAX)
        return 0 if field == FIELD_NONE else self.store(field, length)

    cdef int store(self, int field, uint64_t value) except -1:
        cdef rl_sqe *sqe = &self.request.entry.sqe
        if field < FIELD_FD:
            self.request.call.arguments[field] = value
        elif field == FIELD_OFFSET:
            sqe.offset = value
        elif field == FIELD_ADDRESS:
            sqe.address = value
        elif field == FIELD_ADDRESS3:
            sqe.address3 = value
        elif value > 0xFFFFFFFF and <int64_t> value < -(<int64_t> 1 << 31):
            raise OverflowError(f"{self.spec.name}(): an argument does not fit in 32 bits")
        elif field == FIELD_LENGTH_OR_ADDRESS and value > 0xFFFFFFFF:
            sqe.address = value
        elif field == FIELD_LENGTH_OR_OFFSET and value > 0xFFFFFFFF:
            sqe.offset = value
        elif <int64_t> value > 0xFFFFFFFF:
            raise OverflowError(f"{self.spec.name}(): an argument does not fit in 32 bits")
        elif field == FIELD_FD:
            sqe.fd = <int32_t> value
        elif field == FIELD_OP_FLAGS:
            sqe.op_flags = <uint32_t> value
        elif field == FIELD_FILE_INDEX:
            sqe.file_index = <uint32_t> value
        else:
            sqe.length = <uint32_t> value
        return 0

    cdef Lock lend(self, object value, bint writable):
        cdef Lock lock = Lock.__new__(Lock)
        PyObject_GetBuffer(value, &lock.view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        if self.locks is None:
            self.locks = []
        self.locks.append(lock)
        return lock

    cdef bytes room(self, Py_ssize_t length):
        """Memory for the kernel to write to, zeroed; nobody else has seen it yet."""
        cdef bytes memory = PyBytes_FromStringAndSize(NULL, length)
        memset(PyBytes_AS_STRING(memory), 0, length)
        return memory

    # --- with a slot in an fd's place (_links.pyx)

    def open_into(self, int slot):
        """Makes an openat() put its file into a slot, and again give an fd for 0."""
        cdef rl_sqe *sqe = &self.request.entry.sqe
        ENSURE(sqe.opcode == RL_OP_OPENAT)
        self.opened_slot = slot
        self.uses_slot = slot != 0
        if slot:
            sqe.file_index = slot + 1
            sqe.op_flags &= ~(<uint32_t> O_CLOEXEC)  # EINVAL: no slot goes through execve()
        else:
            sqe.file_index = 0
            sqe.op_flags |= O_CLOEXEC

    def use_slot(self):
        """The fd that was filled in is the number of a slot."""
        cdef rl_sqe *sqe = &self.request.entry.sqe
        self.uses_slot = True
        if sqe.opcode == RL_OP_CLOSE:
            sqe.file_index = sqe.fd + 1
            sqe.fd = 0
            sqe.flags = 0  # to empty a slot takes no time: the kernel closes the file later
        else:
            sqe.flags |= RL_SQE_FIXED_FILE

    @property
    def room(self):
        """The bytes that it fills, as many as it will give if it is not short."""
        return self.kept

    # --- in flight

    @property
    def is_pending(self):
        """Whether its owner will be told of the end."""
        return not self.over and self.state != OPERATION_NEW

    @property
    def did_not_begin(self):
        """It was cancelled, or was never submitted, as what it was linked to was cancelled in line."""
        return not self.over or self.outcome == -ECANCELED

    @property
    def is_to_begin_again(self):
        """The one that it was linked to failed or was short, or the run ended."""
        return self.is_link and self.did_not_begin

    @property
    def is_for_driver(self):
        """Whether no worker is to do it."""
        return not self.by_number and not self.is_for_worker()

    cdef int join(self, LoopCore loop, object owner, Request linked) except -1:
        """Makes it ready to be submitted with what is linked to it: `linked`, or None."""
        self.owner = owner
        self.settles = self.is_link = True
        self.linked = linked
        return self.make_ready(loop)

    cdef int make_ready(self, Flight loop) except -1:
        Call.make_ready(self, loop)
        ENSURE(not self.uses_slot or self.work == NULL)
        return 0

    cpdef bint launch(self, object loop, object owner, bint may_be_at_once) except -1:
        """Starts the operation. True: it is over already, and `owner` will not be told."""
        if may_be_at_once and self.done_at_once(loop):
            return True
        if isinstance(loop, LoopCore):
            self.loop = loop
            self.launch_in_flight(owner)
        else:
            self.launch_thread(loop, owner)
        return False

    cpdef bint done_at_once(self, object loop) except -1:
        """Does it if that takes microseconds; else it is still to be launched."""
        if not self.spec.at_once or self.uses_slot or not isinstance(loop, LoopCore):
            return False
        self.loop = loop
        return self.loop.take_inline_turn() and self.is_done_at_once()

    cdef bint is_done_at_once(self) except -1:
        """Does it if that takes microseconds."""
        self.outcome = self.at_once()
        if self.outcome == RL_WOULD_BLOCK:
            return False
        self.locks = None
        self.over = True
        return True

    cdef uint64_t small_read(self) noexcept:
        """The class of its fd, see rl_resident_refusals(), if it is a read of a few pages, else 0.

        Not at the file's own position, which a ring reads and moves without a lock.
        """
        cdef rl_sqe *sqe = &self.request.entry.sqe
        if self.by_number or sqe.opcode != RL_OP_READ or sqe.length > SMALL_READ_BYTES \
                or <int64_t> sqe.offset < 0:
            return 0
        return rl_resident_fd_class(sqe.fd)

    cdef uint64_t refusals(self) except? 0:
        """The classes of fds for which RWF_NOWAIT was refused."""
        cdef rl_resident *known = self.resident()
        return 0 if known == NULL else rl_resident_refusals(known)[0]

    cdef int launch_in_flight(self, object owner) except -1:
        self.owner = owner
        self.settles = True            # also a poll, which is made again
        return self.start(self.loop)

    cdef int choose_executor(self) noexcept:
        Call.choose_executor(self)
        self.settles = False
        if self.by_number:
            self.request.work.interruptible = self.spec.interruptible
        return 0

    def launch_thread(self, loop, owner):
        """Starts the operation on a thread of the executor of a loop that is not ringloop's."""
        if self.spec.waits:
            raise RuntimeError(
                f"{self.spec.name} waits, and under {type(loop).__name__} a thread would wait for ever when "
                "it is cancelled: run it on ringloop's loop")
        if self.spec.opcode == RL_OP_MSG_RING:
            raise RuntimeError(f"{self.spec.name} is the ring's own: run it on ringloop's loop")
        self.owner = owner
        self.take_priority()
        self.choose_executor()
        future = loop.run_in_executor(None, self.execute)
        future.add_done_callback(self.thread_done)

    def execute(self):
        """The operation, on a thread."""
        with nogil:
            self.outcome = rl_execute_with_priority(&self.request.work)
        self.executed = True

    def thread_done(self, future):
        """The thread is done, on the loop's."""
        if future.cancelled():
            self.outcome = -ECANCELED
        else:
            future.result()
        self.end()

    cdef int64_t at_once(self) except? -1:
        cdef rl_sqe *sqe = &self.request.entry.sqe
        cdef rl_resident_file file
        cdef rl_statx status
        cdef int64_t outcome
        memset(&file, 0, sizeof(file))
        if sqe.opcode == RL_OP_STATX:
            return rl_resident_stat(
                self.resident(), sqe.fd, <const char *> sqe.address, <int> sqe.op_flags,
                <rl_statx *> sqe.offset)
        if sqe.opcode == RL_OP_OPENAT:
            outcome = rl_resident_open(
                self.resident(), sqe.fd, <const char *> sqe.address, <int> sqe.op_flags, &file, &status)
            if file.waits_for_writer:
                self.wait_for_writer(file.fifo_fd)
            rl_resident_forget(&file)
            return outcome
        if sqe.opcode == RL_OP_CLOSE:
            return rl_resident_close_fd(self.resident(), sqe.fd)
        if sqe.length > RL_RESIDENT_BYTES_MAX:
            return RL_WOULD_BLOCK
        if sqe.opcode == RL_OP_READ:
            return rl_resident_pread_fd(
                self.resident(), sqe.fd, <void *> sqe.address, sqe.length, <int64_t> sqe.offset)
        if rl_resident_identify(self.resident(), sqe.fd, False, &file, &status) < 0:
            return RL_WOULD_BLOCK
        outcome = rl_resident_pwrite(
            sqe.fd, &file, <void *> sqe.address, sqe.length, <int64_t> sqe.offset)
        rl_resident_forget(&file)
        return outcome

    cdef int complete(self, int64_t result, uint32_t flags, object payload) except -1:
        if -RESTART_LAST <= result <= -RESTART_FIRST:
            result = -EINTR
        if self.is_link and result == -EINTR and self.spec.repeated:
            if self.spec.breaks_links:
                result = -ECANCELED  # as those behind it are: it has to be made again together with them
            else:
                # Those behind it have begun, and need nothing of it.
                self.is_link = False
                self.linked = None
        self.outcome = result
        if not self.is_link and not self.cancel_asked and self.loop.alive() and (
                result == -EINTR and self.spec.repeated or result == -ECANCELED and self.goes_on()):
            # A signal that was for others (PEP 475), or the end of a run.
            return self.loop.submit(self)
        return self.end()

    cdef bint goes_on(self) noexcept:
        """Whether it is made again in the next run, as the end of one has cancelled it."""
        # A close that was cancelled has not closed, while a signal may interrupt it afterwards.
        return self.settles and (self.spec.repeated or self.request.entry.sqe.opcode == RL_OP_CLOSE)

    cdef void discard(self, int64_t result, uint32_t flags) noexcept:
        self.outcome = result
        self.over = True
        self.locks = None
        self.linked = None
        self.hand_over_fifo()
        self.give_back()
        if self.owner is not None:
            owner, self.owner = self.owner, None
            self.tell_dropped(owner)

    cdef int end(self) except -1:
        self.hand_over_fifo()
        self.locks = None
        self.linked = None
        self.over = True
        owner, self.owner = self.owner, None
        return self.tell_completed(owner)

    cdef int tell_completed(self, object owner) except -1:
        owner._completed(self)
        return 0

    cdef int tell_dropped(self, object owner) except -1:
        owner._dropped(self)
        return 0

    def cancel(self):
        """Asks for the end. The owner is told of it in any case."""
        self.cancel_asked = True
        if self.loop is not None:
            self.loop.cancel(self)
        return 0

    # --- the outcome

    def failure(self):
        """The exception that the outcome is, or None."""
        if self.outcome >= 0 or -self.outcome == self.spec.success:
            return None
        return self.error()

    def result(self):
        """What the outcome is worth to the caller, who calls `hand_over` if he keeps it."""
        return self.value()

    def hand_over(self):
        """The result has an owner: it is not given back any more."""
        self.collected = True

    def give_up(self):
        """The result will have no owner."""
        if not self.collected:
            self.give_back()

    cdef object value(self):
        cdef int kind = self.spec.result
        if kind == RESULT_NONE:
            return None
        if kind == RESULT_INTEGER or kind == RESULT_FD:
            return self.outcome
        if kind == RESULT_BYTES:
            return self.kept if self.outcome == PyBytes_GET_SIZE(self.kept) else self.kept[:self.outcome]
        if kind == RESULT_STAT:
            return stat_result(<rl_statx *> self.request.entry.sqe.offset)
        if self.request.entry.sqe.opcode == RL_OP_RECVMSG and not self.by_number:
            return self.take_message()
        return self.spec.convert(self.outcome, self.kept, self.path)

    cdef object take_message(self):
        data, message, control, name = self.keeps
        cdef msghdr *header = <msghdr *> PyBytes_AS_STRING(message)
        return kernel_structs.unpack_message(
            data[:self.outcome], control[:header.msg_controllen], header.msg_flags,
            name[:header.msg_namelen])

    cdef void give_back(self) noexcept:
        self.collected = True
        for fd in self.fds:
            close_fd(fd)
