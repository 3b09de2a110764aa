"""Accepting connections, and the loop's methods that make transports.

One multishot accept per listening socket. It is cancelled, and its last completion collected, before the
socket is closed: an armed accept would keep the port and go on accepting.
"""

import os
from asyncio import constants, trsock

cimport cython
from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM
from libc.stdint cimport int64_t, uint32_t
from posix.unistd cimport close

from ringloop._flight cimport (
    OPERATION_DONE, RL_ACCEPT_MULTISHOT, RL_CAN_ACCEPT_MULTISHOT, RL_OP_ACCEPT, Operation, rl_sqe,
)
from ringloop._callbacks cimport PyContext_Copy, PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from ringloop._sock cimport Sockets, fd_of
from ringloop._stream cimport accepted_transport, socket_transport


cdef extern from "<errno.h>" nogil:
    enum: ECANCELED

cdef extern from "<sys/socket.h>" nogil:
    enum: SOCK_CLOEXEC, SOCK_NONBLOCK

cdef object TransportSocket = trsock.TransportSocket


@cython.final
cdef class Accept(Operation):
    """Makes a transport of every connection that comes to a listening socket."""

    def __cinit__(self, Streams loop, sock, protocol_factory, server, tuple tls, context):
        self.loop = loop
        self.sock = sock
        self.fd = fd_of(sock)
        self.family = sock.family
        self.kind = sock.type
        self.ip_protocol = sock.proto
        self.protocol_factory = protocol_factory
        self.server = server
        self.tls = tls
        self.many = loop.driver.capabilities & RL_CAN_ACCEPT_MULTISHOT != 0
        self.context = PyContext_CopyCurrent() if context is None else context

    cdef void prepare(self, rl_sqe *sqe) noexcept:
        sqe.opcode = RL_OP_ACCEPT
        sqe.fd = self.fd
        sqe.op_flags = SOCK_CLOEXEC | SOCK_NONBLOCK
        if self.many:
            sqe.ioprio = RL_ACCEPT_MULTISHOT

    cdef int complete(self, int64_t result, uint32_t flags, object payload) except -1:
        if self.ended:
            self.discard(result, flags)
            return 0
        # Each connection has a context of its own, in which the protocol is made and called.
        context = PyContext_Copy(self.context)
        PyContext_Enter(context)
        try:
            self.advance(result, context)
        finally:
            PyContext_Exit(context)
        return 0

    cdef void discard(self, int64_t result, uint32_t flags) noexcept:
        # A connection that nobody collects is closed; its peer is refused, as one left in the backlog.
        if result >= 0:
            close(result)

    cdef int advance(self, int64_t result, object context) except -1:
        try:
            if result >= 0:
                self.accepted(result, context)
            elif result not in (-ECONNABORTED, -EAGAIN, -EINTR, -ECANCELED):
                self.refused(-result)
        finally:
            # Also for the next run, if the factory ended this one: a Ctrl-C, or the end of the program.
            if not self.ended and self.state == OPERATION_DONE and self.loop.alive():
                self.loop.submit(self)
        return 0

    cdef int accepted(self, int fd, object context) except -1:
        """Whatever fails, the factory included, costs this connection alone."""
        protocol = None
        try:
            try:
                protocol = self.protocol_factory()
            except BaseException:
                close(fd)
                raise
            if self.tls is not None:
                return self.accepted_tls(fd, protocol, context)
            accepted_transport(
                self.loop, fd, self.family, self.kind, self.ip_protocol, protocol, self.server, context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.loop._report_accept(exc, {} if protocol is None else {"protocol": protocol})
        return 0

    cdef int accepted_tls(self, int fd, object protocol, object context) except -1:
        waiter = self.loop.create_future()
        try:
            tls = self.loop._make_tls_for_server(protocol, waiter, self.tls)
        except BaseException:
            close(fd)
            raise
        if tls is None:
            close(fd)
            return 0
        transport = accepted_transport(
            self.loop, fd, self.family, self.kind, self.ip_protocol, tls, self.server, context)
        try:
            self.loop._watch_handshake(tls._app_transport, protocol, waiter)
        except BaseException:
            transport.abort()
            raise
        return 0

    cdef int refused(self, int error) except -1:
        """Out of fds or memory: reports it, and accepts again after a while."""
        cdef Streams loop = <Streams> self.loop
        exc = OSError(error, os.strerror(error))
        self.end()
        if error in (EMFILE, ENFILE, ENOBUFS, ENOMEM):
            loop.call_exception_handler({
                "message": "socket.accept() out of system resource",
                "exception": exc,
                "socket": TransportSocket(self.sock),
            })
            loop.call_later(constants.ACCEPT_RETRY_DELAY, self.retry)
        else:
            loop.call_exception_handler({
                "message": "accepting connections failed",
                "exception": exc,
                "socket": TransportSocket(self.sock),
            })
        return 0

    def retry(self):
        cdef Streams loop = <Streams> self.loop
        if loop.accepts.get(id(self.sock)) is self:
            self.ended = False
            loop.submit(self)

    cdef int end(self) except -1:
        """Nothing is accepted from here on."""
        self.ended = True
        self.loop.cancel_at_once(self)
        return 0

    cdef object describe(self):
        return f"<Accept fd={self.fd} {self.protocol_factory!r}>"


cdef class Streams(Sockets):
    """The loop's methods that make transports and accept, named as those of asyncio's selector loop."""

    def __cinit__(self, *args, **kwargs):
        self.accepts = {}

    def _close_core(self):
        Sockets._close_core(self)
        self.accepts.clear()

    def _make_socket_transport(
        self, sock, protocol, waiter=None, *, extra=None, server=None, context=None
    ):
        return socket_transport(self, sock, protocol, waiter, extra, server, context)

    def _start_serving(
        self, protocol_factory, sock, sslcontext=None, server=None, backlog=100,
        ssl_handshake_timeout=None, ssl_shutdown_timeout=None, context=None,
    ):
        sock.listen(backlog)
        tls = (sslcontext, ssl_handshake_timeout, ssl_shutdown_timeout) if sslcontext else None
        cdef Accept accept = Accept(self, sock, protocol_factory, server, tls, context)
        self.accepts[id(sock)] = accept
        self.submit(accept)

    def _stop_serving(self, sock):
        # Its owner may have closed or detached it: the number is none then, or that of another.
        cdef Accept accept = self.accepts.pop(id(sock), None)
        if accept is not None:
            accept.end()
        sock.close()
