# What is hot of TLS: the bytes between a transport and a protocol. See _tls.pyx.

from ringloop._stream cimport Receiver


# asyncio.sslproto's: its class, errors that mean "not now", and the states of a connection.
cdef object SSLProtocol
cdef object AGAIN
cdef object UNWRAPPED
cdef object DO_HANDSHAKE
cdef object WRAPPED
cdef object FLUSHING
cdef object SHUTDOWN


cdef class TlsBytes(Receiver):
    # As asyncio.sslproto.SSLProtocol names and uses them; it is what makes, changes and clears them.
    cdef public object _loop
    cdef public object _state
    cdef public object _transport      # below; None before and after the connection
    cdef public object _app_protocol
    cdef public object _app_transport
    cdef public object _sslobj
    cdef public object _incoming       # ssl.MemoryBIO: received, encrypted
    cdef public object _outgoing       # ssl.MemoryBIO: to be sent, encrypted
    cdef public object _write_backlog  # deque of what is not encrypted yet
    cdef public Py_ssize_t _write_buffer_size
    cdef public bint _ssl_writing_paused
    cdef public bint _ssl_reading_paused
    cdef public bint _app_reading_paused
    cdef public bint _app_writing_paused
    cdef public object _incoming_high_water
    cdef public object _incoming_low_water
    cdef public object _outgoing_high_water
    cdef public object _outgoing_low_water
    cdef public object _ssl_buffer
    cdef public object _ssl_buffer_view

    cdef object scratch                # memoryview, the loop's
    cdef object decrypt                # read, write and pending of the ssl module's object;
    cdef object encrypt
    cdef object decrypted              # None if reading until it has no more is the only way to know
    cdef bint buffered                 # the protocol wants bytes in its own buffers
    cdef bint layered                  # the protocol is TLS once more

    cdef int find_methods(self) except -1
    cdef bint has_more(self) except -1
    cdef int deliver(self) except -1
    cdef bint deliver_bytes(self) except -1
    cdef bint deliver_into_buffer(self) except -1
    cdef int deliver_item(self, object data) except -1
    cdef int write_data(self, object data) except -1
    cdef int write_backlog(self) except -1
    cdef Py_ssize_t encrypt_some(self, object data) except -1
    cdef int send_encrypted(self) except -1
    cdef int control_protocol(self) except -1
    cdef int control_transport(self) except -1


cdef class TlsWrites:
    pass


cdef object session_of(object sslobj)
