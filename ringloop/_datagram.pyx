"""Datagram transports: one socket and its protocol, as asyncio's selector transport behaves.

Receiving: one multishot poll tells of readiness, and one recvmmsg() takes up to BATCH_MAX datagrams, of any
size, into memory that all of a loop's transports share. One system call serves many datagrams, and no buffer
is too short for one, as those of a group for multishot recvmsg would be. Sending: at once by sendto(); what
finds no room is queued, in order, and one operation waits for room. One by one: sendmmsg() loses the error of
a datagram behind one that went out, of which the protocol must hear. Addresses of families that are not known
here are left to the socket module.

Invariants: what was received is delivered in the kernel's order, or dropped by a close; the fd is closed
after the last completion of what is in flight on it. Callbacks, their order, errors and texts are asyncio's.
"""

import asyncio
import os
import socket
from asyncio import constants, trsock
from asyncio.log import logger
from collections import deque

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, strlen

from ringloop._callbacks cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from ringloop._flight cimport (
    RL_OP_POLL_ADD, RL_POLL_MULTISHOT, Operation, rl_sqe,
)
from ringloop._sock cimport Sockets, fd_now
from ringloop._transfer cimport in_flight


cdef extern from "<errno.h>" nogil:
    enum: EBADF, ECANCELED, ENOTSOCK

cdef extern from "<poll.h>" nogil:
    enum: POLLIN, POLLOUT

cdef extern from "<sys/socket.h>" nogil:
    enum: AF_INET, AF_INET6, AF_UNIX, MSG_DONTWAIT, MSG_NOSIGNAL
    ctypedef struct sockaddr "struct sockaddr"
    ctypedef struct timespec "struct timespec"
    int recvmmsg(int fd, mmsghdr *messages, unsigned int count, int flags, timespec *timeout)
    Py_ssize_t sendto(
        int fd, const void *data, size_t length, int flags, const sockaddr *address, unsigned int size)

cdef extern from "<sys/un.h>" nogil:
    ctypedef struct sockaddr_un "struct sockaddr_un":
        unsigned short sun_family
        char sun_path[108]

cdef extern from "<netinet/in.h>" nogil:
    uint16_t htons(uint16_t value)
    uint16_t ntohs(uint16_t value)
    uint32_t htonl(uint32_t value)
    uint32_t ntohl(uint32_t value)

cdef extern from "<arpa/inet.h>" nogil:
    const char *inet_ntop(int family, const void *source, char *target, unsigned int size)
    int inet_pton(int family, const char *source, void *target)
    enum: INET6_ADDRSTRLEN

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    unicode PyUnicode_DecodeFSDefault(const char *text)
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1

cdef enum:
    DATAGRAM_BYTES_MAX = 256 * 1024    # as asyncio receives: what is beyond is cut off
    # No datagram over IP is longer than 65,535 bytes. The rest keeps the slots out of one set of the cache.
    IP_SLOT_BYTES = 64 * 1024 + 576
    INBOX_BYTES = BATCH_MAX * IP_SLOT_BYTES
    NUDGE = -2147483648                # result of a completion of our own making; no errno
    ASK_SOCKET = -2                    # neither sent nor an errno

cdef object TransportSocket = trsock.TransportSocket
cdef int CONNECTION_LOST_SENDS_LOGGED = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES


class _TransportClass(asyncio.Transport, asyncio.DatagramTransport):
    """What a datagram transport says its class is: both, as asyncio's own are since 3.12."""


cdef object TRANSPORT_CLASS = _TransportClass


@cython.final
cdef class Inbox:
    """Where a loop's datagrams arrive, all transports' in turn: memory, and the addresses seen lately."""

    def __cinit__(self):
        cdef int index
        self.memory = <char *> malloc(INBOX_BYTES)
        if self.memory == NULL:
            raise MemoryError
        self.known_objects = [None] * KNOWN_COUNT
        for index in range(BATCH_MAX):
            self.messages[index].msg_hdr.msg_name = &self.senders[index]
            self.messages[index].msg_hdr.msg_iov = &self.parts[index]
            self.messages[index].msg_hdr.msg_iovlen = 1

    def __dealloc__(self):
        free(self.memory)

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    cdef int receive(self, DatagramTransport transport) except -2:
        """Appends what is there to the transport's pending ones. How many; -1: none, for the errno left.

        Nothing else uses the memory meanwhile: Python code that a collection of garbage runs cannot reach a
        pass of this loop.
        """
        cdef size_t slot_bytes = DATAGRAM_BYTES_MAX if transport.family == AF_UNIX else IP_SLOT_BYTES
        cdef int slots = INBOX_BYTES // slot_bytes, index, count
        for index in range(slots):
            self.parts[index].iov_base = self.memory + index * slot_bytes
            self.parts[index].iov_len = slot_bytes
            self.messages[index].msg_hdr.msg_namelen = sizeof(sockaddr_storage)
        count = recvmmsg(transport.open_fd(), self.messages, slots, MSG_DONTWAIT, NULL)
        for index in range(count):
            data = PyBytes_FromStringAndSize(
                <char *> self.parts[index].iov_base, self.messages[index].msg_len)
            address = self.address_object(&self.senders[index], self.messages[index].msg_hdr.msg_namelen)
            transport.receive.pending.append((data, address))
        if count == slots:
            transport.receive.ready = True
        return count

    cdef object address_object(self, sockaddr_storage *address, unsigned int length):
        """As the socket module gives it. The same peers come again and again, so theirs are kept."""
        cdef sockaddr_in6 *ip6 = <sockaddr_in6 *> address
        cdef sockaddr_in *ip4 = <sockaddr_in *> address
        cdef uint32_t mixed, index
        cdef size_t key_bytes
        if length == 0:
            return None
        if address.ss_family == AF_UNIX:
            return unix_address(<sockaddr_un *> address, length)
        if address.ss_family == AF_INET:
            mixed = ip4.sin_addr.s_addr
            key_bytes = 8  # family, port, address
        else:
            mixed = ip6.sin6_addr.s6_addr32[3]
            key_bytes = sizeof(sockaddr_in6)
        index = ((mixed ^ ip4.sin_port) * <uint32_t> 2654435761) >> 24
        if memcmp(&self.known[index], address, key_bytes) != 0:
            self.known_objects[index] = ip_address(address)
            memcpy(&self.known[index], address, key_bytes)
        return self.known_objects[index]


cdef object ip_address(sockaddr_storage *address):
    cdef char text[INET6_ADDRSTRLEN]
    cdef sockaddr_in6 *ip6 = <sockaddr_in6 *> address
    cdef sockaddr_in *ip4 = <sockaddr_in *> address
    if address.ss_family == AF_INET:
        inet_ntop(AF_INET, &ip4.sin_addr, text, sizeof(text))
        return text.decode("ascii"), ntohs(ip4.sin_port)
    inet_ntop(AF_INET6, &ip6.sin6_addr, text, sizeof(text))
    return text.decode("ascii"), ntohs(ip6.sin6_port), ntohl(ip6.sin6_flowinfo), ip6.sin6_scope_id


cdef object unix_address(sockaddr_un *address, unsigned int length):
    """A path as str; an abstract name, which begins with a zero byte, as bytes."""
    cdef unsigned int path_bytes = length - sizeof(unsigned short)
    cdef char path[109]
    if path_bytes and address.sun_path[0] == 0:
        return PyBytes_FromStringAndSize(address.sun_path, path_bytes)
    path_bytes = min(path_bytes, 108)
    memcpy(path, address.sun_path, path_bytes)
    path[path_bytes] = 0
    return PyUnicode_DecodeFSDefault(path)


cdef unsigned int parse_address(object address, int family, sockaddr_in6 *target) except? 0:
    """Makes a socket address of a numeric one; its length, or 0 if that is for the socket module to judge."""
    cdef sockaddr_in *ip4 = <sockaddr_in *> target
    cdef Py_ssize_t count, size = 0
    cdef const char *host
    cdef int64_t port, flow = 0, scope = 0
    if type(address) is not tuple:
        return 0
    count = len(<tuple> address)
    if count != 2 and (family != AF_INET6 or count != 4):
        return 0
    text = (<tuple> address)[0]
    if type(text) is not str or not text.isascii():
        return 0
    host = PyUnicode_AsUTF8AndSize(text, &size)
    port = number_of((<tuple> address)[1], 0xFFFF)
    if count == 4:
        flow = number_of((<tuple> address)[2], 0xFFFFF)
        scope = number_of((<tuple> address)[3], 0xFFFFFFFF)
    if <Py_ssize_t> strlen(host) != size or port < 0 or flow < 0 or scope < 0:
        return 0
    if family == AF_INET:
        ip4.sin_family = AF_INET
        ip4.sin_port = htons(port)
        return sizeof(sockaddr_in) if inet_pton(AF_INET, host, &ip4.sin_addr) == 1 else 0
    target.sin6_family = AF_INET6
    target.sin6_port = htons(port)
    target.sin6_flowinfo = htonl(flow)
    target.sin6_scope_id = scope
    return sizeof(sockaddr_in6) if inet_pton(AF_INET6, host, &target.sin6_addr) == 1 else 0


cdef int64_t number_of(object number, int64_t limit) except -2:
    """An int's value if it is 0 to limit, else -1."""
    cdef int overflow = 0
    cdef int64_t value
    if type(number) is not int:
        return -1
    value = PyLong_AsLongLongAndOverflow(number, &overflow)
    return value if 0 <= value <= limit else -1


@cython.final
cdef class ReceiveReadiness(Operation):
    """A multishot poll, armed as long as the protocol wants datagrams; it tells edges."""

    def __cinit__(self, DatagramTransport transport):
        self.transport = transport
        self.loop = transport.loop
        self.pending = []

    cdef void prepare(self, rl_sqe *sqe) noexcept:
        sqe.opcode = RL_OP_POLL_ADD
        sqe.fd = self.transport.open_fd()
        sqe.length = RL_POLL_MULTISHOT
        sqe.op_flags = POLLIN

    cdef int arm(self) except -1:
        if in_flight(self) or self.ended:
            return 0
        # A poll that finds its file ready tells so at once: nothing that came before is missed.
        return self.loop.submit(self)

    cdef int nudge(self) except -1:
        """Goes on in the ready queue's next turn, for fairness to others."""
        if not self.nudged:
            self.loop.push_completion(self, NUDGE)
            self.nudged = True
        return 0

    cdef int complete(self, int64_t result, uint32_t flags, object payload) except -1:
        cdef DatagramTransport transport = self.transport
        if transport is None:
            return 0
        if result == NUDGE:
            self.nudged = False
        elif result > 0:
            self.ready = True
        if transport.closing:
            transport.finish_if_idle()
            return 0
        if transport.paused:
            return 0
        if result < 0 and result != NUDGE and result != -ECANCELED:
            # A socket that was closed under us: epoll forgets such a one without a word.
            return 0
        context = transport.context
        PyContext_Enter(context)
        try:
            if self.ready and not self.pending:
                self.receive()
            self.deliver()
        finally:
            PyContext_Exit(context)
            if not transport.closing and not transport.paused and self.loop.alive():
                if self.ready or self.pending:
                    self.nudge()
                self.arm()
        return 0

    cdef int receive(self) except -1:
        """Takes what is there, once. If there may be more, `ready` stays set."""
        cdef DatagramTransport transport = self.transport
        cdef int error
        self.ready = False
        if transport.family != AF_INET and transport.family != AF_INET6 and transport.family != AF_UNIX:
            return self.receive_slowly()
        if transport.inbox.receive(transport) < 0:
            error = errno
            if error == EBADF or error == ENOTSOCK:
                return self.end()
            if error != EAGAIN and error != EINTR:
                self.pending.append(OSError(error, os.strerror(error)))
                self.ready = True
        return 0

    cdef int receive_slowly(self) except -1:
        """As `receive`, by the socket module, which knows every family's addresses."""
        for _ in range(BATCH_MAX):
            try:
                self.pending.append(self.transport.sock.recvfrom(DATAGRAM_BYTES_MAX))
            except (BlockingIOError, InterruptedError):
                return 0
            except OSError as exc:
                if exc.errno == EBADF or exc.errno == ENOTSOCK:
                    return self.end()
                self.pending.append(exc)
        self.ready = True
        return 0

    cdef int end(self) except -1:
        """The socket was closed under us. As epoll forgets such a one without a word, so does this.

        The poll may hold the file, and so tell of datagrams that the number gives nobody any more.
        """
        self.ended = True
        return self.loop.cancel(self)

    cdef int deliver(self) except -1:
        cdef DatagramTransport transport = self.transport
        cdef Py_ssize_t index = 0
        pending = self.pending
        self.pending = []
        try:
            while index < len(pending) and not transport.closing and not transport.paused:
                item = pending[index]
                index += 1
                try:
                    if type(item) is tuple:
                        data, address = <tuple> item
                        transport.protocol.datagram_received(data, address)
                    else:
                        transport.protocol.error_received(item)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as exc:
                    transport.callback_failed(
                        exc, "datagram_received" if type(item) is tuple else "error_received")
        finally:
            if index < len(pending):
                self.pending = pending[index:]
        return 0

    cdef object describe(self):
        return repr(self.transport)


@cython.final
cdef class SendWhenRoom(Operation):
    """Waits for room for the first datagram in the queue: a poll, at most one in flight.

    A Unix socket that is not connected is always writable, however full the receiver's queue is. Another
    socket that is connected to the receiver tells of room there. The ring's own send is no way to wait: one
    that had to was seen to arrive empty (Linux 6.18).
    """

    def __cinit__(self, DatagramTransport transport):
        self.transport = transport
        self.loop = transport.loop

    cdef int start(self) except -1:
        cdef DatagramTransport transport = self.transport
        if in_flight(self) or not self.loop.alive():
            return 0
        self.fd = transport.open_fd()
        if transport.family == AF_UNIX:
            address = transport.queue[0][1]
            if not transport.has_peer(address):
                self.connect_probe(address)
        return self.loop.submit(self)

    cdef int connect_probe(self, object address) except -1:
        probe = None
        try:
            probe = socket.socket(AF_UNIX, self.transport.sock.type)
            probe.setblocking(False)
            probe.connect(address)
        except OSError:
            # The receiver is gone, which the next attempt tells; or it talks to us alone, or no fd is left,
            # and there is nothing to do but to ask again and again, as asyncio does.
            if probe is not None:
                probe.close()
            return 0
        self.probe = probe
        self.fd = probe.fileno()
        return 0

    cdef int close_probe(self) except -1:
        probe, self.probe = self.probe, None
        if probe is not None:
            probe.close()
        return 0

    cdef void prepare(self, rl_sqe *sqe) noexcept:
        sqe.opcode = RL_OP_POLL_ADD
        sqe.fd = self.fd
        sqe.op_flags = POLLOUT

    cdef int complete(self, int64_t result, uint32_t flags, object payload) except -1:
        cdef DatagramTransport transport = self.transport
        self.close_probe()
        if transport is None:
            return 0
        if transport.connection_lost_count:
            transport.finish_if_idle()
            return 0
        context = transport.context
        PyContext_Enter(context)
        try:
            # Also after a poll that failed: the send tells better.
            transport.flush()
        finally:
            PyContext_Exit(context)
        return 0

    cdef object describe(self):
        return repr(self.transport)


cdef class DatagramTransport(Transport):
    """A datagram socket, as asyncio's selector transport behaves. See asyncio.DatagramTransport."""

    @property
    def __class__(self):
        # Users ask isinstance(transport, asyncio.DatagramTransport), which a cdef class cannot inherit from.
        return TRANSPORT_CLASS

    cdef list activity(self):
        if self.receive is None:
            return []
        reading = "polling" if in_flight(self.receive) else "idle"
        writing = "polling" if in_flight(self.send) else "idle"
        return [f"read={reading}", f"write=<{writing}, bufsize={self.queued_bytes}>"]

    # --- life

    cdef int begin(self, object waiter) except -1:
        self.queue = deque()
        self.receive = ReceiveReadiness(self)
        self.send = SendWhenRoom(self)
        self.extra["socket"] = TransportSocket(self.sock)
        try:
            self.extra["sockname"] = self.sock.getsockname()
        except OSError:
            self.extra["sockname"] = None
        if "peername" not in self.extra:
            try:
                self.extra["peername"] = self.sock.getpeername()
            except OSError:
                self.extra["peername"] = None
        self.connected = bool(self.extra["peername"])
        self.paired = self.extra["peername"] == ""
        self.loop.claim_fd(self.fd, self)
        return self.introduce(self._start_reading, waiter)

    def _start_reading(self):
        if not self.closing and not self.paused:
            self.receive.arm()

    cdef int callback_failed(self, object exc, str callback) except -1:
        """What a protocol's callback raised is no end of the transport."""
        return self.report(exc, f"Exception in callback protocol.{callback}()")

    cdef int force_close(self, object exc) except -1:
        if self.connection_lost_count:
            return 0
        self.queue.clear()
        self.queued_bytes = 0
        self.closing = True
        self.loop.cancel(self.send)
        self.loop.cancel(self.receive)
        self.connection_lost_count += 1
        self.lose_soon(exc)
        return 0

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

    cdef bint is_closed(self) noexcept:
        return self.fd < 0

    cdef int open_fd(self) noexcept:
        return fd_now(self.sock, self.fd)

    cdef int close_fd(self) except -1:
        self.loop.release_fd(self.fd, self)
        self.fd = -1
        if self.send is not None:
            self.send.close_probe()
        self.sock.close()
        return 0

    # --- asyncio.BaseTransport, and what asyncio's datagram transports have of asyncio.ReadTransport

    def close(self):
        """Closes the transport after what is queued was sent; nothing more is received."""
        if self.closing:
            return
        self.closing = True
        self.loop.cancel(self.receive)
        if not self.queue:
            self.connection_lost_count += 1
            self.lose_soon(None)

    def abort(self):
        """Closes the transport at once; what is queued is lost."""
        self.force_close(None)

    cdef int stop_receiving(self) except -1:
        return self.loop.cancel(self.receive)

    cdef int go_on_receiving(self) except -1:
        # Also arms the poll again, by its completion.
        return self.receive.nudge()

    # --- asyncio.DatagramTransport

    def sendto(self, data, addr=None):
        """Sends data, bytes-like, to `addr`, or to the peer. What finds no room is queued.

        An OSError is told to the protocol's error_received.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if not data and not self.sends_empty:
            return
        if self.address:
            if addr is not None and addr != self.address:
                raise ValueError(f"Invalid address: must be None or {self.address}")
            addr = self.address
        if self.connection_lost_count and (self.address or self.lost_called):
            self.count_lost_send()
            return
        if not self.queue and self.try_send(data, addr) != NO_ROOM:
            return
        if self.connection_lost_count:
            # No room, and no time to wait for it: the end is due.
            return
        # What is queued must not change any more.
        data = bytes(data)
        self.queue.append((data, addr))
        self.queued_bytes += PyBytes_GET_SIZE(data) + self.header_bytes
        self.send.start()
        self.pause_protocol_if_full()

    cdef Outcome try_send(self, object data, object address) except *:
        """Sends one datagram now. What the protocol's error_received raises is let out."""
        cdef int error = self.send_natively(data, address)
        if error == 0:
            return SENT
        if error == EAGAIN:
            return NO_ROOM
        try:
            if error != ASK_SOCKET:
                raise OSError(error, os.strerror(error))
            if self.has_peer(address):
                self.sock.send(data)
            else:
                self.sock.sendto(data, address)
            return SENT
        except (BlockingIOError, InterruptedError):
            return NO_ROOM
        except OSError as exc:
            failure = exc
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fatal_error(exc, "Fatal write error on datagram transport")
            return FAILED
        self.protocol.error_received(failure)
        return FAILED

    cdef bint has_peer(self, object address) noexcept:
        """Whether the kernel knows where a datagram goes that is queued with this address.

        A peer without a name, as both ends of a socket pair are, is one for whatever names no other address;
        asyncio asks for an address even there, and fails.
        """
        return self.connected or self.paired and address is None

    cdef int send_natively(self, object data, object address) except -1:
        """0 if it went out, or an errno, or ASK_SOCKET for what the socket module has to judge."""
        cdef sockaddr_in6 target
        cdef unsigned int target_bytes = 0
        cdef Py_buffer view
        cdef Py_ssize_t count
        cdef int error
        if not self.has_peer(address):
            if self.family != AF_INET and self.family != AF_INET6:
                return ASK_SOCKET
            target_bytes = parse_address(address, self.family, &target)
            if target_bytes == 0:
                return ASK_SOCKET
        try:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        except BufferError:
            return ASK_SOCKET
        # A call that does not wait is not interrupted: there is no EINTR here.
        count = sendto(
            self.open_fd(), view.buf, view.len, MSG_DONTWAIT | MSG_NOSIGNAL,
            <sockaddr *> &target if target_bytes else NULL, target_bytes)
        error = errno
        PyBuffer_Release(&view)
        return 0 if count >= 0 else error

    cdef int drop_first(self) except -1:
        data, _ = self.queue.popleft()
        self.queued_bytes -= PyBytes_GET_SIZE(data) + self.header_bytes
        return 0

    cdef int flush(self) except -1:
        """Sends what is queued as far as there is room, and goes on as that tells."""
        try:
            while self.queue:
                first = self.queue[0]
                data, address = first
                self.drop_first()
                try:
                    if self.try_send(data, address) == NO_ROOM:
                        self.queue.appendleft(first)
                        self.queued_bytes += PyBytes_GET_SIZE(data) + self.header_bytes
                        break
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as exc:
                    self.callback_failed(exc, "error_received")
            self.resume_protocol_if_drained()
        finally:
            # Also for the next run, if the protocol ended this one: a Ctrl-C, or the end of the program.
            self.go_on_sending()
        return 0

    cdef int go_on_sending(self) except -1:
        if self.connection_lost_count:
            return 0
        if self.queue:
            return self.send.start()
        if self.closing:
            self.connection_lost_count += 1
            return self.call_connection_lost(None)
        return 0

    cdef int count_lost_send(self) except -1:
        if self.connection_lost_count >= CONNECTION_LOST_SENDS_LOGGED:
            logger.warning("socket.send() raised exception.")
        self.connection_lost_count += 1
        return 0

    def write(self, data):
        """Raises NotImplementedError: a datagram is sent by `sendto`. So asyncio's, as do the next three."""
        raise NotImplementedError

    def writelines(self, list_of_data):
        """Raises NotImplementedError."""
        raise NotImplementedError

    def can_write_eof(self):
        """Raises NotImplementedError."""
        raise NotImplementedError

    def write_eof(self):
        """Raises NotImplementedError."""
        raise NotImplementedError

    def get_write_buffer_size(self):
        """Returns how many bytes are queued; each datagram may count a few more than it has."""
        return self.queued_bytes

    def get_write_buffer_limits(self):
        """Returns the low and the high water mark in bytes."""
        return self.low_water_bytes, self.high_water_bytes

    def set_write_buffer_limits(self, high=None, low=None):
        """Sets the marks in bytes: above `high` the protocol is paused, at `low` or below it is resumed."""
        self.set_marks(high, low)
        self.pause_protocol_if_full()

    cdef Py_ssize_t count_queued(self) except -1:
        return self.queued_bytes


def make_transport(
    Sockets loop, Inbox inbox, sock, protocol, address, waiter, extra, bint sends_empty, header_bytes,
):
    """A transport for a datagram socket object, which is closed with it.

    `address` is where everything goes, or None; `waiter`, a future, is done after connection_made. The last
    two are how the running Python's asyncio treats empty datagrams, and what it counts for one in the queue.
    """
    cdef DatagramTransport transport = DatagramTransport.__new__(DatagramTransport)
    transport.loop = loop
    transport.inbox = inbox
    transport.sock = sock
    transport.fd = sock.fileno()
    transport.family = sock.family
    transport.protocol = protocol
    transport.address = address
    transport.context = PyContext_CopyCurrent()
    transport.extra = {} if extra is None else dict(extra)
    transport.sends_empty = sends_empty
    transport.header_bytes = header_bytes
    transport.begin(waiter)
    return transport
