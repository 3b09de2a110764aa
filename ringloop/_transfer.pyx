"""How a stream's bytes come and go: at most one receive and one send in flight per transport.

Receiving adapts to the connection. Small messages come by multishot receive into provided buffers, copied
into `bytes` as their completions are collected, so that a few buffers serve all connections and stay in the
cache. A connection that fills whole buffers is armed by readiness instead, and the kernel writes straight
into the very object that is delivered, of the size that is there. Measured: for small messages the first
needs fewer system calls, for large ones it moves each byte twice.

Sending: what the transport could not send at once is queued; one send is in flight, and everything else is
coalesced behind it. The operation holds what the kernel reads from until its completion.
"""

import collections
import os
from itertools import islice

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_Clear
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN, EINTR, ENOBUFS, EPIPE, errno
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from ringloop._flight cimport (
    OPERATION_CANCELLING, OPERATION_SUBMITTED, RL_CAN_POLL_FIRST, RL_CAN_RECV_MULTISHOT, RL_CQE_BUFFER,
    RL_CQE_BUFFER_SHIFT, RL_OP_POLL_ADD, RL_OP_RECV, RL_OP_SENDMSG, RL_POLL_MULTISHOT, RL_RECV_MULTISHOT,
    RL_RECV_POLL_FIRST, RL_SQE_BUFFER_SELECT, ENSURE, Operation, rl_buffers_address, rl_buffers_recycle,
    rl_sqe,
)
from ringloop._callbacks cimport PyContext_Enter, PyContext_Exit
from ringloop._sock cimport Sockets, try_recv, try_recv_into
from ringloop._transport cimport drop_front


cdef extern from "<errno.h>" nogil:
    enum: ECANCELED

cdef extern from "<poll.h>" nogil:
    enum: POLLIN, POLLOUT, POLLERR, POLLHUP, POLLRDHUP
    ctypedef struct pollfd "struct pollfd":
        int fd
        short events
        short revents
    int poll(pollfd *files, unsigned long count, int timeout_ms)

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, int *argument)
    enum: FIONREAD

cdef extern from "<sys/socket.h>" nogil:
    enum: MSG_DONTWAIT, MSG_NOSIGNAL
    Py_ssize_t sendmsg(int fd, const msghdr *message, int flags)

cdef extern from "Python.h":
    PyObject *PyBytes_FromStringAndSize(const char *bytes, Py_ssize_t size)

cdef enum:
    RECEIVE_BYTES_MAX = 256 * 1024     # asyncio's: protocols count on no more before they can pause
    SMALL_BYTES = 2048                 # receives up to this, so many in a row,
    SMALL_IN_A_ROW = 16                # bring a connection back to provided buffers
    POLL_END = POLLHUP | POLLERR | POLLRDHUP
    NUDGE = -2147483648                # result of a completion of our own making; no errno
    HABIT_PASSES = 8                   # passes in a row with several writes, before writes are held back

cdef object deque = collections.deque


cdef bint in_flight(Operation operation) noexcept:
    return operation.state == OPERATION_SUBMITTED or operation.state == OPERATION_CANCELLING


cdef bint is_of_socket(int64_t result) noexcept:
    """Whether a receive's result is an error of the connection, which the kernel tells nobody else."""
    return result < 0 and result != NUDGE and (
        result != -ECANCELED and result != -ENOBUFS and result != -EINTR and result != -EAGAIN)


cdef bint can_receive_small(Sockets loop) noexcept:
    return loop.driver.capabilities & RL_CAN_RECV_MULTISHOT != 0


cdef class Endpoint(Transport):
    """What receiving and sending need of a transport, which handles the protocol's errors."""

    cdef int data_received(self, object data) except -1:
        """Delivers bytes."""
        raise NotImplementedError

    cdef int eof_received(self) except -1:
        """Delivers the end of the stream."""
        raise NotImplementedError

    cdef object protocol_buffer(self):
        """The BufferedProtocol's next buffer; None if it gave none, which was fatal."""
        raise NotImplementedError

    cdef int buffer_updated(self, Py_ssize_t count) except -1:
        """Tells a BufferedProtocol of bytes in its buffer."""
        raise NotImplementedError

    cdef int queue_drained(self) except -1:
        """The queue of what is to be sent became shorter."""
        raise NotImplementedError

    cdef int all_sent(self) except -1:
        """The queue became empty."""
        raise NotImplementedError

    cdef int finish_if_idle(self) except -1:
        """An operation of a connection that is at its end left the kernel."""
        raise NotImplementedError

    cdef object write_error(self, int error):
        """What a write failed with: after the receive took the socket's error, EPIPE stands for that."""
        if error == EPIPE and self.receive.error != 0:
            error = self.receive.error
        return OSError(error, os.strerror(error))

    cdef object keep_open(self):
        """Puts off the close() of a socket object that others have too, until its `_decref_socketios`.

        None if there is no such object.
        """
        return None


@cython.final
cdef class Receive(Operation):
    """What a transport receives by, in one of two ways at a time."""

    def __cinit__(self, Endpoint transport):
        self.transport = transport
        self.loop = transport.loop
        self.pending = []
        self.large = not can_receive_small(self.loop)

    cdef void prepare(self, rl_sqe *sqe) noexcept:
        self.armed_large = self.large
        sqe.fd = self.transport.open_fd()
        if self.large:
            sqe.opcode = RL_OP_POLL_ADD
            sqe.length = RL_POLL_MULTISHOT
            sqe.op_flags = POLLIN | POLLRDHUP
        else:
            sqe.opcode = RL_OP_RECV
            sqe.flags = RL_SQE_BUFFER_SELECT
            sqe.ioprio = RL_RECV_MULTISHOT
            sqe.buffer_group = self.loop.buffers.group

    cdef int arm(self) except -1:
        if in_flight(self) or self.ended:
            return 0
        if not self.large:
            self.loop.need_buffers()
        self.loop.submit(self)
        return 0

    cdef PyObject *collect(self, int64_t result, uint32_t flags) noexcept:
        cdef PyObject *data = NULL
        cdef uint16_t buffer_id
        if flags & RL_CQE_BUFFER:
            buffer_id = flags >> RL_CQE_BUFFER_SHIFT
            data = PyBytes_FromStringAndSize(
                <char *> rl_buffers_address(self.loop.buffers, buffer_id), max(result, 0))
            if data == NULL:
                PyErr_Clear()
            rl_buffers_recycle(self.loop.buffers, buffer_id)
        elif is_of_socket(result):
            self.error = -result
        return data

    cdef int complete(self, int64_t result, uint32_t flags, object payload) except -1:
        cdef Endpoint transport = self.transport
        if transport is None:
            return 0
        if transport.closing:
            if result == NUDGE:
                self.nudged = False
            transport.finish_if_idle()
            return 0
        context = transport.context
        PyContext_Enter(context)
        try:
            self.advance(result, flags, payload)
        finally:
            PyContext_Exit(context)
        return 0

    cdef object describe(self):
        return repr(self.transport)

    cdef int advance(self, int64_t result, uint32_t flags, object payload) except -1:
        """Told apart by what they carry: after a change of the way, completions of both may be queued."""
        cdef Endpoint transport = self.transport
        try:
            self.take(result, flags, payload)
        finally:
            # Also after ENOBUFS: all buffers went back as their completions were collected. And also for the
            # next run, if the protocol ended this one: a Ctrl-C, or the end of the program.
            if not transport.closing and not transport.paused and self.loop.alive():
                if self.pending or self.readiness and not self.ended:
                    self.nudge()
                if not self.pending and (self.large or not self.readiness):
                    self.arm()  # while `readiness` is set the nudge reads: another receive would compete
        return 0

    cdef int take(self, int64_t result, uint32_t flags, object payload) except -1:
        cdef Endpoint transport = self.transport
        if result == NUDGE:
            self.nudged = False
            self.deliver_pending()
        elif flags & RL_CQE_BUFFER and result > 0:
            if <uint32_t> result == self.loop.buffers.buffer_bytes:
                self.large = True
            self.accept_item(MemoryError() if payload is None else payload)
            if self.state == OPERATION_SUBMITTED and not self.armed_large and (self.large or self.pending):
                self.loop.cancel(self)
        elif result > 0:
            if self.ended or in_flight(self) and not self.armed_large:
                return 0  # the receive that is armed gets what a poll tells of late
            self.readiness |= result
            if not transport.paused and not self.pending:
                self.read_ready(self.readiness)
        elif result == 0:
            if not self.ended:
                self.accept_item(None)
        elif is_of_socket(result):
            self.accept_item(OSError(-result, os.strerror(-result)))
        return 0

    cdef int nudge(self) except -1:
        """Goes on in the ready queue's next turn, for fairness to others."""
        if not self.nudged:
            self.loop.push_completion(self, NUDGE)
            self.nudged = True
        return 0

    cdef int accept_item(self, object item) except -1:
        if self.transport.paused or self.pending or type(item) is not bytes and self.has_delivered():
            self.pending.append(item)
            return 0
        if type(item) is bytes:
            self.data_pass = self.loop.pass_number
            return self.transport.data_received(item)
        self.ended = True
        self.loop.cancel(self)
        try:
            if item is None:
                self.transport.eof_received()
            else:
                self.transport.fatal_error(item, "Fatal read error on socket transport")
        except BaseException:
            # The run ends, and the next tells of it once more.
            self.ended = False
            self.pending.insert(0, item)
            raise
        return 0

    cdef bint has_delivered(self) noexcept:
        """Whether there was data in this pass: what that made the protocol schedule comes before the end.

        A selector's loop reads once in each of its passes.
        """
        return self.data_pass == self.loop.pass_number

    cdef int deliver_pending(self) except -1:
        cdef Endpoint transport = self.transport
        while self.pending and not transport.paused and not transport.closing:
            if type(self.pending[0]) is not bytes and self.has_delivered():
                break
            # A protocol that takes only a part puts the rest in front again.
            item = self.pending.pop(0)
            rest = self.pending
            self.pending = []
            try:
                self.accept_item(item)
            finally:
                self.pending.extend(rest)
        if not self.ended and self.readiness and not self.pending and not transport.paused:
            if not transport.closing:
                self.read_ready(self.readiness)
        return 0

    cdef int read_ready(self, uint32_t events) except -1:
        """Receives what is there, once. If there is more, `readiness` stays set."""
        cdef Endpoint transport = self.transport
        cdef int available = 0
        self.readiness = 0
        if ioctl(transport.open_fd(), FIONREAD, &available) < 0:
            available = RECEIVE_BYTES_MAX
        if available == 0 and not events & POLL_END:
            # Told before: an edge for bytes that the last receive took already.
            return 0
        if available > SMALL_BYTES:
            self.small_in_a_row = 0
        else:
            self.small_in_a_row += 1
            if self.small_in_a_row == SMALL_IN_A_ROW and can_receive_small(self.loop):
                self.large = False
                self.loop.cancel(self)
        if available > RECEIVE_BYTES_MAX or events & POLL_END:
            # No further edge will tell of what is left.
            self.readiness = events
        try:
            if transport.buffered:
                self.receive_into_protocol(available, events)
            else:
                data = try_recv(transport.open_fd(), min(max(available, 1), RECEIVE_BYTES_MAX))
                if data:
                    self.accept_item(data)
                elif data is not None:
                    self.accept_end(events)
                elif events & POLL_END:
                    self.readiness = 0
        except OSError as exc:
            self.error = exc.errno
            self.accept_item(exc)
        except MemoryError as exc:
            self.accept_item(exc)
        return 0

    cdef int accept_end(self, uint32_t events) except -1:
        """recv(2) gave nothing: the stream's end, or that of a connection whose error a send took before.

        The kernel tells each error once. Where nothing can be sent any more either, and a send has yet to
        tell what came of it, that comes first, within a pass or two: `readiness` stays set.
        """
        if events & POLLHUP and self.transport.send.lent is not None:
            return 0
        return self.accept_item(None)

    cdef int receive_into_protocol(self, int available, uint32_t events) except -1:
        cdef Endpoint transport = self.transport
        cdef Py_ssize_t count
        cdef uint32_t left = self.readiness
        # No further edge will tell of these bytes, if get_buffer ends the run.
        self.readiness |= events
        target = transport.protocol_buffer()
        self.readiness = left
        if target is None:
            return 0
        count = try_recv_into(transport.open_fd(), target)
        if count < 0:
            self.readiness = 0
        elif count == 0:
            self.accept_end(events)
        else:
            if count < available:
                self.readiness |= events
            self.data_pass = self.loop.pass_number
            transport.buffer_updated(count)
        return 0


@cython.final
cdef class Send(Operation):
    """What a transport sends by: a queue, of which the front is in flight."""

    def __cinit__(self, Endpoint transport):
        self.transport = transport
        self.loop = transport.loop
        # Only the completion tells how much of the lent bytes is gone.
        self.settles = True

    def __dealloc__(self):
        # In flight the loop holds a reference: the kernel reads no iovec any more.
        free(self.parts)

    cdef int push(self, object data, Py_ssize_t offset) except -1:
        """Queues data from offset on. What the caller may change is copied."""
        if not PyBytes_CheckExact(data):
            data = bytes(memoryview(data).cast("B")[offset:])
            offset = 0
        if offset:
            self.head_offset = offset
        if self.queue is None:
            self.queue = deque()
        self.queue.append(data)
        self.queued_bytes += PyBytes_GET_SIZE(data) - offset
        return 0

    cdef bint hold(self) except -1:
        """Counts a write. True if it, and all others until the end of the pass, are to go out together.

        For a protocol that has the habit of writing several times in a pass, such as a response's head and
        its body: each would be a system call and a packet. Who asks for the queue's state lets it go first.
        """
        if self.pass_number != self.loop.pass_number:
            if self.writes_in_pass < 2:
                self.habit = 0
            self.pass_number = self.loop.pass_number
            self.writes_in_pass = 1
        else:
            self.writes_in_pass += 1
            if self.writes_in_pass == 2 and self.habit < HABIT_PASSES:
                self.habit += 1
        if self.held:
            return True
        if self.habit < HABIT_PASSES or self.queue or self.transport.closing or self.loop._thread_id is None:
            return False
        if not self.loop.alive():
            # A forked child's copy, whose pass never ends.
            return False
        # Who closes the socket in this pass has written before.
        self.kept_open = self.transport.keep_open()
        self.held = True
        self.loop.awaiting_end.append(self)
        return True

    cdef int end_of_pass(self) except -1:
        if not self.held:
            return 0
        context = self.transport.context
        PyContext_Enter(context)
        try:
            self.let_go()
        finally:
            PyContext_Exit(context)
        return 0

    cdef int before_fork(self) except -1:
        return self.let_go()

    cdef int let_go(self) except -1:
        """Sends what was held back; what the kernel does not take at once is queued as any other write."""
        if not self.held:
            return 0
        if not self.loop.alive():
            # In a forked child: the parent sends it.
            return self.clear()
        self.held = False
        try:
            return self.send_held()
        finally:
            self.release_socket()

    cdef int release_socket(self) except -1:
        sock, self.kept_open = self.kept_open, None
        if sock is not None:
            sock._decref_socketios()
        return 0

    cdef int send_held(self) except -1:
        cdef iovec parts[SEND_PARTS_MAX]
        cdef msghdr message
        cdef Py_ssize_t count
        memset(&message, 0, sizeof(message))
        message.msg_iov = parts
        while self.queue:
            chunks = list(islice(self.queue, SEND_PARTS_MAX))
            message.msg_iovlen = self.gather(chunks, parts)
            count = sendmsg(self.transport.open_fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL)
            if count < 0:
                if errno == EAGAIN:
                    return self.start()
                exc = self.transport.write_error(errno)
                return self.transport.fatal_error(exc, "Fatal write error on socket transport")
            self.drop_sent(count)
            if self.head_offset or len(chunks) < SEND_PARTS_MAX and self.queue:
                return self.start()
        return 0

    cdef Py_ssize_t gather(self, list chunks, iovec *parts) noexcept:
        """Points the parts at the chunks, which are the front of the queue. Returns how many there are."""
        cdef Py_ssize_t index = 0, offset = self.head_offset
        for data in chunks:
            parts[index].iov_base = PyBytes_AS_STRING(data) + offset
            parts[index].iov_len = PyBytes_GET_SIZE(data) - offset
            offset = 0
            index += 1
        return index

    cdef int start(self) except -1:
        """Submits the front of the queue, unless one is in flight."""
        if in_flight(self) or self.put_off or not self.loop.alive():
            return 0
        ENSURE(not self.held)
        if self.parts == NULL:
            self.parts = <iovec *> malloc(SEND_PARTS_MAX * sizeof(iovec))
            if self.parts == NULL:
                raise MemoryError
        self.lent = list(islice(self.queue, SEND_PARTS_MAX))
        self.message.msg_iov = self.parts
        self.message.msg_iovlen = self.gather(self.lent, self.parts)
        self.loop.submit(self)
        return 0

    cdef void prepare(self, rl_sqe *sqe) noexcept:
        """The last attempt filled the socket's buffer: another one at once would move a few bytes at most."""
        sqe.fd = self.transport.open_fd()
        self.polled = self.loop.driver.capabilities & RL_CAN_POLL_FIRST == 0
        if self.polled:
            sqe.opcode = RL_OP_POLL_ADD
            sqe.op_flags = POLLOUT
            return
        sqe.opcode = RL_OP_SENDMSG
        sqe.address = <uint64_t> &self.message
        sqe.length = 1
        sqe.ioprio = RL_RECV_POLL_FIRST
        # No MSG_WAITALL: a short send tells the protocol early that there is room again.
        sqe.op_flags = MSG_NOSIGNAL

    cdef int complete(self, int64_t result, uint32_t flags, object payload) except -1:
        cdef Endpoint transport = self.transport
        if self.polled and result > 0 and transport is not None and not transport.connection_lost_count:
            result = sendmsg(transport.open_fd(), &self.message, MSG_DONTWAIT | MSG_NOSIGNAL)
            if result < 0:
                result = -errno
        self.lent = None
        if transport is None:
            return 0
        if transport.connection_lost_count:
            transport.finish_if_idle()
            return 0
        context = transport.context
        PyContext_Enter(context)
        try:
            self.advance(result)
        finally:
            PyContext_Exit(context)
        return 0

    cdef object describe(self):
        return repr(self.transport)

    cdef int advance(self, int64_t result) except -1:
        cdef Endpoint transport = self.transport
        self.put_off = False
        if result >= 0:
            self.drop_sent(result)
            try:
                transport.queue_drained()
            finally:
                # Also for the next run, if resume_writing ended this one: a Ctrl-C, or the program's end.
                self.go_on()
            return 0
        if result != -ECANCELED and result != -EAGAIN and result != -EINTR:
            if result == -EPIPE and self.is_told_more():
                self.put_off = True
                return self.loop.push_completion(self, result)
            exc = transport.write_error(-result)
            return transport.fatal_error(exc, "Fatal write error on socket transport")
        return self.go_on()

    cdef bint is_told_more(self) noexcept:
        """Whether the receive will tell of the connection's end: of data before it, and of why it is one.

        EPIPE says no more than that nobody reads. A selector's loop looks at what is to be read first.
        """
        cdef Endpoint transport = self.transport
        cdef pollfd file
        file.fd = transport.open_fd()
        file.events = 0
        return (not transport.closing and not transport.paused and not transport.receive.ended
                and poll(&file, 1, 0) == 1 and file.revents & POLLHUP)

    cdef int go_on(self) except -1:
        """Sends what is queued next, unless something is under way; or tells that nothing is queued."""
        cdef Endpoint transport = self.transport
        if transport.connection_lost_count or self.held:
            return 0
        if self.queue:
            return self.start()
        return transport.all_sent()

    cdef int drop_sent(self, Py_ssize_t count) except -1:
        self.queued_bytes -= count
        self.head_offset = drop_front(self.queue, self.head_offset + count)
        return 0

    cdef int clear(self) except -1:
        """Forgets what is queued, and asks for the end of what is in flight."""
        self.queue = None
        self.held = False
        self.head_offset = 0
        self.queued_bytes = 0
        self.release_socket()
        return self.loop.cancel(self)
