"""Stream transports: one connected socket and its protocol, as asyncio's selector transport behaves.

The transport owns its fd, and closes it after the last completion of what it has in flight: a closed fd would
leave the connection open as long as the kernel holds a request on it, and its number could be another's then.
Callbacks, their order, errors and texts are asyncio's.
"""

import os
import socket
import sys
import threading
from asyncio import constants, protocols, transports, trsock
from asyncio.log import logger

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN, errno
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcpy
from posix.unistd cimport close

from ringloop._callbacks cimport PyContext_CopyCurrent
from ringloop._sock cimport Sockets, fd_now, get_writable
from ringloop._transfer cimport Endpoint, Receive, Send, in_flight


cdef extern from "<sys/socket.h>" nogil:
    enum: AF_INET, AF_INET6, SOCK_STREAM, MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_WR
    Py_ssize_t send(int fd, const void *buffer, size_t length, int flags)
    int shutdown(int fd, int how)
    int setsockopt(int fd, int level, int option, const void *value, unsigned int length)
    ctypedef struct sockaddr "struct sockaddr"
    int getsockname(int fd, sockaddr *address, unsigned int *length)
    int getpeername(int fd, sockaddr *address, unsigned int *length)

cdef extern from "<netinet/in.h>" nogil:
    enum: IPPROTO_TCP
    ctypedef struct in_addr "struct in_addr":
        pass
    ctypedef struct sockaddr_in "struct sockaddr_in":
        uint16_t sin_port
        in_addr sin_addr
    uint16_t ntohs(uint16_t value)
    uint32_t ntohl(uint32_t value)

cdef extern from "<netinet/tcp.h>" nogil:
    enum: TCP_NODELAY

cdef extern from "<arpa/inet.h>" nogil:
    const char *inet_ntop(int family, const void *source, char *target, unsigned int size)
    enum: INET6_ADDRSTRLEN

cdef extern from "Python.h":
    PyObject **_PyObject_GetDictPtr(object object) noexcept

cdef enum:
    HELD_BYTES_MAX = 64 * 1024         # more goes out at once: the protocol must hear of a full socket

cdef object TRANSPORT_CLASS = transports._FlowControlMixin
cdef object BufferedProtocol = protocols.BufferedProtocol
cdef object TransportSocket = trsock.TransportSocket
cdef object Socket = socket.socket
cdef object PLAIN_SOCKET = TransportSocket._sock
cdef bint WRITELINES_TAKES_VIEWS = sys.version_info >= (3, 12)
cdef bint WRITELINES_SKIPS_EMPTY = sys.version_info >= (3, 14)
cdef str WRITE_TAKES = (
    "bytes, bytearray, or memoryview object" if sys.version_info >= (3, 14) else "bytes-like object")
cdef int CONNECTION_LOST_WRITES_LOGGED = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES


class HoldingSocket(TransportSocket):
    """What a transport tells as its socket: sends what the transport holds back before it is asked or told.

    All that a TransportSocket does goes by its `_sock`.
    """

    __slots__ = ("_send",)

    def __init__(self, sock, send):
        PLAIN_SOCKET.__set__(self, sock)
        self._send = send

    @property
    def _sock(self):
        cdef Send send = self._send
        # Another thread's use of the socket has no order with this one's writes.
        if send.held and send.loop._thread_id == threading.get_ident():
            send.let_go()
        return PLAIN_SOCKET.__get__(self)


cdef class Receiver:
    """What takes a transport's bytes without a Python call."""

    cdef int take(self, object data) except -1:
        """Takes received bytes."""
        raise NotImplementedError


cdef class StreamTransport(Endpoint):
    """A connected stream socket, as asyncio's selector transport behaves. See asyncio.Transport."""

    _start_tls_compatible = True       # asked for by loop.start_tls
    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE

    @property
    def __class__(self):
        # Users ask isinstance(transport, asyncio.Transport), which a cdef class cannot inherit from. asyncio
        # asks for the subclass of it that its own are, and for the first two of the properties below; others
        # read the next two, which asyncio's and uvloop's transports have.
        return TRANSPORT_CLASS

    @property
    def _loop(self):
        return self.loop

    @property
    def _protocol_paused(self):
        return self.protocol_paused

    @property
    def _paused(self):
        return self.paused

    @property
    def _closing(self):
        return self.closing

    cdef list activity(self):
        if self.receive is None:
            return []
        reading = "receiving" if in_flight(self.receive) else "idle"
        writing = "sending" if in_flight(self.send) else "idle"
        return [f"read={reading}", f"write=<{writing}, bufsize={self.send.queued_bytes}>"]

    # --- life

    cdef int begin(self, object waiter) except -1:
        cdef Sockets loop = self.loop
        cdef int one = 1
        self.receive = Receive(self)
        self.send = Send(self)
        if (self.family == AF_INET or self.family == AF_INET6) and self.kind == SOCK_STREAM:
            setsockopt(self.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
        self.read_addresses()
        loop.claim_fd(self.fd, self)
        if self.server is not None:
            self.server._attach(self)
        return self.introduce(self._start_reading, waiter)

    def _start_reading(self):
        if not self.closing and not self.paused:
            self.receive.arm()

    cdef int read_addresses(self) except -1:
        """Now, since a peer that is gone has no name any more."""
        cdef unsigned int length = sizeof(sockaddr_in6)
        if self.family == AF_INET or self.family == AF_INET6:
            getsockname(self.fd, <sockaddr *> &self.own_address, &length)
            length = sizeof(sockaddr_in6)
            getpeername(self.fd, <sockaddr *> &self.peer_address, &length)
            return 0
        sock = self.socket_object()
        if self.extra is None:
            self.extra = {}
        for key, method in (("sockname", sock.getsockname), ("peername", sock.getpeername)):
            try:
                self.extra.setdefault(key, method())
            except OSError:
                self.extra.setdefault(key, None)
        return 0

    cdef int force_close(self, object exc) except -1:
        self.send.let_go()
        if self.connection_lost_count:
            return 0
        self.send.clear()
        self.closing = True
        self.loop.cancel(self.receive)
        self.connection_lost_count += 1
        self.lose_soon(exc)
        return self.end_sendfile(exc)

    cdef int call_connection_lost(self, object exc) except -1:
        try:
            self.protocol.connection_lost(exc)
        finally:
            self.lost_called = True
            self.protocol = None
            self.receiver = None
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

    cdef object keep_open(self):
        sock = self.sock
        if not issubclass(type(sock), Socket):
            # None; or like a socket, with an end of its own kind.
            return None
        sock._io_refs += 1
        return sock

    cdef int open_fd(self) noexcept:
        return self.fd if self.sock is None else fd_now(self.sock, self.fd)

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
        cdef bint natively = self.receiver is not None
        try:
            if natively:
                self.receiver.take(data)
            else:
                self.protocol.data_received(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            method = "buffer_updated" if natively else "data_received"
            self.fatal_error(exc, f"Fatal error: protocol.{method}() call failed.")
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
        cdef Py_buffer view
        try:
            target = self.protocol.get_buffer(-1)
            if not len(target):
                raise RuntimeError("get_buffer() returned an empty buffer")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fatal_error(exc, "Fatal error: protocol.get_buffer() call failed.")
            return None
        try:
            get_writable(target, &view)
        except TypeError as exc:
            self.fatal_error(exc, "Fatal read error on socket transport")
            return None
        PyBuffer_Release(&view)
        return target

    cdef int buffer_updated(self, Py_ssize_t count) except -1:
        try:
            self.protocol.buffer_updated(count)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fatal_error(exc, "Fatal error: protocol.buffer_updated() call failed.")
        return 0

    cdef int feed_buffered(self, object data) except -1:
        """Copies data into the protocol's buffers, as many as it takes. What it does not want yet stays."""
        cdef Py_buffer view
        cdef Py_ssize_t offset = 0, length = PyBytes_GET_SIZE(data), count
        try:
            while offset < length and not self.closing and not self.paused:
                if not self.buffered:
                    rest = data[offset:]
                    offset = length
                    return self.data_received(rest)
                target = self.protocol_buffer()
                if target is None:
                    return 0
                PyObject_GetBuffer(target, &view, PyBUF_WRITABLE)
                count = min(view.len, length - offset)
                memcpy(view.buf, PyBytes_AS_STRING(data) + offset, count)
                PyBuffer_Release(&view)
                offset += count
                self.buffer_updated(count)
        finally:
            # It paused, or ended the run: a Ctrl-C, or the end of the program.
            if offset < length and not self.closing:
                self.receive.pending.insert(0, data[offset:])
        return 0

    # --- asyncio.BaseTransport and asyncio.ReadTransport

    def get_extra_info(self, name, default=None):
        """Returns what is known of the connection: 'socket', 'sockname', 'peername'; else `default`."""
        if self.extra is not None and name in self.extra:
            return self.extra[name]
        if name == "socket":
            value = HoldingSocket(self.socket_object(), self.send)
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
        if self.sock is not None:
            return self.sock
        if self.fd < 0:
            # Who asks after the end gets a closed one, as asyncio's is then.
            sock = socket.socket(self.family, self.kind, self.ip_protocol)
            sock.close()
            return sock
        self.sock = socket.socket(self.family, self.kind, self.ip_protocol, fileno=self.fd)
        self.sock.setblocking(False)
        return self.sock

    def close(self):
        """Closes the connection after what is queued was sent; no more data is received."""
        self.send.let_go()
        if self.closing:
            return
        self.closing = True
        self.loop.cancel(self.receive)
        if not self.send.queue:
            self.connection_lost_count += 1
            self.lose_soon(None)
        self.end_sendfile(None)

    def abort(self):
        """Closes the connection at once; what is queued is lost."""
        self.force_close(None)

    def _force_close(self, exc):
        # asyncio's protocols end their transports by it, with the error that connection_lost is to tell.
        self.force_close(exc)

    def set_protocol(self, protocol):
        """Gives what comes from now on to another protocol."""
        self.protocol = protocol
        self.receiver = protocol if isinstance(protocol, Receiver) else None
        self.buffered = self.receiver is None and isinstance(protocol, BufferedProtocol)

    cdef int stop_receiving(self) except -1:
        return self.loop.cancel(self.receive)

    cdef int go_on_receiving(self) except -1:
        if self.receive.pending or self.receive.readiness:
            return self.receive.nudge()
        return self.receive.arm()

    # --- asyncio.WriteTransport

    def write(self, data):
        """Sends data, bytes-like. What the kernel does not take at once is queued."""
        if not PyBytes_CheckExact(data) and not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a {WRITE_TAKES}, not {type(data).__name__!r}")
        if self.eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.empty_waiter is not None:
            raise RuntimeError("unable to write; sendfile is in progress")
        self.write_bytes(data)

    def writelines(self, list_of_data):
        """Sends a list of bytes-like objects, in as few pieces as possible."""
        if WRITELINES_TAKES_VIEWS:
            if self.eof_written:
                raise RuntimeError("Cannot call writelines() after write_eof()")
            if self.empty_waiter is not None:
                raise RuntimeError("unable to writelines; sendfile is in progress")
            if not list_of_data:
                return
            list_of_data = [
                data if PyBytes_CheckExact(data) else memoryview(data)
                for data in list_of_data if data or not WRITELINES_SKIPS_EMPTY]
        self.write(b"".join(list_of_data))

    cdef bint is_plain_writer(self) noexcept:
        """Whether write() of bytes is write_bytes: users may set attributes on a transport."""
        cdef PyObject **attributes = _PyObject_GetDictPtr(self)
        if self.eof_written or self.empty_waiter is not None:
            return False
        return attributes == NULL or not <object> attributes[0]

    cdef int write_bytes(self, object data) except -1:
        cdef Py_buffer view
        cdef Py_ssize_t count, length
        cdef int error
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        length = view.len
        if length == 0 or self.connection_lost_count:
            PyBuffer_Release(&view)
            return 0 if length == 0 else self.count_lost_write()
        if self.send.hold() or self.send.queue:
            PyBuffer_Release(&view)
            self.send.push(data, 0)
            if self.send.held and self.send.queued_bytes > min(HELD_BYTES_MAX, self.high_water_bytes):
                self.send.let_go()
            return self.pause_protocol_if_full()
        # A call that does not wait is not interrupted: there is no EINTR here.
        count = send(self.open_fd(), view.buf, length, MSG_DONTWAIT | MSG_NOSIGNAL)
        error = errno
        PyBuffer_Release(&view)
        if count == length:
            return 0
        if count < 0:
            if error != EAGAIN:
                return self.fatal_error(self.write_error(error), "Fatal write error on socket transport")
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
        self.send.let_go()
        if self.closing or self.eof_written:
            return
        self.eof_written = True
        if not self.send.queue:
            self.shut_down()

    cdef int shut_down(self) except -1:
        if shutdown(self.open_fd(), SHUT_WR) < 0:
            raise OSError(errno, os.strerror(errno))
        return 0

    def get_write_buffer_size(self):
        """Returns how many bytes are queued, those in flight included."""
        self.send.let_go()
        return self.send.queued_bytes

    def get_write_buffer_limits(self):
        """Returns the low and the high water mark in bytes."""
        return self.low_water_bytes, self.high_water_bytes

    def set_write_buffer_limits(self, high=None, low=None):
        """Sets the marks in bytes: above `high` the protocol is paused, at `low` or below it is resumed."""
        self.set_marks(high, low)
        self.send.let_go()
        self.pause_protocol_if_full()

    cdef Py_ssize_t count_queued(self) except -1:
        return self.send.queued_bytes

    cdef int queue_drained(self) except -1:
        return self.resume_protocol_if_drained()

    cdef int all_sent(self) except -1:
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_result(None)
        if self.closing:
            self.connection_lost_count += 1
            return self.call_connection_lost(None)
        if self.eof_written:
            try:
                self.shut_down()
            except OSError as exc:
                # The peer reset the connection after the last byte.
                return self.fatal_error(exc, "Fatal write error on socket transport")
        return 0

    # --- a file is sent past the queue: see _sendfile.pyx

    def _make_empty_waiter(self):
        """A future that is done when nothing is queued. Until `_reset_empty_waiter` nobody can write."""
        if self.empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        self.send.let_go()
        waiter = self.empty_waiter = self.loop.create_future()
        if not self.send.queue:
            waiter.set_result(None)
        return waiter

    def _reset_empty_waiter(self):
        self.empty_waiter = None

    cdef int end_sendfile(self, object exc) except -1:
        """The connection ends under it: it raises exc, or what asyncio has where there is none."""
        if self.empty_waiter is None:
            return 0
        if exc is None:
            exc = ConnectionError("Connection is closed by peer")
        if not self.empty_waiter.done():
            self.empty_waiter.set_exception(exc)
        if self.file_sending is not None:
            self.file_sending.interrupt(exc)
        return 0


cdef object address_object(sockaddr_in6 *ip6):
    """As the socket module gives it; None where there is none."""
    cdef char text[INET6_ADDRSTRLEN]
    cdef sockaddr_in *ip4 = <sockaddr_in *> ip6
    if ip6.sin6_family == AF_INET:
        inet_ntop(AF_INET, &ip4.sin_addr, text, sizeof(text))
        return text.decode("ascii"), ntohs(ip4.sin_port)
    if ip6.sin6_family == AF_INET6:
        inet_ntop(AF_INET6, &ip6.sin6_addr, text, sizeof(text))
        return text.decode("ascii"), ntohs(ip6.sin6_port), ntohl(ip6.sin6_flowinfo), ip6.sin6_scope_id
    return None


cdef StreamTransport accepted_transport(
    Sockets loop, int fd, int family, int kind, int ip_protocol, object protocol, object server,
    object context,
):
    """A transport for a connection just accepted, of which it owns the fd from now on."""
    cdef StreamTransport transport = StreamTransport.__new__(StreamTransport)
    transport.loop = loop
    transport.fd = fd
    transport.family = family
    transport.kind = kind
    transport.ip_protocol = ip_protocol
    transport.server = server
    transport.context = context
    transport.set_protocol(protocol)
    try:
        transport.begin(None)
    except BaseException:
        # Nobody was told of it: the protocol is none, or it closed the server.
        transport.closing = True
        transport.close_fd()
        raise
    return transport


cdef StreamTransport socket_transport(
    Sockets loop, object sock, object protocol, object waiter, object extra, object server, object context
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
    transport.context = PyContext_CopyCurrent() if context is None else context
    transport.extra = {} if extra is None else dict(extra)
    transport.set_protocol(protocol)
    transport.begin(waiter)
    return transport
