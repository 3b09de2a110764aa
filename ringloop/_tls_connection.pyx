"""What is frequent of TLS once a connection: its states, handshake and shutdown, while all goes well.

What does not go well, such as a handshake that fails or takes too long, and what debug mode tells, is
asyncio's SSLProtocol's own, of the running Python, which works on the same fields. So are the end of a
shutdown and abort(), which Pythons differ in. In what is here they agree, from 3.11 to 3.15.
"""

import ssl
from asyncio import constants, sslproto
from collections import deque

from ringloop._tls cimport (
    AGAIN, DO_HANDSHAKE, FLUSHING, SHUTDOWN, UNWRAPPED, WRAPPED, SSLProtocol, TlsBytes, session_of,
)


cdef object SSLError = ssl.SSLError
cdef object MemoryBIO = ssl.MemoryBIO
cdef object APP_INIT = sslproto.AppProtocolState.STATE_INIT
cdef object APP_MADE = sslproto.AppProtocolState.STATE_CON_MADE
cdef object APP_EOF = sslproto.AppProtocolState.STATE_EOF
cdef object APP_LOST = sslproto.AppProtocolState.STATE_CON_LOST

cdef object INCOMING_HIGH, INCOMING_LOW, OUTGOING_HIGH, OUTGOING_LOW
INCOMING_HIGH, INCOMING_LOW = sslproto.add_flowcontrol_defaults(
    None, None, constants.FLOW_CONTROL_HIGH_WATER_SSL_READ)
OUTGOING_HIGH, OUTGOING_LOW = sslproto.add_flowcontrol_defaults(
    None, None, constants.FLOW_CONTROL_HIGH_WATER_SSL_WRITE)


cdef int stop_timer(object handle) except -1:
    if handle is not None:
        handle.cancel()
    return 0


cdef class TlsConnection(TlsBytes):
    """The part of asyncio's SSLProtocol that runs for each connection."""

    def __init__(
        self, loop, app_protocol, sslcontext, waiter, server_side=False, server_hostname=None,
        call_connection_made=True, ssl_handshake_timeout=None, ssl_shutdown_timeout=None,
    ):
        if (
            not sslcontext or (ssl_handshake_timeout is not None and ssl_handshake_timeout <= 0)
            or (ssl_shutdown_timeout is not None and ssl_shutdown_timeout <= 0)
        ):
            # A context is to be made, or an argument is wrong.
            SSLProtocol.__init__(
                self, loop, app_protocol, sslcontext, waiter, server_side, server_hostname,
                call_connection_made, ssl_handshake_timeout, ssl_shutdown_timeout)
        else:
            self.fill(
                loop, app_protocol, sslcontext, waiter, server_side, server_hostname, call_connection_made,
                ssl_handshake_timeout, ssl_shutdown_timeout)

    cdef int fill(
        self, object loop, object app_protocol, object sslcontext, object waiter, object server_side,
        object server_hostname, bint call_connection_made, object handshake_timeout, object shutdown_timeout
    ) except -1:
        self._loop = loop
        self._waiter = waiter
        self._sslcontext = sslcontext
        self._server_side = server_side
        self._server_hostname = server_hostname if server_hostname and not server_side else None
        self._ssl_handshake_timeout = (
            constants.SSL_HANDSHAKE_TIMEOUT if handshake_timeout is None else handshake_timeout)
        self._ssl_shutdown_timeout = (
            constants.SSL_SHUTDOWN_TIMEOUT if shutdown_timeout is None else shutdown_timeout)
        self._extra = {"sslcontext": sslcontext}
        self._write_backlog = deque()
        self._incoming = MemoryBIO()
        self._outgoing = MemoryBIO()
        self._incoming_high_water, self._incoming_low_water = INCOMING_HIGH, INCOMING_LOW
        self._outgoing_high_water, self._outgoing_low_water = OUTGOING_HIGH, OUTGOING_LOW
        self._state = UNWRAPPED
        self._app_state = APP_INIT if call_connection_made else APP_MADE
        self._set_app_protocol(app_protocol)
        self._sslobj = sslcontext.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=self._server_hostname)
        self._get_app_transport()
        return 0

    # --- states

    def _set_state(self, new_state):
        self.set_state(new_state)

    cdef int set_state(self, object state) except -1:
        now = self._state
        if (
            state is UNWRAPPED or (now is UNWRAPPED and state is DO_HANDSHAKE)
            or (now is DO_HANDSHAKE and state is WRAPPED) or (now is WRAPPED and state is FLUSHING)
            or (now is FLUSHING and state is SHUTDOWN)
        ):
            self._state = state
        else:
            SSLProtocol._set_state(self, state)  # which says what is wrong
        return 0

    def _wakeup_waiter(self, exc=None):
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.cancelled():
            return
        if exc is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(exc)

    def connection_lost(self, exc):
        """The transport below has ended."""
        # With this asyncio's forgets the transport. Here it may come before whoever awaits the connection has
        # it: what asyncio reads in several passes, data and the end of the stream, can come in one.
        self._lost_transport = self._transport
        self._write_backlog.clear()
        self._outgoing.read()
        self._conn_lost += 1
        if self._app_transport is not None:
            self._app_transport._closed = True
        if self._state is not DO_HANDSHAKE and (self._app_state is APP_MADE or self._app_state is APP_EOF):
            self._app_state = APP_LOST
            self._loop.call_soon(self._app_protocol.connection_lost, exc)
        self._state = UNWRAPPED
        self._transport = self._app_transport = self._app_protocol = None
        self._wakeup_waiter(exc)
        handle, self._shutdown_timeout_handle = self._shutdown_timeout_handle, None
        stop_timer(handle)
        handle, self._handshake_timeout_handle = self._handshake_timeout_handle, None
        stop_timer(handle)

    # --- the handshake

    def _start_handshake(self):
        if self._loop.get_debug():
            SSLProtocol._start_handshake(self)
            return
        self.set_state(DO_HANDSHAKE)
        self._handshake_timeout_handle = self._loop.call_later(
            self._ssl_handshake_timeout, self._check_handshake_timeout)
        self.handshake()

    def _do_handshake(self):
        self.handshake()

    cdef int handshake(self) except -1:
        # A client speaks first: without its words an attempt gives nothing but an exception.
        if self._server_side and not self._incoming.pending:
            return 0
        if self.session is None:
            self.session = session_of(self._sslobj)
        try:
            self.session.do_handshake()
        except AGAIN:
            self.send_encrypted()
        except SSLError as exc:
            self._on_handshake_complete(exc)
        else:
            self._on_handshake_complete(None)
        return 0

    def _on_handshake_complete(self, handshake_exc):
        if handshake_exc is None and not self._loop.get_debug():
            self.handshake_succeeded()
        else:
            SSLProtocol._on_handshake_complete(self, handshake_exc)

    cdef int handshake_succeeded(self) except -1:
        handle, self._handshake_timeout_handle = self._handshake_timeout_handle, None
        stop_timer(handle)
        try:
            self.set_state(WRAPPED)
            certificate = self.session.getpeercert()
        except Exception as exc:
            SSLProtocol._on_handshake_complete(self, exc)
            return 0
        self._extra["peercert"] = certificate
        self._extra["cipher"] = self.session.cipher()
        self._extra["compression"] = self.session.compression()
        self._extra["ssl_object"] = self._sslobj
        if self._app_state is APP_INIT:
            self._app_state = APP_MADE
            self._app_protocol.connection_made(self._get_app_transport())
        self._wakeup_waiter()
        return self.deliver()

    # --- the end

    def eof_received(self):
        """The stream below ends. True if the protocol has still to read what came before."""
        self._eof_received = True
        if self._loop.get_debug() or self._state is DO_HANDSHAKE:
            return SSLProtocol.eof_received(self)
        try:
            if self._state is WRAPPED:
                self.set_state(FLUSHING)
                if self._app_reading_paused:
                    return True
                self.flush()
            elif self._state is FLUSHING:
                self.write_backlog()
                self.set_state(SHUTDOWN)
                self.shut_down()
            elif self._state is SHUTDOWN:
                self.shut_down()
        except Exception:
            self._transport.close()
            raise

    def _start_shutdown(self):
        if self._state is DO_HANDSHAKE:
            SSLProtocol._start_shutdown(self)
        elif self._state is WRAPPED:
            if self._app_transport is not None:
                self._app_transport._closed = True
            self.set_state(FLUSHING)
            self._shutdown_timeout_handle = self._loop.call_later(
                self._ssl_shutdown_timeout, self._check_shutdown_timeout)
            self.flush()

    def _do_flush(self):
        self.flush()

    cdef int flush(self) except -1:
        self.deliver()
        self.set_state(SHUTDOWN)
        return self.shut_down()

    def _do_shutdown(self):
        self.shut_down()

    cdef int shut_down(self) except -1:
        try:
            if not self._eof_received:
                self._sslobj.unwrap()
        except AGAIN:
            self.send_encrypted()
        except SSLError as exc:
            self._on_shutdown_complete(exc)
        else:
            self.send_encrypted()
            self._call_eof_received()
            self._on_shutdown_complete(None)
        return 0
