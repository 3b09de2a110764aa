"""What every transport is: a file, a protocol, and what of asyncio's transports is the same for all kinds.

Flow control: a protocol that writes is paused while too much of it is queued, as asyncio does.
"""

import warnings
from asyncio import futures
from asyncio.log import logger

from cpython.bytes cimport PyBytes_GET_SIZE


cdef enum:
    HIGH_WATER_BYTES = 64 * 1024       # asyncio's default

cdef object set_result_unless_cancelled = futures._set_result_unless_cancelled


cdef class Transport:
    """One file and its protocol. See asyncio.BaseTransport."""

    def __cinit__(self, *args):
        self.high_water_bytes = HIGH_WATER_BYTES
        self.low_water_bytes = HIGH_WATER_BYTES // 4

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    def __init__(self):
        raise TypeError(f"cannot create {type(self).__name__!r} instances")

    def __del__(self):
        if self.loop is None or self.is_closed():
            return
        try:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
        finally:
            self.close_fd()

    def __repr__(self):
        info = [type(self).__name__]
        if self.is_closed():
            info.append("closed")
        elif self.closing:
            info.append("closing")
        info.append(f"fd={self.fd}")
        info += self.activity()
        return f"<{' '.join(info)}>"

    cdef int open_fd(self) noexcept:
        """The fd for a system call: -1 if the file's owner has closed it under the transport."""
        return self.fd

    cdef list activity(self):
        """What is under way, for repr()."""
        raise NotImplementedError

    # --- life

    cdef int introduce(self, object start_reading, object waiter) except -1:
        """Has the protocol told of its transport in the next pass, and after that start_reading called."""
        self.loop.call_soon(self.protocol.connection_made, self, context=self.context)
        if start_reading is not None:
            self.loop.call_soon(start_reading)
        if waiter is not None:
            # After connection_made, and before anything is delivered.
            self.loop.call_soon(set_result_unless_cancelled, waiter, None)
        return 0

    cdef bint is_closed(self) noexcept:
        """Whether the file is closed."""
        return True

    cdef int close_fd(self) except -1:
        """Closes the file, which nothing in the kernel holds any more."""
        raise NotImplementedError

    cdef int lose_soon(self, object exc) except -1:
        """Has connection_lost(exc) called in the next pass. A forked child's copy of the loop has none."""
        if not self.loop.forked:
            self.loop.call_soon(self._call_connection_lost, exc, context=self.context)
        return 0

    def _call_connection_lost(self, exc):
        self.call_connection_lost(exc)

    cdef int call_connection_lost(self, object exc) except -1:
        raise NotImplementedError

    cdef int force_close(self, object exc) except -1:
        """Ends the transport; what is queued is lost. connection_lost(exc) is called in the next pass."""
        raise NotImplementedError

    cdef int fatal_error(self, object exc, str message) except -1:
        """Ends the transport with an error, which is reported unless it is one of the system's."""
        if not isinstance(exc, OSError):
            self.report(exc, message)
        elif self.loop._debug:
            logger.debug("%r: %s", self, message, exc_info=exc)
        return self.force_close(exc)

    cdef int report(self, object exc, str message) except -1:
        self.loop.call_exception_handler({
            "message": message,
            "exception": exc,
            "transport": self,
            "protocol": self.protocol,
        })
        return 0

    # --- asyncio.BaseTransport and asyncio.ReadTransport

    def get_extra_info(self, name, default=None):
        """Returns what is known of the transport, such as its 'socket' or 'pipe'; else `default`."""
        return self.extra.get(name, default)

    def is_closing(self):
        """Returns True if the transport is closing or closed."""
        return self.closing

    def set_protocol(self, protocol):
        """Gives what comes from now on to another protocol."""
        self.protocol = protocol

    def get_protocol(self):
        """Returns the protocol; None after connection_lost."""
        return self.protocol

    def is_reading(self):
        """Returns True if what comes is received and delivered."""
        return not self.closing and not self.paused

    def pause_reading(self):
        """Nothing is delivered until `resume_reading`. Doing so twice is no error."""
        if self.closing or self.paused:
            return
        self.paused = True
        self.stop_receiving()
        if self.loop._debug:
            logger.debug("%r pauses reading", self)

    def resume_reading(self):
        """Delivers again. Doing so twice is no error."""
        if self.closing or not self.paused:
            return
        self.paused = False
        self.go_on_receiving()
        if self.loop._debug:
            logger.debug("%r resumes reading", self)

    cdef int stop_receiving(self) except -1:
        raise NotImplementedError

    cdef int go_on_receiving(self) except -1:
        raise NotImplementedError

    # --- flow control

    cdef Py_ssize_t count_queued(self) except -1:
        """How many bytes wait to be sent."""
        raise NotImplementedError

    cdef int set_marks(self, object high, object low) except -1:
        if high is None:
            high = HIGH_WATER_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self.high_water_bytes = high
        self.low_water_bytes = low
        return 0

    cdef int pause_protocol_if_full(self) except -1:
        if self.protocol_paused or self.count_queued() <= self.high_water_bytes:
            return 0
        self.protocol_paused = True
        return self.tell_protocol("pause_writing")

    cdef int resume_protocol_if_drained(self) except -1:
        if not self.protocol_paused or self.count_queued() > self.low_water_bytes:
            return 0
        return self.resume_protocol()

    cdef int resume_protocol(self) except -1:
        if not self.protocol_paused:
            return 0
        self.protocol_paused = False
        return self.tell_protocol("resume_writing")

    cdef int tell_protocol(self, str name) except -1:
        """Calls the protocol's method of this name, which one that is no asyncio.Protocol may lack."""
        try:
            getattr(self.protocol, name)()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.report(exc, f"protocol.{name}() failed")
        return 0


cdef Py_ssize_t drop_front(object queue, Py_ssize_t count) except -1:
    """Takes `count` bytes off the front of a deque of bytes; how many of them are of what is first now."""
    cdef Py_ssize_t left
    while count:
        left = PyBytes_GET_SIZE(queue[0])
        if left > count:
            break
        count -= left
        queue.popleft()
    return count
