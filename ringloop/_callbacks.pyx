"""Callbacks: handles, the queue of those that are ready, and the timers.

Handles have the attributes, texts and comparisons of asyncio's own, which debuggers and test suites look at.
One that was cancelled holds nothing any more. The queue and the heap of timers are C structures that hold a
reference to each handle in them; pushing runs no Python code, so that a callback may be registered from a
destructor, a signal handler or inside the garbage collector.
"""

import sys
import threading
from asyncio import base_events
from asyncio import events as asyncio_events
from asyncio import format_helpers, futures, tasks

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport INFINITY, ceil
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE


cdef extern from "Python.h":
    enum: PY_VECTORCALL_ARGUMENTS_OFFSET
    object PyObject_Vectorcall(object callable, PyObject *const *args, size_t nargsf, PyObject *kwnames)
    object PyObject_CallObject(object callable, object args)

cdef enum:
    STACK_SLOTS = 5
    SPARE_HANDLES = 1024

# Handles that ran, blank, hidden from the collector. The array owns them. To make one costs thrice as much.
cdef void *spare_handles[SPARE_HANDLES]
cdef int spare_count = 0

cdef bint HAS_THREAD_SAFE_HANDLES = hasattr(asyncio_events, "_ThreadSafeHandle")
cdef bint SOURCE_TAKES_DEBUG = sys.version_info >= (3, 13)
cdef object ASYNCIO_HANDLE = asyncio_events.Handle
cdef object ASYNCIO_TIMER_HANDLE = asyncio_events.TimerHandle
cdef object ASYNCIO_THREAD_SAFE_HANDLE = getattr(asyncio_events, "_ThreadSafeHandle", ASYNCIO_HANDLE)
cdef object RLock = threading.RLock
cdef object base_create_task = base_events.BaseEventLoop.create_task

# As asyncio: a wait of more than a day is cut there.
cdef double WAIT_SECONDS_MAX = 24 * 3600.0
cdef double CLOCK_RESOLUTION = 1e-9


cdef class _ThreadSafeHandle(Handle)


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


cdef int call_handle(Handle handle) except -1:
    """Calls the callback in its context. Whatever it raises comes out."""
    if type(handle) is not _ThreadSafeHandle:
        return call_in_context(handle)
    lock = (<_ThreadSafeHandle> handle).lock
    with lock:
        # It may have been cancelled since whoever runs it looked.
        if not handle._cancelled:
            call_in_context(handle)
    return 0


cdef inline int call_in_context(Handle handle) except -1:
    context = handle._context
    if PyContext_CheckExact(context):
        PyContext_Enter(context)
        try:
            call(handle._callback, handle._args)
        finally:
            PyContext_Exit(context)
    else:
        # What tracing tools put in a context's place.
        context.run(handle._callback, *handle._args)
    return 0


cdef int run_handle(Handle handle) except -1:
    """Calls the callback in its context. Only SystemExit and KeyboardInterrupt come out."""
    try:
        call_handle(handle)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        report(handle, exc)
    return 0


cdef void trace_origin(Handle handle):
    """In debug mode: remembers who asked for the callback. Cython has no frames: the top one is theirs."""
    handle._source_traceback = format_helpers.extract_stack(sys._getframe(0))


cdef inline void fill_handle(
    Handle handle, Callbacks loop, object callback, tuple args, object context
):
    handle._callback = callback
    handle._args = args
    handle._loop = loop
    handle._context = PyContext_CopyCurrent() if context is None else context


cdef Handle new_handle(Callbacks loop, object callback, tuple args, object context):
    """A handle that the garbage collector does not see."""
    global spare_count
    cdef Handle handle
    if spare_count:
        spare_count -= 1
        handle = <Handle> spare_handles[spare_count]
        Py_DECREF(handle)
    else:
        handle = Handle.__new__(Handle)
        hide_from_collector(handle)
    fill_handle(handle, loop, callback, args, context)
    return handle


cdef void retire(void *item) noexcept:
    """Takes the queue's reference to a handle that ran; keeps it, blank, if nobody else has it."""
    global spare_count
    if (
        Py_REFCNT(<PyObject *> item) > 1 or spare_count == SPARE_HANDLES
        or Py_TYPE(<PyObject *> item) != HANDLE_TYPE or (<Handle> item)._cancelled
        or (<Handle> item)._source_traceback is not None
        or (<void **> (<char *> item + HANDLE_TYPE.tp_weaklistoffset))[0] != NULL
    ):
        show_to_collector(<Handle> item)
        Py_DECREF(<object> item)
        return
    # Dropped last: their destructors may run any code, which may take this very handle.
    callback, args = (<Handle> item)._callback, (<Handle> item)._args
    context, loop = (<Handle> item)._context, (<Handle> item)._loop
    (<Handle> item)._callback = (<Handle> item)._args = (<Handle> item)._context = None
    (<Handle> item)._loop = None
    spare_handles[spare_count] = item
    spare_count += 1
    del callback, args, context, loop


cdef inline int push(rl_ready_queue *ready, Handle handle) except -1:
    cdef rl_ready_entry *entry
    if not rl_ready_reserve(ready):
        raise MemoryError
    entry = rl_ready_next(ready)
    entry.object = <void *> handle
    entry.payload = NULL
    entry.kind = RL_READY_HANDLE
    Py_INCREF(handle)
    return 0


cdef TimerHandle new_timer(
    Callbacks loop, rl_timers *heap, object when, object callback, tuple args, object context
):
    """A timer that is in the heap already. The heap owns one reference to it."""
    cdef double when_seconds = when
    if when_seconds != when_seconds:
        # Not a number: due at once, as in asyncio. In the heap it would be neither due nor behind another.
        when_seconds = -INFINITY
    cdef TimerHandle handle = TimerHandle.__new__(TimerHandle)
    fill_handle(handle, loop, callback, args, context)
    handle._when = when
    handle.heap = heap
    handle.timer.owner = <void *> handle
    if not rl_timers_add(heap, &handle.timer, when_seconds):
        raise MemoryError
    Py_INCREF(handle)
    hide_from_collector(handle)
    return handle


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


cdef PyTypeObject *HANDLE_TYPE = <PyTypeObject *> Handle


cdef int cancel(Handle handle) except -1:
    if handle._cancelled:
        return 0
    handle._cancelled = True
    if handle._loop._debug:
        # The text stays, for a message about a slow callback that cancelled itself.
        handle._repr = repr(handle)
    handle._callback = None
    handle._args = None
    return 0


cdef class _ThreadSafeHandle(Handle):
    """What `call_soon_threadsafe` returns from Python 3.14 on.

    Under the GIL any handle is thread-safe. But while this one's callback runs, what other threads ask of it
    waits for the end: after cancel() the callback does not run any more.
    """

    cdef object lock

    def __cinit__(self):
        self.lock = RLock()

    @property
    def __class__(self):
        return ASYNCIO_THREAD_SAFE_HANDLE

    def cancel(self):
        """Cancels the callback: it will not run. Doing so twice, or too late, is no error."""
        with self.lock:
            cancel(self)

    def cancelled(self):
        """Returns True if the callback was cancelled."""
        with self.lock:
            return self._cancelled


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


cdef class Callbacks:
    """The part of the loop that registers callbacks, and finds out which are due."""

    def __dealloc__(self):
        rl_timers_free(&self.timers)
        rl_ready_free(&self.ready)

    cdef int wake(self) except -1:
        """Ends the wait of a loop that is asleep. Any thread, under the GIL."""
        raise NotImplementedError

    def time(self):
        """Returns the loop's clock in seconds: CLOCK_MONOTONIC, as `time.monotonic()`."""
        cdef timespec now
        clock_gettime(CLOCK_MONOTONIC, &now)
        return <double> now.tv_sec + <double> now.tv_nsec * 1e-9

    def call_soon(self, callback, *args, context=None):
        """Runs callback(*args) in the next pass, after what is queued already; returns its Handle."""
        if self._closed:
            self._check_closed()
        cdef Handle handle = new_handle(self, callback, args, context)
        if self._debug:
            self._check_thread()
            self._check_callback(callback, "call_soon")
            trace_origin(handle)
        push(&self.ready, handle)
        return handle

    def call_soon_threadsafe(self, callback, *args, context=None):
        """As `call_soon`, from any thread or signal handler. Wakes the loop if it sleeps."""
        if self._closed:
            self._check_closed()
        cdef Handle handle
        if HAS_THREAD_SAFE_HANDLES:
            handle = _ThreadSafeHandle.__new__(_ThreadSafeHandle)
            hide_from_collector(handle)
            fill_handle(handle, self, callback, args, context)
        else:
            handle = new_handle(self, callback, args, context)
        if self._debug:
            self._check_callback(callback, "call_soon_threadsafe")
            trace_origin(handle)
        push(&self.ready, handle)
        if self.asleep:
            self.wake()
        return handle

    def call_later(self, delay, callback, *args, context=None):
        """Runs callback(*args) after `delay` seconds; returns its TimerHandle."""
        if delay is None:
            raise TypeError("delay must not be None")
        return self.add_timer(self.time() + delay, callback, args, context)

    def call_at(self, when, callback, *args, context=None):
        """Runs callback(*args) when the loop's clock says `when`, never before; returns its TimerHandle."""
        if when is None:
            raise TypeError("when cannot be None")
        return self.add_timer(when, callback, args, context)

    cdef TimerHandle add_timer(self, object when, object callback, tuple args, object context):
        if self._closed:
            self._check_closed()
        if self._debug:
            self._check_thread()
            self._check_callback(callback, "call_at")
        cdef TimerHandle handle = new_timer(self, &self.timers, when, callback, args, context)
        if self._debug:
            trace_origin(handle)
        return handle

    def get_debug(self):
        """Returns whether debug mode is on."""
        return self._debug

    def create_future(self):
        """Returns a new asyncio.Future of this loop."""
        return futures.Future(loop=self)

    def create_task(self, coro, **kwargs):
        """Wraps a coroutine in an asyncio.Task; keywords as the running Python's Task takes them."""
        if self._task_factory is None and not self._closed:
            if not kwargs:
                return tasks.Task(coro, loop=self)
            return tasks.Task(coro, loop=self, **kwargs)
        return base_create_task(self, coro, **kwargs)

    cdef int64_t until_timer_ns(self) except -2:
        # By the loop's own method: applications and tests patch the clock.
        cdef double seconds = self.timers.nodes[0].when - <double> self.time()
        if seconds <= 0:
            return 0
        if seconds > WAIT_SECONDS_MAX:
            seconds = WAIT_SECONDS_MAX
        return <int64_t> ceil(seconds * 1e9)

    cdef int fire_timers(self) except -1:
        cdef double end = <double> self.time() + CLOCK_RESOLUTION
        cdef rl_ready_entry entry
        cdef rl_timer *timer
        entry.payload = NULL
        entry.kind = RL_READY_HANDLE
        entry.result = 0
        entry.flags = 0
        while self.timers.count and self.timers.nodes[0].when < end:
            if not rl_ready_reserve(&self.ready):
                raise MemoryError
            timer = self.timers.nodes[0].timer
            entry.object = timer.owner
            rl_timers_remove(&self.timers, timer)
            rl_ready_push(&self.ready, entry)
        return 0


cdef int visit_handle(void *item, visitproc visit, void *argument) noexcept:
    """Shows the collector a reference of the queue's to a handle.

    A hidden handle that nobody else has is shown by what it holds, as if it were part of the queue. One that
    somebody else has is not shown: its loop stays until the handle ran or was cancelled.
    """
    cdef int result
    if PyObject_GC_IsTracked(<object> item):
        return visit(<PyObject *> item, argument)
    if Py_REFCNT(<PyObject *> item) > 1:
        return 0
    result = visit(<PyObject *> (<Handle> item)._loop, argument)
    if result == 0 and (<Handle> item)._callback is not None:
        result = visit(<PyObject *> (<Handle> item)._callback, argument)
    if result == 0 and (<Handle> item)._args is not None:
        result = visit(<PyObject *> (<Handle> item)._args, argument)
    if result == 0 and (<Handle> item)._context is not None:
        result = visit(<PyObject *> (<Handle> item)._context, argument)
    return result


cdef traverseproc traverse_fields = (<PyTypeObject *> Callbacks).tp_traverse


cdef int traverse(PyObject *self, visitproc visit, void *argument) noexcept:
    """Also visits what the queue and the heap hold: a loop that was left open is garbage, and says so."""
    cdef rl_ready_queue *ready = &(<Callbacks> self).ready
    cdef rl_timers *timers = &(<Callbacks> self).timers
    cdef rl_ready_entry *entry
    cdef uint32_t index
    cdef int result = traverse_fields(self, visit, argument)
    for index in range(ready.count):
        if result != 0:
            return result
        entry = &ready.entries[(ready.head + index) & (ready.capacity - 1)]
        if entry.kind == RL_READY_HANDLE:
            result = visit_handle(entry.object, visit, argument)
        else:
            result = visit(<PyObject *> entry.object, argument)
    for index in range(timers.count):
        if result != 0:
            return result
        result = visit_handle(timers.nodes[index].timer.owner, visit, argument)
    return result


# Cython writes a type's traversal itself. Those of the classes that extend this one call it by the type.
(<PyTypeObject *> Callbacks).tp_traverse = traverse
