"""Readiness (`add_reader`, `add_writer`) and operations on sockets that are the caller's (`sock_*`).

The caller may use his socket at any time, so nothing here hands it to the kernel for a transfer: a
non-blocking call, a one-shot poll where that would block, and the call again. So nothing can be lost, and a
cancelled wait leaves no trace. A socket that its owner closes under a call stays open until the call ends.
"""

import os
import socket
from asyncio import base_events

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.errno cimport EAGAIN, errno
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset
from posix.unistd cimport close

from ringloop._core cimport LoopCore, Watch
from ringloop._flight cimport RL_CAN_HOLD_FILES, RL_OP_POLL_ADD, Operation, rl_sqe
from ringloop._callbacks cimport Handle, new_handle, trace_origin


cdef extern from "<poll.h>" nogil:
    enum: POLLIN, POLLOUT

cdef extern from "<fcntl.h>" nogil:
    enum: F_DUPFD_CLOEXEC
    int fcntl(int fd, int command, ...)

cdef extern from "<sys/socket.h>" nogil:
    enum: MSG_DONTWAIT, MSG_NOSIGNAL
    Py_ssize_t recv(int fd, void *buffer, size_t length, int flags)
    Py_ssize_t send(int fd, const void *buffer, size_t length, int flags)

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef struct epoll_event "struct epoll_event":
        uint32_t events
    enum: EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN
    int epoll_create1(int flags)
    int epoll_ctl(int epoll_fd, int operation, int fd, epoll_event *event)

cdef extern from "<sys/stat.h>" nogil:
    ctypedef struct stat_buffer "struct stat":
        unsigned int st_mode
    int fstat(int fd, stat_buffer *buffer)
    bint S_ISSOCK(unsigned int mode)
    bint S_ISFIFO(unsigned int mode)

cdef object Socket = socket.socket
cdef object fileno_of = socket.SocketType.fileno

cdef extern from "Python.h":
    PyObject *PyBytes_FromStringAndSize(const char *bytes, Py_ssize_t size)
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t size) except -1


cdef object os_error():
    return OSError(errno, os.strerror(errno))


cdef int number_of(object file) except? -1:
    """As asyncio: a number, or what something with a fileno() has for one."""
    if isinstance(file, int):
        return file
    try:
        return int(file.fileno())
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"Invalid file object: {file!r}") from None


cdef int fd_of(object file) except -1:
    """As selectors: a number that can be an fd's."""
    cdef int fd = number_of(file)
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return fd


cdef int fd_now(object sock, int fd) noexcept:
    """The number that a socket object has now: -1 if its owner closed or detached it.

    `fd` is what it had, which then may be another file's. The answer for what is no socket, but like one.
    """
    try:
        return fileno_of(sock)
    except TypeError:
        return fd


cdef int check_pollable(int fd) except -1:
    """Raises what epoll would: PermissionError for a regular file, OSError for a bad fd.

    io_uring polls anything, and answers "ready" for what cannot be polled. What is neither a socket nor a
    pipe is shown to an epoll of its own, which alone knows.
    """
    cdef stat_buffer status
    cdef epoll_event event
    cdef int epoll_fd, result
    if fstat(fd, &status) < 0:
        raise os_error()
    if S_ISSOCK(status.st_mode) or S_ISFIFO(status.st_mode):
        return 0
    epoll_fd = epoll_create1(EPOLL_CLOEXEC)
    if epoll_fd < 0:
        raise os_error()
    memset(&event, 0, sizeof(event))
    event.events = EPOLLIN
    result = epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)
    error = os_error() if result < 0 else None
    close(epoll_fd)
    if error is not None:
        raise error
    return 0


cdef object try_recv(int fd, Py_ssize_t size):
    """The bytes that are there, received straight into the object returned; None if that would block."""
    cdef PyObject *chunk
    cdef Py_ssize_t count
    if size < 0:
        raise ValueError("negative buffersize in recv")
    if size == 0:
        return b""  # as a socket's recv(), which asks nobody: the kernel would wait, or take a datagram
    # A bare pointer: only an object with a single reference can be cut.
    chunk = PyBytes_FromStringAndSize(NULL, size)
    if chunk == NULL:
        raise MemoryError
    count = recv(fd, PyBytes_AS_STRING(<object> chunk), size, MSG_DONTWAIT)
    if count < 0:
        Py_DECREF(<object> chunk)
        if errno == EAGAIN:
            return None
        raise os_error()
    if count < size:
        _PyBytes_Resize(&chunk, count)
    data = <object> chunk
    Py_DECREF(data)
    return data


@cython.final
cdef class ReadyWait(Operation):
    """The waits of one call for its socket to be ready. Begins when the call would block, ends with the call.

    Meanwhile the socket counts it among its users, as it counts the files of makefile(), and a close() takes
    effect when the last of them is gone. So the call ends by what happens on the connection, and never reads
    from another file of that number, and the peer hears of the close: an armed poll would keep it from that.
    """

    def __cinit__(self, Sockets loop, sock, uint32_t events):
        self.loop = loop
        self.events = events
        self.sock = sock
        self.held_fd = -1
        self.counts = issubclass(type(sock), Socket)  # isinstance() believes a mock of one
        if self.counts:
            sock._io_refs += 1
        loop.waits.add(self)

    cdef object begin(self, int fd):
        """Arms the poll; a future that is done when the socket is ready."""
        cdef Sockets loop = <Sockets> self.loop
        loop.refuse_owned(fd, fd)
        if not loop.driver.capabilities & RL_CAN_HOLD_FILES and self.held_fd < 0:
            # Somebody may close the number: then this keeps the file open. With no fd left, nothing does.
            self.held_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)
        self.fd = fd if self.held_fd < 0 else self.held_fd
        self.future = loop.create_future()
        loop.submit(self)
        return self.future

    cdef int end(self) except -1:
        """The poll is over when this returns, also if the call was cancelled, and the socket its owner's."""
        self.loop.cancel_at_once(self)
        return self.let_go()

    cdef int let_go(self) except -1:
        """More than once is no error: the loop may be closed under the call."""
        sock, self.sock = self.sock, None
        if sock is None:
            return 0
        (<Sockets> self.loop).waits.discard(self)
        if self.held_fd >= 0:
            close(self.held_fd)
        if self.counts:
            sock._decref_socketios()
        return 0

    cdef void prepare(self, rl_sqe *sqe) noexcept:
        sqe.opcode = RL_OP_POLL_ADD
        sqe.fd = self.fd
        sqe.op_flags = self.events

    cdef int complete(self, int64_t result, uint32_t flags, object payload) except -1:
        # Whatever the poll says, an error included: the call that follows tells it better.
        if not self.future.done():
            self.future.set_result(None)
        return 0


cdef class Sockets(LoopCore):
    """The loop's methods on readiness and on sockets of the caller."""

    def __cinit__(self, *args, **kwargs):
        self.readers = {}
        self.writers = {}
        self.waits = set()

    def __dealloc__(self):
        free(self.owners)

    def _close_core(self):
        LoopCore._close_core(self)
        self.readers.clear()
        self.writers.clear()
        self.abandon_waits()

    def _forget_after_fork(self):
        LoopCore._forget_after_fork(self)
        self.abandon_waits()

    cdef int abandon_waits(self) except -1:
        """The calls under way will never end: from here on their sockets are the callers' alone."""
        for wait in list(self.waits):
            sock = (<ReadyWait> wait).sock
            try:
                (<ReadyWait> wait).let_go()
            except OSError as exc:
                # Of the close() that was put off, whose caller is long gone.
                self.call_exception_handler({
                    "message": "closing a socket failed", "exception": exc, "socket": sock})
        return 0

    # --- which transport owns an fd

    cdef int claim_fd(self, int fd, object transport) except -1:
        cdef void **owners
        cdef int size = self.owners_size
        if fd < 0:
            # Of a socket that is closed.
            raise ValueError(f"Invalid file descriptor: {fd}")
        if fd >= size:
            size = max(64, 2 * fd)
            owners = <void **> realloc(self.owners, size * sizeof(void *))
            if owners == NULL:
                raise MemoryError
            memset(owners + self.owners_size, 0, (size - self.owners_size) * sizeof(void *))
            self.owners = owners
            self.owners_size = size
        self.owners[fd] = <void *> transport
        return 0

    cdef void release_fd(self, int fd, object transport) noexcept:
        if 0 <= fd < self.owners_size and self.owners[fd] == <void *> transport:
            self.owners[fd] = NULL

    cdef object transport_of(self, int fd):
        if 0 <= fd < self.owners_size and self.owners[fd] != NULL:
            return <object> self.owners[fd]
        return None

    cdef int refuse_owned(self, object file, int fd) except -1:
        transport = self.transport_of(fd)
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {file!r} is used by transport {transport!r}")
        return 0

    # --- readiness

    cdef int watched_fd(self, object file) except -1:
        """As selectors: its number; of an object that has none any more, the one that it is watched by."""
        try:
            return fd_of(file)
        except ValueError:
            for watches in (self.readers, self.writers):
                for fd, watch in watches.items():
                    if file is not None and (<Watch> watch).file is file:
                        return fd
            raise

    cdef Watch watch(self, dict watches, object file, uint32_t events, object callback, tuple args):
        cdef int fd = self.watched_fd(file)
        cdef Watch watch = watches.get(fd)
        cdef Handle handle = new_handle(self, callback, args, None)
        if self._debug:
            trace_origin(handle)
        if watch is not None and watch.file is not file and watch.is_gone():
            # Another file has its number.
            self.unwatch(watches, fd)
            watch = None
        if watch is not None:
            watch.handle.cancel()
            watch.hold(handle)
            return watch
        check_pollable(fd)
        watch = Watch(self, fd, events, handle)
        watch.name(file)
        watch.start()
        watches[fd] = watch
        return watch

    cdef bint unwatch(self, dict watches, int fd) except -1:
        cdef Watch watch = watches.pop(fd, None)
        if watch is None:
            return False
        watch.handle.cancel()
        watch.end()
        return True

    def _add_reader(self, file, callback, *args):
        self._check_closed()
        return self.watch(self.readers, file, POLLIN, callback, args).handle

    def _remove_reader(self, file):
        return not self._closed and self.unwatch(self.readers, self.watched_fd(file))

    def _add_writer(self, file, callback, *args):
        self._check_closed()
        return self.watch(self.writers, file, POLLOUT, callback, args).handle

    def _remove_writer(self, file):
        return not self._closed and self.unwatch(self.writers, self.watched_fd(file))

    def add_reader(self, fd, callback, *args):
        """Runs callback(*args) in every pass in which fd, a number or a file, is readable."""
        self.refuse_owned(fd, number_of(fd))
        self._add_reader(fd, callback, *args)

    def remove_reader(self, fd):
        """Ends `add_reader` for fd, at once. Returns whether there was one."""
        self.refuse_owned(fd, number_of(fd))
        return self._remove_reader(fd)

    def add_writer(self, fd, callback, *args):
        """Runs callback(*args) in every pass in which fd, a number or a file, is writable."""
        self.refuse_owned(fd, number_of(fd))
        self._add_writer(fd, callback, *args)

    def remove_writer(self, fd):
        """Ends `add_writer` for fd, at once. Returns whether there was one."""
        self.refuse_owned(fd, number_of(fd))
        return self._remove_writer(fd)

    # --- sockets of the caller

    cdef int checked_socket(self, object sock) except? -1:
        base_events._check_ssl_socket(sock)
        if self._debug and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        return sock.fileno()

    async def sock_recv(self, sock, n):
        """Receives up to n bytes from a non-blocking socket; b"" is the end of the stream."""
        cdef ReadyWait wait
        cdef int fd = self.checked_socket(sock)
        data = try_recv(fd, n)
        if data is None:
            wait = ReadyWait(self, sock, POLLIN)
            try:
                while data is None:
                    await wait.begin(fd)
                    fd = sock.fileno()
                    data = try_recv(fd, n)
            finally:
                wait.end()
        return data

    async def sock_recv_into(self, sock, buf):
        """Receives into a writable buffer; returns how many bytes."""
        cdef ReadyWait wait
        cdef int fd = self.checked_socket(sock)
        cdef Py_ssize_t count
        count = try_recv_into(fd, buf)
        if count < 0:
            wait = ReadyWait(self, sock, POLLIN)
            try:
                while count < 0:
                    await wait.begin(fd)
                    fd = sock.fileno()
                    count = try_recv_into(fd, buf)
            finally:
                wait.end()
        return count

    async def sock_sendall(self, sock, data):
        """Sends all of data. After an error there is no telling how much of it went out."""
        cdef ReadyWait wait
        cdef int fd = self.checked_socket(sock)
        cdef Py_ssize_t length = buffer_length(data)
        cdef Py_ssize_t sent = try_send(fd, data, 0)
        if sent < length:
            # Until the call ends nobody can resize what it sends.
            data = memoryview(data)
            length = data.nbytes
            wait = ReadyWait(self, sock, POLLOUT)
            try:
                while sent < length:
                    await wait.begin(fd)
                    fd = sock.fileno()
                    sent += try_send(fd, data, sent)
            finally:
                wait.end()
                data.release()

    async def _call_when_ready(self, sock, uint32_t events, method, *args):
        """Calls the socket's method of this name, again whenever it is ready, until that does not block."""
        cdef ReadyWait wait = None
        self.checked_socket(sock)
        try:
            while True:
                try:
                    return getattr(sock, method)(*args)
                except (BlockingIOError, InterruptedError):
                    pass
                if wait is None:
                    wait = ReadyWait(self, sock, events)
                await wait.begin(sock.fileno())
        finally:
            if wait is not None:
                wait.end()

    async def sock_recvfrom(self, sock, bufsize):
        """Receives a datagram of up to bufsize bytes; returns it and its sender's address."""
        return await self._call_when_ready(sock, POLLIN, "recvfrom", bufsize)

    async def sock_recvfrom_into(self, sock, buf, nbytes=0):
        """Receives a datagram into a writable buffer; returns its length and its sender's address."""
        return await self._call_when_ready(sock, POLLIN, "recvfrom_into", buf, nbytes or len(buf))

    async def sock_sendto(self, sock, data, address):
        """Sends a datagram to address; returns how many bytes went out."""
        return await self._call_when_ready(sock, POLLOUT, "sendto", data, address)

    async def sock_accept(self, sock):
        """Accepts a connection on a listening socket; returns its non-blocking socket and its address."""
        connection, address = await self._call_when_ready(sock, POLLIN, "accept")
        connection.setblocking(False)
        return connection, address

    async def sock_connect(self, sock, address):
        """Connects a socket to an address, which is resolved first if it is of the Internet."""
        self.checked_socket(sock)
        cdef ReadyWait wait = ReadyWait(self, sock, POLLOUT)
        try:
            if sock.family == socket.AF_INET or sock.family == socket.AF_INET6:
                resolved = await self._ensure_resolved(
                    address, family=sock.family, type=sock.type, proto=sock.proto, loop=self)
                address = resolved[0][4]
            try:
                sock.connect(address)
                return
            except (BlockingIOError, InterruptedError):
                if sock.family == socket.AF_UNIX:
                    return await self._connect_blocking(sock, address)
            await wait.begin(sock.fileno())
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error != 0:
                raise OSError(error, f"Connect call failed {address}")
        finally:
            wait.end()


cdef int get_writable(object target, Py_buffer *view) except -1:
    """Gets the buffer of what is to be received into; raises what socket.recv_into() does if it has none."""
    try:
        return PyObject_GetBuffer(target, view, PyBUF_WRITABLE)
    except (BufferError, TypeError):
        raise TypeError(
            "recv_into() argument 1 must be read-write bytes-like object, "
            f"not {type(target).__name__}") from None


cdef Py_ssize_t try_recv_into(int fd, object target) except -2:
    """How many bytes were received, or -1 if that would block. An empty target asks nobody."""
    cdef Py_buffer view
    cdef Py_ssize_t count
    get_writable(target, &view)
    count = recv(fd, view.buf, view.len, MSG_DONTWAIT) if view.len else 0
    PyBuffer_Release(&view)
    if count < 0:
        if errno == EAGAIN:
            return -1
        raise os_error()
    return count


cdef Py_ssize_t buffer_length(object data) except -1:
    cdef Py_buffer view
    cdef Py_ssize_t length
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    length = view.len
    PyBuffer_Release(&view)
    return length


cdef Py_ssize_t try_send(int fd, object data, Py_ssize_t offset) except -1:
    """How many of the bytes from offset on went out; 0 if that would block."""
    cdef Py_buffer view
    cdef Py_ssize_t count
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    if offset > view.len:
        PyBuffer_Release(&view)
        raise BufferError("the buffer was shortened while it was sent")
    count = send(fd, <char *> view.buf + offset, view.len - offset, MSG_DONTWAIT | MSG_NOSIGNAL)
    PyBuffer_Release(&view)
    if count < 0:
        if errno == EAGAIN:
            return 0
        raise os_error()
    return count
