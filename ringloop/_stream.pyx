"""Stream transports: one connected socket, its protocol, and at most one receive and one send in flight.

Receiving adapts to the connection. Small messages come by multishot receive into provided buffers, copied into
`bytes` as their completions are collected, so that a few buffers serve all connections and stay in the cache.
A connection that fills whole buffers is armed by readiness instead, and the kernel writes straight into the very
object that is delivered, of the size that is there. Measured: for small messages the first needs fewer system
calls, for large ones it reads each byte twice.

Sending: at once if nothing is queued, else one send in flight and everything else coalesced behind it.

The transport owns its fd, and closes it after the last completion of both operations: a closed fd would leave
the connection open as long as the kernel holds a request on it, and its number could be another's by then.
"""

import asyncio
import collections
import os
import socket
import warnings
from asyncio import constants, futures, protocols, trsock
from asyncio.log import logger
from itertools import islice

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_Clear
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN, EINTR, ENOBUFS, errno
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from posix.unistd cimport close

from ringloop._core cimport (
    OPERATION_CANCELLING, OPERATION_DONE, OPERATION_NEW, OPERATION_SUBMITTED, RL_CAN_RECV_MULTISHOT,
    RL_CQE_BUFFER, RL_CQE_BUFFER_SHIFT, RL_OP_POLL_ADD, RL_OP_RECV, RL_OP_SENDMSG, RL_POLL_MULTISHOT,
    RL_RECV_MULTISHOT, RL_SQE_BUFFER_SELECT, Operation, rl_buffers, rl_buffers_address, rl_buffers_recycle, rl_sqe,
)
from ringloop._handles cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from ringloop._sock cimport Sockets, try_recv, try_recv_into


cdef extern from "<errno.h>" nogil:
    enum: ECANCELED

cdef extern from "<poll.h>" nogil:
    enum: POLLIN, POLLERR, POLLHUP, POLLRDHUP

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, int *argument)
    enum: FIONREAD

cdef extern from "<sys/socket.h>" nogil:
    enum: AF_INET, AF_INET6, SOCK_STREAM, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_WAITALL, SHUT_WR
    Py_ssize_t recv(int fd, void *buffer, size_t length, int flags)
    Py_ssize_t send(int fd, const void *buffer, size_t length, int flags)
    int shutdown(int fd, int how)
    int setsockopt(int fd, int level, int option, const void *value, unsigned int length)
    int getsockname(int fd, sockaddr *address, unsigned int *length)
    int getpeername(int fd, sockaddr *address, unsigned int *length)

cdef extern from "<netinet/in.h>" nogil:
    enum: IPPROTO_TCP
    ctypedef struct in_addr "struct in_addr":
        pass
    ctypedef struct sockaddr_in "struct sockaddr_in":
        uint16_t sin_port
        in_addr sin_addr
    ctypedef struct in6_addr "struct in6_addr":
        pass
    ctypedef struct sockaddr_in6 "struct sockaddr_in6":
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    uint16_t ntohs(uint16_t value)
    uint32_t ntohl(uint32_t value)

cdef extern from "<netinet/tcp.h>" nogil:
    enum: TCP_NODELAY

cdef extern from "<arpa/inet.h>" nogil:
    const char *inet_ntop(int family, const void *source, char *target, unsigned int size)
    enum: INET6_ADDRSTRLEN

cdef extern from "Python.h":
    PyObject *PyBytes_FromStringAndSize(const char *bytes, Py_ssize_t size)

cdef enum:
    RECEIVE_BYTES_MAX = 1024 * 1024    # one delivery is no larger: measured, more gains nothing
    SMALL_BYTES = 2048                 # receives up to this in a row bring a connection back to provided buffers
    SMALL_IN_A_ROW = 16
    HIGH_WATER_BYTES = 64 * 1024       # asyncio's default
    POLL_END = POLLHUP | POLLERR | POLLRDHUP
    NUDGE = -2147483648                # result of a completion of our own making; no errno

cdef object TRANSPORT_CLASS = asyncio.Transport
cdef object BufferedProtocol = protocols.BufferedProtocol
cdef object TransportSocket = trsock.TransportSocket
cdef object set_result_unless_cancelled = futures._set_result_unless_cancelled
cdef object deque = collections.deque
cdef int CONNECTION_LOST_WRITES_LOGGED = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES


cdef inline bint in_flight(Operation operation) noexcept:
    return operation.state == OPERATION_SUBMITTED or operation.state == OPERATION_CANCELLING


@cython.final
cdef class Receive(Operation):
    """What a transport receives by, in one of two ways at a time."""

    def __cinit__(self, StreamTransport transport):
        self.transport = transport
        self.loop = transport.loop
        self.pending = []
        self.large = not self.loop.driver.capabilities & RL_CAN_RECV_MULTISHOT

    cdef void prepare(self, rl_sqe *sqe) noexcept:
        self.armed_large = self.large
        sqe.fd = self.transport.fd
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

    cdef PyObject *collect(self, int32_t result, uint32_t flags) noexcept:
        cdef PyObject *data = NULL
        cdef uint16_t buffer_id
        if flags & RL_CQE_BUFFER:
            buffer_id = flags >> RL_CQE_BUFFER_SHIFT
            data = PyBytes_FromStringAndSize(
                <char *> rl_buffers_address(self.loop.buffers, buffer_id), max(result, 0))
            if data == NULL:
                PyErr_Clear()
            rl_buffers_recycle(self.loop.buffers, buffer_id)
        return data

    cdef int complete(self, int32_t result, uint32_t flags, object payload) except -1:
        cdef StreamTransport transport = self.transport
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

    cdef int advance(self, int32_t result, uint32_t flags, object payload) except -1:
        """Told apart by what they carry: after a change of the way, completions of both may be queued."""
        cdef StreamTransport transport = self.transport
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
            self.readiness |= result
            if not transport.paused and not self.pending:
                self.read_ready(self.readiness)
        elif result == 0:
            self.accept_item(None)
        elif result != -ECANCELED and result != -ENOBUFS and result != -EINTR and result != -EAGAIN:
            self.accept_item(OSError(-result, os.strerror(-result)))
        # Also after ENOBUFS: all buffers went back as their completions were collected.
        if not transport.closing and not transport.paused and not self.pending and self.loop.alive():
            self.arm()
        return 0

    cdef int nudge(self) except -1:
        """Goes on in the ready queue's next turn, for fairness to others."""
        if not self.nudged:
            self.loop.push_completion(self, NUDGE)
            self.nudged = True
        return 0

    cdef int accept_item(self, object item) except -1:
        if self.transport.paused or self.pending:
            self.pending.append(item)
            return 0
        if type(item) is bytes:
            return self.transport.data_received(item)
        self.ended = True
        if item is None:
            return self.transport.eof_received()
        return self.transport.fatal_error(item, "Fatal read error on socket transport")

    cdef int deliver_pending(self) except -1:
        cdef StreamTransport transport = self.transport
        while self.pending and not transport.paused and not transport.closing:
            # A protocol that takes only a part puts the rest in front again.
            item = self.pending.pop(0)
            rest = self.pending
            self.pending = []
            self.accept_item(item)
            self.pending.extend(rest)
        if self.readiness and not self.pending and not transport.paused and not transport.closing:
            self.read_ready(self.readiness)
        return 0

    cdef int read_ready(self, uint32_t events) except -1:
        """Receives what is there, once. If there is more, a nudge goes on with it."""
        cdef StreamTransport transport = self.transport
        cdef int available = 0
        self.readiness = 0
        if ioctl(transport.fd, FIONREAD, &available) < 0:
            available = RECEIVE_BYTES_MAX
        if available == 0 and not events & POLL_END:
            # Told before: an edge for bytes that the last receive took already.
            return 0
        if available > SMALL_BYTES:
            self.small_in_a_row = 0
        else:
            self.small_in_a_row += 1
            if self.small_in_a_row == SMALL_IN_A_ROW and self.loop.driver.capabilities & RL_CAN_RECV_MULTISHOT:
                self.large = False
                self.loop.cancel(self)
        if available > RECEIVE_BYTES_MAX or events & POLL_END:
            # No further edge will tell of what is left.
            self.readiness = events
        try:
            if transport.buffered:
                self.receive_into_protocol(available, events)
            else:
                data = try_recv(transport.fd, min(max(available, 1), RECEIVE_BYTES_MAX))
                if data is not None:
                    self.accept_item(data if data else None)
                elif events & POLL_END:
                    self.readiness = 0
        except (OSError, MemoryError) as exc:
            self.accept_item(exc)
        if self.readiness and not self.ended and not transport.paused and not transport.closing:
            self.nudge()
        return 0

    cdef int receive_into_protocol(self, int available, uint32_t events) except -1:
        cdef StreamTransport transport = self.transport
        cdef Py_ssize_t count
        target = transport.protocol_buffer()
        if target is None:
            return 0
        count = try_recv_into(transport.fd, target)
        if count < 0:
            self.readiness = 0
        elif count == 0:
            self.accept_item(None)
        else:
            if count < available:
                self.readiness |= events
            transport.buffer_updated(count)
        return 0


@cython.final
cdef class Send(Operation):
    """What a transport sends by: a queue, of which the front is in flight."""

    def __cinit__(self, StreamTransport transport):
        self.transport = transport
        self.loop = transport.loop
        self.queue = deque()
        # Only the completion tells how much of the lent bytes is gone.
        self.settles = True

    cdef int push(self, object data, Py_ssize_t offset) except -1:
        """Queues data from offset on. What the caller may change is copied."""
        if not PyBytes_CheckExact(data):
            data = bytes(memoryview(data).cast("B")[offset:])
            offset = 0
        if offset:
            self.head_offset = offset
        self.queue.append(data)
        self.queued_bytes += PyBytes_GET_SIZE(data) - offset
        return 0

    cdef int start(self) except -1:
        """Submits the front of the queue, unless one is in flight."""
        cdef Py_ssize_t index = 0, offset = self.head_offset
        if in_flight(self) or not self.loop.alive():
            return 0
        self.lent = list(islice(self.queue, SEND_PARTS_MAX))
        for data in self.lent:
            self.parts[index].iov_base = PyBytes_AS_STRING(data) + offset
            self.parts[index].iov_len = PyBytes_GET_SIZE(data) - offset
            offset = 0
            index += 1
        self.message.msg_iov = self.parts
        self.message.msg_iovlen = index
        self.loop.submit(self)
        return 0

    cdef void prepare(self, rl_sqe *sqe) noexcept:
        sqe.opcode = RL_OP_SENDMSG
        sqe.fd = self.transport.fd
        sqe.address = <uint64_t> &self.message
        sqe.length = 1
        # MSG_WAITALL: the kernel goes on after a short send by itself (5.19).
        sqe.op_flags = MSG_NOSIGNAL | MSG_WAITALL

    cdef int complete(self, int32_t result, uint32_t flags, object payload) except -1:
        cdef StreamTransport transport = self.transport
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

    cdef int advance(self, int32_t result) except -1:
        cdef StreamTransport transport = self.transport
        if result >= 0:
            self.drop_sent(result)
            transport.resume_protocol_if_drained()
        elif result != -ECANCELED and result != -EAGAIN and result != -EINTR:
            transport.fatal_error(OSError(-result, os.strerror(-result)), "Fatal write error on socket transport")
            return 0
        if transport.connection_lost_count:
            return 0
        if self.queue:
            return self.start()
        if transport.closing:
            transport.connection_lost_count += 1
            return transport.call_connection_lost(None)
        if transport.eof_written:
            return transport.shut_down()
        return 0

    cdef int drop_sent(self, Py_ssize_t count) except -1:
        cdef Py_ssize_t left
        self.queued_bytes -= count
        count += self.head_offset
        self.head_offset = 0
        while count:
            left = PyBytes_GET_SIZE(self.queue[0])
            if left > count:
                self.head_offset = count
                break
            count -= left
            self.queue.popleft()
        return 0

    cdef int clear(self) except -1:
        """Forgets what is queued, and asks for the end of what is in flight."""
        self.queue.clear()
        self.head_offset = 0
        self.queued_bytes = 0
        return self.loop.cancel(self)


cdef class StreamTransport:
    """A connected stream socket, as asyncio's selector transport behaves. See asyncio.Transport."""

    @property
    def __class__(self):
        # Users ask isinstance(transport, asyncio.Transport), which a cdef class cannot inherit from.
        return TRANSPORT_CLASS

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    def __init__(self):
        raise TypeError(f"cannot create {type(self).__name__!r} instances")

    def __del__(self):
        if self.fd < 0 or self.loop is None:
            return
        warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
        self.close_fd()

    def __repr__(self):
        info = [type(self).__name__]
        if self.fd < 0:
            info.append("closed")
        elif self.closing:
            info.append("closing")
        info.append(f"fd={self.fd}")
        if self.receive is not None:
            info.append("read=receiving" if in_flight(self.receive) else "read=idle")
            state = "sending" if in_flight(self.send) else "idle"
            info.append(f"write=<{state}, bufsize={self.send.queued_bytes}>")
        return f"<{' '.join(info)}>"

    # --- life

    cdef int begin(self, object waiter) except -1:
        cdef Sockets loop = self.loop
        cdef int one = 1
        self.context = PyContext_CopyCurrent()
        self.high_water_bytes = HIGH_WATER_BYTES
        self.low_water_bytes = HIGH_WATER_BYTES // 4
        self.receive = Receive(self)
        self.send = Send(self)
        if (self.family == AF_INET or self.family == AF_INET6) and self.kind == SOCK_STREAM:
            setsockopt(self.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
        self.read_addresses()
        loop.claim_fd(self.fd, self)
        if self.server is not None:
            self.server._attach(self)
        loop.call_soon(self.protocol.connection_made, self)
        loop.call_soon(self._start_reading)
        if waiter is not None:
            # After connection_made, and before the first data_received.
            loop.call_soon(set_result_unless_cancelled, waiter, None)
        return 0

    def _start_reading(self):
        if not self.closing and not self.paused:
            self.receive.arm()

    cdef int read_addresses(self) except -1:
        """Now, since a peer that is gone has no name any more."""
        cdef unsigned int length = sizeof(sockaddr_storage)
        self.own_address.ss_family = 0
        self.peer_address.ss_family = 0
        if self.family == AF_INET or self.family == AF_INET6:
            getsockname(self.fd, <sockaddr *> &self.own_address, &length)
            length = sizeof(sockaddr_storage)
            getpeername(self.fd, <sockaddr *> &self.peer_address, &length)
            return 0
        sock = self.socket_object()
        for key, method in (("sockname", sock.getsockname), ("peername", sock.getpeername)):
            try:
                self.extra.setdefault(key, method())
            except OSError:
                self.extra.setdefault(key, None)
        return 0

    cdef int fatal_error(self, object exc, str message) except -1:
        if isinstance(exc, OSError):
            if self.loop._debug:
                logger.debug("%r: %s", self, message, exc_info=exc)
        else:
            self.loop.call_exception_handler({
                "message": message,
                "exception": exc,
                "transport": self,
                "protocol": self.protocol,
            })
        return self.force_close(exc)

    cdef int force_close(self, object exc) except -1:
        if self.connection_lost_count:
            return 0
        self.send.clear()
        self.closing = True
        self.loop.cancel(self.receive)
        self.connection_lost_count += 1
        self.loop.call_soon(self._call_connection_lost, exc)
        return 0

    def _call_connection_lost(self, exc):
        self.call_connection_lost(exc)

    cdef int call_connection_lost(self, object exc) except -1:
        try:
            self.protocol.connection_lost(exc)
        finally:
            self.lost_called = True
            self.protocol = None
            self.receive.pending.clear()
            self.finish_if_idle()
        return 0

    cdef int finish_if_idle(self) except -1:
        """Closes the fd once connection_lost was called and nothing in the kernel holds the file."""
        if not self.lost_called or self.fd < 0 or in_flight(self.receive) or in_flight(self.send):
            return 0
        self.close_fd()
        self.receive.transport = None
        self.send.transport = None
        return 0

    cdef int close_fd(self) except -1:
        cdef int fd = self.fd
        self.fd = -1
        self.loop.release_fd(fd, self)
        if self.sock is not None:
            self.sock.close()
            self.sock = None
        else:
            close(fd)
        if self.server is not None:
            self.server._detach(self)
            self.server = None
        return 0

    # --- received data

    cdef int data_received(self, object data) except -1:
        if self.buffered:
            return self.feed_buffered(data)
        try:
            self.protocol.data_received(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fatal_error(exc, "Fatal error: protocol.data_received() call failed.")
        return 0

    cdef int eof_received(self) except -1:
        if self.loop._debug:
            logger.debug("%r received EOF", self)
        try:
            keep_open = self.protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            return self.fatal_error(exc, "Fatal error: protocol.eof_received() call failed.")
        if not keep_open:
            self.close()
        return 0

    cdef object protocol_buffer(self):
        """The protocol's next buffer; None if it gave none, which was fatal."""
        try:
            target = self.protocol.get_buffer(-1)
            if not len(target):
                raise RuntimeError("get_buffer() returned an empty buffer")
            return target
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fatal_error(exc, "Fatal error: protocol.get_buffer() call failed.")
            return None

    cdef int buffer_updated(self, Py_ssize_t count) except -1:
        try:
            self.protocol.buffer_updated(count)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fatal_error(exc, "Fatal error: protocol.buffer_updated() call failed.")
        return 0

    cdef int feed_buffered(self, object data) except -1:
        """Copies data into the protocol's buffers, as many as it takes. What it does not want now stays pending."""
        cdef Py_buffer view
        cdef Py_ssize_t offset = 0, length = PyBytes_GET_SIZE(data), count
        while offset < length and not self.closing:
            if self.paused:
                self.receive.pending.insert(0, data[offset:])
                return 0
            if not self.buffered:
                return self.data_received(data[offset:])
            target = self.protocol_buffer()
            if target is None:
                return 0
            PyObject_GetBuffer(target, &view, PyBUF_WRITABLE)
            count = min(view.len, length - offset)
            memcpy(view.buf, PyBytes_AS_STRING(data) + offset, count)
            PyBuffer_Release(&view)
            offset += count
            self.buffer_updated(count)
        return 0

    # --- asyncio.BaseTransport and asyncio.ReadTransport

    def get_extra_info(self, name, default=None):
        """Returns what is known of the connection: 'socket', 'sockname', 'peername'; `default` for the rest."""
        if self.extra is not None and name in self.extra:
            return self.extra[name]
        if name == "socket":
            if self.fd < 0:
                return default
            value = TransportSocket(self.socket_object())
        elif name == "peername":
            value = address_object(&self.peer_address)
        elif name == "sockname":
            value = address_object(&self.own_address)
        else:
            return default
        if self.extra is None:
            self.extra = {}
        self.extra[name] = value
        return value

    cdef object socket_object(self):
        if self.sock is None:
            self.sock = socket.socket(self.family, self.kind, self.ip_protocol, fileno=self.fd)
            self.sock.setblocking(False)
        return self.sock

    def is_closing(self):
        """Returns True if the transport is closing or closed."""
        return self.closing

    def close(self):
        """Closes the connection after what is queued was sent; no more data is received."""
        if self.closing:
            return
        self.closing = True
        self.loop.cancel(self.receive)
        if not self.send.queue:
            self.connection_lost_count += 1
            self.loop.call_soon(self._call_connection_lost, None)

    def abort(self):
        """Closes the connection at once; what is queued is lost."""
        self.force_close(None)

    def set_protocol(self, protocol):
        """Gives what comes from now on to another protocol."""
        self.protocol = protocol
        self.buffered = isinstance(protocol, BufferedProtocol)

    def get_protocol(self):
        """Returns the protocol; None after connection_lost."""
        return self.protocol

    def is_reading(self):
        """Returns True if data is received and delivered."""
        return not self.closing and not self.paused

    def pause_reading(self):
        """No data is delivered until `resume_reading`. Doing so twice is no error."""
        if self.closing or self.paused:
            return
        self.paused = True
        if self.loop._debug:
            logger.debug("%r pauses reading", self)

    def resume_reading(self):
        """Delivers again. Doing so twice is no error."""
        if self.closing or not self.paused:
            return
        self.paused = False
        if self.receive.pending or self.receive.readiness:
            self.receive.nudge()
        elif self.lost_called is False:
            self.receive.arm()
        if self.loop._debug:
            logger.debug("%r resumes reading", self)

    # --- asyncio.WriteTransport

    def write(self, data):
        """Sends data, bytes-like. What the kernel does not take at once is queued."""
        if not PyBytes_CheckExact(data) and not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self.eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        self.write_bytes(data)

    def writelines(self, list_of_data):
        """Sends a list of bytes-like objects, in as few pieces as possible."""
        if self.eof_written:
            raise RuntimeError("Cannot call writelines() after write_eof()")
        self.write_bytes(b"".join(list_of_data))

    cdef int write_bytes(self, object data) except -1:
        cdef Py_buffer view
        cdef Py_ssize_t count, length
        cdef int error
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        length = view.len
        if length == 0 or self.connection_lost_count:
            PyBuffer_Release(&view)
            return 0 if length == 0 else self.count_lost_write()
        if self.send.queue:
            PyBuffer_Release(&view)
            self.send.push(data, 0)
            return self.pause_protocol_if_full()
        # A call that does not wait is not interrupted: there is no EINTR here.
        count = send(self.fd, view.buf, length, MSG_DONTWAIT | MSG_NOSIGNAL)
        error = errno
        PyBuffer_Release(&view)
        if count == length:
            return 0
        if count < 0:
            if error != EAGAIN:
                return self.fatal_error(OSError(error, os.strerror(error)), "Fatal write error on socket transport")
            count = 0
        self.send.push(data, count)
        self.send.start()
        return self.pause_protocol_if_full()

    cdef int count_lost_write(self) except -1:
        if self.connection_lost_count >= CONNECTION_LOST_WRITES_LOGGED:
            logger.warning("socket.send() raised exception.")
        self.connection_lost_count += 1
        return 0

    def can_write_eof(self):
        """Returns True: a stream socket can be closed for writing alone."""
        return True

    def write_eof(self):
        """Closes the writing half after what is queued was sent; data may still be received."""
        if self.closing or self.eof_written:
            return
        self.eof_written = True
        if not self.send.queue:
            self.shut_down()

    cdef int shut_down(self) except -1:
        if shutdown(self.fd, SHUT_WR) < 0:
            raise OSError(errno, os.strerror(errno))
        return 0

    def get_write_buffer_size(self):
        """Returns how many bytes are queued, those in flight included."""
        return self.send.queued_bytes

    def get_write_buffer_limits(self):
        """Returns the low and the high water mark in bytes."""
        return self.low_water_bytes, self.high_water_bytes

    def set_write_buffer_limits(self, high=None, low=None):
        """Sets the marks in bytes: above `high` the protocol is paused, at `low` or below it is resumed."""
        if high is None:
            high = HIGH_WATER_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self.high_water_bytes = high
        self.low_water_bytes = low
        self.pause_protocol_if_full()

    cdef int pause_protocol_if_full(self) except -1:
        if self.protocol_paused or self.send.queued_bytes <= self.high_water_bytes:
            return 0
        self.protocol_paused = True
        return self.tell_protocol(self.protocol.pause_writing, "protocol.pause_writing() failed")

    cdef int resume_protocol_if_drained(self) except -1:
        if not self.protocol_paused or self.send.queued_bytes > self.low_water_bytes:
            return 0
        self.protocol_paused = False
        return self.tell_protocol(self.protocol.resume_writing, "protocol.resume_writing() failed")

    cdef int tell_protocol(self, object method, str message) except -1:
        try:
            method()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.loop.call_exception_handler({
                "message": message,
                "exception": exc,
                "transport": self,
                "protocol": self.protocol,
            })
        return 0


cdef object address_object(sockaddr_storage *address):
    """As the socket module gives it; None where there is none."""
    cdef char text[INET6_ADDRSTRLEN]
    cdef sockaddr_in *ip4 = <sockaddr_in *> address
    cdef sockaddr_in6 *ip6 = <sockaddr_in6 *> address
    if address.ss_family == AF_INET:
        inet_ntop(AF_INET, &ip4.sin_addr, text, sizeof(text))
        return text.decode("ascii"), ntohs(ip4.sin_port)
    if address.ss_family == AF_INET6:
        inet_ntop(AF_INET6, &ip6.sin6_addr, text, sizeof(text))
        return text.decode("ascii"), ntohs(ip6.sin6_port), ntohl(ip6.sin6_flowinfo), ip6.sin6_scope_id
    return None


cdef StreamTransport accepted_transport(
    Sockets loop, int fd, int family, int kind, int ip_protocol, object protocol, object server
):
    """A transport for a connection just accepted, of which it owns the fd from now on."""
    cdef StreamTransport transport = StreamTransport.__new__(StreamTransport)
    transport.loop = loop
    transport.fd = fd
    transport.family = family
    transport.kind = kind
    transport.ip_protocol = ip_protocol
    transport.server = server
    transport.set_protocol(protocol)
    transport.begin(None)
    return transport


cdef StreamTransport socket_transport(
    Sockets loop, object sock, object protocol, object waiter, object extra, object server
):
    """A transport for a connected socket object, which is closed with it."""
    cdef StreamTransport transport = StreamTransport.__new__(StreamTransport)
    transport.loop = loop
    transport.sock = sock
    transport.fd = sock.fileno()
    transport.family = sock.family
    transport.kind = sock.type
    transport.ip_protocol = sock.proto
    transport.server = server
    transport.extra = {} if extra is None else dict(extra)
    transport.set_protocol(protocol)
    transport.begin(waiter)
    return transport
