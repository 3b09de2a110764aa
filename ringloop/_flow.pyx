"""Flow control: a protocol that writes is paused while too much of it is queued, as asyncio does.

What every transport has that queues: the marks, whom to tell, and how an error of a protocol is reported.
"""


cdef enum:
    HIGH_WATER_BYTES = 64 * 1024       # asyncio's default


cdef class FlowControl:
    """A transport, as far as its protocol's writing is paused and resumed."""

    cdef Py_ssize_t count_queued(self) except -1:
        """How many bytes wait to be sent."""
        raise NotImplementedError

    cdef int begin_flow(self) except -1:
        self.high_water_bytes = HIGH_WATER_BYTES
        self.low_water_bytes = HIGH_WATER_BYTES // 4
        return 0

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
        return self.tell_protocol(self.protocol.pause_writing, "protocol.pause_writing() failed")

    cdef int resume_protocol_if_drained(self) except -1:
        if not self.protocol_paused or self.count_queued() > self.low_water_bytes:
            return 0
        return self.resume_protocol()

    cdef int resume_protocol(self) except -1:
        if not self.protocol_paused:
            return 0
        self.protocol_paused = False
        return self.tell_protocol(self.protocol.resume_writing, "protocol.resume_writing() failed")

    cdef int tell_protocol(self, object method, str message) except -1:
        try:
            method()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.report(exc, message)
        return 0

    cdef int report(self, object exc, str message) except -1:
        self.loop.call_exception_handler({
            "message": message,
            "exception": exc,
            "transport": self,
            "protocol": self.protocol,
        })
        return 0
