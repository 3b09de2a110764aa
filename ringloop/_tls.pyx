"""What is hot of TLS: bytes from a transport decrypted to a protocol, and the protocol's encrypted back.

`ringloop.tls` puts these classes before asyncio's SSLProtocol and its transport: what runs per record is
here, what runs per connection in _tls_connection.pyx, and what is rare (timeouts, errors) is the running
Python's own. The fields have asyncio's names: all of it works on the same state.

What asyncio's code costs per delivery, and this does not: an attempt to read that fails with an exception,
256 KiB asked for at each read, a copy of the rest for each record that is written.

The ssl module releases the GIL while it encrypts, so the scratch buffer is one loop's, never shared.
"""

import ssl
from asyncio import protocols, sslproto

from cpython.buffer cimport PyBUF_WRITE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF

from ringloop._stream cimport Receiver, StreamTransport


cdef extern from "Python.h":
    PyObject *PyBytes_FromStringAndSize(const char *bytes, Py_ssize_t size) except NULL
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t size) except -1

cdef enum:
    SCRATCH_BYTES = 64 * 1024
    RECORD_BYTES_MAX = 16 * 1024 + 512  # of a record begun before, as much may be in OpenSSL's hands

SSLProtocol = sslproto.SSLProtocol
cdef object SSLTransport = sslproto._SSLProtocolTransport
cdef object SSLObject = ssl.SSLObject
cdef object BufferedProtocol = protocols.BufferedProtocol
AGAIN = sslproto.SSLAgainErrors
UNWRAPPED = sslproto.SSLProtocolState.UNWRAPPED
DO_HANDSHAKE = sslproto.SSLProtocolState.DO_HANDSHAKE
WRAPPED = sslproto.SSLProtocolState.WRAPPED
FLUSHING = sslproto.SSLProtocolState.FLUSHING
SHUTDOWN = sslproto.SSLProtocolState.SHUTDOWN


cdef object session_of(object sslobj):
    """What an SSLObject wraps, whose methods only call those of the object inside; a subclass's own count."""
    return sslobj._sslobj if type(sslobj) is SSLObject else sslobj


cdef class TlsBytes(Receiver):
    """The part of asyncio's SSLProtocol that runs per record."""

    max_size = 0                       # asyncio's __init__ makes a buffer of so many bytes: see get_buffer

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    cdef int find_methods(self) except -1:
        session = session_of(self._sslobj)
        if session is not self._sslobj:
            self.decrypted = session.pending
        self.decrypt = session.read
        self.encrypt = session.write
        try:
            self.scratch = self._loop._tls_scratch
        except AttributeError:
            self.scratch = self._loop._tls_scratch = memoryview(bytearray(SCRATCH_BYTES))
        return 0

    def _set_app_protocol(self, app_protocol):
        self._app_protocol = app_protocol
        self.layered = isinstance(app_protocol, TlsBytes)
        self.buffered = not self.layered and isinstance(app_protocol, BufferedProtocol)

    # --- from the transport

    cdef int take(self, object data) except -1:
        self._incoming.write(data)
        if self._state is WRAPPED:
            return self.deliver()
        if self._state is DO_HANDSHAKE:
            self._do_handshake()
        elif self._state is FLUSHING:
            self._do_flush()
        elif self._state is SHUTDOWN:
            self._do_shutdown()
        return 0

    def get_buffer(self, sizehint):
        """The buffer that a transport which is not ringloop's writes to, made for the first that asks."""
        if not self._ssl_buffer:
            self._ssl_buffer = bytearray(SCRATCH_BYTES)
            self._ssl_buffer_view = memoryview(self._ssl_buffer)
        return self._ssl_buffer_view

    def buffer_updated(self, nbytes):
        """There is so much in the buffer."""
        self.take(self._ssl_buffer_view[:nbytes])

    def _do_read(self):
        self.deliver()

    cdef int deliver(self) except -1:
        """Gives the protocol what can be decrypted, and sends what that led to."""
        if self._state is not WRAPPED and self._state is not FLUSHING:
            return 0
        try:
            if not self._app_reading_paused:
                if self.decrypt is None:
                    self.find_methods()
                ended = self.deliver_into_buffer() if self.buffered else self.deliver_bytes()
                if ended:  # by close_notify
                    self._call_eof_received()
                    self._start_shutdown()
                if self._write_backlog:
                    self.write_backlog()
                else:
                    self.send_encrypted()
            self.control_transport()
        except Exception as exc:
            self._fatal_error(exc, "Fatal error on SSL protocol")
        return 0

    cdef bint has_more(self) except -1:
        """Whether an attempt to decrypt may give something. Saves an exception for most that would not."""
        return self.decrypted is None or self._incoming.pending or self.decrypted()

    cdef bint deliver_bytes(self) except -1:
        """Delivers all there is as one object. True if it ends there."""
        cdef Py_ssize_t size = self._incoming.pending + RECORD_BYTES_MAX, filled = 0, count = 1
        cdef PyObject *whole = NULL
        if not self.has_more():
            return False
        if size <= SCRATCH_BYTES:
            size = SCRATCH_BYTES
            view = self.scratch
        else:
            whole = PyBytes_FromStringAndSize(NULL, size)
            view = PyMemoryView_FromMemory(PyBytes_AS_STRING(<object> whole), size, PyBUF_WRITE)
        try:
            while filled < size:
                count = self.decrypt(size - filled, view[filled:] if filled else view)
                filled += count
                if not count or not self.has_more():
                    break
            else:
                self._loop.call_soon(self._do_read)
        except AGAIN:
            pass
        except BaseException:
            Py_XDECREF(whole)
            raise
        data = bytes(view[:filled]) if whole == NULL and filled else None
        view = None  # before its memory goes: the garbage collector shows it to everybody
        if whole != NULL and filled:
            _PyBytes_Resize(&whole, filled)
            data = <object> whole
        Py_XDECREF(whole)
        if filled:
            self.deliver_item(data)
        return count == 0

    cdef int deliver_item(self, object data) except -1:
        if self.layered:
            return (<TlsBytes> self._app_protocol).take(data)
        self._app_protocol.data_received(data)
        return 0

    cdef bint deliver_into_buffer(self) except -1:
        """Fills the protocol's buffer once. True if the stream ends there."""
        cdef Py_ssize_t size, filled = 0, count = 1
        target = self._app_protocol.get_buffer(self._incoming.pending)
        size = len(target)
        try:
            if self.has_more():
                view = memoryview(target)
                count = self.decrypt(size, view)
                filled = count
                while count and filled < size and self.has_more():
                    count = self.decrypt(size - filled, view[filled:])
                    filled += count
                if count and filled == size:
                    self._loop.call_soon(self._do_read)
        except AGAIN:
            pass
        # The buffer is the protocol's again: it may resize it.
        view = None
        if filled:
            self._app_protocol.buffer_updated(filled)
        return count == 0

    # --- from the protocol

    def _write_appdata(self, list_of_data):
        items = list(list_of_data)
        for item in items:
            if not isinstance(item, (bytes, bytearray, memoryview)):
                SSLProtocol._write_appdata(self, items)  # which says what is wrong
                return
        # One record, where it fits, instead of one for each.
        self.write_data(b"".join(items))

    cdef int write_data(self, object data) except -1:
        cdef Py_ssize_t length, done = 0
        if self._state is not WRAPPED and self._state is not DO_HANDSHAKE:
            # Closing or closed: counts, and says so in the log.
            SSLProtocol._write_appdata(self, (data,))
            return 0
        length = PyBytes_GET_SIZE(data) if PyBytes_CheckExact(data) else memoryview(data).nbytes
        try:
            if self._state is WRAPPED:
                if self._write_backlog:
                    self.write_backlog()
                if length and not self._write_backlog:
                    done = self.encrypt_some(data)
            if done < length:
                if done or not PyBytes_CheckExact(data):  # the caller may change it
                    data = bytes(memoryview(data).cast("B")[done:])
                self._write_backlog.append(data)
                self._write_buffer_size += length - done
            if self._state is WRAPPED:
                self.send_encrypted()
        except Exception as exc:
            self._fatal_error(exc, "Fatal error on SSL protocol")
        return 0

    def _do_write(self):
        self.write_backlog()

    cdef int write_backlog(self) except -1:
        cdef Py_ssize_t done, length
        while self._write_backlog:
            data = self._write_backlog[0]
            length = len(data)
            done = self.encrypt_some(data)
            self._write_buffer_size -= done
            if done < length:
                self._write_backlog[0] = data[done:]
                break
            self._write_backlog.popleft()
        return self.send_encrypted()

    cdef Py_ssize_t encrypt_some(self, object data) except -1:
        """Encrypts data, as much as OpenSSL takes now; how many bytes. It takes one record at a time."""
        cdef Py_ssize_t done = 0, length
        if self.encrypt is None:
            self.find_methods()
        try:
            done = self.encrypt(data)
            length = PyBytes_GET_SIZE(data) if PyBytes_CheckExact(data) else memoryview(data).nbytes
            if done < length:
                view = memoryview(data).cast("B")
                while done < length:
                    done += <Py_ssize_t> self.encrypt(view[done:])
        except AGAIN:
            pass
        return done

    def _process_outgoing(self):
        self.send_encrypted()

    cdef int send_encrypted(self) except -1:
        if not self._ssl_writing_paused:
            data = self._outgoing.read()
            if PyBytes_GET_SIZE(data):
                transport = self._transport
                if type(transport) is StreamTransport and (<StreamTransport> transport).is_plain_writer():
                    (<StreamTransport> transport).write_bytes(data)
                else:
                    transport.write(data)
        return self.control_protocol()

    # --- flow control

    def _control_app_writing(self):
        self.control_protocol()

    cdef int control_protocol(self) except -1:
        """Pauses or resumes the protocol's writing."""
        cdef Py_ssize_t size = self._write_buffer_size
        if self._ssl_writing_paused:
            size += self._outgoing.pending
        if self._app_writing_paused:
            if size > self._outgoing_low_water:
                return 0
            self._app_writing_paused = False
            name = "resume_writing"
        else:
            if size < self._outgoing_high_water:
                return 0
            self._app_writing_paused = True
            name = "pause_writing"
        try:
            getattr(self._app_protocol, name)()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            self._loop.call_exception_handler({
                "message": f"protocol.{name}() failed",
                "exception": exc,
                "transport": self._app_transport,
                "protocol": self,
            })
        return 0

    def _control_ssl_reading(self):
        self.control_transport()

    cdef int control_transport(self) except -1:
        """Pauses or resumes the transport's reading."""
        size = self._incoming.pending
        if self._ssl_reading_paused:
            if size <= self._incoming_low_water:
                self._ssl_reading_paused = False
                self._transport.resume_reading()
        elif size >= self._incoming_high_water:
            self._ssl_reading_paused = True
            self._transport.pause_reading()
        return 0


cdef class TlsWrites:
    """The part of asyncio's transport over TLS that runs per write. Without fields: it shares asyncio's."""

    def write(self, data):
        """Encrypts and sends data, bytes-like. What cannot be sent at once is queued."""
        protocol = self._ssl_protocol
        if not isinstance(protocol, TlsBytes) or not isinstance(data, (bytes, bytearray, memoryview)):
            return SSLTransport.write(self, data)  # which says what is wrong
        if data:
            (<TlsBytes> protocol).write_data(data)
