"""Handles: a callback, its arguments and the context it runs in.

The loop makes them and runs them, users cancel them. They have the attributes, texts and comparisons of
asyncio's own, which debuggers and test suites look at. A handle that was cancelled holds nothing any more.
"""

import sys
from asyncio import events as asyncio_events
from asyncio import format_helpers

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE


cdef extern from "Python.h":
    enum: PY_VECTORCALL_ARGUMENTS_OFFSET
    object PyObject_Vectorcall(object callable, PyObject *const *args, size_t nargsf, PyObject *kwnames)
    object PyObject_CallObject(object callable, object args)

cdef enum: STACK_SLOTS = 5

cdef bint SOURCE_TAKES_DEBUG = sys.version_info >= (3, 13)
cdef object ASYNCIO_HANDLE = asyncio_events.Handle
cdef object ASYNCIO_TIMER_HANDLE = asyncio_events.TimerHandle


cdef object describe_callback(Handle handle):
    if SOURCE_TAKES_DEBUG:
        return format_helpers._format_callback_source(
            handle._callback, handle._args, debug=handle._loop.get_debug())
    return format_helpers._format_callback_source(handle._callback, handle._args)


cdef object call(object callback, tuple args):
    # One slot before the arguments is ours to lend, so that calling a bound method moves nothing.
    cdef PyObject *stack[STACK_SLOTS]
    cdef Py_ssize_t count = PyTuple_GET_SIZE(args), index
    if count >= STACK_SLOTS:
        return PyObject_CallObject(callback, args)
    stack[0] = NULL
    for index in range(count):
        stack[index + 1] = PyTuple_GET_ITEM(args, index)
    return PyObject_Vectorcall(callback, &stack[1], <size_t> count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)


cdef int report(Handle handle, object exc) except -1:
    # The exception handler may keep it.
    show_to_collector(handle)
    context = {
        "message": f"Exception in callback {describe_callback(handle)}",
        "exception": exc,
        "handle": handle,
    }
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    handle._loop.call_exception_handler(context)
    return 0


cdef int run_handle(Handle handle) except -1:
    """Calls the callback in its context. Only SystemExit and KeyboardInterrupt come out."""
    context = handle._context
    try:
        if PyContext_CheckExact(context):
            PyContext_Enter(context)
            try:
                call(handle._callback, handle._args)
            finally:
                PyContext_Exit(context)
        else:
            # What tracing tools put in a context's place.
            context.run(handle._callback, *handle._args)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        report(handle, exc)
    return 0


cdef void trace_origin(Handle handle):
    """In debug mode: remembers who asked for the callback. Cython code has no frame, so the top one is theirs."""
    handle._source_traceback = format_helpers.extract_stack(sys._getframe(0))


cdef Handle new_handle(object loop, object callback, tuple args, object context):
    cdef Handle handle = Handle.__new__(Handle)
    handle._callback = callback
    handle._args = args
    handle._loop = loop
    handle._context = PyContext_CopyCurrent() if context is None else context
    return handle


cdef TimerHandle new_timer(
    object loop, rl_timers *heap, object when, object callback, tuple args, object context
):
    """A timer that is in the heap already. The heap owns one reference to it."""
    cdef double when_seconds = when
    cdef TimerHandle handle = TimerHandle.__new__(TimerHandle)
    handle._callback = callback
    handle._args = args
    handle._loop = loop
    handle._context = PyContext_CopyCurrent() if context is None else context
    handle._when = when
    handle.heap = heap
    handle.timer.owner = <void *> handle
    if not rl_timers_add(heap, &handle.timer, when_seconds):
        raise MemoryError
    Py_INCREF(handle)
    hide_from_collector(handle)
    return handle


@cython.freelist(1024)
cdef class Handle:
    """What `call_soon` returns: a callback that will run once, unless it is cancelled before."""

    @property
    def __class__(self):
        return ASYNCIO_HANDLE

    def __reduce__(self):
        raise TypeError("cannot pickle 'Handle' object")

    def _repr_info(self):
        info = [type(self).__name__]
        if self._cancelled:
            info.append("cancelled")
        if self._callback is not None:
            info.append(describe_callback(self))
        if self._source_traceback:
            frame = self._source_traceback[len(self._source_traceback) - 1]
            info.append(f"created at {frame[0]}:{frame[1]}")
        return info

    def __repr__(self):
        if self._repr is not None:
            return self._repr
        return f"<{' '.join(self._repr_info())}>"

    def get_context(self):
        """Returns the contextvars.Context that the callback runs in."""
        return self._context

    def cancel(self):
        """Cancels the callback: it will not run. Doing so twice, or too late, is no error."""
        cancel(self)

    def cancelled(self):
        """Returns True if the callback was cancelled."""
        return self._cancelled

    def _run(self):
        run_handle(self)


cdef int cancel(Handle handle) except -1:
    if handle._cancelled:
        return 0
    handle._cancelled = True
    if handle._loop.get_debug():
        # The text stays, for a message about a slow callback that cancelled itself.
        handle._repr = repr(handle)
    handle._callback = None
    handle._args = None
    return 0


cdef class TimerHandle(Handle):
    """What `call_later` and `call_at` return: a callback with a deadline on the loop's clock."""

    @property
    def __class__(self):
        return ASYNCIO_TIMER_HANDLE

    @property
    def _scheduled(self):
        return self.timer.place != 0

    def _repr_info(self):
        info = Handle._repr_info(self)
        info.insert(2 if self._cancelled else 1, f"when={self._when}")
        return info

    def when(self):
        """Returns the deadline in seconds, on the clock of `loop.time()`."""
        return self._when

    def cancel(self):
        """Cancels the callback and forgets its deadline. Doing so twice, or too late, is no error."""
        cancel(self)
        if self.timer.place != 0:
            rl_timers_remove(self.heap, &self.timer)
            Py_DECREF(self)
            show_to_collector(self)

    def __hash__(self):
        return hash(self._when)

    def __lt__(self, other):
        if isinstance(other, TimerHandle):
            return self._when < other._when
        return NotImplemented

    def __le__(self, other):
        if isinstance(other, TimerHandle):
            return self._when < other._when or self == other
        return NotImplemented

    def __gt__(self, other):
        if isinstance(other, TimerHandle):
            return self._when > other._when
        return NotImplemented

    def __ge__(self, other):
        if isinstance(other, TimerHandle):
            return self._when > other._when or self == other
        return NotImplemented

    def __eq__(self, other):
        if isinstance(other, TimerHandle):
            return (
                self._when == other._when
                and self._callback == other._callback
                and self._args == other._args
                and self._cancelled == other._cancelled
            )
        return NotImplemented
