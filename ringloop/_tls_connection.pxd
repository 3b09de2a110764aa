# What is frequent of TLS once a connection: its handshake and its end. See _tls_connection.pyx.

from ringloop._tls cimport TlsBytes


cdef class TlsConnection(TlsBytes):
    # As asyncio.sslproto.SSLProtocol names and uses them, like those of TlsBytes.
    cdef public object _app_state
    cdef public object _waiter
    cdef public object _extra
    cdef public object _sslcontext
    cdef public object _server_hostname
    cdef public object _server_side
    cdef public object _ssl_handshake_timeout
    cdef public object _ssl_shutdown_timeout
    cdef public object _handshake_start_time
    cdef public object _handshake_timeout_handle
    cdef public object _shutdown_timeout_handle
    cdef public bint _app_transport_created
    cdef public bint _eof_received
    cdef public int _conn_lost         # with writes after the end counted
    cdef public object _lost_transport  # after connection_lost: it still knows the addresses

    cdef object session                # of the ssl module: what `_sslobj` wraps, if that is not a subclass

    cdef int fill(
        self, object loop, object app_protocol, object sslcontext, object waiter, object server_side,
        object server_hostname, bint call_connection_made, object handshake_timeout,
        object shutdown_timeout) except -1
    cdef int set_state(self, object state) except -1
    cdef int handshake(self) except -1
    cdef int handshake_succeeded(self) except -1
    cdef int flush(self) except -1
    cdef int shut_down(self) except -1
